// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// youngPeer is how long a node may take until its peers must know it. Cilium's agents learn of a new node within a second or
// two; the rest is for a loaded API server.
const youngPeer = 60 * time.Second

// Suspects returns the names of the peers that this node does not know as they are. Their Node objects decide
// whether that matters: look at those, fill in Peer.Node and judge again.
func Suspects(f *facts.Facts) []string {
	s := newScene(f, v1alpha1.RoleUnknown)
	routes := s.routeTable()
	var out []string
	for _, p := range f.Peers.List {
		if young(f, p.Created) {
			continue
		}
		if r, _ := s.peerInMaps(p); r != v1alpha1.AsWanted {
			out = append(out, p.Name)
			continue
		}
		if r, _ := s.peerInRoutes(p, routes); r != v1alpha1.AsWanted {
			out = append(out, p.Name)
		}
	}
	return out
}

func young(f *facts.Facts, created time.Time) bool { return f.At.Sub(created) < youngPeer }

// A peer's standing when something about it is wrong.
type standing uint8

const (
	undecidedPeer standing = iota // its Node could not be, or was not, looked at
	requiredPeer                  // it must be known as it is
	excusedPeer                   // too young, NotReady or without a Node
)

func (s *scene) standing(p facts.Peer) standing {
	switch {
	case young(s.f, p.Created), p.Node.Sight == facts.Absent:
		return excusedPeer
	case p.Node.Sight != facts.Seen:
		return undecidedPeer
	case !p.Node.Ready, young(s.f, p.Node.Created):
		return excusedPeer
	}
	return requiredPeer
}

// peerCount sorts the peers by one question.
type peerCount struct {
	right, excused, undecided int

	wrong       int
	reason      v1alpha1.Reason // of the first that is wrong
	detail      string
	undecidable string // the first that is undecided
}

// countPeers puts the question to every peer.
func (s *scene) countPeers(ask func(facts.Peer) (v1alpha1.Reason, string)) peerCount {
	var c peerCount
	for _, p := range s.f.Peers.List {
		reason, detail := ask(p)
		if reason == v1alpha1.AsWanted {
			c.right++
			continue
		}
		switch s.standing(p) {
		case excusedPeer:
			c.excused++
		case undecidedPeer:
			if c.undecided++; c.undecidable == "" {
				c.undecidable = detail
			}
		default:
			if c.wrong++; c.detail == "" {
				c.reason, c.detail = reason, detail
			}
		}
	}
	return c
}

func (c peerCount) evidence() []v1alpha1.Evidence {
	return []v1alpha1.Evidence{number("peers", c.right, "nodes"), number("peers_wrong", c.wrong, "nodes"),
		number("peers_excused", c.excused, "nodes"), number("peers_undecided", c.undecided, "nodes")}
}

// peerInMaps asks whether each of a peer's pod CIDRs leads to that peer in Cilium's map.
func (s *scene) peerInMaps(p facts.Peer) (v1alpha1.Reason, string) {
	cidrs := ipv4(p.PodCIDRs)
	if len(cidrs) == 0 {
		return v1alpha1.PeerMissing, fmt.Sprintf("node %s has no pod CIDR yet", p.Name)
	}
	for _, cidr := range cidrs {
		e, ok := s.f.IPCache.Entries.Get(cidr)
		switch {
		case !ok || !e.Tunnel.IsValid():
			return v1alpha1.PeerMissing, fmt.Sprintf("%s of node %s has no tunnel entry", cidr, p.Name)
		case e.Flags&ciliummap.RemoteSkipTunnel != 0:
			return v1alpha1.PeerMissing, fmt.Sprintf("%s of node %s is marked never to go through the tunnel", cidr, p.Name)
		case !hasAddr(p.InternalIPs, e.Tunnel):
			return v1alpha1.PeerWrongEndpoint, fmt.Sprintf("%s of node %s leads to %s, and the node has %s", cidr, p.Name, e.Tunnel, joined(p.InternalIPs))
		}
	}
	// An address of its own beats the CIDR. Those of a peer's pods are not published to every node, and entries of pods that are no
	// more may outlive them for minutes, so only the addresses that the peer itself says it has are held against it.
	for _, a := range append([]netip.Addr{p.HealthIP}, p.CiliumIPs...) {
		if e, _ := s.f.IPCache.Entries.Get(netip.PrefixFrom(a, a.BitLen())); e.Tunnel.IsValid() && !hasAddr(p.InternalIPs, e.Tunnel) {
			return v1alpha1.PeerWrongEndpoint, fmt.Sprintf("%s of node %s leads to %s, and the node has %s", a, p.Name, e.Tunnel, joined(p.InternalIPs))
		}
	}
	return v1alpha1.AsWanted, ""
}

