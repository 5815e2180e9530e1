// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strings"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// tunnelDevice asks whether the tunnel's interfaces are there, up and of the right kind. cilium_vxlan has no address and no
// fixed VNI: each packet brings the identity of its sender.
func tunnelDevice(s *scene) v1alpha1.Finding {
	if s.f.Links.Sight != facts.Seen {
		return unreadable("interfaces", s.f.Links.Look)
	}
	if s.f.Settings.TunnelPort == 0 {
		return unknown(v1alpha1.HostUnreadable, "the tunnel's port is not known: %s", s.f.Settings.Detail)
	}
	port := s.f.Settings.TunnelPort
	foreign := s.foreignVXLAN(port, true)
	tunnel, ok := s.byName[tunnelLink]
	switch {
	case !ok && foreign != "":
		return fail(v1alpha1.TunnelPortTaken, "there is no %s, and the VXLAN device %s holds UDP port %d: Cilium cannot make its own beside it; remove that device, or give the tunnel another port", tunnelLink, foreign, port)
	case !ok:
		return fail(v1alpha1.TunnelMissing, "there is no interface %s: see whether Cilium's agent on this node is up and its datapath initialised", tunnelLink)
	case tunnel.VXLAN == nil || !tunnel.VXLAN.External:
		return fail(v1alpha1.TunnelWrongKind, "%s is of kind %s and not a collect-metadata VXLAN device: another tunnel protocol or another program made it", tunnelLink, tunnel.Kind)
	case tunnel.VXLAN.Port != port:
		return fail(v1alpha1.TunnelWrongPort, "%s uses UDP port %d and the Cutover says %d: nodes on different ports cannot reach each other; correct tunnelPort or overlay.tunnel.port", tunnelLink, tunnel.VXLAN.Port, port)
	case !tunnel.Up && foreign != "":
		return fail(v1alpha1.TunnelPortTaken, "%s is down, and the VXLAN device %s holds its UDP port %d: remove that device, or give the tunnel another port", tunnelLink, foreign, port)
	}
	for _, name := range []string{tunnelLink, hostLink, netLink} {
		l, ok := s.byName[name]
		if !ok {
			return fail(v1alpha1.TunnelMissing, "there is no interface %s: see whether Cilium's agent on this node is up and its datapath initialised", name)
		}
		if !l.Up {
			return fail(v1alpha1.TunnelDown, "the interface %s is down: see the log of Cilium's agent on this node", name)
		}
	}
	return s.tunnelMTU(tunnel)
}

// tunnelMTU compares with the NIC: Cilium gives its interfaces the NIC's MTU and leaves room for the encapsulation in the routes.
func (s *scene) tunnelMTU(tunnel facts.Link) v1alpha1.Finding {
	nic, why := s.underlay()
	if why != "" {
		return unknown(v1alpha1.UnderlayUnknown, "the interface that carries the tunnel was not found: %s", why)
	}
	evidence := []v1alpha1.Evidence{number("tunnel_mtu", tunnel.MTU, "bytes"), number("underlay_mtu", nic.MTU, "bytes"), number("port", tunnel.VXLAN.Port, "")}
	for _, name := range []string{tunnelLink, hostLink, netLink} {
		l := s.byName[name]
		if l.MTU > nic.MTU {
			return with(fail(v1alpha1.TunnelWrongMTU, "%s has MTU %d, more than the %d of %s that carries it: packets are cut or lost; set Cilium's MTU, or restart its agent", name, l.MTU, nic.MTU, nic.Name), evidence...)
		}
	}
	if tunnel.MTU < nic.MTU {
		return with(warn(v1alpha1.TunnelWrongMTU, "%s has MTU %d, less than the %d of %s that carries it: room is wasted; another interface that Cilium selected has a smaller MTU, or Cilium's MTU is set by hand", tunnelLink, tunnel.MTU, nic.MTU, nic.Name), evidence...)
	}
	if other := s.foreignVXLAN(tunnel.VXLAN.Port, false); other != "" {
		return with(warn(v1alpha1.TunnelPortTaken, "%s is well, but the VXLAN device %s, now down, has its UDP port %d too: whichever comes up first after a restart keeps the other from it; remove that device", tunnelLink, other, tunnel.VXLAN.Port), evidence...)
	}
	return with(pass(v1alpha1.AsWanted, "%s is up on UDP port %d with the MTU of %s, %d", tunnelLink, tunnel.VXLAN.Port, nic.Name, nic.MTU), evidence...)
}

// foreignVXLAN names a VXLAN device of somebody else's with the port, up or down, "" without one. Two devices may share a port
// only while one of them is down: the one that is up holds it.
func (s *scene) foreignVXLAN(port int, up bool) string {
	for _, l := range s.f.Links.List {
		if l.VXLAN != nil && l.VXLAN.Port == port && l.Up == up && !strings.HasPrefix(l.Name, "cilium_") {
			return l.Name
		}
	}
	return ""
}
