// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/internal/isolated"
)

func TestMain(m *testing.M) { os.Exit(isolated.Run(m.Run)) }

func needsRoot(t testing.TB) {
	t.Helper()
	if !isolated.Tests() {
		t.Skip("needs root: makes interfaces, routes and BPF objects")
	}
}

// bpffs mounts a bpffs and returns its root.
func bpffs(t testing.TB) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "bpf")
	must(t, os.Mkdir(root, 0o755))
	must(t, unix.Mount("bpf", root, "bpf", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(root, unix.MNT_DETACH)) })
	return root
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// withoutCapabilities runs f as uid 0 with no capability at all, as the agent's container runs.
func withoutCapabilities(t *testing.T, f func()) {
	t.Helper()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err = unix.Capset(&hdr, &none[0]); err == nil {
			f()
		}
	}()
	<-done
	must(t, err)
}
