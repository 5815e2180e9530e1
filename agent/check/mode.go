// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// mode is what Cilium does on this node beyond the tunnel. It is told by what Cilium has pinned, because that is of this node and
// of the agent that runs: the ConfigMap may have been changed since, or be overruled for this node by a CiliumNodeConfig.
//
// What the released versions pin (Cilium 1.18.11, 1.19.0 and 1.20.2: pkg/kpr, pkg/maps/nat, pkg/maps/neighborsmap, pkg/socketlb):
//
//	setting                          | NAT | neighbors | sockets | NIC's egress
//	kubeProxyReplacement             | yes | yes       | yes     | yes
//	nodePort.enabled alone, 1.18     | yes | yes       | no      | yes
//	bpf.masquerade alone, from 1.19  | yes | as it was | no      | yes
//	socketLB.enabled alone           | no  | as it was | yes     | no
//	none of them                     | no  | as it was | no      | no
//
// So the pins of NAT and neighbors do not mean that the sockets have programs. Where none is there, Cilium's agent is asked; where
// it does not answer, the directory of their links tells, unless it is left of an earlier mode.
type mode struct {
	// known is false where the pins could not be read: then only what every mode needs is asked for.
	known bool
	// nat: the NIC's egress has a program.
	nat bool
	// sockets: Services are translated at the sockets of processes, or should be.
	sockets bool
	// unclear: nothing is attached to the sockets, and whether that is as it should be cannot be told.
	unclear bool
	// stale: a pin of kube-proxy replacement is left of an earlier mode.
	stale bool
}

func modeOf(f *facts.Facts) mode {
	nat := slices.Contains(f.Pins.Names, ciliummap.NATPin)
	neighbors := slices.Contains(f.Pins.Names, ciliummap.NeighborsPin)
	p := f.Programs
	m := mode{known: f.Pins.Sight == facts.Seen, nat: nat, sockets: len(p.Sockets) > 0, stale: neighbors && !nat}
	switch said := f.Status.SocketLB; {
	case m.sockets:
	case f.Status.Sight == facts.Seen && said != nil:
		m.sockets = *said
	default:
		m.unclear = nat && neighbors && (p.SocketsOnce || p.Sight != facts.Seen)
	}
	return m
}

func (m mode) String() string {
	switch {
	case !m.known:
		return "any mode"
	case m.nat && m.sockets:
		return "kube-proxy replacement"
	case m.unclear:
		return "kube-proxy replacement, or what it left"
	case m.nat:
		return "node ports or masquerade in BPF beside kube-proxy"
	case m.sockets:
		return "socket load balancing beside kube-proxy"
	case m.stale:
		return "kube-proxy, with a pin left of kube-proxy replacement"
	}
	return "kube-proxy"
}
