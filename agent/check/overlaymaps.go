// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// overlayMaps asks whether Cilium's pinned maps say what is true. That a map is there and of a known layout proves nothing;
// its content must agree with this host's interfaces and with what the peers publish of themselves.
func overlayMaps(s *scene) v1alpha1.Finding {
	if f, ok := s.mapsUnseen(); ok {
		return f
	}
	if f, ok := s.layoutsDiffer(); ok {
		return f
	}
	switch {
	case s.f.Links.Sight != facts.Seen:
		return unreadable("interfaces", s.f.Links.Look)
	case s.f.Pods.Sight != facts.Seen:
		return unknown(v1alpha1.PodsUnknown, "the pods of this node, by which Cilium's maps are proved, could not be listed: %s", s.f.Pods.Detail)
	case !overlayKnown(s.f):
		return unknown(v1alpha1.SliceUnknown, "the CIDRs of the overlay are not known: %s", s.f.Settings.Detail)
	}
	local := s.proveEndpoints()
	peers := s.countPeers(s.peerInMaps)
	evidence := append([]v1alpha1.Evidence{
		number("endpoints", len(s.f.Endpoints.ByIP), "entries"), number("ipcache", s.f.IPCache.Entries.Len(), "entries"),
		number("pods_proved", local.right, "pods")}, peers.evidence()...)
	return with(s.judgeMaps(local, peers), evidence...)
}

func (s *scene) judgeMaps(local proof, peers peerCount) v1alpha1.Finding {
	asked := s.f.Peers.Sight != facts.NotLooked
	switch {
	case local.reason != "":
		return fail(local.reason, "Cilium's endpoint map %s is wrong: %s; restart Cilium's agent on this node if it stays so", s.f.Endpoints.Stats.Pin, local.detail)
	case peers.wrong > 0:
		return fail(peers.reason, "%d of %d peers are not as %s has them: %s; see whether Cilium's agent on this node reaches the API server", peers.wrong, len(s.f.Peers.List), s.f.IPCache.Stats.Pin, peers.detail)
	case asked && s.f.Peers.Sight != facts.Seen:
		return unknown(v1alpha1.PeersUnknown, "the CiliumNode objects could not be listed, so the peers are not proved: %s", s.f.Peers.Detail)
	case peers.undecided > 0:
		return unknown(v1alpha1.PeersUnknown, "%d peers are not as expected, and whether they must be could not be told from their Node objects: %s", peers.undecided, peers.undecidable)
	case !s.hostEntry():
		return unknown(v1alpha1.MapIncomplete, "%s lacks the address of %s (%s), which Cilium enters as the host's own when it starts: it is being filled, or was emptied; look again, and restart Cilium's agent on this node if it stays so",
			s.f.Endpoints.Stats.Pin, hostLink, joined(s.byName[hostLink].Addrs))
	case asked && peers.right == 0:
		return unknown(v1alpha1.NothingToProve, "there is no peer (%d are excused) by which the tunnel's map could be proved", peers.excused)
	case local.right == 0 && !local.health:
		return s.weakProof(asked)
	case !asked:
		return pass(v1alpha1.AsWanted, "%d pods%s decode to their interfaces; peers are proved when the coordinator asks; %s", local.right, andHealth(local), s.layoutsOf())
	}
	return pass(v1alpha1.AsWanted, "%d pods%s decode to their interfaces and %d peers to their nodes; %s", local.right, andHealth(local), peers.right, s.layoutsOf())
}

// layoutsDiffer is the finding where the layouts by which the maps were read are not those of the Cilium that runs here: whatever they
// decoded to, right or wrong, is no evidence then. An object that cannot be told is of a Cilium that nobody here knows, or half written.
func (s *scene) layoutsDiffer() (v1alpha1.Finding, bool) {
	l := s.f.Layouts
	const advice = "use a release of cni-cutover that lists this version of Cilium"
	switch {
	case l.Sight == facts.Seen && len(l.Differ) > 0:
		return with(unknown(v1alpha1.MapLayoutUnknown, "what Cilium compiled on this node (%s) has other layouts than its maps are read by: %s; %s", ciliummap.AlignCheckerFile, joined(l.Differ), advice),
			number("fields_elsewhere", len(l.Differ), "fields")), true
	case l.Sight == facts.Alien, l.Sight == facts.Failed && !l.NotAllowed:
		return unknown(v1alpha1.MapLayoutUnknown, "what Cilium compiled on this node does not tell its maps' layouts: %s; look again, Cilium may be writing it; if it stays so, %s", l.Detail, advice), true
	}
	return v1alpha1.Finding{}, false
}

// layoutsOf says by whose layouts the maps were read.
func (s *scene) layoutsOf() string {
	if s.f.Layouts.Sight == facts.Seen {
		return "their layouts are those that Cilium compiled here"
	}
	return "their layouts are those of the releases that are known, because what Cilium compiled here was not seen"
}

// weakProof is for a node with neither a pod in the overlay nor a health endpoint. The host's own entry has its address, its
// family and its flag in the right place and nothing else set, so it says nothing about where interface and MAC lie. With
// proved peers beside it that is worth a warning, which a person can hold a roll on; it is not a Pass.
func (s *scene) weakProof(peersProved bool) v1alpha1.Finding {
	if peersProved {
		return warn(v1alpha1.NothingToProve, "the peers and the host's own entry are right, but no pod in the overlay and no %s is here to prove the rest of %s", healthLink, s.f.Endpoints.Stats.Pin)
	}
	return unknown(v1alpha1.NothingToProve, "neither a pod in the overlay nor %s is here, so nothing proves Cilium's maps; turn Cilium's endpoint health checking on, or let a pod be scheduled here", healthLink)
}

// mapsUnseen is the finding when one of the two maps could not be read. A map of an unknown layout is Unknown and not Fail: a
// newer Cilium may work perfectly well.
func (s *scene) mapsUnseen() (v1alpha1.Finding, bool) {
	for _, m := range []struct {
		name string
		look facts.Look
	}{{ciliummap.EndpointsPin, s.f.Endpoints.Look}, {ciliummap.IPCachePin, s.f.IPCache.Look}} {
		switch m.look.Sight {
		case facts.Seen:
		case facts.Absent:
			return fail(v1alpha1.MapMissing, "Cilium's map %s is not pinned: %s", m.name, m.look.Detail), true
		case facts.Alien:
			return unknown(v1alpha1.MapLayoutUnknown, "%s", m.look.Detail), true
		default:
			return unknown(v1alpha1.MapUnreadable, "Cilium's map %s could not be read: %s", m.name, m.look.Detail), true
		}
	}
	return v1alpha1.Finding{}, false
}

func andHealth(p proof) string {
	if p.health {
		return " and " + healthLink
	}
	return ""
}
