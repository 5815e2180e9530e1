// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// networks reads networks; what is none is left out, as it cannot come from an API server.
func networks(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

const otherOverlay = "choose another network for spec.overlay.podCIDRs, as 10.244.0.0/16, and name it in Cilium's values"

func overlap(s *Snapshot) []Finding {
	var out []Finding
	say := func(format string, args ...any) {
		f := fail(format, args...)
		f.Mend = otherOverlay
		out = append(out, f)
	}
	overlay := networks(s.Overlay)
	for _, p := range overlay {
		for _, v := range networks(s.routed()) {
			if p.Overlaps(v) {
				say("the overlay's %s overlaps with %s of the VPC or of what is routed to it: nodes lose what lives there", p, v)
			}
		}
		for _, v := range networks(s.Services) {
			if p.Overlaps(v) {
				say("the overlay's %s overlaps with %s, where ClusterIPs are: pods lose the Services whose address a pod gets", p, v)
			}
		}
		var inside []string
		for _, n := range s.Nodes {
			for _, text := range n.Addresses {
				if a, err := netip.ParseAddr(text); err == nil && p.Contains(a) {
					inside = append(inside, n.Name+" ("+text+")")
				}
			}
		}
		if len(inside) > 0 {
			say("the overlay's %s holds the addresses of %d nodes, as of %s: nodes lose each other", p, len(inside), inside[0])
		}
	}
	switch {
	case len(out) > 0:
		return out
	case len(overlay) == 0:
		return []Finding{unknown("no network is given for the overlay")}
	case s.unseen("nodes", "servicecidrs.networking.k8s.io"):
		return []Finding{unknown("not all nodes and Service networks were seen")}
	case s.AWS != nil && len(s.VPC) == 0:
		if out := s.unrouted(); out != nil {
			return out
		}
	case len(s.VPC) == 0:
		return []Finding{unknown("what the VPC, its peers and on-premises networks use was not told, and Kubernetes does not know it: name every network with --vpc-cidr. Nodes and Services lie outside of the overlay")}
	}
	return []Finding{pass("the overlay's %s is clear of %d networks and of the addresses of %d nodes", strings.Join(s.Overlay, ", "), len(s.routed())+len(s.Services), len(s.Nodes))}
}

// routed are the networks of the VPC and of what is routed to it, as a person named them and as AWS says.
func (s *Snapshot) routed() []string {
	out := slices.Clone(s.VPC)
	if s.AWS == nil {
		return out
	}
	out = append(out, s.AWS.Networks...)
	for _, r := range s.AWS.Routes {
		if p, err := netip.ParsePrefix(r.Network); err == nil && p.Bits() > 0 {
			out = append(out, r.Network)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// unrouted are networks that AWS does not tell: behind a route for everything that does not lead to the Internet, or in a
// prefix list.
func (s *Snapshot) unrouted() []Finding {
	if out := s.AWS.unasked("the VPC's networks and routes were", "ec2:DescribeVpcs", "ec2:DescribeRouteTables"); out != nil {
		return out
	}
	if len(s.AWS.Networks) == 0 {
		return []Finding{unknown("the VPC's networks were not seen: name them with --vpc-cidr")}
	}
	var hidden []string
	for _, r := range s.AWS.Routes {
		p, err := netip.ParsePrefix(r.Network)
		if err != nil || p.Bits() == 0 && !strings.HasPrefix(r.Via, "igw-") && !strings.HasPrefix(r.Via, "nat-") {
			hidden = append(hidden, r.Network+" through "+r.Via)
		}
	}
	if len(hidden) == 0 {
		return nil
	}
	f := unknown("routes of the VPC lead to networks that they do not name (%s): name every network behind them with --vpc-cidr. Those that AWS names lie outside of the overlay", strings.Join(hidden, ", "))
	return []Finding{f}
}

// maxBits keeps the count of slices in an int.
const maxBits = 30

// slicesOf counts the slices that networks can be cut into.
func slicesOf(overlay []netip.Prefix, mask int) int {
	n := 0
	for _, p := range overlay {
		if mask >= p.Bits() {
			n += 1 << min(mask-p.Bits(), maxBits)
		}
	}
	return n
}

func capacity(s *Snapshot) []Finding {
	if s.unseen("nodes") {
		return []Finding{unknown("the nodes were not seen, so they could not be counted")}
	}
	room, need := slicesOf(networks(s.Overlay), s.NodeMaskSize), len(s.Nodes)+s.Joining
	f := pass("the overlay has %d slices of /%d; %d nodes and %d that join meanwhile need %d", room, s.NodeMaskSize, len(s.Nodes), s.Joining, need)
	if room < need {
		f = fail("the overlay has %d slices of /%d, and %d nodes with %d that join meanwhile need %d: Cilium runs on old nodes too, so each node takes one, old and new at once", room, s.NodeMaskSize, len(s.Nodes), s.Joining, need)
		f.Mend = "append a network to spec.overlay.podCIDRs of the Cutover, to Cilium's pool, and to AWS_EXTERNAL_SERVICE_CIDRS and AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS of aws-node"
	}
	return []Finding{f}
}

func ciliumNodes(s *Snapshot) []Finding {
	if s.unseen("ciliumnodes.cilium.io", "nodes") {
		return []Finding{unknown("CiliumNodes or nodes were not seen")}
	}
	var out []Finding
	known := map[string]bool{}
	for _, n := range s.Nodes {
		known[n.Name] = true
	}
	owners := map[string][]string{}
	for _, n := range s.CiliumNodes {
		for _, cidr := range n.PodCIDRs {
			owners[cidr] = append(owners[cidr], n.Name)
		}
		if !known[n.Name] {
			f := warn("CiliumNode %s has no Node: it keeps %s from a node that joins", n.Name, strings.Join(n.PodCIDRs, ", "))
			f.Objects, f.Mend = []string{"CiliumNode/" + n.Name}, "kubectl delete ciliumnode "+n.Name
			out = append(out, f)
		}
	}
	overlay := networks(s.Overlay)
	for _, cidr := range slices.Sorted(maps.Keys(owners)) {
		if who := owners[cidr]; len(who) > 1 {
			f := fail("%s is the slice of %s: their pods get the same addresses", cidr, strings.Join(who, " and "))
			for _, n := range who {
				f.Objects = append(f.Objects, "CiliumNode/"+n)
			}
			f.Mend = fmt.Sprintf("drain %s, kubectl delete ciliumnode %s, and replace the node", who[len(who)-1], who[len(who)-1])
			out = append(out, f)
		}
		p, err := netip.ParsePrefix(cidr)
		if err == nil && !slices.ContainsFunc(overlay, func(o netip.Prefix) bool { return o.Bits() <= p.Bits() && o.Contains(p.Addr()) }) {
			f := fail("%s of %s lies outside of the overlay's %s: Cilium's pool and the Cutover differ", cidr, strings.Join(owners[cidr], ", "), strings.Join(s.Overlay, ", "))
			f.Objects, f.Mend = []string{"CiliumNode/" + owners[cidr][0]}, "kubectl cutover values check --live"
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return []Finding{pass("%d CiliumNodes, each with a Node and a slice of its own", len(s.CiliumNodes))}
	}
	return out
}
