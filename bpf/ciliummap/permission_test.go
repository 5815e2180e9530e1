// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// fillAll pins one of everything the readers read.
func fillAll(tb testing.TB) (dir string) {
	tb.Helper()
	dir = globals(tb)
	ipcache := pin(tb, dir, IPCachePin, ipcacheLayout(), 16)
	lxc := pin(tb, dir, EndpointsPin, endpointsLayout(), 16)
	config := pin(tb, dir, RuntimeConfigPin, configLayout(), 256)
	pin(tb, dir, ServicesPin, Layout{ebpf.Hash, 12, 12}, 16)
	pin(tb, dir, BackendsPin, Layout{ebpf.Hash, 4, 12}, 16)
	p, e := remotePod(1)
	put(tb, ipcache, ipcacheKeyBytes(IPCacheKey{Prefix: p}), remoteEndpointBytes(e))
	addr, local := localPod(1)
	put(tb, lxc, endpointKeyBytes(EndpointKey{Addr: addr}), endpointBytes(local))
	put(tb, config, agentLivenessIndex, uint64(1))
	attachTCX(tb, filepath.Dir(filepath.Dir(dir)), newVeth(tb, "cilium_vxlan"), ebpf.AttachTCXIngress, "cil_from_overlay")
	return dir
}

func TestReadersNeedNoCapability(t *testing.T) {
	dir := fillAll(t)
	for name, read := range readers() {
		onThread(func() {
			if err := dropCapabilities(); err != nil {
				t.Error(err)
				return
			}
			if _, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1}); err == nil {
				t.Error("this thread can still make maps: it has not lost its capabilities")
			}
			if err := read(dir); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestReadersWorkThroughAReadOnlyBindMount(t *testing.T) {
	dir := fillAll(t)
	root, bind := filepath.Dir(filepath.Dir(dir)), t.TempDir()
	if err := unix.Mount(root, bind, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(bind, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", bind, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for name, read := range readers() {
		if err := read(filepath.Join(bind, GlobalsDir)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOtherUsersAreToldWhichPermissionIsMissing(t *testing.T) {
	dir := fillAll(t)
	for name, read := range readers() {
		onThread(func() {
			if err := becomeNobody(); err != nil {
				t.Error(err)
				return
			}
			err := read(dir)
			if !errors.Is(err, fs.ErrPermission) || !as[*OpenError](err) {
				t.Errorf("%s: %v, want an OpenError, fs.ErrPermission", name, err)
				return
			}
			for _, part := range []string{"uid 0 with mode 0600", "CAP_DAC_READ_SEARCH"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: %q does not say %q", name, err, part)
				}
			}
		})
	}
}

func TestASeccompProfileWithoutBPFIsNamed(t *testing.T) {
	dir := fillAll(t)
	for name, read := range readers() {
		onThread(func() {
			if err := forbidBPF(); err != nil {
				t.Error(err)
				return
			}
			err := read(dir)
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "seccomp") {
				t.Errorf("%s: %v, want fs.ErrPermission and a sentence about seccomp", name, err)
			}
		})
	}
}

// forbidBPF makes bpf(2) fail with EPERM on this thread, as containerd's default profile does without CAP_BPF.
func forbidBPF() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(unix.EPERM)}, // SECCOMP_RET_ERRNO
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},                      // SECCOMP_RET_ALLOW
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
}
