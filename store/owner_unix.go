//go:build unix

package store

import (
	"os"
	"syscall"
)

// ownerOf gives the number of the user that a file belongs to.
func ownerOf(path string) (user int, known bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(s.Uid), true
}
