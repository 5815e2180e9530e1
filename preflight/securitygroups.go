// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Ports that nodes have to reach on each other, beside the overlay's.
const (
	tunnelPort = 8472 // Cilium's tunnelPort, unless the Cutover says another
	healthPort = 4240 // cilium-health (Cilium, "System Requirements")
	probePort  = 9794 // our agents', charts/cni-cutover agent.probePort
)

// Node ports, unless the API server was told others (kube-apiserver --service-node-port-range; EKS does not change it).
const firstNodePort, lastNodePort = 30000, 32767

// securityGroups: do they let through what the overlay needs, now and on nodes that come.
func securityGroups(s *Snapshot) []Finding {
	a := s.AWS
	if out := a.unasked("instances and rules of their security groups were", "ec2:DescribeInstances", "ec2:DescribeSecurityGroupRules"); out != nil {
		return out
	}
	nodes := a.nodeEnds()
	if len(a.Instances) == 0 {
		return []Finding{unknown("no node of the cluster is an instance, so none has security groups")}
	}
	out := a.unasked("security groups of nodes that come, in launch templates, were", "ec2:DescribeLaunchTemplateVersions", "autoscaling:DescribeAutoScalingGroups", "eks:DescribeNodegroup", "eks:ListNodegroups")
	overlay := cmp.Or(s.TunnelPort, tunnelPort)
	for _, way := range []struct {
		ports   ports
		verdict v1alpha1.Verdict
		lost    string
	}{
		{ports{"udp", overlay, overlay}, v1alpha1.VerdictFail, "pods on the overlay do not reach those of other nodes"},
		{ports{"tcp", healthPort, healthPort}, v1alpha1.VerdictWarn, "Cilium takes nodes that work for unreachable"},
		{ports{"udp", probePort, probePort}, v1alpha1.VerdictWarn, "our agents cannot measure the paths between them"},
	} {
		out = append(out, a.between(nodes, way.ports, way.verdict, way.lost)...)
	}
	out = append(out, s.calledPorts(nodes)...)
	out = append(out, s.balanced(nodes)...)
	if len(out) > 0 {
		return out
	}
	return []Finding{pass("security groups of %s let through what the overlay, callbacks and load balancers need", count(len(nodes), "kind of nodes", "kinds of nodes"))}
}

// nodeEnds are the nodes by their security groups: those that are there, and those that come by a launch template.
func (a *AWS) nodeEnds() []end {
	var out []end
	known := map[string]int{}
	for i := range a.Instances {
		n := &a.Instances[i]
		key := strings.Join(n.SecurityGroups, ", ")
		at, seen := known[key]
		if !seen {
			at = len(out)
			known[key], out = at, append(out, end{what: "nodes with " + cmp.Or(key, "no security group"), groups: n.SecurityGroups})
		}
		if address, err := netip.ParseAddr(n.Address); err == nil {
			out[at].addresses = append(out[at].addresses, address)
		}
	}
	for i := range a.Templates {
		groups := a.Templates[i].SecurityGroups
		key := strings.Join(groups, ", ")
		if _, seen := known[key]; !seen && len(groups) > 0 {
			known[key], out = len(out), append(out, end{what: "nodes that come with " + key, groups: groups, networks: networks(a.Networks)})
		}
	}
	return out
}

// between judges a port from nodes to nodes.
func (a *AWS) between(nodes []end, p ports, verdict v1alpha1.Verdict, lost string) []Finding {
	var shut, doubt Finding
	for _, from := range nodes {
		for _, to := range nodes {
			is, side := a.opens(from, to, p)
			line := fmt.Sprintf("%s to %s: %s", from.what, to.what, side)
			switch is {
			case closed:
				if len(shut.Evidence) == 0 {
					shut.Mend = authorize(from, to, p, side)
				}
				shut.Evidence, shut.Objects = append(shut.Evidence, line), append(shut.Objects, objectsOf(from, to)...)
			case partly:
				doubt.Evidence, doubt.Objects = append(doubt.Evidence, line), append(doubt.Objects, objectsOf(from, to)...)
			}
		}
	}
	var out []Finding
	if len(shut.Evidence) > 0 {
		shut.Verdict, shut.Message = verdict, fmt.Sprintf("security groups do not let %s through between all nodes: %s", p, lost)
		out = append(out, shut)
	}
	if len(doubt.Evidence) > 0 {
		doubt.Verdict, doubt.Message = v1alpha1.VerdictUnknown, fmt.Sprintf("whether security groups let %s through between all nodes hangs on prefix lists, or on rules for a part of their addresses", p)
		doubt.Mend = authorize(nodes[0], nodes[0], p, "ingress") + ": a rule by security group leaves no doubt"
		out = append(out, doubt)
	}
	for i := range out {
		slices.Sort(out[i].Objects)
		out[i].Objects = slices.Compact(out[i].Objects)
	}
	return out
}

func objectsOf(ends ...end) []string {
	var out []string
	for _, e := range ends {
		out = append(out, each("SecurityGroup/", e.groups)...)
	}
	return out
}

// into judges ports from outside of the cluster to nodes. Closed for all of them it is lost; for some, it depends on which nodes
// serve.
func (a *AWS) into(from end, nodes []end, p ports) (is opening, evidence []string, mend string) {
	states := map[opening]int{}
	for _, to := range nodes {
		got, side := a.opens(from, to, p)
		states[got]++
		if got != open {
			evidence = append(evidence, fmt.Sprintf("%s from %s to %s: %s", p, from.what, to.what, side))
		}
		if got == closed && mend == "" {
			mend = authorize(from, to, p, side)
		}
	}
	switch {
	case states[open] == len(nodes):
		return open, nil, ""
	case states[closed] == len(nodes):
		return closed, evidence, mend
	}
	return partly, evidence, mend
}

