// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// SettingsOf reads a Cutover. A pod CIDR that does not parse, which the API server's schema does not let through, makes
// the Look Failed: judging by half of the overlay would be worse than not judging.
func SettingsOf(c *v1alpha1.Cutover) Settings {
	s := Settings{
		Look:       Look{Sight: Seen},
		TunnelPort: int(c.Spec.Overlay.Tunnel.Port),
		Install:    c.Spec.Cilium.Install,
		Legacy:     c.Spec.Legacy.DaemonSet,
	}
	for _, cidr := range c.Spec.Overlay.PodCIDRs {
		p, err := netip.ParsePrefix(cidr)
		if err != nil {
			s.Look = failed(fmt.Errorf("parsing overlay.podCIDRs of Cutover %s: %w", c.Name, err))
			return s
		}
		s.Overlay = append(s.Overlay, p.Masked())
	}
	return s
}

// NodeOf reads this node's Node.
func NodeOf(n *corev1.Node) Node {
	out := Node{Look: Look{Sight: Seen}, Name: n.Name, UID: n.UID}
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			out.InternalIPs = append(out.InternalIPs, ip)
		}
	}
	return out
}

// PeerNodeOf reads another node's Node.
func PeerNodeOf(n *corev1.Node) PeerNode {
	out := PeerNode{Look: Look{Sight: Seen}, Created: n.CreationTimestamp.Time}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Ready = c.Status == corev1.ConditionTrue
		}
	}
	return out
}

// KubernetesOf reads the Service default/kubernetes and its EndpointSlice, of which the API servers' addresses are known to be one.
func KubernetesOf(s *corev1.Service, e *discoveryv1.EndpointSlice) (Kubernetes, error) {
	wrong := func(what string) (Kubernetes, error) {
		return Kubernetes{}, fmt.Errorf("reading Service default/kubernetes: %s", what)
	}
	ip, err := netip.ParseAddr(s.Spec.ClusterIP)
	if err != nil || len(s.Spec.Ports) != 1 {
		return wrong(fmt.Sprintf("it has the address %q and %d ports", s.Spec.ClusterIP, len(s.Spec.Ports)))
	}
	if len(e.Ports) != 1 || e.Ports[0].Port == nil {
		return wrong(fmt.Sprintf("its EndpointSlice has %d ports", len(e.Ports)))
	}
	out := Kubernetes{Look: Look{Sight: Seen}, Frontend: netip.AddrPortFrom(ip, uint16(s.Spec.Ports[0].Port))}
	for _, x := range e.Endpoints {
		if x.Conditions.Ready != nil && !*x.Conditions.Ready {
			continue
		}
		for _, a := range x.Addresses {
			ip, err := netip.ParseAddr(a)
			if err != nil {
				return wrong(fmt.Sprintf("its EndpointSlice has the address %q", a))
			}
			out.Endpoints = append(out.Endpoints, netip.AddrPortFrom(ip, uint16(*e.Ports[0].Port)))
		}
	}
	return out, nil
}

// PodOf reads a pod.
func PodOf(p *corev1.Pod) Pod {
	out := Pod{
		Namespace:   p.Namespace,
		Name:        p.Name,
		HostNetwork: p.Spec.HostNetwork,
		Finished:    p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
		Terminating: p.DeletionTimestamp != nil,
		App:         p.Labels["k8s-app"],
	}
	if o := metav1.GetControllerOf(p); o != nil && o.Kind == "DaemonSet" {
		out.DaemonSet = o.Name
	}
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out.IPs = append(out.IPs, a)
		}
	}
	return out
}

// CiliumNodeObject is the part of cilium.io/v2 CiliumNode that is read here. The rest of the object, often ten times as
// long, is skipped while it is decoded.
type CiliumNodeObject struct {
	Metadata struct {
		Name              string    `json:"name"`
		CreationTimestamp time.Time `json:"creationTimestamp"`
		// Cilium copies the labels of the Node.
		Labels struct {
			Zone string `json:"topology.kubernetes.io/zone"`
		} `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		Addresses []struct {
			Type string `json:"type"`
			IP   string `json:"ip"`
		} `json:"addresses"`
		Health struct {
			IPv4 string `json:"ipv4"`
		} `json:"health"`
		IPAM struct {
			PodCIDRs []string `json:"podCIDRs"`
		} `json:"ipam"`
	} `json:"spec"`
}

// CiliumNodeOf reads a CiliumNode. Addresses and CIDRs that do not parse are an error: they are what others are judged by.
func CiliumNodeOf(o *CiliumNodeObject) (CiliumNode, error) {
	out := CiliumNode{Name: o.Metadata.Name, Created: o.Metadata.CreationTimestamp, Zone: o.Metadata.Labels.Zone}
	wrong := func(field string, err error) (CiliumNode, error) {
		return CiliumNode{}, fmt.Errorf("reading %s of CiliumNode %s: %w", field, o.Metadata.Name, err)
	}
	for _, a := range o.Spec.Addresses {
		if a.Type != "InternalIP" && a.Type != "CiliumInternalIP" {
			continue
		}
		ip, err := netip.ParseAddr(a.IP)
		switch {
		case err != nil:
			return wrong("spec.addresses", err)
		case a.Type == "InternalIP":
			out.InternalIPs = append(out.InternalIPs, ip)
		default:
			out.CiliumIPs = append(out.CiliumIPs, ip)
		}
	}
	for _, cidr := range o.Spec.IPAM.PodCIDRs {
		p, err := netip.ParsePrefix(cidr)
		if err != nil {
			return wrong("spec.ipam.podCIDRs", err)
		}
		out.PodCIDRs = append(out.PodCIDRs, p.Masked())
	}
	if h := o.Spec.Health.IPv4; h != "" {
		ip, err := netip.ParseAddr(h)
		if err != nil {
			return wrong("spec.health.ipv4", err)
		}
		out.HealthIP = ip
	}
	return out, nil
}
