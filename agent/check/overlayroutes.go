// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// overlayRoutes asks whether the kernel sends every peer's pod CIDR to cilium_host, with the tunnel's MTU, and whether packets of the
// VPC CNI's pods get that far. Pods of the overlay are forwarded by Cilium's programs without these routes; the host's own
// processes and the VPC CNI's pods are not.
func overlayRoutes(s *scene) v1alpha1.Finding {
	switch {
	case s.f.Links.Sight != facts.Seen:
		return unreadable("interfaces", s.f.Links.Look)
	case s.f.Routes.Sight != facts.Seen:
		return unreadable("routes", s.f.Routes.Look)
	case !overlayKnown(s.f):
		return unknown(v1alpha1.SliceUnknown, "the CIDRs of the overlay are not known: %s", s.f.Settings.Detail)
	}
	if _, why := s.underlay(); why != "" {
		return unknown(v1alpha1.UnderlayUnknown, "the interface that carries the tunnel was not found: %s", why)
	}
	tunnel := s.tunnelRoutes()
	for _, r := range tunnel {
		if bad := s.routeMTU(r); bad != "" {
			return with(fail(v1alpha1.RouteWithoutMTU, "%s; restart Cilium's agent on this node if it stays so", bad), number("tunnel_routes", len(tunnel), "routes"))
		}
	}
	table := s.routeTable()
	peers := s.countPeers(func(p facts.Peer) (v1alpha1.Reason, string) { return s.peerInRoutes(p, table) })
	paths, pods := s.legacyPaths()
	evidence := append([]v1alpha1.Evidence{number("tunnel_routes", len(tunnel), "routes"), number("legacy_pods", pods, "pods")}, peers.evidence()...)
	return with(worse(s.judgeRoutes(len(tunnel), peers), s.forwarding(), paths), evidence...)
}

func (s *scene) judgeRoutes(tunnel int, peers peerCount) v1alpha1.Finding {
	asked := s.f.Peers.Sight != facts.NotLooked
	switch {
	case peers.wrong > 0:
		return fail(peers.reason, "%d peers are not routed into the tunnel: %s; see the log of Cilium's agent on this node", peers.wrong, peers.detail)
	case asked && s.f.Peers.Sight != facts.Seen:
		return unknown(v1alpha1.PeersUnknown, "the CiliumNode objects could not be listed, so the routes are not proved: %s", s.f.Peers.Detail)
	case peers.undecided > 0:
		return unknown(v1alpha1.PeersUnknown, "%d peers are not routed as expected, and whether they must be could not be told from their Node objects: %s", peers.undecided, peers.undecidable)
	case asked && peers.right == 0:
		return unknown(v1alpha1.NothingToProve, "there is no peer (%d are excused) whose route could be judged", peers.excused)
	case !asked && tunnel == 0:
		return unknown(v1alpha1.NothingToProve, "no route leads into the tunnel; whether one should is known only when the coordinator asks")
	case !asked:
		return pass(v1alpha1.AsWanted, "%d routes lead into the tunnel, each with the tunnel's MTU; peers are proved when the coordinator asks", tunnel)
	}
	return pass(v1alpha1.AsWanted, "the pod CIDRs of %d peers are routed into the tunnel with its MTU", peers.right)
}
