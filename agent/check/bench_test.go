// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// BenchmarkJudge judges a node that knows 5,000 peers, all of them as they are.
func BenchmarkJudge(b *testing.B) {
	const peers = 5000
	f := overlayNode()
	f.Settings.Overlay = []netip.Prefix{cidr("10.0.0.0/8")}
	f.Peers.List, f.Node.InternalIPs = nil, []netip.Addr{ip("10.0.1.10")}
	remotes := maps.Collect(f.IPCache.Entries.All())
	for i := range peers {
		nodeIP := netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})
		slice := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 128 + byte(i>>8), byte(i), 0}), 24)
		f.Peers.List = append(f.Peers.List, peer(fmt.Sprint("n", i), nodeIP.String(), slice.String()))
		remotes[slice] = ciliummap.RemoteEndpoint{Identity: ciliummap.IdentityWorld, Tunnel: nodeIP, Flags: ciliummap.RemoteHasTunnel}
		f.Routes.List = append(f.Routes.List, facts.Route{Dst: slice, Link: ixHost, Type: unicast, MTU: 8951})
	}
	f.IPCache.Entries = ciliummap.NewIPCache(remotes)
	for b.Loop() {
		if s := Suspects(f); len(s) > 0 {
			b.Fatal(s[:1])
		}
		if x := Judge(f, v1alpha1.RoleOverlay, nil); Worst(x) != v1alpha1.VerdictPass {
			b.Fatal(x)
		}
	}
}
