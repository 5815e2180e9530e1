// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"maps"
	"slices"
)

// targets: target groups as load balancers see them. What makes them stands among Ingress and LoadBalancers; here are those that
// nobody in the cluster answers for, and how well their targets are.
func targets(s *Snapshot) []Finding {
	a := s.AWS
	if out := a.unasked("target groups and the health of their targets were", "elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth", "ec2:DescribeInstances"); out != nil {
		return out
	}
	if len(a.Instances) == 0 {
		return []Finding{unknown("no node of the cluster is an instance, so neither are its target groups known")}
	}
	var out []Finding
	if s.unseen("targetgroupbindings.elbv2.k8s.aws") && slices.ContainsFunc(a.TargetGroups, func(t TargetGroup) bool { return t.pods() > 0 }) {
		out = append(out, unknown("TargetGroupBindings were not seen, so whether somebody outside of the cluster puts pods' addresses into target groups is not known"))
	}
	for i := range a.TargetGroups {
		t := &a.TargetGroups[i]
		if f, lost := s.unbound(t); lost {
			out = append(out, f)
		}
		if f, ill := t.ill(); ill {
			out = append(out, f)
		}
	}
	if len(out) > 0 {
		return out
	}
	return []Finding{pass("the targets of %s that send to nodes or pods of the cluster are healthy", count(len(a.TargetGroups), "target group"))}
}

// pods is how many of its targets are addresses of pods.
func (t *TargetGroup) pods() int {
	n := 0
	for _, target := range t.Targets {
		if target.Pod {
			n++
		}
	}
	return n
}

// unbound are target groups with pods' addresses that no TargetGroupBinding stands for.
func (s *Snapshot) unbound(t *TargetGroup) (Finding, bool) {
	if t.pods() == 0 || s.unseen("targetgroupbindings.elbv2.k8s.aws") || slices.ContainsFunc(s.Traffic.Bindings, func(b Binding) bool { return b.TargetGroup == t.Name }) {
		return Finding{}, false
	}
	f := fail("it holds the addresses of %s, and no TargetGroupBinding of the cluster put them there: once pods are on the overlay, it cannot reach them", count(t.pods(), "pod"))
	f.Objects = []string{"TargetGroup/" + t.Name}
	f.Mend = "find out who registers them (EKS Auto Mode, another cluster's controller, a script), and let it register nodes and a NodePort in a target group of type instance"
	return f, true
}

// ill says how many targets of a group are unhealthy. Of nodes one that is healthy is enough: with externalTrafficPolicy Local
// those without a pod never are.
func (t *TargetGroup) ill() (Finding, bool) {
	states := map[string]int{}
	var evidence []string
	for _, target := range t.Targets {
		states[target.State]++
		if target.State == "unhealthy" {
			line := fmt.Sprintf("%s:%d", target.ID, target.Port)
			if target.Reason != "" {
				line += ": " + target.Reason
			}
			evidence = append(evidence, line)
		}
	}
	bad := states["unhealthy"]
	if bad == 0 || t.Type == targetInstance && states["healthy"] > 0 {
		return Finding{}, false
	}
	var all string
	for _, state := range slices.Sorted(maps.Keys(states)) {
		all += fmt.Sprintf(" %d %s,", states[state], state)
	}
	f := warn("%s before anything moves (%s): phase DecoupleIngress is proved by healthy targets, and nobody could tell these from its own", count(bad, "of its targets is unhealthy", "of its targets are unhealthy"), all[1:len(all)-1])
	f.Objects, f.Evidence = []string{"TargetGroup/" + t.Name}, evidence
	f.Mend = "mend or deregister them first"
	return f, true
}
