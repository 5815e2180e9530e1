// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"slices"
	"strings"
)

const (
	nlbClass  = "service.k8s.aws/nlb"
	nlbTarget = "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type"
)

// loadBalancers are those that no Ingress makes: of Services, of Gateways, and target groups that people made.
func loadBalancers(s *Snapshot) []Finding {
	if s.unseen("services", "targetgroupbindings.elbv2.k8s.aws") {
		return []Finding{unknown("not all Services and TargetGroupBindings were seen")}
	}
	var out []Finding
	seen := 0
	for i := range s.Traffic.Services {
		switch v := &s.Traffic.Services[i]; {
		case v.ofNLB():
			seen++
			out = append(out, s.networkLoadBalancer(v)...)
		case v.Class == "eks.amazonaws.com/nlb":
			f := unknown("its load balancer is EKS Auto Mode's, and where that sends to was not read")
			f.Objects = []string{"Service/" + v.Namespace + "/" + v.Name}
			f.Mend = fmt.Sprintf("kubectl -n %s get targetgroupbindings.eks.amazonaws.com -o custom-columns=SERVICE:.spec.serviceRef.name,TYPE:.spec.targetType", v.Namespace)
			out = append(out, f)
		}
	}
	services := s.Traffic.servicesByName()
	for i := range s.Traffic.Bindings {
		b := &s.Traffic.Bindings[i]
		switch b.Maker {
		case "":
			seen++
			out = append(out, ownBinding(b)...)
		case "gateway":
			seen++
			out = append(out, s.gatewayBinding(b, services[at{b.Namespace, b.Service}])...)
		}
	}
	if n := len(s.Traffic.Lattice); n > 0 {
		f := fail("VPC Lattice sends to the pods' addresses of %d Gateways, and knows no other targets in a cluster: once pods are on the overlay, it cannot reach them", n)
		for _, g := range s.Traffic.Lattice {
			f.Objects = append(f.Objects, "Gateway/"+g)
		}
		f.Mend = "put a load balancer with nodes as targets in front of these Services, and let Lattice target that (a target group of type ALB), before phase RollNodes"
		out = append(out, f)
	}
	out = append(out, s.waitingForNobody()...)
	for _, missing := range []string{"gatewayclasses.gateway.networking.k8s.io", "gateways.gateway.networking.k8s.io", "targetgroupconfigurations.gateway.k8s.aws", "pods"} {
		if s.unseen(missing) {
			out = append(out, unknown("%s were not seen", missing))
		}
	}
	if len(out) > 0 {
		return out
	}
	return []Finding{pass("the %d load balancers of Services and Gateways, and target groups that people made, send to nodes", seen)}
}

// ofNLB says whether the AWS Load Balancer Controller carries a Service out. What the cloud provider's own controller makes sends
// to nodes always.
func (v *Service) ofNLB() bool {
	return v.Type == "LoadBalancer" && (v.Class == nlbClass || v.Class == "" && slices.Contains([]string{"external", "nlb-ip"}, v.LoadBalancer))
}

func (s *Snapshot) networkLoadBalancer(v *Service) []Finding {
	set := fmt.Sprintf("kubectl -n %s annotate service %s %s", v.Namespace, v.Name, nlbTarget)
	t := target{v.NLBTarget, "its annotation", set + "=" + targetInstance + " --overwrite", set + "=" + v.NLBTarget + " --overwrite"}
	switch {
	case v.LoadBalancer == "nlb-ip":
		t = target{kind: targetIP, by: "aws-load-balancer-type nlb-ip", change: fmt.Sprintf("# aws-load-balancer-type cannot change: make a Service beside %s/%s with loadBalancerClass %s and %s=%s, and move its name in DNS",
			v.Namespace, v.Name, nlbClass, nlbTarget, targetInstance), back: "move its name in DNS back"}
	case v.NLBTarget == "":
		t.kind, t.by = s.defaultTarget()
		t.back = set + "-"
	}
	var c change
	s.ungate(&c, v.Namespace)
	c.nodePorts(v)
	var f Finding
	switch t.kind {
	case targetIP:
		f = fail("its load balancer sends to pods' addresses (ip, by %s): once pods are on the overlay, it cannot reach them", t.by)
		c.add(t.change, t.back)
		f.Mend, f.Evidence = c.commands(), habits(v)
	case targetInstance:
		f.Evidence = habits(v)
		if len(f.Evidence) == 0 && v.NodePorts {
			return nil
		}
		trouble := warn("its load balancer sends to nodes, and there is something to see to")
		trouble.Evidence = f.Evidence
		if f = trouble; !v.NodePorts {
			f.Evidence = append(f.Evidence, "it has no NodePorts, so the controller cannot carry it out")
			f.Mend = strings.Join(c.forth, "\n")
		}
	default:
		f = unknown("where its load balancer sends to could not be told: %s was not seen, or two controllers differ", t.by)
		f.Mend = t.change
	}
	f.Objects = []string{"Service/" + v.Namespace + "/" + v.Name}
	return []Finding{f}
}

