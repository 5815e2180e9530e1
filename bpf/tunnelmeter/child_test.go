// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/internal/capability"
)

// roleVariable makes this program play one of roles instead of running tests.
const roleVariable = "TUNNELMETER_TEST_ROLE"

func roles() map[string]func() {
	return map[string]func(){
		"measure-direct": measureWithoutPerfmon(Direct),
		"measure-copied": measureWithoutPerfmon(Copied),
		"owner":          playOwner,
	}
}

// child plays a role to its end and decodes what it says.
func child(tb testing.TB, role string, says any) {
	tb.Helper()
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s: %v: %s", role, err, &complaints)
	}
	must(tb, json.Unmarshal(out, says))
}

// order is what an owner is told, and answer what it says: first how Start went, then one a line that it reads.
type order struct {
	Options
	Keep  []capability.Capability // nil: all
	NoBPF bool                    // a seccomp profile refuses bpf(2)
	NoTCX bool                    // a kernel that does not know it
}

type answer struct {
	Hook    Hook
	Access  Access
	Error   string
	Typed   bool // a MissingCapabilityError
	Packets uint64
}

// owner is another process that holds a meter. It ends with its standard input, that is, also with the test.
type owner struct {
	tb    testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	first answer
}

func (s *space) owner(o order) *owner {
	s.tb.Helper()
	o.Port = testPort
	text, err := json.Marshal(o)
	must(s.tb, err)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=owner", "ORDER="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(s.tb, err)
	out, err := cmd.StdoutPipe()
	must(s.tb, err)
	s.do(func() { must(s.tb, cmd.Start()) }) // a child starts in the namespace of the thread
	w := &owner{tb: s.tb, cmd: cmd, in: in, out: bufio.NewReader(out)}
	s.tb.Cleanup(w.kill)
	w.first = w.hear()
	return w
}

func (w *owner) hear() answer {
	w.tb.Helper()
	line, err := w.out.ReadBytes('\n')
	must(w.tb, err)
	var a answer
	must(w.tb, json.Unmarshal(line, &a))
	return a
}

// packets asks the owner how many it has counted.
func (w *owner) packets() uint64 {
	w.tb.Helper()
	_, err := fmt.Fprintln(w.in, "read")
	must(w.tb, err)
	return w.hear().Packets
}

// kill ends the owner as kill -9 does, and returns when it has ended.
func (w *owner) kill() {
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait()
}

func playOwner() {
	t := &failing{}
	var o order
	must(t, json.Unmarshal([]byte(os.Getenv("ORDER")), &o))
	if o.Keep != nil {
		must(t, keepOnly(o.Keep...))
	}
	if o.NoBPF {
		must(t, refuseBPF(everyCommand, unix.EPERM))
	}
	if o.NoTCX {
		must(t, refuseBPF(unix.BPF_PROG_QUERY, unix.EINVAL))
	}
	says := json.NewEncoder(os.Stdout)
	m, err := Start(o.Options)
	if err != nil {
		_, typed := errors.AsType[*MissingCapabilityError](err)
		must(t, says.Encode(answer{Error: err.Error(), Typed: typed}))
		return
	}
	access, _ := m.Access()
	must(t, says.Encode(answer{Hook: m.Hook(), Access: access}))
	for asked := bufio.NewScanner(os.Stdin); asked.Scan(); {
		r, err := m.Read()
		must(t, err)
		must(t, says.Encode(answer{Packets: r.packets()}))
	}
}

func (r Reading) packets() (sum uint64) {
	for _, c := range r.Flows {
		sum += c.Packets
	}
	return sum
}

// keepOnly takes every other capability from this thread, on which the caller stays.
func keepOnly(keep ...capability.Capability) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	for _, c := range keep {
		sets[c/32].Effective |= 1 << (c % 32)
		sets[c/32].Permitted |= 1 << (c % 32)
	}
	runtime.LockOSThread() // never unlocked
	return unix.Capset(&hdr, &sets[0])
}

// refuseBPF makes one command of bpf(2) fail on this thread, or all: as a container runtime's profile does, or, with
// EINVAL, a kernel that does not know it.
func refuseBPF(command int, errno unix.Errno) error {
	allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000}                  // SECCOMP_RET_ALLOW
	refuse := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(errno)} // SECCOMP_RET_ERRNO
	equal := func(k uint32, otherwise uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: otherwise}
	}
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	filter := []unix.SockFilter{load(0), equal(unix.SYS_BPF, 1), refuse, allow} // seccomp_data.nr
	if command != everyCommand {
		filter = []unix.SockFilter{load(0), equal(unix.SYS_BPF, 3), load(16), equal(uint32(command), 1), refuse, allow} // seccomp_data.args[0]
	}
	runtime.LockOSThread() // never unlocked
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
}

const everyCommand = -1
