// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package values

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	poolPath = "ipam.operator.clusterPoolIPv4PodCIDRList"
	maskPath = "ipam.operator.clusterPoolIPv4MaskSize"
	// defaultPort is Cilium's for VXLAN (pkg/defaults TunnelPortVXLAN).
	defaultPort = 8472
	// longestMask of a node's slice (Documentation/network/concepts/ipam/cluster-pool.rst).
	longestMask = 30
)

func tunnel(s *scene) answer {
	mode, protocol := s.text("routingMode"), s.text("tunnelProtocol")
	port, err := strconv.Atoi(s.text("tunnelPort"))
	if port == 0 {
		port = defaultPort
	}
	switch {
	case s.on("eni.enabled") || s.text("ipam.mode") == "eni":
		return fail("eni.enabled makes Cilium take addresses of the VPC: there is no overlay").set("eni.enabled: false")
	case mode != "" && mode != "tunnel":
		return fail("routingMode is %q: the VPC knows no route to the overlay's addresses", mode).set("routingMode: tunnel")
	case protocol != "" && protocol != "vxlan":
		return fail("tunnelProtocol is %q; this project knows VXLAN", protocol).set("tunnelProtocol: vxlan")
	case s.on("autoDirectNodeRoutes"):
		return fail("the agent does not start with autoDirectNodeRoutes in a tunnel").set("autoDirectNodeRoutes: false")
	case err != nil:
		return fail("tunnelPort is %q, which is no port", s.text("tunnelPort")).set("tunnelPort: 8472")
	case s.c.TunnelPort != 0 && port != s.c.TunnelPort:
		return fail("the tunnel's port is %d and the Cutover's is %d: security groups and our agents go by the latter", port, s.c.TunnelPort).set(fmt.Sprintf("tunnelPort: %d", s.c.TunnelPort))
	}
	if r := s.c.Running; r != nil {
		now, _ := strconv.Atoi(r.text("tunnelPort"))
		if now == 0 {
			now = defaultPort
		}
		if now != port {
			return fail("the tunnel's port is %d now and would be %d: while agents restart, nodes on different ports cannot reach each other", now, port).set(fmt.Sprintf("tunnelPort: %d", now))
		}
	}
	return pass("VXLAN on UDP port %d", port)
}

func mtu(s *scene) answer {
	if m := s.text("MTU"); m != "" && m != "0" {
		return warn("MTU is %s on every node, whatever its NIC has: one that is too large fragments, one that is too small costs throughput", m).set("MTU: 0")
	}
	return pass("Cilium finds the MTU itself")
}

func nativeCIDR(s *scene) answer {
	text := s.text("ipv4NativeRoutingCIDR")
	if text == "" {
		return pass("ipv4NativeRoutingCIDR is not set")
	}
	native, err := netip.ParsePrefix(text)
	if err != nil {
		return fail("ipv4NativeRoutingCIDR is %q, which is no network: the agent does not start", text).set("ipv4NativeRoutingCIDR: \"\"")
	}
	pools, _ := s.networks(poolPath)
	if slices.ContainsFunc(pools, func(p netip.Prefix) bool { return p.Bits() <= native.Bits() && p.Overlaps(native) }) {
		return pass("ipv4NativeRoutingCIDR %s lies in the pool", native)
	}
	return fail("in a tunnel ipv4NativeRoutingCIDR means \"never masquerade towards %s\": packets of overlay pods go there with an address that the VPC drops", native).set("ipv4NativeRoutingCIDR: \"\"")
}

func egressInterfaces(s *scene) answer {
	text := strings.Join(s.list("egressMasqueradeInterfaces"), " ")
	switch {
	case text == "":
		return pass("egressMasqueradeInterfaces is not set")
	case s.on("bpf.masquerade"):
		return fail("the agent does not start with egressMasqueradeInterfaces (%s) and BPF masquerade", text).set("egressMasqueradeInterfaces: null")
	case s.phase == Install:
		return warn("with egressMasqueradeInterfaces (%s) iptables masquerades the VPC CNI's pods and the host too, inside the VPC: whoever looks at their addresses sees nodes", text).set("egressMasqueradeInterfaces: null")
	}
	return warn("egressMasqueradeInterfaces (%s) masquerades whatever leaves there, not the overlay's pods alone", text).set("egressMasqueradeInterfaces: null")
}

func loadBalancerMode(s *scene) answer {
	if mode := s.text("loadBalancer.mode"); mode == "dsr" || mode == "hybrid" {
		if s.replaces() {
			return fail("the agent does not start with loadBalancer.mode %s in a VXLAN tunnel", mode).set("loadBalancer.mode: snat")
		}
		return warn("loadBalancer.mode %s sleeps without kube-proxy replacement; with it the agent does not start in a VXLAN tunnel", mode).set("loadBalancer.mode: snat")
	}
	return pass("loadBalancer.mode fits a tunnel")
}

func ipv6(s *scene) answer {
	if s.on("ipv6.enabled") {
		return warn("ipv6.enabled gives pods a second address that nothing here looks at").set("ipv6.enabled: false")
	}
	return pass("IPv4 alone")
}

func ipamMode(s *scene) answer {
	mode := s.text("ipam.mode")
	if r := s.c.Running; r != nil && r.text("ipam.mode") != mode {
		return fail("ipam.mode is %q now and would be %q: Cilium cannot change it in a live cluster, pods lose their addresses", r.text("ipam.mode"), mode).set("ipam.mode: " + r.text("ipam.mode"))
	}
	if mode != "cluster-pool" {
		return fail("ipam.mode is %q; nodes get their slices by cluster-pool here", mode).set("ipam.mode: cluster-pool")
	}
	return pass("ipam.mode is cluster-pool")
}

