// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// setEndpoint changes an entry of the endpoint map.
func setEndpoint(addr string, change func(*ciliummap.Endpoint)) func(*facts.Facts) {
	return func(f *facts.Facts) {
		e := f.Endpoints.ByIP[ip(addr)]
		change(&e)
		f.Endpoints.ByIP[ip(addr)] = e
	}
}

func setPeer(change func(*facts.Peer)) func(*facts.Facts) {
	return func(f *facts.Facts) { change(&f.Peers.List[0]) }
}

func all(changes ...func(*facts.Facts)) func(*facts.Facts) {
	return func(f *facts.Facts) {
		for _, c := range changes {
			c(f)
		}
	}
}

// editIPCache changes the entries of the ipcache.
func editIPCache(f *facts.Facts, change func(map[netip.Prefix]ciliummap.RemoteEndpoint)) {
	entries := maps.Collect(f.IPCache.Entries.All())
	change(entries)
	f.IPCache.Entries = ciliummap.NewIPCache(entries)
}

func setRemote(f *facts.Facts, prefix string, e ciliummap.RemoteEndpoint) {
	editIPCache(f, func(entries map[netip.Prefix]ciliummap.RemoteEndpoint) { entries[cidr(prefix)] = e })
}

func loseRemote(f *facts.Facts, prefix string) {
	editIPCache(f, func(entries map[netip.Prefix]ciliummap.RemoteEndpoint) { delete(entries, cidr(prefix)) })
}

func lostPeer(f *facts.Facts) { loseRemote(f, "10.244.2.0/24") }

