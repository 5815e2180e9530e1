// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

const (
	albController = "ingress.k8s.aws/alb"
	albAutoMode   = "eks.amazonaws.com/alb" // EKS Auto Mode's, whose kinds are others
	albClass      = "alb"                   // the controller's --ingress-class, if it is not given
	albTarget     = "alb.ingress.kubernetes.io/target-type"
	gateLabel     = "elbv2.k8s.aws/pod-readiness-gate-inject"
)

// ingress: a load balancer reaches addresses of the VPC alone, so before pods get others it must send to nodes.
func ingress(s *Snapshot) []Finding {
	if s.unseen("ingresses.networking.k8s.io", "ingressclasses.networking.k8s.io", "ingressclassparams.elbv2.k8s.aws", "services") {
		return []Finding{unknown("not all Ingresses, their classes and Services were seen")}
	}
	groups := map[string][]*Ingress{}
	members := 0
	var auto []string
	for i := range s.Traffic.Ingresses {
		in := &s.Traffic.Ingresses[i]
		if in.OldClass == "" && s.classOf(in, albAutoMode) {
			auto = append(auto, "Ingress/"+in.Namespace+"/"+in.Name)
		}
		if s.ofALB(in) {
			members++
			groups[s.group(in)] = append(groups[s.group(in)], in)
		}
	}
	var out []Finding
	services := s.Traffic.servicesByName()
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		if f := s.judgeGroup(name, groups[name], services); f.Verdict != v1alpha1.VerdictPass {
			out = append(out, f)
		}
	}
	if len(auto) > 0 {
		f := unknown("%d Ingresses are carried out by EKS Auto Mode, and where it sends to was not read", len(auto))
		f.Objects, f.Mend = auto, "kubectl get targetgroupbindings.eks.amazonaws.com -A -o custom-columns=SERVICE:.spec.serviceRef.name,TYPE:.spec.targetType"
		out = append(out, f)
	}
	if members > 0 && s.unseen("namespaces") {
		out = append(out, unknown("namespaces were not seen, so neither was which give pods readiness gates for target groups (%s)", gateLabel))
	}
	if len(out) > 0 {
		return out
	}
	return []Finding{pass("the %d Ingresses of the AWS Load Balancer Controller send to nodes", members)}
}

// ofALB says whether the AWS Load Balancer Controller carries an Ingress out.
func (s *Snapshot) ofALB(in *Ingress) bool {
	if in.OldClass != "" {
		return in.OldClass == albClass || slices.ContainsFunc(s.Traffic.Controllers, func(c Controller) bool { return c.IngressClass == in.OldClass })
	}
	return s.classOf(in, albController)
}

func (s *Snapshot) classOf(in *Ingress, controller string) bool {
	return slices.ContainsFunc(s.Traffic.Classes, func(c IngressClass) bool { return c.Name == in.Class && c.Controller == controller })
}

// params are the IngressClassParams of an Ingress; nil: there are none.
func (s *Snapshot) params(in *Ingress) *ClassParams {
	if in.OldClass != "" {
		return nil
	}
	for _, c := range s.Traffic.Classes {
		for i := range s.Traffic.Params {
			if c.Name == in.Class && c.Params != "" && s.Traffic.Params[i].Name == c.Params {
				return &s.Traffic.Params[i]
			}
		}
	}
	return nil
}

// group is the load balancer of an Ingress: that of its IngressGroup, or its own.
func (s *Snapshot) group(in *Ingress) string {
	if p := s.params(in); p != nil && p.Group != "" {
		return p.Group
	}
	if in.Group != "" {
		return in.Group
	}
	return in.Namespace + "/" + in.Name
}

// target is where a load balancer sends to, who decided that, and the commands to decide otherwise and back.
type target struct{ kind, by, change, back string }

