package instance

import (
	"errors"

	"golang.org/x/sys/unix"
)

// NoCoreDumps keeps the memory of this process, with its secrets, from being
// written to disk when it dies, and from being read by other processes of the
// same user: its core size limit is 0, and it is not dumpable, so that /proc
// and ptrace are for root alone (prctl(2), PR_SET_DUMPABLE). Call it before
// anything secret is read.
func NoCoreDumps() error {
	return errors.Join(
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0),
	)
}