func TestOverlayMapsProveThemselvesOnLocalEndpoints(t *testing.T) {
	const a, health = "10.244.1.20", "10.244.1.5"
	unlisted := func(f *facts.Facts) { delete(f.Endpoints.ByIP, ip(a)) }
	tell(t, v1alpha1.CheckOverlayMaps, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"as it should be":                   {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a pod without an entry":            {unlisted, v1alpha1.VerdictFail, v1alpha1.EndpointMissing},
		"an interface that is gone":         {setEndpoint(a, func(e *ciliummap.Endpoint) { e.IfIndex = 999 }), v1alpha1.VerdictFail, v1alpha1.EndpointWrong},
		"an interface of no pod":            {setEndpoint(a, func(e *ciliummap.Endpoint) { *e = endpoint(ixNIC) }), v1alpha1.VerdictFail, v1alpha1.EndpointWrong},
		"another MAC":                       {setEndpoint(a, func(e *ciliummap.Endpoint) { e.NodeMAC = mac(99) }), v1alpha1.VerdictFail, v1alpha1.EndpointWrong},
		"no MAC of the pod":                 {setEndpoint(a, func(e *ciliummap.Endpoint) { e.PodMAC = ciliummap.MAC{} }), v1alpha1.VerdictFail, v1alpha1.EndpointWrong},
		"two pods on one interface":         {setEndpoint(a, func(e *ciliummap.Endpoint) { *e = endpoint(ixPodB) }), v1alpha1.VerdictFail, v1alpha1.EndpointWrong},
		"a pod marked as the host":          {setEndpoint(a, func(e *ciliummap.Endpoint) { e.Flags = ciliummap.EndpointHost }), v1alpha1.VerdictFail, v1alpha1.EndpointWrong},
		"an interface that is down":         {func(f *facts.Facts) { edit(f, "lxcaaaaaaaaaaaa", func(l *facts.Link) { l.Up = false }) }, v1alpha1.VerdictFail, v1alpha1.EndpointWrong},
		"a pod that is being ended":         {all(unlisted, func(f *facts.Facts) { f.Pods.List[0].Terminating = true }), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a health entry to a pod":           {setEndpoint(health, func(e *ciliummap.Endpoint) { *e = endpoint(ixPodA) }), v1alpha1.VerdictFail, v1alpha1.EndpointWrong},
		"a health entry missing":            {func(f *facts.Facts) { delete(f.Endpoints.ByIP, ip(health)) }, v1alpha1.VerdictFail, v1alpha1.EndpointWrong},
		"health of another slice":           {func(f *facts.Facts) { f.Own.PodCIDRs = []netip.Prefix{cidr("10.244.9.0/24")} }, v1alpha1.VerdictFail, v1alpha1.EndpointWrong},
		"health checking is off":            {all(func(f *facts.Facts) { without(f, healthLink) }, func(f *facts.Facts) { f.Own.HealthIP = netip.Addr{} }), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"health known by interface":         {func(f *facts.Facts) { f.Own.HealthIP = netip.Addr{} }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"an unknown endpoint layout":        {func(f *facts.Facts) { f.Endpoints.Look = facts.Look{Sight: facts.Alien, Detail: "60-byte values"} }, v1alpha1.VerdictUnknown, v1alpha1.MapLayoutUnknown},
		"another layout of Cilium's own":    {func(f *facts.Facts) { f.Layouts.Differ = []string{"endpoint_info has mac at bit 160"} }, v1alpha1.VerdictUnknown, v1alpha1.MapLayoutUnknown},
		"another layout, and a wrong entry": {all(unlisted, func(f *facts.Facts) { f.Layouts.Differ = []string{"endpoint_info has mac at bit 160"} }), v1alpha1.VerdictUnknown, v1alpha1.MapLayoutUnknown},
		"an object of nobody's":             {func(f *facts.Facts) { f.Layouts.Look = facts.Look{Sight: facts.Alien, Detail: "no BTF"} }, v1alpha1.VerdictUnknown, v1alpha1.MapLayoutUnknown},
		"an object that cannot be read":     {func(f *facts.Facts) { f.Layouts.Look = broken }, v1alpha1.VerdictUnknown, v1alpha1.MapLayoutUnknown},
		"an object that may not be read":    {func(f *facts.Facts) { f.Layouts = facts.Layouts{Look: broken, NotAllowed: true} }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"no object":                         {func(f *facts.Facts) { f.Layouts.Look = facts.Look{Sight: facts.Absent} }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"an unknown ipcache layout":         {func(f *facts.Facts) { f.IPCache.Look = facts.Look{Sight: facts.Alien, Detail: "28-byte values"} }, v1alpha1.VerdictUnknown, v1alpha1.MapLayoutUnknown},
		"the host's own is missing":         {func(f *facts.Facts) { delete(f.Endpoints.ByIP, ip("10.244.1.1")) }, v1alpha1.VerdictUnknown, v1alpha1.MapIncomplete},
		"the host's own is a pod's":         {setEndpoint("10.244.1.1", func(e *ciliummap.Endpoint) { *e = endpoint(ixPodA) }), v1alpha1.VerdictUnknown, v1alpha1.MapIncomplete},
		"a map that is not pinned":          {func(f *facts.Facts) { f.IPCache.Look = facts.Look{Sight: facts.Absent} }, v1alpha1.VerdictFail, v1alpha1.MapMissing},
		"a map that cannot be read":         {func(f *facts.Facts) { f.IPCache.Look = broken }, v1alpha1.VerdictUnknown, v1alpha1.MapUnreadable},
		"pods that cannot be listed":        {func(f *facts.Facts) { f.Pods.Look = broken }, v1alpha1.VerdictUnknown, v1alpha1.PodsUnknown},
	})
}

func TestOverlayMapsProveThemselvesOnPeers(t *testing.T) {
	wrong := func(f *facts.Facts) {
		e, _ := f.IPCache.Entries.Get(cidr("10.244.2.0/24"))
		e.Tunnel = ip("10.0.3.10")
		setRemote(f, "10.244.2.0/24", e)
	}
	health := func(leadsTo string) func(*facts.Facts) {
		return func(f *facts.Facts) {
			f.Peers.List[0].HealthIP = ip("10.244.2.5")
			setRemote(f, "10.244.2.5/32", ciliummap.RemoteEndpoint{Identity: ciliummap.IdentityHealth, Tunnel: ip(leadsTo)})
		}
	}
	skipped := func(f *facts.Facts) {
		e, _ := f.IPCache.Entries.Get(cidr("10.244.2.0/24"))
		e.Flags |= ciliummap.RemoteSkipTunnel
		setRemote(f, "10.244.2.0/24", e)
	}
	node := func(n facts.PeerNode) func(*facts.Facts) { return setPeer(func(p *facts.Peer) { p.Node = n }) }
	both := func(f *facts.Facts) {
		for i := range f.Peers.List {
			f.Peers.List[i].Created = now.Add(-time.Second)
		}
		loseRemote(f, "10.244.2.0/24")
		loseRemote(f, "10.244.3.0/24")
	}
	tell(t, v1alpha1.CheckOverlayMaps, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"a peer without an entry":            {lostPeer, v1alpha1.VerdictFail, v1alpha1.PeerMissing},
		"a peer that leads to another":       {wrong, v1alpha1.VerdictFail, v1alpha1.PeerWrongEndpoint},
		"a peer's health leads to another":   {health("10.0.3.10"), v1alpha1.VerdictFail, v1alpha1.PeerWrongEndpoint},
		"a peer's health leads to it":        {health("10.0.2.10"), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a peer that skips the tunnel":       {skipped, v1alpha1.VerdictFail, v1alpha1.PeerMissing},
		"a peer without a pod CIDR":          {setPeer(func(p *facts.Peer) { p.PodCIDRs = nil }), v1alpha1.VerdictFail, v1alpha1.PeerMissing},
		"missing, but just created":          {all(lostPeer, setPeer(func(p *facts.Peer) { p.Created = now.Add(-59 * time.Second) })), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"missing for more than a minute":     {all(lostPeer, setPeer(func(p *facts.Peer) { p.Created = now.Add(-61 * time.Second) })), v1alpha1.VerdictFail, v1alpha1.PeerMissing},
		"missing, and its Node is young":     {all(lostPeer, node(facts.PeerNode{Look: seen, Ready: true, Created: now.Add(-time.Second)})), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"missing, and NotReady":              {all(lostPeer, node(facts.PeerNode{Look: seen, Created: longAgo})), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"missing, and without a Node":        {all(lostPeer, node(facts.PeerNode{Look: facts.Look{Sight: facts.Absent}})), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"missing, and its Node unreadable":   {all(lostPeer, node(facts.PeerNode{Look: broken})), v1alpha1.VerdictUnknown, v1alpha1.PeersUnknown},
		"missing, and nobody asked its Node": {all(lostPeer, node(facts.PeerNode{})), v1alpha1.VerdictUnknown, v1alpha1.PeersUnknown},
		"all peers are young":                {both, v1alpha1.VerdictUnknown, v1alpha1.NothingToProve},
		"no peers at all":                    {func(f *facts.Facts) { f.Peers.List = nil }, v1alpha1.VerdictUnknown, v1alpha1.NothingToProve},
		"peers that cannot be listed":        {func(f *facts.Facts) { f.Peers = facts.Peers{Look: broken} }, v1alpha1.VerdictUnknown, v1alpha1.PeersUnknown},
		"nobody asked for peers":             {all(lostPeer, func(f *facts.Facts) { f.Peers = facts.Peers{} }), v1alpha1.VerdictPass, v1alpha1.AsWanted},
	})
}

func TestOverlayMapsOfALegacyNodeProveThemselvesOnTheHealthEndpoint(t *testing.T) {
	noHealth := func(f *facts.Facts) {
		without(f, healthLink)
		f.Own.HealthIP = netip.Addr{}
		delete(f.Endpoints.ByIP, ip("10.244.1.5"))
	}
	tell(t, v1alpha1.CheckOverlayMaps, v1alpha1.RoleLegacy, legacyNode, map[string]tale{
		"with lxc_health":            {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"lxc_health of another MAC":  {setEndpoint("10.244.1.5", func(e *ciliummap.Endpoint) { e.NodeMAC = mac(99) }), v1alpha1.VerdictFail, v1alpha1.EndpointWrong},
		"without lxc_health":         {noHealth, v1alpha1.VerdictWarn, v1alpha1.NothingToProve},
		"without it and unasked":     {all(noHealth, func(f *facts.Facts) { f.Peers = facts.Peers{} }), v1alpha1.VerdictUnknown, v1alpha1.NothingToProve},
		"without it or a host entry": {all(noHealth, func(f *facts.Facts) { delete(f.Endpoints.ByIP, ip("10.244.1.1")) }), v1alpha1.VerdictUnknown, v1alpha1.MapIncomplete},
		"without it, a peer missing": {all(noHealth, lostPeer), v1alpha1.VerdictFail, v1alpha1.PeerMissing},
	})
}

func TestSuspectsAreThePeersWhoseNodeDecides(t *testing.T) {
	f := overlayNode()
	if s := Suspects(f); len(s) != 0 {
		t.Errorf("a good node suspects %v", s)
	}
	lostPeer(f)
	f.Routes.List = slices.DeleteFunc(f.Routes.List, func(r facts.Route) bool { return r.Dst == cidr("10.244.3.0/24") })
	if s := Suspects(f); !slices.Equal(s, []string{"n2", "n3"}) {
		t.Errorf("suspects %v", s)
	}
	f.Peers.List[0].Created = now // excused without asking anybody
	if s := Suspects(f); !slices.Equal(s, []string{"n3"}) {
		t.Errorf("suspects %v", s)
	}
}
