// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"maps"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// Wanted are the addresses at which Services are called, but default/kubernetes's, as the API server has them.
type Wanted struct {
	Look
	List []WantedService
	// Endpoints is how many endpoints they have together.
	Endpoints int

	byPort map[servicePort][]int // places in List
}

// WantedService is a port at a Service's cluster IP.
type WantedService struct {
	Name     string // <namespace>/<name>
	Frontend ciliummap.Frontend
	// Partly: Cilium may leave endpoints out, for another node or another zone.
	Partly bool
	// Endpoints are all that its EndpointSlices have, and whether each is ready.
	Endpoints map[netip.AddrPort]bool
}

// servicePort is by what EndpointSlices name a Service's port.
type servicePort struct {
	service, port string
	protocol      corev1.Protocol
}

// AddService adds what Cilium serves of a Service at its cluster IPs of IPv4 (Cilium pkg/loadbalancer/reflectors/conversions.go).
// A Service with an annotation of Cilium's is left out: it may be shared with other clusters, kept from this node or without a
// cluster IP. So is SCTP, which Cilium serves only if told to.
func (w *Wanted) AddService(s *corev1.Service) {
	if s.Namespace == metav1.NamespaceDefault && s.Name == "kubernetes" || s.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	for name := range s.Annotations {
		if strings.HasPrefix(name, "service.cilium.io/") || strings.HasPrefix(name, "io.cilium/") {
			return
		}
	}
	name := s.Namespace + "/" + s.Name
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{s.Spec.ClusterIP}
	}
	for _, text := range ips {
		ip, err := netip.ParseAddr(text) // "None" where it is headless
		if err != nil || !ip.Is4() {
			continue
		}
		for _, p := range s.Spec.Ports {
			port := servicePort{name, p.Name, protocolOf(p.Protocol)}
			proto, ok := map[corev1.Protocol]uint8{corev1.ProtocolTCP: unix.IPPROTO_TCP, corev1.ProtocolUDP: unix.IPPROTO_UDP}[port.protocol]
			if !ok {
				continue
			}
			if w.byPort == nil {
				w.byPort = map[servicePort][]int{}
			}
			w.byPort[port] = append(w.byPort[port], len(w.List))
			w.List = append(w.List, WantedService{
				Name: name, Frontend: ciliummap.Frontend{Addr: netip.AddrPortFrom(ip, uint16(p.Port)), Proto: proto},
				Partly: partly(s), Endpoints: map[netip.AddrPort]bool{},
			})
		}
	}
}

func partly(s *corev1.Service) bool {
	local := s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	_, mode := s.Annotations[corev1.AnnotationTopologyMode]
	_, hints := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	return local || mode || hints || s.Spec.TrafficDistribution != nil || s.Spec.PublishNotReadyAddresses
}

// AddSlice adds an EndpointSlice of IPv4 to the Service that it is of, which must have been added before.
func (w *Wanted) AddSlice(e *discoveryv1.EndpointSlice) {
	if e.AddressType != discoveryv1.AddressTypeIPv4 {
		return
	}
	service := e.Namespace + "/" + e.Labels[discoveryv1.LabelServiceName]
	for _, p := range e.Ports {
		port := servicePort{service: service, protocol: corev1.ProtocolTCP}
		if p.Name != nil {
			port.port = *p.Name
		}
		if p.Protocol != nil {
			port.protocol = protocolOf(*p.Protocol)
		}
		if p.Port == nil {
			continue
		}
		for _, at := range w.byPort[port] {
			w.addEndpoints(&w.List[at], e.Endpoints, uint16(*p.Port))
		}
	}
}

func (w *Wanted) addEndpoints(s *WantedService, endpoints []discoveryv1.Endpoint, port uint16) {
	for _, x := range endpoints {
		s.Partly = s.Partly || x.Hints != nil
		ready := x.Conditions.Ready == nil || *x.Conditions.Ready // discovery.k8s.io/v1: nil is ready
		for _, a := range x.Addresses {
			ip, err := netip.ParseAddr(a)
			if err != nil {
				continue
			}
			at := netip.AddrPortFrom(ip, port)
			before, known := s.Endpoints[at]
			if !known {
				w.Endpoints++
			}
			s.Endpoints[at] = before || ready // a pod may stand in two slices while it moves from one to the other
		}
	}
}

func protocolOf(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

// Lasting is what an earlier list and a later one agree about: what both have as ready was ready in between, and what only one
// has may have been there. Where the later list was not read, it is what is returned.
func (w *Wanted) Lasting(later Wanted) Wanted {
	if later.Sight != Seen {
		return later
	}
	before := make(map[ciliummap.Frontend]WantedService, len(w.List))
	for _, s := range w.List {
		before[s.Frontend] = s
	}
	out := Wanted{Look: later.Look, Endpoints: later.Endpoints}
	for _, s := range later.List {
		b, ok := before[s.Frontend]
		if !ok || b.Name != s.Name {
			continue
		}
		all := maps.Clone(s.Endpoints)
		for at, ready := range s.Endpoints {
			all[at] = ready && b.Endpoints[at]
		}
		for at := range b.Endpoints {
			if _, ok := all[at]; !ok {
				all[at] = false
			}
		}
		out.List = append(out.List, WantedService{s.Name, s.Frontend, s.Partly || b.Partly, all})
	}
	return out
}
