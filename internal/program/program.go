// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package program lets a test binary be the program that it tests, in a process of its own, so that what a test kills is a
// process that runs the real main:
//
//	func TestMain(m *testing.M) {
//		if program.Is() {
//			main()
//			return
//		}
//		os.Exit(m.Run())
//	}
package program

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// variable of the environment that makes a test binary the program.
const variable = "CUTOVER_TEST_BE_THE_PROGRAM"

// lastLines is how much of a log is worth printing when a test has failed.
const lastLines = 12

// Is says whether this process is to be the program.
func Is() bool { return os.Getenv(variable) != "" }

// Process is a program that runs, or has ended.
type Process struct {
	// Ended is closed when the process is no more.
	Ended <-chan struct{}

	name   string
	cmd    *exec.Cmd
	killed atomic.Bool
	said   strings.Builder // complete once Ended is closed
}

// Start runs this test binary as the program, with a kubeconfig and arguments. It lives until End, Kill, or its own end, and
// never longer than the test binary.
func Start(tb testing.TB, name, kubeconfig string, args ...string) *Process {
	tb.Helper()
	return StartFile(tb, os.Args[0], name, kubeconfig, args...)
}

// StartFile is Start for a program that is a file of its own.
func StartFile(tb testing.TB, file, name, kubeconfig string, args ...string) *Process {
	tb.Helper()
	ended := make(chan struct{})
	p := &Process{Ended: ended, name: name, cmd: exec.Command(file, args...)}
	p.cmd.Env = append(os.Environ(), variable+"=1", "KUBECONFIG="+kubeconfig)
	p.cmd.Stderr = &p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		tb.Errorf("starting %s: %v", name, err)
		close(ended)
		return p
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is what the tests judge by its deeds
		close(ended)
	}()
	return p
}

// Kill is kill -9, also of a process that is stopped, and returns when there is no such process any more.
func (p *Process) Kill() {
	p.killed.Store(true)
	p.signal(syscall.SIGKILL)
	<-p.Ended
}

// Status is a field of /proc/PID/status, "" once the process is no more.
func (p *Process) Status(field string) string {
	if p.cmd.Process == nil {
		return ""
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Killed says whether the process ended, or will, because a test killed it.
func (p *Process) Killed() bool { return p.killed.Load() }

// Terminate asks the process to end, as a kubelet does.
func (p *Process) Terminate() { p.signal(syscall.SIGTERM) }

// Stop lets the process sleep: it keeps its connections and all that it believes, and does nothing.
func (p *Process) Stop() { p.signal(syscall.SIGSTOP) }

// Continue wakes it.
func (p *Process) Continue() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) {
	if p.cmd.Process != nil {
		_ = p.cmd.Process.Signal(s) // one that has ended needs none
	}
}

// End kills the process, and shows what it said last if the test has failed.
func (p *Process) End(tb testing.TB) {
	p.Kill()
	if tb.Failed() {
		lines := strings.Split(strings.TrimSpace(p.said.String()), "\n")
		tb.Logf("%s said last:\n%s", p.name, strings.Join(lines[max(0, len(lines)-lastLines):], "\n"))
	}
}
