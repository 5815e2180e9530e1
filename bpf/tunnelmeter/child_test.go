// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// roleVariable makes this program play one of roles instead of running tests.
const roleVariable = "TUNNELMETER_TEST_ROLE"

func roles() map[string]func() {
	return map[string]func(){
		"measure-direct": measureWithoutPerfmon(Direct),
		"measure-copied": measureWithoutPerfmon(Copied),
	}
}

// start begins a child that dies with the test. It shares the test's namespaces.
func playing(tb testing.TB, role string, env ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), roleVariable+"="+role), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// child plays a role to its end and decodes what it says.
func child(tb testing.TB, role string, says any) {
	tb.Helper()
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	cmd := playing(tb, role)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s: %v: %s", role, err, &complaints)
	}
	must(tb, json.Unmarshal(out, says))
}

// keepOnly takes every other capability from this process, which has to be at its beginning: capset is about one thread,
// and Go's other threads keep theirs. AllThreadsSyscall reaches all.
func keepOnly(keep ...capability) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	for _, c := range keep {
		sets[c/32].Effective |= 1 << (c % 32)
		sets[c/32].Permitted |= 1 << (c % 32)
	}
	runtime.LockOSThread() // never unlocked: what follows runs on the thread that lost them
	return unix.Capset(&hdr, &sets[0])
}