func pool(s *scene) answer {
	pools, wrong := s.networks(poolPath)
	switch {
	case len(wrong) > 0:
		return fail("%s holds %q, which is no network", poolPath, wrong)
	case len(pools) == 0:
		return fail("%s is empty: the operator does not start", poolPath).set(poolPath + ": [10.244.0.0/16]")
	case slices.ContainsFunc(pools, func(p netip.Prefix) bool { return !p.Addr().Is4() }):
		return fail("%s holds a network that is not IPv4: the operator does not start", poolPath)
	case len(s.c.Overlay) > 0 && !slices.Equal(pools, s.c.Overlay):
		return fail("the pools are %v and the Cutover's pod networks are %v: one of them is wrong, and every report would be", pools, s.c.Overlay).set(poolPath + ": " + list(s.c.Overlay))
	}
	for i, a := range pools {
		for _, b := range pools[i+1:] {
			if a.Overlaps(b) {
				return fail("the pools %s and %s overlap: two nodes would get the same slice", a, b)
			}
		}
	}
	return pass("the pools are %v", pools)
}

func poolOverlap(s *scene) answer {
	pools, _ := s.networks(poolPath)
	for _, p := range pools {
		for _, o := range slices.Concat(s.c.VPC, s.c.Services) {
			if p.Overlaps(o) {
				return fail("the pool %s overlaps with %s, of the VPC, of what is routed to it, or of Services: nodes lose each other", p, o).set(poolPath + ": [10.244.0.0/16], or another free network")
			}
		}
		for _, a := range s.c.NodeAddresses {
			if p.Contains(a) {
				return fail("the pool %s holds the address %s of a node: nodes lose each other", p, a).set(poolPath + ": [10.244.0.0/16], or another free network")
			}
		}
	}
	switch {
	case len(pools) == 0:
		return unknown("there is no pool to compare")
	case slices.Contains(pools, netip.MustParsePrefix("10.0.0.0/8")):
		return fail("the pool is 10.0.0.0/8, the chart's default: most VPCs lie in it, and their nodes lose each other").set(poolPath + ": [10.244.0.0/16]")
	case len(s.c.VPC) == 0:
		return unknown("what the VPC, its peers and on-premises networks use was not told: name every one with --vpc-cidr. %d addresses of nodes and %d Service networks lie outside", len(s.c.NodeAddresses), len(s.c.Services))
	}
	return pass("the pools are clear of %d networks and %d addresses of nodes", len(s.c.VPC)+len(s.c.Services), len(s.c.NodeAddresses))
}

func poolChange(s *scene) answer {
	r := s.c.Running
	if r == nil {
		return pass("Cilium does not run yet, or is what is judged")
	}
	pools, _ := s.networks(poolPath)
	before, _ := r.networks(poolPath)
	switch {
	case r.text(maskPath) != s.text(maskPath):
		return fail("the mask is %s now and would be %s: Cilium cannot change it while slices are in use", r.text(maskPath), s.text(maskPath)).set(maskPath + ": " + r.text(maskPath))
	case len(before) > len(pools) || !slices.Equal(pools[:len(before)], before):
		return fail("the pools are %v now and would be %v: they may be appended to, nodes and pods live in those that are there", before, pools).set(poolPath + ": " + list(before) + ", then new ones")
	}
	return pass("the pools keep what is in use")
}

func mask(s *scene) answer {
	m, err := strconv.Atoi(s.text(maskPath))
	if err != nil || m < 1 || m > longestMask {
		return fail("%s is %q: want 1 to %d", maskPath, s.text(maskPath), longestMask).set(maskPath + ": 24")
	}
	if s.c.NodeMaskSize != 0 && m != s.c.NodeMaskSize {
		return fail("the mask is %d and the Cutover's overlay.nodeMaskSize is %d", m, s.c.NodeMaskSize).set(fmt.Sprintf("%s: %d", maskPath, s.c.NodeMaskSize))
	}
	pools, _ := s.networks(poolPath)
	slicesOf := 0
	for _, p := range pools {
		if m < p.Bits() {
			return fail("the mask %d is shorter than that of the pool %s: the operator accepts it and hands out nothing", m, p).set(maskPath + ": 24")
		}
		slicesOf += 1 << min(m-p.Bits(), longestMask)
	}
	if nodes := len(s.c.NodeAddresses); nodes >= slicesOf && nodes > 0 {
		return fail("the pools have %d slices and the cluster has %d nodes; Cilium runs on old nodes too, and at least one more joins while another leaves", slicesOf, nodes).set(poolPath + ": append a network")
	}
	return pass("%d slices of /%d", slicesOf, m)
}

func severalPools(s *scene) answer {
	if pools, _ := s.networks(poolPath); len(pools) > 1 {
		return warn("there are %d pools: AWS_EXTERNAL_SERVICE_CIDRS and AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS of aws-node and the Cutover's overlay.podCIDRs must hold every one of them (%s)", len(pools), list(pools))
	}
	return pass("there is one pool")
}

// list prints networks as a YAML list.
func list(networks []netip.Prefix) string {
	words := make([]string, len(networks))
	for i, n := range networks {
		words[i] = n.String()
	}
	return "[" + strings.Join(words, ", ") + "]"
}
