// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// until polls a condition that another goroutine or process brings about.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("waited 30 s for: %s", what)
		case <-tick.C:
		}
	}
}

func TestExclusiveAgentKeepsTheDirectoryToItself(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "05-cilium.conflist")
	touch := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	touch("10-aws.conflist")
	touch("README")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- guardConflist(ctx, own) }()
	names := func() (list []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name()[0] != '.' {
				list = append(list, e.Name())
			}
		}
		return list
	}
	holds := func(want ...string) func() bool {
		return func() bool { return slices.Equal(names(), want) }
	}
	until(t, "the other file put aside", holds("05-cilium.conflist", "10-aws.conflist.cilium_bak", "README"))
	touch("20-other.conf")
	until(t, "a later file put aside", holds("05-cilium.conflist", "10-aws.conflist.cilium_bak", "20-other.conf.cilium_bak", "README"))
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	until(t, "its own file written again", func() bool { return slices.Contains(names(), "05-cilium.conflist") })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
