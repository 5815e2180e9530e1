// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package crowd gives benchmarks the kernel of a node that has thousands of peers: Cilium's maps and routes as its agent leaves them.
package crowd

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Peer is another node of the cluster.
type Peer struct {
	Name                           string
	InternalIP, CiliumIP, HealthIP netip.Addr
	PodCIDR                        netip.Prefix
}

// Peers makes up n peers, each with a /24 of 10.128.0.0/10; at most 16,384.
func Peers(n int) []Peer {
	out := make([]Peer, n)
	for i := range out {
		hi, lo := byte(i>>8), byte(i)
		pods := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 128 + hi, lo, last}) }
		out[i] = Peer{fmt.Sprint("peer-", i), netip.AddrFrom4([4]byte{172, 16, hi, lo}), pods(1), pods(2), netip.PrefixFrom(pods(0), 24)}
	}
	return out
}

// Maps pins Cilium's maps below a bpffs and enters the peers into its ipcache: each one's pod CIDR and its own two addresses.
func Maps(tb testing.TB, bpffs string, peers []Peer) {
	tb.Helper()
	globals := filepath.Join(bpffs, "tc/globals")
	must(tb, os.MkdirAll(globals, 0o755))
	pin := func(name string, spec ebpf.MapSpec) *ebpf.Map {
		m, err := ebpf.NewMap(&spec)
		must(tb, err)
		tb.Cleanup(func() { m.Close() })
		must(tb, m.Pin(filepath.Join(globals, name)))
		return m
	}
	cache := pin("cilium_ipcache_v2", ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: 24, ValueSize: 24, MaxEntries: 512000, Flags: unix.BPF_F_NO_PREALLOC})
	pin("cilium_lxc", ebpf.MapSpec{Type: ebpf.Hash, KeySize: 20, ValueSize: 48, MaxEntries: 65535, Flags: unix.BPF_F_NO_PREALLOC})
	pin("cilium_runtime_config", ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 256})
	pin("cilium_metrics", ebpf.MapSpec{Type: ebpf.PerCPUHash, KeySize: 8, ValueSize: 16, MaxEntries: 1024})
	for _, p := range peers {
		for _, prefix := range []netip.Prefix{p.PodCIDR, netip.PrefixFrom(p.CiliumIP, 32), netip.PrefixFrom(p.HealthIP, 32)} {
			var key, value [24]byte // as Cilium's bpf/lib/eps.h has them
			binary.NativeEndian.PutUint32(key[:], 32+uint32(prefix.Bits()))
			key[7] = 1
			copy(key[8:], prefix.Addr().AsSlice())
			binary.NativeEndian.PutUint32(value[:], 2)
			copy(value[4:], p.InternalIP.AsSlice())
			value[23] = 2
			must(tb, cache.Put(key, value))
		}
	}
}

// Routes sends each peer's pod CIDR to an interface, as Cilium does to cilium_host.
func Routes(tb testing.TB, link int, peers []Peer) {
	tb.Helper()
	for _, p := range peers {
		dst := &net.IPNet{IP: p.PodCIDR.Addr().AsSlice(), Mask: net.CIDRMask(p.PodCIDR.Bits(), 32)}
		must(tb, netlink.RouteAdd(&netlink.Route{LinkIndex: link, MTU: 8951, Dst: dst}))
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