// routeTable is the main table by destination; of several routes to one, that with the smallest priority wins.
type routeTable struct {
	best map[netip.Prefix]facts.Route
	past []facts.Route // routes into the overlay that lead elsewhere than to cilium_host
}

func (s *scene) routeTable() routeTable {
	t := routeTable{best: make(map[netip.Prefix]facts.Route, len(s.f.Routes.List))}
	host := s.byName[hostLink].Index
	for _, r := range s.f.Routes.List {
		if old, ok := t.best[r.Dst]; !ok || r.Priority < old.Priority {
			t.best[r.Dst] = r
		}
		if r.Link != host && r.Dst.Addr().Is4() && r.Dst.Bits() > 0 {
			t.past = append(t.past, r)
		}
	}
	return t
}

// peerInRoutes asks whether the kernel sends each of a peer's pod CIDRs to cilium_host with the tunnel's MTU. A route to the
// CIDR itself must be there: a wider one that happens to lead there too is not Cilium's, and a narrower one that leads elsewhere
// takes part of the CIDR away.
func (s *scene) peerInRoutes(p facts.Peer, t routeTable) (v1alpha1.Reason, string) {
	cidrs := ipv4(p.PodCIDRs)
	if len(cidrs) == 0 {
		return v1alpha1.RouteMissing, fmt.Sprintf("node %s has no pod CIDR yet", p.Name)
	}
	host, there := s.byName[hostLink]
	for _, cidr := range cidrs {
		r, ok := t.best[cidr]
		switch {
		case !ok || !there:
			return v1alpha1.RouteMissing, fmt.Sprintf("%s of node %s has no route to %s", cidr, p.Name, hostLink)
		case r.Link != host.Index || r.Type != unicast:
			return v1alpha1.RouteElsewhere, fmt.Sprintf("%s of node %s is routed to %s and not to %s", cidr, p.Name, s.linkName(r.Link), hostLink)
		}
		for _, other := range t.past {
			if other.Dst.Bits() > cidr.Bits() && cidr.Contains(other.Dst.Addr()) {
				return v1alpha1.RouteElsewhere, fmt.Sprintf("%s, part of %s of node %s, is routed to %s and not to %s", other.Dst, cidr, p.Name, s.linkName(other.Link), hostLink)
			}
		}
		if bad := s.routeMTU(r); bad != "" {
			return v1alpha1.RouteWithoutMTU, bad
		}
	}
	return v1alpha1.AsWanted, ""
}

// routeMTU says what is wrong with a tunnel route's MTU. Too small an MTU wastes room and is the check MTU's to warn of.
func (s *scene) routeMTU(r facts.Route) string {
	nic, why := s.underlay()
	switch {
	case r.MTU == 0:
		return fmt.Sprintf("the route to %s sets no MTU, so packets of the device's full size are sent into the tunnel", r.Dst)
	case why == "" && r.MTU > nic.MTU-s.overhead:
		return fmt.Sprintf("the route to %s has MTU %d; with the %d bytes of the tunnel that does not fit the %d of %s", r.Dst, r.MTU, s.overhead, nic.MTU, nic.Name)
	}
	return ""
}

func (s *scene) linkName(index int) string {
	if l, ok := s.byIndex[index]; ok {
		return l.Name
	}
	return "no interface"
}

// ipv4 leaves out IPv6 CIDRs: the overlays that are moved to are IPv4.
func ipv4(cidrs []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, c := range cidrs {
		if c.Addr().Is4() {
			out = append(out, c)
		}
	}
	return out
}

func hasAddr(list []netip.Addr, a netip.Addr) bool {
	for _, x := range list {
		if x == a {
			return true
		}
	}
	return false
}
