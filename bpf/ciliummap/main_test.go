// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/internal/isolated"
)

func TestMain(m *testing.M) { os.Exit(isolated.Run(m.Run)) }

// bpffs mounts a bpffs and returns its root.
func bpffs(tb testing.TB) string {
	tb.Helper()
	if !isolated.Tests() {
		tb.Skip("needs root: makes BPF maps and mounts a bpffs")
	}
	root := tb.TempDir()
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil { // made 0700 by TempDir, and other users must get through
		tb.Fatal(err)
	}
	if err := unix.Mount("bpf", root, "bpf", 0, ""); err != nil {
		tb.Fatal("mounting a bpffs:", err)
	}
	tb.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			tb.Error("unmounting the bpffs:", err)
		}
	})
	return root
}

// globals returns an empty <bpffs>/tc/globals.
func globals(tb testing.TB) string {
	tb.Helper()
	dir := filepath.Join(bpffs(tb), GlobalsDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// pin makes a map as Cilium does (no BTF) and pins it.
func pin(tb testing.TB, dir, name string, l Layout, maxEntries uint32) *ebpf.Map {
	tb.Helper()
	spec := &ebpf.MapSpec{Type: l.Type, KeySize: l.KeySize, ValueSize: l.ValueSize, MaxEntries: maxEntries}
	if l.Type == ebpf.LPMTrie || l.Type == ebpf.Hash {
		spec.Flags = unix.BPF_F_NO_PREALLOC
	}
	m, err := ebpf.NewMap(spec)
	if err != nil {
		tb.Fatalf("making map %s (%s): %v", name, l, err)
	}
	tb.Cleanup(func() { m.Close() })
	if err := m.Pin(filepath.Join(dir, name)); err != nil {
		tb.Fatal(err)
	}
	return m
}

// Layouts as released.
func ipcacheLayout() Layout   { return Layout{ebpf.LPMTrie, 24, 24} }
func endpointsLayout() Layout { return Layout{ebpf.Hash, 20, 48} }
func configLayout() Layout    { return Layout{ebpf.Array, 4, 8} }

// onThread runs f on an OS thread that is thrown away afterwards, so f may change the thread's credentials.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
		defer close(done)
		f()
	}()
	<-done
}

// dropCapabilities takes every capability from this thread and leaves its uid 0.
func dropCapabilities() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&hdr, &none[0])
}

// becomeNobody changes the uid of this thread only; the syscall package's Setresuid would change all.
func becomeNobody() error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
		return errno
	}
	return nil
}
