//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package usage

import (
	"os"
	"syscall"
)

// lock takes the file for this process until it is closed, and reports whether
// it could: a file that another process holds is not left behind by a dead one.
func lock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