// ownBinding judges a TargetGroupBinding of a person's: nothing of it can change.
func ownBinding(b *Binding) []Finding {
	if b.TargetType == targetInstance {
		return nil
	}
	f := fail("its target group holds pods' addresses, and a TargetGroupBinding and its target group cannot change their type: once pods are on the overlay, it cannot reach them")
	if b.TargetType == "" {
		f = unknown("it does not say which type its target group has")
	}
	f.Objects = []string{"TargetGroupBinding/" + b.Namespace + "/" + b.Name}
	f.Mend = fmt.Sprintf("make a target group of type instance and a TargetGroupBinding of Service %s to it (type NodePort), wait until its targets are healthy, let the listener forward to it, then kubectl -n %s delete targetgroupbinding %s",
		b.Service, b.Namespace, b.Name)
	return []Finding{f}
}

// gatewayBinding judges what the controller made for a Gateway. Its type comes from a TargetGroupConfiguration of the Service, or
// one that the Gateway or its class refers to, or the flag.
func (s *Snapshot) gatewayBinding(b *Binding, v *Service) []Finding {
	if b.TargetType != targetIP {
		return nil
	}
	f := fail("a Gateway sends to pods' addresses of Service %s/%s: once pods are on the overlay, it cannot reach them", b.Namespace, b.Service)
	f.Objects = []string{"TargetGroupBinding/" + b.Namespace + "/" + b.Name}
	var c change
	s.ungate(&c, b.Namespace)
	if v != nil {
		c.nodePorts(v)
	}
	patch := func(r *TargetRule, to string) string {
		return fmt.Sprintf(`kubectl -n %s patch targetgroupconfiguration %s --type merge -p '{"spec":{"defaultConfiguration":{"targetType":%q}}}'`, r.Namespace, r.Name, to)
	}
	decided := false
	for i := range s.Traffic.TargetRules {
		if r := &s.Traffic.TargetRules[i]; r.Namespace == b.Namespace && r.Service == b.Service {
			decided = true
			f.Evidence = append(f.Evidence, "TargetGroupConfiguration "+r.Namespace+"/"+r.Name+" is that of the Service, and wins")
			c.add(patch(r, targetInstance), patch(r, targetIP))
		}
	}
	if !decided {
		for i := range s.Traffic.TargetRules {
			if r := &s.Traffic.TargetRules[i]; r.Service == "" && r.TargetType == targetIP {
				f.Evidence = append(f.Evidence, "TargetGroupConfiguration "+r.Namespace+"/"+r.Name+" makes it the default of every Gateway that refers to it")
			}
		}
		f.Evidence = append(f.Evidence, "the Service has no TargetGroupConfiguration of its own")
		own := fmt.Sprintf(`echo '{"apiVersion":"gateway.k8s.aws/v1beta1","kind":"TargetGroupConfiguration","metadata":{"namespace":%q,"name":%q},"spec":{"targetReference":{"name":%q},"defaultConfiguration":{"targetType":"instance"}}}' | kubectl apply -f -`,
			b.Namespace, b.Service, b.Service)
		c.add(own, fmt.Sprintf("kubectl -n %s delete targetgroupconfiguration %s", b.Namespace, b.Service))
	}
	f.Mend = c.commands()
	return []Finding{f}
}

// waitingForNobody are pods with a readiness gate of a TargetGroupBinding that is gone: nobody will ever open it.
func (s *Snapshot) waitingForNobody() []Finding {
	var out []Finding
	known := map[at]bool{}
	for _, b := range s.Traffic.Bindings {
		known[at{b.Namespace, b.Name}] = true
	}
	for i := range s.Traffic.Workloads {
		w := &s.Traffic.Workloads[i]
		gone := slices.DeleteFunc(slices.Clone(w.Gates), func(gate string) bool { return known[at{w.Namespace, gate}] })
		if len(gone) == 0 {
			continue
		}
		f := warn("its pods have a readiness gate of TargetGroupBinding %s, which does not exist: a pod whose gate was not opened before stays NotReady", strings.Join(gone, ", "))
		f.Objects, f.Mend = []string{w.Namespace + "/" + w.Object}, fmt.Sprintf("kubectl -n %s rollout restart %s", w.Namespace, w.Object)
		out = append(out, f)
	}
	return out
}
