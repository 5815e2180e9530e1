// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"net/netip"
	"slices"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// tcp is IPPROTO_TCP of linux/in.h.
const tcp = 6

// services asks whether what Cilium translates Services by is whole, where processes depend on it alone: every place at every
// frontend leads to a backend; and, when the coordinator asks, default/kubernetes, without which no pod finds the API server, and all
// others have the backends that they should.
func services(s *scene) v1alpha1.Finding {
	f, m := s.f.Services, modeOf(s.f)
	switch {
	case !m.sockets && s.f.Programs.Sight != facts.Seen:
		return unreadable("programs at sockets, which translate Services,", s.f.Programs.Look)
	case !m.sockets && !m.known:
		return unreadable("pins, by which Cilium's mode is told,", s.f.Pins.Look)
	case m.unclear:
		return unknown(v1alpha1.ModeUnclear, "whether Cilium translates Services at sockets here cannot be told, see Programs")
	case m.sockets && len(s.f.Programs.Sockets) == 0:
		return fail(v1alpha1.ProgramMissing, "Cilium should translate Services at sockets here and has no program there, see Programs")
	case !m.sockets:
		return pass(v1alpha1.AsWanted, "Cilium translates no Services at sockets here, so no process depends on its maps of them alone")
	case f.Sight == facts.Absent:
		return fail(v1alpha1.MapMissing, "Cilium translates Services at sockets and a map of theirs is not pinned: %s", f.Detail)
	case f.Sight == facts.Alien:
		return unknown(v1alpha1.MapLayoutUnknown, "%s", f.Detail)
	case f.Sight != facts.Seen:
		return unknown(v1alpha1.MapUnreadable, "Cilium's maps of Services could not be read: %s", f.Detail)
	}
	evidence := []v1alpha1.Evidence{
		number("frontends", len(f.Frontends), "addresses"), number("backends", len(f.Backends), "addresses"), number("gaps", len(f.Gaps), "places"),
	}
	switch {
	case len(f.Frontends) == 0:
		return with(fail(v1alpha1.ServiceMissing, "Cilium translates Services at sockets and %s holds none: restart Cilium's agent on this node", ciliummap.ServicesPin), evidence...)
	case len(f.Gaps) > 0:
		return with(fail(v1alpha1.ServiceBroken, "%d places lead nowhere, so a part of the calls to those Services fails on this node: %s; restart Cilium's agent on this node if it stays so", len(f.Gaps), joined(f.Gaps)), evidence...)
	}
	c := compareServices(s.f)
	found := s.kubernetes(c)
	if o := s.others(c); found.Verdict == v1alpha1.VerdictPass && o.Verdict != v1alpha1.VerdictPass || found.Verdict != v1alpha1.VerdictFail && o.Verdict == v1alpha1.VerdictFail {
		found = o
	}
	return with(found, evidence...)
}

// kubernetes holds default/kubernetes against what the API server says of it.
func (s *scene) kubernetes(c compared) v1alpha1.Finding {
	k := s.f.Kubernetes
	all := len(s.f.Services.Frontends)
	switch {
	case k.Sight == facts.NotLooked:
		return pass(v1alpha1.AsWanted, "every place at the %d addresses of Services leads to a backend; that they are the right ones is compared when the coordinator asks", all)
	case k.Sight != facts.Seen:
		return unknown(v1alpha1.ServicesUnknown, "every place at the %d addresses of Services leads to a backend, and whether default/kubernetes is right could not be told: %s", all, k.Detail)
	case !k.Frontend.Addr().Is4():
		return pass(v1alpha1.AsWanted, "every place at the %d addresses of Services leads to a backend; default/kubernetes (%s, which is not IPv4) was not compared%s", all, k.Frontend, s.reaches(c))
	}
	frontend := ciliummap.Frontend{Addr: k.Frontend, Proto: tcp}
	if _, ok := s.f.Services.Frontends[frontend]; !ok {
		return fail(v1alpha1.ServiceMissing, "default/kubernetes (%s) is not in %s: no process on this node finds the API server; restart Cilium's agent on this node", frontend, ciliummap.ServicesPin)
	}
	has := s.f.Services.ActiveBackends(frontend)
	lost, strange := missingIn(k.Endpoints, has), missingIn(has, k.Endpoints)
	switch {
	case len(lost) == 0 && len(strange) == 0 && len(has) > 0:
		return pass(v1alpha1.AsWanted, "every place at the %d addresses of Services leads to a backend, and default/kubernetes has the %d of its EndpointSlice%s", all, len(has), s.reaches(c))
	case len(lost) == len(k.Endpoints):
		return fail(v1alpha1.ServiceWrong, "default/kubernetes (%s) leads to %s, and its EndpointSlice has %s: no process on this node finds the API server; restart Cilium's agent on this node", frontend, joined(has), joined(k.Endpoints))
	}
	return warn(v1alpha1.ServiceWrong, "default/kubernetes (%s) lacks %s of its EndpointSlice and leads to %s that are not in it: Cilium follows within a second, so look again", frontend, joined(lost), joined(strange))
}

// missingIn are those of a that are not in b.
func missingIn(a, b []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(a), func(x netip.AddrPort) bool { return slices.Contains(b, x) })
}
