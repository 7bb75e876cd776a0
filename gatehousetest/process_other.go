//go:build !linux

package gatehousetest

import (
	"os/exec"
	"syscall"
)

// dieWithParent does nothing where the kernel has no such signal; removeAfterExit stops the server there.
func dieWithParent(*exec.Cmd, syscall.Signal) {}
