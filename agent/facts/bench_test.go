// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/internal/crowd"
)

// BenchmarkLook looks at a node with 5,000 peers: a route and an ipcache entry for the pod CIDR of each, and entries for its own
// addresses. cpu-ms/op is this process's processor time, the kernel's part included, which a busy machine does not lengthen.
func BenchmarkLook(b *testing.B) {
	const peers = 5000
	ix := node(b)
	root := bpffs(b)
	crowd.Maps(b, root, crowd.Peers(peers))
	crowd.Routes(b, ix["cilium_host"], crowd.Peers(peers))
	h := Host{Root: b.TempDir(), BPFFS: root, ConfDir: "/etc/cni/net.d"}
	before := cpuMilliseconds(b)
	for b.Loop() {
		if f := h.Look(); f.Routes.Sight != Seen || len(f.Routes.List) < peers || f.IPCache.Sight != Seen || f.IPCache.Entries.Len() < peers {
			b.Fatalf("%d routes, %d entries: %+v %+v", len(f.Routes.List), f.IPCache.Entries.Len(), f.Routes.Look, f.IPCache.Look)
		}
	}
	b.ReportMetric((cpuMilliseconds(b)-before)/float64(b.N), "cpu-ms/op")
}

func cpuMilliseconds(b *testing.B) float64 {
	b.Helper()
	var used unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &used))
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e6
}
