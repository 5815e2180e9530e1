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
type mode struct {
	// known is false where the pins could not be read: then only what every mode needs is asked for.
	known bool
	// nat: the NIC's egress has a program, for kube-proxy replacement or, from Cilium 1.19 on, for BPF masquerade.
	nat bool
	// sockets: Services are translated at the sockets of processes, as kube-proxy replacement does.
	sockets bool
	// stale: a pin of kube-proxy replacement is left of an earlier mode.
	stale bool
}

func modeOf(f *facts.Facts) mode {
	nat := slices.Contains(f.Pins.Names, ciliummap.NATPin)
	neighbors := slices.Contains(f.Pins.Names, ciliummap.NeighborsPin)
	return mode{known: f.Pins.Sight == facts.Seen, nat: nat, sockets: nat && neighbors || len(f.Programs.Sockets) > 0, stale: neighbors && !nat}
}

func (m mode) String() string {
	switch {
	case !m.known:
		return "any mode"
	case m.nat && m.sockets:
		return "kube-proxy replacement"
	case m.nat:
		return "BPF masquerade beside kube-proxy"
	case m.sockets:
		return "socket load balancing beside kube-proxy"
	case m.stale:
		return "kube-proxy, with a pin left of kube-proxy replacement"
	}
	return "kube-proxy"
}
