// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/cniconf"
)

// Names of Cilium's interfaces (Cilium pkg/defaults/node.go).
const (
	tunnelLink = facts.TunnelLink
	hostLink   = facts.HostLink
	netLink    = "cilium_net"
	healthLink = "lxc_health"
)

// What VXLAN adds to a packet, in bytes: inner Ethernet 14, VXLAN 8, UDP 8 and the outer IP header, 20 for IPv4 and 40 for
// IPv6 (RFC 7348 section 5; Cilium pkg/mtu: TunnelOverheadIPv4, TunnelOverheadIPv6).
const (
	overheadIPv4 = 50
	overheadIPv6 = 70
)

// unicast is RTN_UNICAST of linux/rtnetlink.h: a route that leads to an interface.
const unicast = 1

// scene is the facts with what several checks derive from them.
type scene struct {
	f       *facts.Facts
	role    v1alpha1.Role
	net     cniconf.Outcome
	byName  map[string]facts.Link
	byIndex map[int]facts.Link
	// overhead is what the tunnel adds to a packet here, in bytes. It is asked for with every peer, so it is found once.
	overhead int
}

func newScene(f *facts.Facts, role v1alpha1.Role) *scene {
	s := &scene{f: f, role: role, net: f.ConfDir.Judge(), byName: map[string]facts.Link{}, byIndex: map[int]facts.Link{}, overhead: overhead(f)}
	for _, l := range f.Links.List {
		s.byName[l.Name] = l
		s.byIndex[l.Index] = l
	}
	return s
}

// Underlay returns the NIC that carries the tunnel's packets, or says why there is none.
func Underlay(f *facts.Facts) (facts.Link, string) {
	return newScene(f, v1alpha1.RoleUnknown).underlay()
}

// underlay is the NIC that carries the tunnel's packets: the one with the address that the Node publishes, because that is
// where peers send them; without a Node, the one of the default route. The string says why there is none.
func (s *scene) underlay() (facts.Link, string) {
	if s.f.Links.Sight != facts.Seen {
		return facts.Link{}, "the interfaces could not be read: " + s.f.Links.Detail
	}
	for _, ip := range s.f.Node.InternalIPs {
		for _, l := range s.f.Links.List {
			for _, a := range l.Addrs {
				if a.Addr() == ip && !strings.HasPrefix(l.Name, "cilium_") {
					return l, ""
				}
			}
		}
	}
	if s.f.Routes.Sight != facts.Seen {
		return facts.Link{}, "the routes could not be read: " + s.f.Routes.Detail
	}
	best := -1
	for i, r := range s.f.Routes.List {
		if r.Dst.Bits() != 0 || r.Type != unicast || r.Link == 0 {
			continue
		}
		if best < 0 || preferred(s.f.Routes.List[best], r) {
			best = i
		}
	}
	if best < 0 {
		return facts.Link{}, fmt.Sprintf("no interface has an address of the Node (%s) and there is no default route", joined(s.f.Node.InternalIPs))
	}
	l, ok := s.byIndex[s.f.Routes.List[best].Link]
	if !ok {
		return facts.Link{}, "the default route leads to an interface that is not there"
	}
	return l, ""
}

// preferred says whether default route b is preferred to a: IPv4 before IPv6, then the smaller priority.
func preferred(a, b facts.Route) bool {
	if a.Dst.Addr().Is4() != b.Dst.Addr().Is4() {
		return b.Dst.Addr().Is4()
	}
	return b.Priority < a.Priority
}

// overhead is what the tunnel adds to a packet. The family of the tunnel is that of the endpoints in Cilium's map; before
// there are any, that of the Node's address.
func overhead(f *facts.Facts) int {
	v4 := false
	for _, node := range f.IPCache.Entries.Tunnels() {
		if node.Is6() {
			return overheadIPv6
		}
		v4 = true
	}
	if v4 {
		return overheadIPv4
	}
	for _, ip := range f.Node.InternalIPs {
		if ip.Is4() {
			return overheadIPv4
		}
	}
	if len(f.Node.InternalIPs) > 0 {
		return overheadIPv6
	}
	return overheadIPv4
}

// inOverlay says whether an address belongs to the overlay.
func (s *scene) inOverlay(a netip.Addr) bool { return contains(s.f.Settings.Overlay, a) }

// inSlice says whether an address belongs to this node's part of the overlay.
func (s *scene) inSlice(a netip.Addr) bool { return contains(s.f.Own.PodCIDRs, a) }

// sliceKnown says whether this node's part of the overlay is known. A CIDR that holds more than the overlay's own is nobody's
// part of it: every pod would lie in it.
func (s *scene) sliceKnown() bool {
	return s.f.Own.Sight == facts.Seen && len(s.f.Own.PodCIDRs) > 0 && !s.sliceTooWide().IsValid()
}

// sliceTooWide is the first pod CIDR of this node that holds more than a CIDR of the overlay.
func (s *scene) sliceTooWide() netip.Prefix {
	for _, slice := range s.f.Own.PodCIDRs {
		for _, all := range s.f.Settings.Overlay {
			if slice.Bits() < all.Bits() && slice.Contains(all.Addr()) {
				return slice
			}
		}
	}
	return netip.Prefix{}
}

// overlayKnown says whether the CIDRs of the overlay are known.
func overlayKnown(f *facts.Facts) bool {
	return f.Settings.Sight == facts.Seen && len(f.Settings.Overlay) > 0
}

func contains(in []netip.Prefix, a netip.Addr) bool {
	for _, p := range in {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// tunnelRoutes are the routes that lead to cilium_host and out of this node: all but that of the own slice, which carries no
// MTU because its packets stay here. The own slice is told by cilium_host's own address, which lies in it.
func (s *scene) tunnelRoutes() []facts.Route {
	host, ok := s.byName[hostLink]
	if !ok {
		return nil
	}
	var out []facts.Route
	for _, r := range s.f.Routes.List {
		if r.Link != host.Index || r.Type != unicast || !s.inOverlay(r.Dst.Addr()) {
			continue
		}
		own := contains(s.f.Own.PodCIDRs, r.Dst.Addr())
		for _, a := range host.Addrs {
			own = own || r.Dst.Contains(a.Addr())
		}
		if !own {
			out = append(out, r)
		}
	}
	return out
}

// joined lists values for a sentence, the first few of them.
func joined[T any](values []T) string {
	const most = 3
	var parts []string
	for i, v := range values {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(values)-most))
			break
		}
		parts = append(parts, fmt.Sprint(v))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
