// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// ServicesDiffer says whether Cilium's maps have anything else than the EndpointSlices. One of the two may be older than the other:
// read both again before you believe it.
func ServicesDiffer(f *facts.Facts) bool {
	c := compareServices(f)
	return len(c.missing)+len(c.wrong)+len(c.behind) > 0
}

// compared is how Services are in Cilium's maps, by name and address.
type compared struct {
	right                  int
	missing, wrong, behind []string
}

// compareServices holds against the maps every Service that has a ready endpoint: without one Cilium has none, or those that are
// about to end. One that Cilium redirects, to a pod of this node or to Envoy, leads elsewhere by intention.
func compareServices(f *facts.Facts) (c compared) {
	for i := range f.Wanted.List {
		w := &f.Wanted.List[i]
		ready := 0
		for _, r := range w.Endpoints {
			if r {
				ready++
			}
		}
		if ready == 0 {
			continue
		}
		at := w.Frontend
		counts, ok := f.Services.Frontends[at]
		if !ok { // Cilium up to 1.16 keeps no protocols
			at.Proto = 0
			counts, ok = f.Services.Frontends[at]
		}
		switch {
		case !ok:
			c.missing = append(c.missing, called(w))
		case counts.Redirected:
		default:
			c.sort(w, ready, f.Services.ActiveBackends(at))
		}
	}
	return c
}

// called is how people know a Service, and where.
func called(w *facts.WantedService) string { return fmt.Sprintf("%s (%s)", w.Name, w.Frontend) }

// sort judges a Service by the backends that the maps have of it; ready is how many of its endpoints are.
func (c *compared) sort(w *facts.WantedService, ready int, has []netip.AddrPort) {
	alive, strange := 0, 0
	for _, b := range has {
		r, known := w.Endpoints[b]
		switch {
		case !known:
			strange++
		case r:
			alive++
		}
	}
	switch {
	case strange == 0 && (w.Partly || alive == ready):
		c.right++
	case alive == 0:
		c.wrong = append(c.wrong, called(w))
	default:
		c.behind = append(c.behind, called(w))
	}
}

// others holds all Services but default/kubernetes against their EndpointSlices. A Fail rests on endpoints that were ready in every
// list, the first of them seconds older than the maps, see agent.AskServices: Cilium has had the time to follow.
func (s *scene) others(c compared) v1alpha1.Finding {
	switch s.f.Wanted.Sight {
	case facts.NotLooked:
		return pass(v1alpha1.AsWanted, "")
	case facts.Seen:
	default:
		return unknown(v1alpha1.ServicesUnknown, "whether Services have the backends of their EndpointSlices could not be told: %s", s.f.Wanted.Detail)
	}
	const do = "calls to them fail on this node or go elsewhere; restart Cilium's agent on this node if it stays so"
	switch {
	case len(c.missing) > 0:
		return fail(v1alpha1.ServiceMissing, "%d Services with ready endpoints are not in %s: %s; %s", len(c.missing), ciliummap.ServicesPin, joined(c.missing), do)
	case len(c.wrong) > 0:
		return fail(v1alpha1.ServiceWrong, "%d Services lead to none of the ready endpoints of their EndpointSlices: %s; %s", len(c.wrong), joined(c.wrong), do)
	case len(c.behind) > 0:
		return warn(v1alpha1.ServiceWrong, "%d Services lack endpoints of their EndpointSlices or lead to others: %s; Cilium follows within a second, so look again", len(c.behind), joined(c.behind))
	}
	return pass(v1alpha1.AsWanted, "")
}

// reaches says how far a Pass does.
func (s *scene) reaches(c compared) string {
	w := s.f.Wanted
	switch {
	case w.Sight == facts.Seen:
		return fmt.Sprintf("; so have the %d others that can be compared", c.right)
	case w.Detail != "":
		return "; that others have theirs is not proved: " + w.Detail
	}
	return "; that others have theirs is not proved"
}
