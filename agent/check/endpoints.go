// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// proof is what Cilium's endpoint map says of the endpoints that must be in it.
type proof struct {
	right  int // pods that decode to a real interface and its MAC
	health bool

	reason v1alpha1.Reason // of the first that is wrong, "" without one
	detail string
}

// proveEndpoints holds each pod of this node's against the interface that its entry names. Wrong offsets cannot pass: the
// interface must exist on this host, be a pod's, be up and have the MAC that the entry has for the host's end. The pod's own MAC
// lies in the pod's network namespace, which would take SYS_ADMIN to enter; it is only asked to be set.
func (s *scene) proveEndpoints() proof {
	var p proof
	note := func(reason v1alpha1.Reason, detail string) {
		if p.reason == "" || p.reason == v1alpha1.EndpointMissing && reason == v1alpha1.EndpointWrong {
			p.reason, p.detail = reason, detail
		}
	}
	owner := map[uint32]string{}
	for _, pod := range networkedPods(s.f) {
		if pod.Terminating {
			continue // its interface may be gone before the API server hears of it
		}
		name := "pod " + pod.Namespace + "/" + pod.Name
		for _, ip := range pod.IPs {
			if !s.inOverlay(ip) {
				continue
			}
			e, ok := s.f.Endpoints.ByIP[ip]
			if !ok {
				note(v1alpha1.EndpointMissing, fmt.Sprintf("%s has the address %s and no entry", name, ip))
				continue
			}
			if bad := s.endpointWrong(e); bad != "" {
				note(v1alpha1.EndpointWrong, fmt.Sprintf("the entry of %s (%s) %s", name, ip, bad))
				continue
			}
			if other, taken := owner[e.IfIndex]; taken && other != name {
				note(v1alpha1.EndpointWrong, fmt.Sprintf("the entries of %s and of %s name the same interface %s", other, name, s.linkName(int(e.IfIndex))))
				continue
			}
			owner[e.IfIndex] = name
			p.right++
		}
	}
	bad := ""
	if p.health, bad = s.proveHealth(owner); bad != "" {
		note(v1alpha1.EndpointWrong, bad)
	}
	return p
}

// endpointWrong says what is wrong with the entry of a pod, as the end of a sentence.
func (s *scene) endpointWrong(e ciliummap.Endpoint) string {
	l, ok := s.byIndex[int(e.IfIndex)]
	switch {
	case e.IsHost():
		return "is marked as an address of the host"
	case !ok:
		return fmt.Sprintf("names interface %d, which this host does not have", e.IfIndex)
	case !strings.HasPrefix(l.Name, facts.PodLinkPrefix):
		return fmt.Sprintf("names the interface %s, which is no pod's", l.Name)
	case !l.Up:
		return fmt.Sprintf("names the interface %s, which is down", l.Name)
	case e.NodeMAC != l.MAC:
		return fmt.Sprintf("has the MAC %s for the interface %s, which has %s", e.NodeMAC, l.Name, l.MAC)
	case e.PodMAC == ciliummap.MAC{}:
		return "has no MAC for the pod's side"
	}
	return ""
}

// proveHealth holds Cilium's own health endpoint, which behaves as a pod, against its interface. A node without that interface
// has health checking off, which is nothing wrong. The address that Cilium publishes for it is asked first; before it is
// known, the entry is found by the interface.
func (s *scene) proveHealth(owner map[uint32]string) (proved bool, bad string) {
	l, ok := s.byName[healthLink]
	if !ok {
		return false, ""
	}
	if name, taken := owner[uint32(l.Index)]; taken {
		return false, fmt.Sprintf("the entry of %s names the interface %s", name, healthLink)
	}
	ip, e, found := s.healthEntry(l)
	switch {
	case !found:
		return false, fmt.Sprintf("%s is there and no entry leads to it", healthLink)
	case e.IfIndex != uint32(l.Index):
		return false, fmt.Sprintf("the entry of Cilium's health endpoint (%s) names the interface %s and not %s", ip, s.linkName(int(e.IfIndex)), healthLink)
	}
	if why := s.endpointWrong(e); why != "" {
		return false, fmt.Sprintf("the entry of Cilium's health endpoint (%s) %s", ip, why)
	}
	if s.sliceKnown() && !s.inSlice(ip) {
		return false, fmt.Sprintf("Cilium's health endpoint has %s, which is not in this node's slice %s", ip, joined(s.f.Own.PodCIDRs))
	}
	return true, ""
}

func (s *scene) healthEntry(l facts.Link) (netip.Addr, ciliummap.Endpoint, bool) {
	if ip := s.f.Own.HealthIP; ip.IsValid() {
		e, ok := s.f.Endpoints.ByIP[ip]
		return ip, e, ok
	}
	for ip, e := range s.f.Endpoints.ByIP {
		if ip.Is4() && e.IfIndex == uint32(l.Index) {
			return ip, e, true
		}
	}
	return netip.Addr{}, ciliummap.Endpoint{}, false
}

// hostEntry says whether the address of cilium_host is in the endpoint map as the host's own.
func (s *scene) hostEntry() bool {
	for _, a := range s.byName[hostLink].Addrs {
		e, ok := s.f.Endpoints.ByIP[a.Addr()]
		if ok && a.Addr().Is4() && e.IsHost() && s.inOverlay(a.Addr()) && (len(s.f.Own.CiliumIPs) == 0 || hasAddr(s.f.Own.CiliumIPs, a.Addr())) {
			return true
		}
	}
	return false
}
