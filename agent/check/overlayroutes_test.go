// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func setRoute(dst string, change func(*facts.Route)) func(*facts.Facts) {
	return func(f *facts.Facts) {
		for i := range f.Routes.List {
			if f.Routes.List[i].Dst == cidr(dst) {
				change(&f.Routes.List[i])
			}
		}
	}
}

func loseRoute(dst string) func(*facts.Facts) {
	return func(f *facts.Facts) {
		f.Routes.List = slices.DeleteFunc(f.Routes.List, func(r facts.Route) bool { return r.Dst == cidr(dst) })
	}
}

func addRoute(r facts.Route) func(*facts.Facts) {
	return func(f *facts.Facts) { f.Routes.List = append(f.Routes.List, r) }
}

func TestOverlayRoutes(t *testing.T) {
	const n2 = "10.244.2.0/24"
	unasked := func(f *facts.Facts) { f.Peers = facts.Peers{} }
	tell(t, v1alpha1.CheckOverlayRoutes, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"as it should be":        {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a route missing":        {loseRoute(n2), v1alpha1.VerdictFail, v1alpha1.RouteMissing},
		"a route past it":        {setRoute(n2, func(r *facts.Route) { r.Link = ixNIC }), v1alpha1.VerdictFail, v1alpha1.RouteElsewhere},
		"a blackhole":            {setRoute(n2, func(r *facts.Route) { r.Type = 6 }), v1alpha1.VerdictFail, v1alpha1.RouteElsewhere},
		"no MTU":                 {setRoute(n2, func(r *facts.Route) { r.MTU = 0 }), v1alpha1.VerdictFail, v1alpha1.RouteWithoutMTU},
		"the NIC's MTU":          {setRoute(n2, func(r *facts.Route) { r.MTU = 9001 }), v1alpha1.VerdictFail, v1alpha1.RouteWithoutMTU},
		"one byte too large":     {setRoute(n2, func(r *facts.Route) { r.MTU = 8952 }), v1alpha1.VerdictFail, v1alpha1.RouteWithoutMTU},
		"smaller than need be":   {setRoute(n2, func(r *facts.Route) { r.MTU = 8871 }), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a preferred one past":   {all(setRoute(n2, func(r *facts.Route) { r.Priority = 10 }), addRoute(facts.Route{Dst: cidr(n2), Link: ixNIC, Type: unicast})), v1alpha1.VerdictFail, v1alpha1.RouteElsewhere},
		"a narrower one past":    {addRoute(facts.Route{Dst: cidr("10.244.2.128/25"), Link: ixNIC, Type: unicast}), v1alpha1.VerdictFail, v1alpha1.RouteElsewhere},
		"missing while NotReady": {all(loseRoute(n2), setPeer(func(p *facts.Peer) { p.Node.Ready = false })), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"missing, Node unasked":  {all(loseRoute(n2), setPeer(func(p *facts.Peer) { p.Node = facts.PeerNode{} })), v1alpha1.VerdictUnknown, v1alpha1.PeersUnknown},
		"no peers":               {func(f *facts.Facts) { f.Peers.List = nil }, v1alpha1.VerdictUnknown, v1alpha1.NothingToProve},
		"unasked":                {unasked, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"unasked, one missing":   {all(unasked, loseRoute(n2)), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"unasked, none at all":   {all(unasked, loseRoute(n2), loseRoute("10.244.3.0/24")), v1alpha1.VerdictUnknown, v1alpha1.NothingToProve},
		"unasked, without MTU":   {all(unasked, setRoute(n2, func(r *facts.Route) { r.MTU = 0 })), v1alpha1.VerdictFail, v1alpha1.RouteWithoutMTU},
		"the own slice is no tunnel route, even before it is published": {all(unasked, func(f *facts.Facts) {
			f.Own = facts.Own{Look: broken}
		}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a peer's IPv6 CIDR is not asked for": {setPeer(func(p *facts.Peer) {
			p.PodCIDRs = append(p.PodCIDRs, netip.MustParsePrefix("fd00::/120"))
		}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
	})
}
