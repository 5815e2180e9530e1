// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// webService has one port, which its slice, with one ready and one unready endpoint, serves at another.
func webService() (*corev1.Service, *discoveryv1.EndpointSlice) {
	return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
			Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7", "fd00::7"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
		}, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
			Endpoints: []discoveryv1.Endpoint{
				{Addresses: []string{"10.244.1.3"}},
				{Addresses: []string{"10.244.1.4"}, Conditions: discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}},
			},
		}
}

func TestWhatIsWantedOfServices(t *testing.T) {
	web := ciliummap.Frontend{Addr: netip.MustParseAddrPort("10.96.0.7:80"), Proto: 6}
	ready, not := netip.MustParseAddrPort("10.244.1.3:8080"), netip.MustParseAddrPort("10.244.1.4:8080")
	type change func(*corev1.Service, *discoveryv1.EndpointSlice)
	service := func(partly bool, endpoints map[netip.AddrPort]bool) []WantedService {
		return []WantedService{{"shop/web", web, partly, endpoints}}
	}
	both := map[netip.AddrPort]bool{ready: true, not: false}
	for name, c := range map[string]struct {
		change change
		want   []WantedService
	}{
		"as it is":               {func(*corev1.Service, *discoveryv1.EndpointSlice) {}, service(false, both)},
		"with one address alone": {func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.ClusterIPs = nil }, service(false, both)},
		"headless": {func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
		}, nil},
		"a name outside": {func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Spec.Type, s.Spec.ClusterIPs = corev1.ServiceTypeExternalName, nil
		}, nil},
		"of IPv6":            {func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.ClusterIPs = []string{"fd00::7"} }, nil},
		"of SCTP":            {func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.Ports[0].Protocol = corev1.ProtocolSCTP }, nil},
		"default/kubernetes": {func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Namespace, s.Name = "default", "kubernetes" }, nil},
		"of several clusters": {func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Annotations = map[string]string{"service.cilium.io/global": "true"}
		}, nil},
		"with an annotation of another's": {func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Annotations = map[string]string{"example.org/cilium.io": "true"}
		}, service(false, both)},
		"of a node's own pods": {func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
		}, service(true, both)},
		"of everybody's pods": {func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyCluster)
		}, service(false, both)},
		"of close pods":              {func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.TrafficDistribution = new("PreferClose") }, service(true, both)},
		"of pods that are not ready": {func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.PublishNotReadyAddresses = true }, service(true, both)},
		"with hints": {func(_ *corev1.Service, e *discoveryv1.EndpointSlice) {
			e.Endpoints[0].Hints = &discoveryv1.EndpointHints{}
		}, service(true, both)},
		"whose slice names no port":    {func(_ *corev1.Service, e *discoveryv1.EndpointSlice) { e.Ports[0].Name = nil }, service(false, map[netip.AddrPort]bool{})},
		"whose slice has all ports":    {func(_ *corev1.Service, e *discoveryv1.EndpointSlice) { e.Ports[0].Port = nil }, service(false, map[netip.AddrPort]bool{})},
		"whose slice is of IPv6":       {func(_ *corev1.Service, e *discoveryv1.EndpointSlice) { e.AddressType = discoveryv1.AddressTypeIPv6 }, service(false, map[netip.AddrPort]bool{})},
		"whose slice is another's":     {func(_ *corev1.Service, e *discoveryv1.EndpointSlice) { e.Namespace = "other" }, service(false, map[netip.AddrPort]bool{})},
		"whose slice says no protocol": {func(_ *corev1.Service, e *discoveryv1.EndpointSlice) { e.Ports[0].Protocol = nil }, service(false, both)},
		"whose port has no name":       {func(s *corev1.Service, e *discoveryv1.EndpointSlice) { s.Spec.Ports[0].Name, e.Ports[0].Name = "", nil }, service(false, both)},
	} {
		s, e := webService()
		c.change(s, e)
		var w Wanted
		w.AddService(s)
		w.AddSlice(e)
		w.AddSlice(e) // as while a controller moves endpoints from one slice to another
		if diff := cmp.Diff(c.want, w.List, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		if len(c.want) > 0 && w.Endpoints != len(c.want[0].Endpoints) {
			t.Errorf("%s: counted %d", name, w.Endpoints)
		}
	}
}

func TestOnlyWhatLastsIsWanted(t *testing.T) {
	list := func(at string, endpoints map[string]bool) *Wanted {
		s := WantedService{Name: "shop/web", Frontend: ciliummap.Frontend{Addr: netip.MustParseAddrPort(at), Proto: 6}, Endpoints: map[netip.AddrPort]bool{}}
		for a, ready := range endpoints {
			s.Endpoints[netip.MustParseAddrPort(a)] = ready
		}
		return &Wanted{Look: Look{Sight: Seen}, List: []WantedService{s}}
	}
	const at, stays, goes, comes, rises = "10.96.0.7:80", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"
	early := list(at, map[string]bool{stays: true, goes: true, rises: false})
	got := early.Lasting(*list(at, map[string]bool{stays: true, comes: true, rises: true}))
	want := list(at, map[string]bool{stays: true, goes: false, comes: false, rises: false})
	if len(got.List) != 1 || !maps.Equal(got.List[0].Endpoints, want.List[0].Endpoints) {
		t.Errorf("%v, want %v", got.List, want.List)
	}
	if got := early.Lasting(*list("10.96.0.8:80", nil)); got.Sight != Seen || len(got.List) > 0 {
		t.Errorf("one that came, and one that went: %v", got.List)
	}
	if got := early.Lasting(Wanted{Look: Look{Failed, "away"}}); got.Sight != Failed {
		t.Errorf("the later list was not read: %+v", got)
	}
}
