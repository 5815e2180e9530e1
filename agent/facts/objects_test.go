// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

var plainAddresses = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func TestReadsACiliumNode(t *testing.T) {
	const object = `
metadata: {name: n2, creationTimestamp: "2026-11-22T02:09:50Z"}
spec:
  addresses:
  - {ip: 172.18.0.12, type: InternalIP}
  - {ip: 10.244.1.231, type: CiliumInternalIP}
  - {ip: not-an-address, type: ExternalDNS}
  health: {ipv4: 10.244.1.170}
  ipam: {podCIDRs: [10.244.1.0/24], pools: {}}
`
	var o CiliumNodeObject
	must(t, yaml.Unmarshal([]byte(object), &o))
	got, err := CiliumNodeOf(&o)
	must(t, err)
	want := CiliumNode{
		Name: "n2", Created: time.Date(2026, 11, 22, 2, 9, 50, 0, time.UTC),
		InternalIPs: []netip.Addr{netip.MustParseAddr("172.18.0.12")},
		CiliumIPs:   []netip.Addr{netip.MustParseAddr("10.244.1.231")},
		HealthIP:    netip.MustParseAddr("10.244.1.170"),
		PodCIDRs:    []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")},
	}
	if diff := cmp.Diff(want, got, plainAddresses); diff != "" {
		t.Error(diff)
	}

	for _, broken := range []func(*CiliumNodeObject){
		func(o *CiliumNodeObject) { o.Spec.Addresses[0].IP = "172.18.0" },
		func(o *CiliumNodeObject) { o.Spec.Health.IPv4 = "x" },
		func(o *CiliumNodeObject) { o.Spec.IPAM.PodCIDRs = []string{"10.244.1.0"} },
	} {
		var o CiliumNodeObject
		must(t, yaml.Unmarshal([]byte(object), &o))
		broken(&o)
		if got, err := CiliumNodeOf(&o); err == nil {
			t.Errorf("no error for %+v", got)
		}
	}
}

func TestReadsAPod(t *testing.T) {
	yes := true
	got := PodOf(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "kube-system", Name: "aws-node-x", Labels: map[string]string{"k8s-app": "aws-node"},
			DeletionTimestamp: &metav1.Time{Time: time.Unix(1, 0)},
			OwnerReferences:   []metav1.OwnerReference{{Kind: "DaemonSet", Name: "aws-node", Controller: &yes}},
		},
		Spec:   corev1.PodSpec{HostNetwork: true},
		Status: corev1.PodStatus{Phase: corev1.PodFailed, PodIPs: []corev1.PodIP{{IP: "10.0.1.10"}, {IP: "fd00::1"}}},
	})
	want := Pod{
		Namespace: "kube-system", Name: "aws-node-x", HostNetwork: true, Finished: true, Terminating: true,
		DaemonSet: "aws-node", App: "aws-node", IPs: []netip.Addr{netip.MustParseAddr("10.0.1.10"), netip.MustParseAddr("fd00::1")},
	}
	if diff := cmp.Diff(want, got, plainAddresses); diff != "" {
		t.Error(diff)
	}
}

func TestSettingsThatDoNotParseAreNotSeen(t *testing.T) {
	c := &v1alpha1.Cutover{}
	c.Spec.Overlay.PodCIDRs = []string{"10.244.0.0/16", "10.245"}
	if s := SettingsOf(c); s.Sight != Failed {
		t.Errorf("%+v", s)
	}
	c.Spec.Overlay.PodCIDRs = []string{"10.244.0.0/16"}
	c.Spec.Overlay.Tunnel.Port = 8472
	if s := SettingsOf(c); s.Sight != Seen || s.TunnelPort != 8472 || s.Overlay[0] != netip.MustParsePrefix("10.244.0.0/16") {
		t.Errorf("%+v", s)
	}
}

func TestReadsDefaultKubernetes(t *testing.T) {
	yes, no, port := true, false, int32(6443)
	service := func(ip string, ports ...int32) *corev1.Service {
		s := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: ip}}
		for _, p := range ports {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: p})
		}
		return s
	}
	slice := func(endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{Ports: []discoveryv1.EndpointPort{{Port: &port}}, Endpoints: endpoints}
	}
	at := func(ready *bool, addresses ...string) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: addresses, Conditions: discoveryv1.EndpointConditions{Ready: ready}}
	}
	for name, c := range map[string]struct {
		service *corev1.Service
		slice   *discoveryv1.EndpointSlice
		want    string
	}{
		"two API servers":          {service("10.96.0.1", 443), slice(at(&yes, "10.0.0.5", "10.0.0.6")), "10.96.0.1:443 [10.0.0.5:6443 10.0.0.6:6443]"},
		"one that is not ready":    {service("10.96.0.1", 443), slice(at(&no, "10.0.0.5"), at(nil, "10.0.0.6")), "10.96.0.1:443 [10.0.0.6:6443]"},
		"none":                     {service("10.96.0.1", 443), slice(), "10.96.0.1:443 []"},
		"no address":               {service("None", 443), slice(), `the address "None"`},
		"two ports":                {service("10.96.0.1", 443, 80), slice(), "2 ports"},
		"an endpoint of no number": {service("10.96.0.1", 443), slice(at(&yes, "api.example.org")), `the address "api.example.org"`},
		"a slice without a port":   {service("10.96.0.1", 443), &discoveryv1.EndpointSlice{}, "0 ports"},
	} {
		got, err := KubernetesOf(c.service, c.slice)
		if said := fmt.Sprint(got.Frontend, " ", got.Endpoints, err); !strings.Contains(said, c.want) || (err == nil) != (got.Sight == Seen) {
			t.Errorf("%s: %s, want %s", name, said, c.want)
		}
	}
}
