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

func port(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// replaced is a node on which Cilium replaces kube-proxy, with default/kubernetes and a Service without backends.
func replaced() *facts.Facts {
	f := overlayNode()
	f.Programs.Sockets, f.Programs.SocketsOnce = onCgroups(socketPrograms()...), true
	api := ciliummap.Frontend{Addr: port("10.96.0.1:443"), Proto: tcp}
	f.Services = facts.Services{Look: seen, Services: ciliummap.Services{
		Frontends: map[ciliummap.Frontend]ciliummap.Counts{api: {Active: 2}, {Addr: port("10.96.0.9:80"), Proto: tcp}: {}},
		Slots:     map[ciliummap.Slot]uint32{{Frontend: api, Number: 1}: 1, {Frontend: api, Number: 2}: 2},
		Backends:  map[uint32]ciliummap.Backend{1: {Addr: port("10.0.0.5:443"), Proto: tcp}, 2: {Addr: port("10.0.0.6:443"), Proto: tcp}},
	}}
	f.Kubernetes = facts.Kubernetes{Look: seen, Frontend: port("10.96.0.1:443"), Endpoints: []netip.AddrPort{port("10.0.0.6:443"), port("10.0.0.5:443")}}
	return f
}

// shop adds a Service with two ready endpoints to the maps and to what is wanted, spoilt in some way.
func shop(spoil func(*facts.Services, *facts.WantedService)) func(*facts.Facts) {
	return func(f *facts.Facts) {
		web := ciliummap.Frontend{Addr: port("10.96.0.7:80"), Proto: tcp}
		w := facts.WantedService{Name: "shop/web", Frontend: web, Endpoints: map[netip.AddrPort]bool{port("10.244.1.3:8080"): true, port("10.244.1.4:8080"): true}}
		s := &f.Services
		s.Frontends[web] = ciliummap.Counts{Active: 2}
		s.Slots[ciliummap.Slot{Frontend: web, Number: 1}], s.Slots[ciliummap.Slot{Frontend: web, Number: 2}] = 3, 4
		s.Backends[3], s.Backends[4] = ciliummap.Backend{Addr: port("10.244.1.3:8080"), Proto: tcp}, ciliummap.Backend{Addr: port("10.244.1.4:8080"), Proto: tcp}
		if spoil != nil {
			spoil(s, &w)
		}
		f.Wanted = facts.Wanted{Look: seen, List: []facts.WantedService{w}}
	}
}

func unready() map[netip.AddrPort]bool {
	return map[netip.AddrPort]bool{port("10.244.1.3:8080"): false}
}

// move gives a frontend another key.
func move(s *facts.Services, from, to ciliummap.Frontend) {
	s.Frontends[to] = s.Frontends[from]
	delete(s.Frontends, from)
	for i := range s.Frontends[to].Active {
		s.Slots[ciliummap.Slot{Frontend: to, Number: i + 1}] = s.Slots[ciliummap.Slot{Frontend: from, Number: i + 1}]
	}
}

func TestServices(t *testing.T) {
	endpoints := func(all ...string) func(*facts.Facts) {
		return func(f *facts.Facts) {
			f.Kubernetes.Endpoints = nil
			for _, s := range all {
				f.Kubernetes.Endpoints = append(f.Kubernetes.Endpoints, port(s))
			}
		}
	}
	looks := func(l facts.Look) func(*facts.Facts) { return func(f *facts.Facts) { f.Services.Look = l } }
	tell(t, v1alpha1.CheckServices, v1alpha1.RoleOverlay, replaced, map[string]tale{
		"as they should be":      {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"kube-proxy's":           {func(f *facts.Facts) { f.Programs.Sockets, f.Services = nil, facts.Services{} }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"perhaps kube-proxy's":   {func(f *facts.Facts) { f.Programs.Sockets, f.Programs.Look = nil, broken }, v1alpha1.VerdictUnknown, v1alpha1.HostUnreadable},
		"on a node with no pins": {func(f *facts.Facts) { f.Programs.Sockets, f.Pins = nil, facts.Pins{Look: broken} }, v1alpha1.VerdictUnknown, v1alpha1.HostUnreadable},
		"perhaps replaced": {func(f *facts.Facts) {
			f.Programs.Sockets, f.Pins.Names = nil, append(f.Pins.Names, ciliummap.NATPin, ciliummap.NeighborsPin)
		}, v1alpha1.VerdictUnknown, v1alpha1.ModeUnclear},
		"replaced, and no program":    {func(f *facts.Facts) { f.Programs.Sockets, f.Status.SocketLB = nil, new(true) }, v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"a map is not pinned":         {looks(facts.Look{Sight: facts.Absent, Detail: "no such file"}), v1alpha1.VerdictFail, v1alpha1.MapMissing},
		"a map of another layout":     {looks(facts.Look{Sight: facts.Alien, Detail: "16-byte values"}), v1alpha1.VerdictUnknown, v1alpha1.MapLayoutUnknown},
		"a map that cannot be read":   {looks(broken), v1alpha1.VerdictUnknown, v1alpha1.MapUnreadable},
		"nobody read them":            {looks(facts.Look{}), v1alpha1.VerdictUnknown, v1alpha1.MapUnreadable},
		"none":                        {func(f *facts.Facts) { f.Services.Frontends = nil }, v1alpha1.VerdictFail, v1alpha1.ServiceMissing},
		"a place that leads nowhere":  {func(f *facts.Facts) { f.Services.Gaps = []ciliummap.Gap{{Backend: 7}} }, v1alpha1.VerdictFail, v1alpha1.ServiceBroken},
		"nobody asked":                {func(f *facts.Facts) { f.Kubernetes = facts.Kubernetes{} }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"the API server does not say": {func(f *facts.Facts) { f.Kubernetes = facts.Kubernetes{Look: broken} }, v1alpha1.VerdictUnknown, v1alpha1.ServicesUnknown},
		"a Service has its backends":  {shop(nil), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a Service is missing":        {shop(func(s *facts.Services, w *facts.WantedService) { delete(s.Frontends, w.Frontend) }), v1alpha1.VerdictFail, v1alpha1.ServiceMissing},
		"one without ready endpoints is missing": {shop(func(s *facts.Services, w *facts.WantedService) {
			delete(s.Frontends, w.Frontend)
			w.Endpoints = unready()
		}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a Service without ready endpoints": {shop(func(_ *facts.Services, w *facts.WantedService) { w.Endpoints = unready() }), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a Service of no protocol": {shop(func(s *facts.Services, w *facts.WantedService) {
			at := w.Frontend
			at.Proto = 0
			move(s, w.Frontend, at)
		}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a Service of another protocol": {shop(func(s *facts.Services, w *facts.WantedService) {
			at := w.Frontend
			at.Proto = 17
			move(s, w.Frontend, at)
		}), v1alpha1.VerdictFail, v1alpha1.ServiceMissing},
		"a Service leads elsewhere": {shop(func(s *facts.Services, _ *facts.WantedService) {
			s.Backends[3], s.Backends[4] = ciliummap.Backend{Addr: port("10.244.9.9:8080")}, ciliummap.Backend{Addr: port("10.244.9.8:8080")}
		}), v1alpha1.VerdictFail, v1alpha1.ServiceWrong},
		"a Service leads to another port": {shop(func(s *facts.Services, _ *facts.WantedService) {
			s.Backends[3], s.Backends[4] = ciliummap.Backend{Addr: port("10.244.1.3:81")}, ciliummap.Backend{Addr: port("10.244.1.4:81")}
		}), v1alpha1.VerdictFail, v1alpha1.ServiceWrong},
		"a Service has none": {shop(func(s *facts.Services, w *facts.WantedService) { s.Frontends[w.Frontend] = ciliummap.Counts{} }), v1alpha1.VerdictFail, v1alpha1.ServiceWrong},
		"a Service leads to an unready one alone": {shop(func(_ *facts.Services, w *facts.WantedService) {
			w.Endpoints[port("10.244.1.3:8080")], w.Endpoints[port("10.244.1.4:8080")], w.Endpoints[port("10.244.1.5:8080")] = false, false, true
		}), v1alpha1.VerdictFail, v1alpha1.ServiceWrong},
		"a Service lacks one":                   {shop(func(_ *facts.Services, w *facts.WantedService) { w.Endpoints[port("10.244.1.5:8080")] = true }), v1alpha1.VerdictWarn, v1alpha1.ServiceWrong},
		"a Service leads to a strange one too":  {shop(func(_ *facts.Services, w *facts.WantedService) { delete(w.Endpoints, port("10.244.1.4:8080")) }), v1alpha1.VerdictWarn, v1alpha1.ServiceWrong},
		"a Service leads to an unready one too": {shop(func(_ *facts.Services, w *facts.WantedService) { w.Endpoints[port("10.244.1.4:8080")] = false }), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a Service of this node's pods lacks one": {shop(func(_ *facts.Services, w *facts.WantedService) {
			w.Partly, w.Endpoints[port("10.244.1.5:8080")] = true, true
		}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a Service of this node's pods has none": {shop(func(s *facts.Services, w *facts.WantedService) {
			w.Partly, s.Frontends[w.Frontend] = true, ciliummap.Counts{}
		}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a Service of this node's pods leads elsewhere": {shop(func(s *facts.Services, w *facts.WantedService) {
			w.Partly, s.Frontends[w.Frontend] = true, ciliummap.Counts{Active: 1}
			s.Backends[3] = ciliummap.Backend{Addr: port("10.244.9.9:8080")}
		}), v1alpha1.VerdictFail, v1alpha1.ServiceWrong},
		"a Service that Cilium redirects": {shop(func(s *facts.Services, w *facts.WantedService) {
			s.Frontends[w.Frontend] = ciliummap.Counts{Active: 1, Redirected: true}
			s.Backends[3] = ciliummap.Backend{Addr: port("10.244.9.9:8080")}
		}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"Services could not be listed": {func(f *facts.Facts) { f.Wanted.Look = broken }, v1alpha1.VerdictUnknown, v1alpha1.ServicesUnknown},
		"there are too many endpoints": {func(f *facts.Facts) { f.Wanted.Look = facts.Look{Detail: "they have more than 9 endpoints"} }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a Service is missing and default/kubernetes lacks one": {func(f *facts.Facts) {
			endpoints("10.0.0.5:443", "10.0.0.6:443", "10.0.0.7:443")(f)
			shop(func(s *facts.Services, w *facts.WantedService) { delete(s.Frontends, w.Frontend) })(f)
		}, v1alpha1.VerdictFail, v1alpha1.ServiceMissing},
		"of IPv6":                          {func(f *facts.Facts) { f.Kubernetes.Frontend = port("[fd00::1]:443") }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"default/kubernetes elsewhere":     {func(f *facts.Facts) { f.Kubernetes.Frontend = port("10.96.0.2:443") }, v1alpha1.VerdictFail, v1alpha1.ServiceMissing},
		"default/kubernetes at no API":     {endpoints("10.0.0.7:443"), v1alpha1.VerdictFail, v1alpha1.ServiceWrong},
		"default/kubernetes at one of two": {endpoints("10.0.0.5:443"), v1alpha1.VerdictWarn, v1alpha1.ServiceWrong},
		"default/kubernetes lacks one":     {endpoints("10.0.0.5:443", "10.0.0.6:443", "10.0.0.7:443"), v1alpha1.VerdictWarn, v1alpha1.ServiceWrong},
		"no API server is ready":           {endpoints(), v1alpha1.VerdictFail, v1alpha1.ServiceWrong},
		"none of its backends is active": {func(f *facts.Facts) {
			for s := range f.Services.Frontends {
				f.Services.Frontends[s] = ciliummap.Counts{Inactive: f.Services.Frontends[s].Active}
			}
		}, v1alpha1.VerdictFail, v1alpha1.ServiceWrong},
	})
}
