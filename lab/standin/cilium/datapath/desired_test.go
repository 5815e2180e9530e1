// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func twoNodes() (self, peer Node) {
	self = Node{
		Name: "n1", IP: netip.MustParseAddr("172.18.0.11"), Router: netip.MustParseAddr("10.244.0.20"),
		Health: netip.MustParseAddr("10.244.0.147"), PodCIDR: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")},
	}
	peer = Node{
		Name: "n2", IP: netip.MustParseAddr("172.18.0.12"), Router: netip.MustParseAddr("10.244.1.231"),
		Health: netip.MustParseAddr("10.244.1.170"), PodCIDR: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")},
	}
	return self, peer
}

func TestIPCacheHasTheEntriesOfARealNode(t *testing.T) {
	self, peer := twoNodes()
	pod := Endpoint{IP: netip.MustParseAddr("10.244.0.52"), Identity: 46964}
	health := Endpoint{IP: self.Health, Identity: IdentityHealth}
	want := map[string]Remote{
		"0.0.0.0/0":       {Identity: 2},
		"172.18.0.11/32":  {Identity: 1},
		"10.244.0.20/32":  {Identity: 1},
		"10.244.0.52/32":  {Identity: 46964},
		"10.244.0.147/32": {Identity: 4},
		"172.18.0.12/32":  {Identity: 6},
		"10.244.1.0/24":   {Identity: 2, TunnelEndpoint: peer.IP},
		"10.244.1.231/32": {Identity: 6, TunnelEndpoint: peer.IP},
		"10.244.1.170/32": {Identity: 4, TunnelEndpoint: peer.IP},
	}
	got := map[string]Remote{}
	for prefix, remote := range IPCache(self, []Node{peer}, []Endpoint{pod, health}) {
		got[prefix.String()] = remote
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAPeerWithoutASliceIsOnlyAnAddress(t *testing.T) {
	self, peer := twoNodes()
	peer.PodCIDR, peer.Router, peer.Health = nil, netip.Addr{}, netip.Addr{}
	if got := Routes(self, []Node{peer}, 9001); len(got) != 1 {
		t.Errorf("got routes %v, want only the node's own", got)
	}
	cache := IPCache(self, []Node{peer}, nil)
	if got := cache[single(peer.IP)]; got.Identity != IdentityRemoteNode || got.TunnelEndpoint.IsValid() {
		t.Errorf("got %+v, want a remote node without tunnel", got)
	}
}

func TestOnlyPeersRoutesLeaveRoomForTheTunnel(t *testing.T) {
	self, peer := twoNodes()
	want := map[Route]bool{{Dst: self.PodCIDR[0]}: true, {Dst: peer.PodCIDR[0], MTU: 8951}: true}
	if got := Routes(self, []Node{peer}, 9001); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDifferenceWritesOnlyWhatChangedAndGoesOnAfterAnError(t *testing.T) {
	was := map[string]int{"same": 1, "gone": 2, "changed": 3}
	become := map[string]int{"same": 1, "changed": 4, "new": 5}
	var calls []string
	fail := errors.New("no")
	failing := true
	put := func(key string, _ int) error {
		if key == "new" && failing {
			return fail
		}
		calls = append(calls, "put "+key)
		return nil
	}
	drop := func(key string) error { calls = append(calls, "drop "+key); return nil }
	if err := difference(was, become, put, drop); !errors.Is(err, fail) {
		t.Fatalf("got %v, want the error of put", err)
	}
	failing = false
	if err := difference(was, become, put, drop); err != nil {
		t.Fatal(err)
	}
	want := []string{"drop gone", "put changed", "put new"}
	if diff := cmp.Diff(want, calls, cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Errorf("calls, -want +got:\n%s", diff)
	}
	if !maps.Equal(was, become) {
		t.Errorf("remembers %v, want %v", was, become)
	}
}

// The lines are those of a real node's iptables-save.
func TestMasqueradesAsARealNodeDoes(t *testing.T) {
	got := Iptables(netip.MustParsePrefix("10.244.0.0/24"), netip.MustParseAddr("10.244.0.20"))
	for _, line := range []string{
		`-A CILIUM_POST_nat -s 10.244.0.0/24 ! -d 10.244.0.0/24 ! -o cilium_+ -m comment --comment "cilium masquerade non-cluster" -j MASQUERADE`,
		`-A CILIUM_POST_nat ! -s 10.244.0.0/24 ! -d 10.244.0.0/24 -o cilium_host -m comment --comment "cilium host->cluster masquerade" -j SNAT --to-source 10.244.0.20`,
		`-A CILIUM_POST_nat -s 127.0.0.1/32 -o cilium_host -m comment --comment "cilium host->cluster from 127.0.0.1 masquerade" -j SNAT --to-source 10.244.0.20`,
		`-A CILIUM_FORWARD -i lxc+ -m comment --comment "cilium: cluster->any on lxc+ forward accept" -j ACCEPT`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
}
