// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestNoticesTheCNIDirectoryAlsoBeforeItExists(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "etc/cni/net.d")
	var noticed atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		noticeDir(ctx, dir, func() { noticed.Add(1) }, slog.New(slog.NewTextHandler(t.Output(), nil)))
	}()
	// Each act is repeated until it is noticed: the watch begins, and moves to a new directory, in its own time.
	eventually(t, "a directory above", func() bool {
		_ = os.RemoveAll(filepath.Join(root, "etc"))
		if err := os.MkdirAll(filepath.Join(root, "etc/other"), 0o755); err != nil {
			t.Fatal(err)
		}
		return noticed.Load() > 0
	})
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"05-cilium.conflist", "10-aws.conflist"} {
		before, n := noticed.Load(), 0
		eventually(t, name, func() bool {
			n++
			if err := os.WriteFile(filepath.Join(dir, name), make([]byte, n%7), 0o600); err != nil {
				t.Fatal(err)
			}
			return noticed.Load() > before+1
		})
	}
	cancel()
	<-done
}

func TestNoticesTheHostsNetwork(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	// A thread of its own with a network namespace of its own; the runtime ends it with the goroutine, the kernel the namespace.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		var noticed atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		h, err := netlink.NewHandle() // bound to this thread's namespace
		if err != nil {
			t.Error(err)
			cancel()
			return
		}
		defer h.Close()
		acted := make(chan struct{})
		go func() { // netlink sockets stay in the namespace they were made in, whoever uses them
			defer close(acted)
			defer cancel()
			lo, err := h.LinkByName("lo")
			if err != nil {
				t.Error(err)
				return
			}
			up := false
			eventually(t, "an interface that goes up and down", func() bool {
				if up = !up; up {
					err = h.LinkSetUp(lo)
				} else {
					err = h.LinkSetDown(lo)
				}
				if err != nil {
					t.Error(err)
					return true
				}
				return noticed.Load() > 0
			})
		}()
		noticeNetwork(ctx, func() { noticed.Add(1) }, slog.New(slog.NewTextHandler(t.Output(), nil)))
		<-acted
	}()
	<-done
}
