// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package capability

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHeldIsWhatTheThreadMayDo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: takes capabilities from a thread")
	}
	all := []Capability{NetAdmin, SysAdmin, Perfmon, BPF}
	for name, c := range map[string]struct{ kept, held []Capability }{
		"none":             {nil, nil},
		"BPF alone":        {[]Capability{BPF}, []Capability{BPF}},
		"those of a meter": {[]Capability{BPF, NetAdmin}, []Capability{BPF, NetAdmin}},
		"SYS_ADMIN contains two, and not NET_ADMIN": {[]Capability{SysAdmin}, []Capability{SysAdmin, Perfmon, BPF}},
	} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var sets [2]unix.CapUserData
			for _, k := range c.kept {
				sets[k/32].Effective |= 1 << (k % 32)
				sets[k/32].Permitted |= 1 << (k % 32)
			}
			if err := unix.Capset(&hdr, &sets[0]); err != nil {
				t.Error(err)
				return
			}
			for _, x := range all {
				want := false
				for _, h := range c.held {
					want = want || h == x
				}
				if got := Held(x); got != want {
					t.Errorf("%s: capability %d is held: %t, want %t", name, x, got, want)
				}
			}
		}()
		<-done
	}
}