// targetOf decides as the controller does (pkg/ingress/model_build_target_group.go): IngressClassParams, else the Service's
// annotation, else the Ingress's, else the flag.
func (s *Snapshot) targetOf(in *Ingress, service *Service) target {
	annotate := func(kind, name, now string) target {
		set := fmt.Sprintf("kubectl -n %s annotate %s %s %s=", in.Namespace, kind, name, albTarget)
		back := set + now + " --overwrite"
		if now == "" {
			back = strings.TrimSuffix(set, "=") + "-"
		}
		return target{now, "the annotation of the " + kind, set + targetInstance + " --overwrite", back}
	}
	if p := s.params(in); p != nil && p.TargetType != "" {
		patch := func(to string) string {
			return fmt.Sprintf(`kubectl patch ingressclassparams %s --type merge -p '{"spec":{"targetType":%q}}'`, p.Name, to)
		}
		return target{p.TargetType, "IngressClassParams " + p.Name + ", over every annotation", patch(targetInstance), patch(p.TargetType)}
	}
	if service != nil && service.ALBTarget != "" {
		return annotate("service", service.Name, service.ALBTarget)
	}
	if in.TargetType != "" {
		return annotate("ingress", in.Name, in.TargetType)
	}
	t := annotate("ingress", in.Name, "")
	t.kind, t.by = s.defaultTarget()
	return t
}

// defaultTarget is the controller's --default-target-type. Empty: it was not seen, or two disagree.
func (s *Snapshot) defaultTarget() (kind, by string) {
	by = "the controller's --default-target-type"
	for i, c := range s.Traffic.Controllers {
		now := c.DefaultTargetType
		if now == "" {
			now = targetInstance
		}
		if i > 0 && now != kind {
			return "", by
		}
		kind = now
	}
	return kind, by
}

// at is where an object of a namespace is.
type at struct{ namespace, name string }

func (t *Traffic) servicesByName() map[at]*Service {
	out := map[at]*Service{}
	for i := range t.Services {
		out[at{t.Services[i].Namespace, t.Services[i].Name}] = &t.Services[i]
	}
	return out
}

// change is an ordered list of commands, and what takes each of them back.
type change struct{ forth, back []string }

func (c *change) add(forth, back string) {
	if !slices.Contains(c.forth, forth) {
		c.forth, c.back = append(c.forth, forth), append(c.back, back)
	}
}

// commands are a line each. The way back is the same in reverse: a Service that is ClusterIP again before its target type is
// makes the controller's model fail.
func (c *change) commands() string {
	lines := append(slices.Clone(c.forth), "# wait until all new targets are healthy; the way back, in this order:")
	for _, b := range slices.Backward(c.back) {
		lines = append(lines, "# "+b)
	}
	return strings.Join(lines, "\n")
}

// ungate takes the readiness gates from pods to come: one whose target group is gone keeps its pod from being ready.
func (s *Snapshot) ungate(c *change, namespace string) {
	if slices.Contains(s.Traffic.Gated, namespace) {
		c.add(fmt.Sprintf("kubectl label namespace %s %s-", namespace, gateLabel), fmt.Sprintf("kubectl label namespace %s %s=enabled", namespace, gateLabel))
	}
}

// nodePorts gives a Service node ports, which is what a load balancer sends to on a node.
func (c *change) nodePorts(v *Service) {
	patch := func(spec string) string {
		return fmt.Sprintf("kubectl -n %s patch service %s --type merge -p '{\"spec\":{%s}}'", v.Namespace, v.Name, spec)
	}
	switch {
	case v.Headless, v.Type == "ExternalName":
		c.add(fmt.Sprintf("# Service %s/%s can have no NodePort: make one of type NodePort beside it, and name that one", v.Namespace, v.Name), fmt.Sprintf("name Service %s/%s again", v.Namespace, v.Name))
	case v.Type == "LoadBalancer" && !v.NodePorts:
		c.add(patch(`"allocateLoadBalancerNodePorts":true`), patch(`"allocateLoadBalancerNodePorts":false`))
	case v.Type == "ClusterIP":
		c.add(patch(`"type":"NodePort"`), patch(`"type":"ClusterIP"`))
	}
}