// calledPorts: the API server calls webhooks and aggregated APIs on nodes, once their pods are on the host network, from the
// control plane's interfaces.
func (s *Snapshot) calledPorts(nodes []end) []Finding {
	a := s.AWS
	var out []Finding
	done := map[string]bool{}
	var called []*Callback
	for i := range s.Callbacks {
		c := &s.Callbacks[i]
		if key := fmt.Sprint(c.Kind, c.Object, c.Namespace, c.Service, c.Ignore); !c.Outside && c.Found && !done[key] {
			done[key], called = true, append(called, c)
		}
	}
	if len(called) == 0 {
		return nil
	}
	if missing := a.unasked("the control plane's security groups were", "eks:DescribeCluster"); missing != nil {
		return missing
	}
	from := end{what: "the control plane with " + strings.Join(a.ControlPlane, ", "), groups: a.ControlPlane, networks: networks(a.Networks)}
	for _, c := range called {
		object := c.Kind + "/" + c.Object
		wanted := c.portsOnHost()
		if len(wanted) == 0 && len(c.Backends) > 0 {
			f := unknown("on which port the API server calls Service %s/%s was not seen, so neither whether security groups let it", c.Namespace, c.Service)
			f.Objects = []string{object}
			out = append(out, f)
		}
		for _, port := range wanted {
			is, evidence, mend := a.into(from, nodes, ports{"tcp", port, port})
			var f Finding
			switch {
			case is == open:
				continue
			case is == closed && !c.Ignore:
				f = fail("security groups do not let the API server reach nodes on TCP %d, where Service %s/%s will be once its pods are on the host network", port, c.Namespace, c.Service)
			default:
				f = warn("security groups do not surely let the API server reach all nodes on TCP %d, where Service %s/%s will be once its pods are on the host network", port, c.Namespace, c.Service)
			}
			f.Objects, f.Evidence, f.Mend = []string{object}, evidence, mend
			out = append(out, f)
		}
	}
	return out
}

// portsOnHost are where a callback's pods listen once they are on the host network: where they do now if they are there, or if
// their chart is not known; else where the chart's cure puts them.
func (c *Callback) portsOnHost() []int32 {
	moves := slices.ContainsFunc(c.Backends, func(b Backend) bool { return b.Pod != "" && !b.HostNetwork })
	if k := c.controller(); moves && k != nil {
		return []int32{k.port}
	}
	return c.Ports
}

// balanced: load balancers send to node ports.
func (s *Snapshot) balanced(nodes []end) []Finding {
	a := s.AWS
	out := a.unasked("load balancers before the nodes, and so their security groups, were", "elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth", "elasticloadbalancing:DescribeLoadBalancers")
	for i := range a.TargetGroups {
		t := &a.TargetGroups[i]
		wanted := t.nodePorts()
		for _, name := range t.LoadBalancers {
			at := slices.IndexFunc(a.LoadBalancers, func(l LoadBalancer) bool { return l.Name == name })
			if at < 0 || len(a.LoadBalancers[at].SecurityGroups) == 0 {
				continue // without security groups its packets have clients' addresses: the targets' health shows what comes through
			}
			l := &a.LoadBalancers[at]
			from := end{what: fmt.Sprintf("load balancer %s with %s", l.Name, strings.Join(l.SecurityGroups, ", ")), groups: l.SecurityGroups, networks: networks(a.Networks)}
			if l.Type == "network" { // its packets may have clients' addresses
				from.networks = networks([]string{"0.0.0.0/0"})
			}
			for _, p := range wanted {
				is, evidence, mend := a.into(from, nodes, p)
				if is == open {
					continue
				}
				f := warn("security groups do not surely let load balancer %s reach node ports (%s) of all nodes", l.Name, p)
				switch {
				case t.Type == targetIP:
					f = warn("load balancer %s sends to pods now, and security groups do not let it reach node ports of all nodes: once nodes are its targets these are unhealthy. The AWS Load Balancer Controller opens them itself where it manages the rules", l.Name)
				case is == closed:
					f = fail("security groups do not let load balancer %s reach node ports (%s): its targets cannot be healthy", l.Name, p)
				}
				f.Objects, f.Evidence, f.Mend = []string{"TargetGroup/" + t.Name}, evidence, mend
				out = append(out, f)
			}
		}
	}
	return out
}

// nodePorts are those that a target group sends to: of nodes the ports that they are targets with, and of pods any that their
// Services may get.
func (t *TargetGroup) nodePorts() []ports {
	if t.Type == targetIP {
		if slices.ContainsFunc(t.Targets, func(t Target) bool { return t.Pod }) {
			return []ports{{"tcp", firstNodePort, lastNodePort}}
		}
		return nil
	}
	var out []ports
	for _, target := range t.Targets {
		for _, protocol := range protocolsOf(t.Protocol) {
			if p := (ports{protocol, target.Port, target.Port}); target.Node != "" && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// protocolsOf are what a load balancer of some protocol sends by.
func protocolsOf(balancer string) []string {
	switch balancer {
	case "UDP", "QUIC":
		return []string{"udp"}
	case "TCP_UDP", "TCP_QUIC":
		return []string{"tcp", "udp"}
	}
	return []string{"tcp"}
}
