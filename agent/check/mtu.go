// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Sizes are the MTU figures of a node, in bytes; 0 is "not known".
type Sizes struct {
	Underlay int // of the NIC
	Device   int // of cilium_vxlan
	RouteMin int // smallest and largest that a tunnel route sets
	RouteMax int
	Overhead int // what the encapsulation adds here
}

// LargestPackets is how large packets of the tunnel are at most, outside and inside, in bytes; 0 where it is not known.
func LargestPackets(f *facts.Facts) (outer, inner int) {
	z := SizesOf(f)
	if z.Underlay == 0 || z.RouteMax == 0 {
		return 0, 0
	}
	outer = min(z.RouteMax+z.Overhead, z.Underlay)
	return outer, outer - z.Overhead
}

// SizesOf reads the MTU figures out of the facts.
func SizesOf(f *facts.Facts) Sizes { return newScene(f, v1alpha1.RoleUnknown).sizes() }

func (s *scene) sizes() Sizes {
	out := Sizes{Device: s.byName[tunnelLink].MTU, Overhead: s.overhead}
	if nic, why := s.underlay(); why == "" {
		out.Underlay = nic.MTU
	}
	for i, r := range s.tunnelRoutes() {
		if i == 0 || r.MTU < out.RouteMin {
			out.RouteMin = r.MTU
		}
		out.RouteMax = max(out.RouteMax, r.MTU)
	}
	return out
}

// mtu asks whether NIC, tunnel routes and encapsulation fit together, and whether what the tunnel carries says so too. Less room than
// the encapsulation needs means that the outer packets are cut in pieces (the tunnel does not set DF), which works in a test and
// ruins a busy node.
func mtu(s *scene) v1alpha1.Finding {
	out := s.configuredMTU()
	cut, rests, evidence := s.measured()
	narrow, also, more := s.probes()
	wrong := worst(narrow, cut)
	evidence = slices.Concat(out.Evidence, evidence, more)
	switch {
	case wrong != nil && (out.Verdict != v1alpha1.VerdictFail && wrong.Verdict == v1alpha1.VerdictFail || out.Verdict == v1alpha1.VerdictPass || out.Verdict == v1alpha1.VerdictWarn):
		out = *wrong
	case wrong == nil:
		out.Message = v1alpha1.Message(out.Message + "; " + rests + "; " + also)
	}
	return with(out, evidence...)
}

// configuredMTU judges what the host says by itself.
func (s *scene) configuredMTU() v1alpha1.Finding {
	switch {
	case s.f.Links.Sight != facts.Seen:
		return unreadable("interfaces", s.f.Links.Look)
	case s.f.Routes.Sight != facts.Seen:
		return unreadable("routes", s.f.Routes.Look)
	case !overlayKnown(s.f):
		return unknown(v1alpha1.SliceUnknown, "the CIDRs of the overlay are not known: %s", s.f.Settings.Detail)
	}
	nic, why := s.underlay()
	if why != "" {
		return unknown(v1alpha1.UnderlayUnknown, "the interface that carries the tunnel was not found: %s", why)
	}
	z := s.sizes()
	routes := s.tunnelRoutes()
	if len(routes) == 0 || z.Device == 0 {
		return unknown(v1alpha1.MTUUnknown, "there is no route into the tunnel or no %s whose MTU could be judged", tunnelLink)
	}
	evidence := []v1alpha1.Evidence{number("underlay", z.Underlay, "bytes"), number("device", z.Device, "bytes"),
		number("route_min", z.RouteMin, "bytes"), number("route_max", z.RouteMax, "bytes"), number("overhead", z.Overhead, "bytes")}
	switch room := z.Underlay - z.RouteMax; {
	case z.RouteMin == 0:
		return with(fail(v1alpha1.MTUNoRoom, "a route into the tunnel sets no MTU, so packets of %d bytes get %d more and do not fit %s; restart Cilium's agent on this node", z.Device, z.Overhead, nic.Name), evidence...)
	case room < z.Overhead:
		return with(fail(v1alpha1.MTUNoRoom, "routes into the tunnel have MTU %d and %s has %d: %d bytes of room, and the encapsulation needs %d; set Cilium's MTU to the NIC's", z.RouteMax, nic.Name, z.Underlay, room, z.Overhead), evidence...)
	case z.Device > z.Underlay:
		return with(fail(v1alpha1.MTUNoRoom, "%s has MTU %d, more than the %d of %s that carries it", tunnelLink, z.Device, z.Underlay, nic.Name), evidence...)
	case z.Underlay-z.RouteMin > z.Overhead:
		return with(warn(v1alpha1.MTUWasteful, "routes into the tunnel have MTU %d and %s has %d: %d bytes are left free and %d would do; encryption or another interface with a smaller MTU explains it", z.RouteMin, nic.Name, z.Underlay, z.Underlay-z.RouteMin, z.Overhead), evidence...)
	}
	return with(pass(v1alpha1.AsWanted, "%s has MTU %d and routes into the tunnel %d: exactly the %d bytes that the encapsulation adds", nic.Name, z.Underlay, z.RouteMax, z.Overhead), evidence...)
}
