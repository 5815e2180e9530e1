// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"net/netip"
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

func TestMTU(t *testing.T) {
	const n2, n3 = "10.244.2.0/24", "10.244.3.0/24"
	size := func(mtu int) func(*facts.Facts) {
		return all(setRoute(n2, func(r *facts.Route) { r.MTU = mtu }), setRoute(n3, func(r *facts.Route) { r.MTU = mtu }))
	}
	overIPv6 := func(f *facts.Facts) {
		editIPCache(f, func(entries map[netip.Prefix]ciliummap.RemoteEndpoint) {
			for p, e := range entries {
				if e.Tunnel.IsValid() {
					e.Tunnel = ip("fd00:1::2")
					entries[p] = e
				}
			}
		})
	}
	noTunnel := func(f *facts.Facts) {
		f.IPCache.Entries = ciliummap.IPCache{}
		f.Node.InternalIPs = []netip.Addr{ip("fd00:1::1")}
	}
	tell(t, v1alpha1.CheckMTU, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"exactly the overhead":            {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"one byte too few":                {size(8952), v1alpha1.VerdictFail, v1alpha1.MTUNoRoom},
		"one route too large":             {setRoute(n2, func(r *facts.Route) { r.MTU = 9001 }), v1alpha1.VerdictFail, v1alpha1.MTUNoRoom},
		"no MTU on one route":             {setRoute(n2, func(r *facts.Route) { r.MTU = 0 }), v1alpha1.VerdictFail, v1alpha1.MTUNoRoom},
		"one byte too many":               {size(8950), v1alpha1.VerdictWarn, v1alpha1.MTUWasteful},
		"one route too small":             {setRoute(n2, func(r *facts.Route) { r.MTU = 1450 }), v1alpha1.VerdictWarn, v1alpha1.MTUWasteful},
		"IPv4's overhead over IPv6":       {overIPv6, v1alpha1.VerdictFail, v1alpha1.MTUNoRoom},
		"70 bytes over IPv6":              {all(overIPv6, size(8931)), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"70 bytes over IPv4":              {size(8931), v1alpha1.VerdictWarn, v1alpha1.MTUWasteful},
		"IPv6 told by the Node's address": {all(noTunnel, size(8951)), v1alpha1.VerdictFail, v1alpha1.MTUNoRoom},
		"a device larger than the NIC":    {func(f *facts.Facts) { edit(f, tunnelLink, func(l *facts.Link) { l.MTU = 9100 }) }, v1alpha1.VerdictFail, v1alpha1.MTUNoRoom},
		"a NIC that shrank":               {func(f *facts.Facts) { edit(f, "ens5", func(l *facts.Link) { l.MTU = 1500 }) }, v1alpha1.VerdictFail, v1alpha1.MTUNoRoom},
		"no route":                        {all(loseRoute(n2), loseRoute(n3)), v1alpha1.VerdictUnknown, v1alpha1.MTUUnknown},
		"no device":                       {func(f *facts.Facts) { without(f, tunnelLink) }, v1alpha1.VerdictUnknown, v1alpha1.MTUUnknown},
	})
}

func TestSizes(t *testing.T) {
	f := overlayNode()
	setRoute("10.244.2.0/24", func(r *facts.Route) { r.MTU = 1450 })(f)
	if got, want := SizesOf(f), (Sizes{Underlay: 9001, Device: 9001, RouteMin: 1450, RouteMax: 8951, Overhead: 50}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := SizesOf(&facts.Facts{}), (Sizes{Overhead: 50}); got != want {
		t.Errorf("of nothing: %+v", got)
	}
}
