// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package isolated lets the tests of a package have the kernel for themselves. A package that makes devices, routes, mounts,
// pins or programs begins with
//
//	func TestMain(m *testing.M) { os.Exit(isolated.Run(m.Run)) }
package isolated

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const child = "CUTOVER_TEST_ISOLATED"

// Run runs the tests, by run, in a child with a network and a mount namespace of its own, and returns its exit code. The kernel
// removes all that they make (mounts, pins, devices, programs, further namespaces) with the last process in them, also
// after kill -9. Without root the tests run where they are, and [Tests] says so.
func Run(run func() int) int {
	if os.Geteuid() != 0 || Tests() {
		return run()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), child+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWNET,
		Unshareflags: syscall.CLONE_NEWNS, // Go makes / private after it
		Pdeathsig:    syscall.SIGKILL,
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the tests in namespaces of their own:", err)
		return 1
	}
	return 0
}

// Tests says whether this process is that child.
func Tests() bool { return os.Getenv(child) != "" }

// NewNetwork makes one more network namespace, without a name: the kernel removes it with its last descriptor, that is, with
// the test. The handle speaks rtnetlink in it.
func NewNetwork(tb testing.TB) (netns.NsHandle, *netlink.Handle) {
	tb.Helper()
	ns, handle, err := newNetwork()
	if err != nil {
		tb.Fatalf("making a network namespace: %v", err)
	}
	tb.Cleanup(func() { handle.Close(); ns.Close() })
	return ns, handle
}

func newNetwork() (netns.NsHandle, *netlink.Handle, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		return netns.None(), nil, err
	}
	defer home.Close()
	ns, err := netns.New()
	if err != nil {
		return netns.None(), nil, err
	}
	if err := netns.Set(home); err != nil {
		return netns.None(), nil, err
	}
	handle, err := netlink.NewHandleAt(ns)
	return ns, handle, err
}
