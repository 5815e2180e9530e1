// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package vpccni

import (
	"net/netip"
	"slices"
)

// Mode is how Services and sources are translated on nodes of the VPC CNI. Its zero value is the advice: kube-proxy, and
// iptables masquerade by Cilium, which leaves the VPC CNI's rules alone.
type Mode struct {
	// KubeProxyReplacement and BPFMasquerade are Cilium's.
	KubeProxyReplacement bool `json:"kubeProxyReplacement,omitempty"`
	BPFMasquerade        bool `json:"bpfMasquerade,omitempty"`
	// StripsRules: Cilium removes the VPC CNI's iptables rules at every start (cni.iptablesRemoveAWSRules).
	StripsRules bool `json:"stripsRules,omitempty"`
}

// Path is a kind of path that is lost.
type Path struct {
	From, To string
	// Why, to end a sentence.
	Why string
	// Setting of the VPC CNI that must hold the overlay, or else it stays lost; empty: another mode mends it.
	Setting string
}

// Lost are the kinds of paths that are lost between pods of a network of the overlay and what the VPC CNI serves. With both lists
// holding the network, or ExternalSNAT in the place of the second, and the zero Mode there are none.
//
// They are not derived but measured: 135 paths in each of 32 variants, Cilium 1.18.11, amazon-vpc-cni-k8s 1.23.2, kube-proxy
// 1.35.4 in mode iptables and nftables, IPv4. Not measured: IPVS, prefix delegation, and KubeProxyReplacement together with one
// list alone, for which the reasons of the measured ones are taken.
func (s *Settings) Lost(overlay netip.Prefix, m Mode) []Path {
	const (
		overlayPods = "pods on the overlay"
		remotePods  = overlayPods + " of other nodes"
		alsoService = ", and Services with such a backend"
	)
	secondary := "pods on secondary ENIs"
	if s.CustomNetworking {
		secondary = "pods of the VPC CNI (custom networking puts all of them on secondary ENIs)"
	}
	var out []Path
	lost := func(setting, from, to, why string) { out = append(out, Path{from, to, why, setting}) }
	unmarked := s.ExternalSNAT || slices.ContainsFunc(s.ExcludeSNATCIDRs, overlay.Overlaps)
	if !covers(s.ExternalServiceCIDRs, overlay) {
		switch {
		case unmarked:
			lost(EnvExternalServiceCIDRs, secondary, overlayPods+alsoService, "packets get no mark, and without one they leave by the ENI")
		case !m.KubeProxyReplacement:
			lost(EnvExternalServiceCIDRs, secondary, "Services with a backend on the overlay", "kube-proxy translates before the VPC CNI marks, and without a mark packets leave by the ENI; a ping of the backend passes")
		}
		lost(EnvExternalServiceCIDRs, overlayPods, secondary+" of the same node"+alsoService, "answers leave by the ENI")
	}
	if !s.ExternalSNAT && !covers(s.ExcludeSNATCIDRs, overlay) && !m.StripsRules {
		to := remotePods
		if m.KubeProxyReplacement {
			to += alsoService
		}
		lost(EnvExcludeSNATCIDRs, "processes of old nodes themselves", to, "packets get the node's address inside of the tunnel, and the VPC drops the answers")
	}
	if m.BPFMasquerade {
		lost("", "pods of the VPC CNI", remotePods+alsoService, "with BPF masquerade nothing gives packets into the tunnel an address of the overlay, and the VPC drops the answers")
	}
	if m.KubeProxyReplacement {
		lost("", "load balancers and hosts outside", "NodePorts of an old node with one of its own pods behind them", "kube-proxy replacement never sees the answers of pods of the VPC CNI")
	}
	if m.StripsRules {
		lost("", secondary, "the Internet", "Cilium's pods remove the VPC CNI's iptables rules when they start")
	}
	return out
}

// covers says whether one of the networks holds all of the other network.
func covers(networks []netip.Prefix, n netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Bits() <= n.Bits() && p.Contains(n.Addr()) })
}