// judgeGroup judges all Ingresses of one load balancer: one that fails in the group stops changes of all.
func (s *Snapshot) judgeGroup(name string, members []*Ingress, known map[at]*Service) Finding {
	var objects, evidence, trouble []string
	var targets, services change
	var gates change
	kinds := map[string]bool{}
	for _, in := range members {
		objects = append(objects, "Ingress/"+in.Namespace+"/"+in.Name)
		for _, annotation := range in.Unread {
			kinds[""] = true
			evidence = append(evidence, fmt.Sprintf("annotation %s of %s/%s could not be read", annotation, in.Namespace, in.Name))
		}
		for _, backend := range in.Backends {
			v := known[at{in.Namespace, backend}]
			t := s.targetOf(in, v)
			kinds[t.kind] = true
			kind := t.kind
			if kind == "" {
				kind = "not known"
			}
			line := fmt.Sprintf("%s/%s to Service %s: %s, by %s", in.Namespace, in.Name, backend, kind, t.by)
			switch {
			case v == nil:
				line += "; that Service does not exist"
			case t.kind == targetIP:
				s.ungate(&gates, in.Namespace)
				services.nodePorts(v)
				targets.add(t.change, t.back)
			case t.kind == targetInstance && !v.NodePorts:
				trouble = append(trouble, fmt.Sprintf("Service %s/%s is %s and has no NodePort, so the controller cannot carry the group out", v.Namespace, v.Name, v.Type))
				services.nodePorts(v)
			}
			evidence = append(evidence, line)
			trouble = append(trouble, habits(v)...)
			if v != nil && t.kind == targetIP && (in.Sticky || v.Sticky) {
				evidence = append(evidence, fmt.Sprintf("Service %s/%s has sticky sessions: with nodes as targets a session keeps to a node, and kube-proxy picks any pod from there. Keep sessions outside of the pods", v.Namespace, v.Name))
			}
		}
		if in.Control {
			first := fmt.Sprintf("# targets of %s/%s tell their capacity, which nodes cannot: take alb.ingress.kubernetes.io/target-control-port from it", in.Namespace, in.Name)
			gates.add(first, "put alb.ingress.kubernetes.io/target-control-port back")
		}
	}
	if strings.Contains(strings.Join(targets.forth, "\n"), "ingressclassparams") {
		evidence = append(evidence, "IngressClassParams change every Ingress of the class at once: give all of their Services NodePorts first")
	}
	if kinds[targetIP] {
		evidence = append(evidence, "while it changes it answers 503, until the new targets have passed their health checks; the page says how to avoid that")
	}
	all := change{append(append(gates.forth, services.forth...), targets.forth...), append(append(gates.back, services.back...), targets.back...)}
	slices.Sort(trouble)
	return verdictOfGroup(name, kinds, objects, append(evidence, slices.Compact(trouble)...), len(trouble), all)
}

// habits are what a Service does otherwise than others behind a load balancer that sends to nodes.
func habits(v *Service) []string {
	if v == nil || !v.Local {
		return nil
	}
	return []string{fmt.Sprintf("Service %s/%s has externalTrafficPolicy Local: only nodes with a ready pod of it are healthy targets, so a pod that moves is out until its new node has passed the health checks. "+
		"Run two at least, on different nodes, or set Cluster if nobody needs clients' addresses", v.Namespace, v.Name)}
}

func verdictOfGroup(name string, kinds map[string]bool, objects, evidence []string, trouble int, c change) Finding {
	balancer := fmt.Sprintf("the load balancer of %s", name)
	if len(objects) > 1 {
		balancer = fmt.Sprintf("the load balancer of IngressGroup %s, which %d Ingresses share,", name, len(objects))
	}
	var f Finding
	switch {
	case kinds[targetIP]:
		f = fail("%s sends to pods' addresses: once pods are on the overlay, it cannot reach them", balancer)
		f.Mend = c.commands()
	case len(kinds) > 1 || !kinds[targetInstance] && len(kinds) > 0:
		f = unknown("whether %s sends to nodes could not be told", balancer)
		f.Mend = "kubectl get targetgroupbindings -A -o custom-columns=SERVICE:.spec.serviceRef.name,TYPE:.spec.targetType"
	case trouble > 0:
		f = warn("%s sends to nodes, and there is something to see to", balancer)
		if len(c.forth) > 0 {
			f.Mend = strings.Join(c.forth, "\n")
		}
	default:
		return pass("%s sends to nodes", balancer)
	}
	f.Objects, f.Evidence = objects, evidence
	return f
}
