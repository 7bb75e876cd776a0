//go:build linux || darwin

package instance

import "golang.org/x/sys/unix"

// freeSpace gives how many bytes this user may still write to the disk of path.
func freeSpace(path string) (bytes uint64, known bool) {
	var s unix.Statfs_t
	if unix.Statfs(path, &s) != nil {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}
