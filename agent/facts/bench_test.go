// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// BenchmarkLook looks at a node with 5,000 peers: a route and an ipcache entry for the pod CIDR of each, and entries for its own
// addresses. cpu-ms/op is this process's processor time, the kernel's part included, which a busy machine does not lengthen.
func BenchmarkLook(b *testing.B) {
	const peers = 5000
	ix := node(b)
	root := bpffs(b)
	globals := filepath.Join(root, "tc/globals")
	must(b, os.MkdirAll(globals, 0o755))
	pin := func(name string, spec ebpf.MapSpec) *ebpf.Map {
		m, err := ebpf.NewMap(&spec)
		must(b, err)
		b.Cleanup(func() { m.Close() })
		must(b, m.Pin(filepath.Join(globals, name)))
		return m
	}
	cache := pin("cilium_ipcache_v2", ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: 24, ValueSize: 24, MaxEntries: 512000, Flags: unix.BPF_F_NO_PREALLOC})
	pin("cilium_lxc", ebpf.MapSpec{Type: ebpf.Hash, KeySize: 20, ValueSize: 48, MaxEntries: 65535, Flags: unix.BPF_F_NO_PREALLOC})
	pin("cilium_runtime_config", ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 256})
	pin("cilium_metrics", ebpf.MapSpec{Type: ebpf.PerCPUHash, KeySize: 8, ValueSize: 16, MaxEntries: 1024})
	for i := range peers {
		slice := [4]byte{10, 128 + byte(i>>8), byte(i), 0}
		for _, bits := range []uint32{24, 32, 32} { // the pod CIDR, cilium_host, the health endpoint
			var key, value [24]byte
			binary.NativeEndian.PutUint32(key[:], 32+bits)
			key[7] = 1
			copy(key[8:], slice[:])
			binary.NativeEndian.PutUint32(value[:], 2)
			copy(value[4:], []byte{172, 16, byte(i >> 8), byte(i)})
			value[23] = 2
			must(b, cache.Put(key, value))
			slice[3]++ // an address of its own for each
		}
		must(b, netlink.RouteAdd(&netlink.Route{
			LinkIndex: ix["cilium_host"], MTU: 8951, Dst: &net.IPNet{IP: net.IPv4(10, 128+byte(i>>8), byte(i), 0).To4(), Mask: net.CIDRMask(24, 32)},
		}))
	}
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
