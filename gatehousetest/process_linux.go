package gatehousetest

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel send sig to the child when this process ends.
func dieWithParent(cmd *exec.Cmd, sig syscall.Signal) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = sig
}
