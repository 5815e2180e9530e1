// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Arg0 is the name under which a program that uses the lab re-executes itself as a
// machine's first process; Main must be called when it sees that name.
const Arg0 = "lab-machine"

// Machine is a running machine.
type Machine struct {
	// HostPID is its first process as the real machine numbers it: for nsenter -t.
	HostPID int

	spec Spec
	cmd  *exec.Cmd
	life io.Closer // closing it ends the machine
	done chan struct{}
}

// Start makes the machine and returns when its start script has run. network is called
// with the first process's number (the caller's count) while the machine's network
// namespace is still empty. The machine dies with the caller.
func Start(ctx context.Context, spec Spec, network func(pid int) error) (*Machine, error) {
	if err := os.MkdirAll(spec.Log, 0o755); err != nil {
		return nil, fmt.Errorf("making the log directory of machine %s: %w", spec.Name, err)
	}
	log, err := os.Create(filepath.Join(spec.Log, "init.log"))
	if err != nil {
		return nil, fmt.Errorf("making the log of machine %s: %w", spec.Name, err)
	}
	defer log.Close()
	answer, answerEnd, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe for machine %s: %w", spec.Name, err)
	}
	defer answer.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{Arg0, spec.Cgroup}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{answerEnd}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setsid:     true,
	}
	life, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	answerEnd.Close()
	if err != nil {
		return nil, fmt.Errorf("starting machine %s: %w", spec.Name, err)
	}
	m := &Machine{spec: spec, cmd: cmd, life: life, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		_ = cmd.Wait() // the first process only ends by being killed
	}()
	if err := m.boot(ctx, life, answer, network); err != nil {
		return nil, errors.Join(fmt.Errorf("starting machine %s (logs in %s): %w", spec.Name, spec.Log, err), m.Stop())
	}
	return m, nil
}

func (m *Machine) boot(ctx context.Context, spec io.Writer, answer *os.File, network func(pid int) error) error {
	if err := network(m.cmd.Process.Pid); err != nil {
		return err
	}
	if err := json.NewEncoder(spec).Encode(m.spec); err != nil {
		return fmt.Errorf("telling the first process what to be: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = m.cmd.Process.Kill() })()
	var told hello
	if err := json.NewDecoder(bufio.NewReader(answer)).Decode(&told); err != nil {
		return errors.Join(fmt.Errorf("waiting for the first process: %w", err), ctx.Err())
	}
	if told.Error != "" {
		return errors.New(told.Error)
	}
	m.HostPID = told.HostPID
	return nil
}

// Stop kills the machine, waits until all its processes are gone and removes its cgroups.
func (m *Machine) Stop() error {
	if err := m.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing machine %s: %w", m.spec.Name, err)
	}
	<-m.done // the kernel reports the first process dead only after every other one is
	_ = m.life.Close()
	return RemoveCgroups(m.spec.Cgroup)
}
