// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// expiresSoon is how far ahead NodeClaims that expire are told of. A roll takes days rather than weeks.
const expiresSoon = 7 * 24 * time.Hour

// still says whether Karpenter disrupts no node of a pool by its own will: of the budgets that are active the tightest
// counts (karpenter pkg/apis/v1/nodepool.go), and one without a schedule is always active.
func (p *NodePool) still() bool {
	held := map[string]bool{}
	for _, b := range p.Budgets {
		if b.Schedule != "" || b.Nodes != "0" && b.Nodes != "0%" {
			continue
		}
		if len(b.Reasons) == 0 {
			return true
		}
		for _, r := range b.Reasons {
			held[r] = true
		}
	}
	return held["Underutilized"] && held["Empty"] && held["Drifted"]
}

// pools are findings' objects.
func pools(found []NodePool) []string {
	var names []string
	for i := range found {
		names = append(names, found[i].Name)
	}
	return each("NodePool/", names)
}

// poolsWhere are Karpenter's NodePools that are such.
func (s *Snapshot) poolsWhere(such func(*NodePool) bool) []NodePool {
	return slices.DeleteFunc(slices.Clone(s.NodePools), func(p NodePool) bool { return !such(&p) })
}

func (s *Snapshot) karpenter() []Finding {
	var out []Finding
	if s.unseen("nodepools.karpenter.sh", "nodeclaims.karpenter.sh") {
		out = append(out, unknown("Karpenter's NodePools or NodeClaims were not seen, so whether it replaces nodes during the roll is not known"))
	}
	fence := cmp.Or(s.Network.Legacy.FenceLabel, v1alpha1.FenceLabel)
	if found := s.poolsWhere(func(p *NodePool) bool { return p.Labels[fence] == v1alpha1.FenceValue }); len(found) > 0 {
		f := fail("the fence label %s=%s is in the template of %s, so replacement nodes are born with it and run the VPC CNI again: label Node objects alone", fence, v1alpha1.FenceValue, count(len(found), "NodePool"))
		f.Objects = pools(found)
		f.Mend = fmt.Sprintf(`kubectl patch nodepool %s --type json -p '[{"op":"remove","path":"/spec/template/metadata/labels/%s"}]'`, found[0].Name, strings.ReplaceAll(fence, "/", "~1"))
		out = append(out, f)
	}
	if found := s.poolsWhere(func(p *NodePool) bool { return !p.still() }); len(found) > 0 {
		drifted := 0
		for i := range s.NodeClaims {
			if c := &s.NodeClaims[i]; c.Drifted && slices.ContainsFunc(found, func(p NodePool) bool { return p.Name == c.Pool }) {
				drifted++
			}
		}
		f := warn("Karpenter may consolidate and replace nodes of %s during the roll, without a slot; %d of their nodes have drifted, and each change of a template makes all of them drift", count(len(found), "NodePool"), drifted)
		f.Objects = pools(found)
		f.Mend = fmt.Sprintf(`kubectl patch nodepool %s --type merge -p '{"spec":{"disruption":{"budgets":[{"nodes":"0"}]}}}', and the old budgets again after the roll`, found[0].Name)
		out = append(out, f)
	}
	out = append(out, s.expiring()...)
	return append(out, s.bornWithout()...)
}

// expiring are nodes that Karpenter ends soon: no budget holds expiry, and another expireAfter in the NodePool does not reach
// claims that are there.
func (s *Snapshot) expiring() []Finding {
	var found []NodeClaim
	for _, c := range s.NodeClaims {
		if c.Expires != nil && c.Expires.Before(s.TakenAt.Add(expiresSoon)) {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return nil
	}
	slices.SortStableFunc(found, func(a, b NodeClaim) int { return a.Expires.Compare(*b.Expires) })
	var names []string
	for i := range found {
		names = append(names, found[i].Name)
	}
	f := warn("%s within a week, the first (%s) at %s: Karpenter then ends its node whatever budgets say, and without a slot", count(len(found), "NodeClaim expires", "NodeClaims expire"), found[0].Name, found[0].Expires.UTC().Format(time.RFC3339))
	f.Objects, f.Mend = each("NodeClaim/", names), "before the roll, one after the other: kubectl delete nodeclaim "+found[0].Name
	return []Finding{f}
}

// bornWithout are NodePools whose nodes take pods before Cilium runs there.
func (s *Snapshot) bornWithout() []Finding {
	var out []Finding
	if found := s.poolsWhere(func(p *NodePool) bool { return slices.Contains(p.Taints, startupTaint) }); len(found) > 0 {
		f := warn("%s is among the taints of %s and not among the startupTaints, so Karpenter makes no node for a pod that does not tolerate it", startupTaint, count(len(found), "NodePool"))
		f.Objects, f.Mend = pools(found), fmt.Sprintf("kubectl edit nodepool %s: move it from spec.template.spec.taints to startupTaints", found[0].Name)
		out = append(out, f)
	}
	found := s.poolsWhere(func(p *NodePool) bool {
		return !slices.Contains(p.StartupTaints, startupTaint) && !slices.Contains(p.Taints, startupTaint)
	})
	if len(found) == 0 {
		return out
	}
	value := fmt.Sprintf(`{"key":"%s","value":"true","effect":"NoExecute"}`, startupTaint)
	patch := fmt.Sprintf(`[{"op":"add","path":"/spec/template/spec/startupTaints","value":[%s]}]`, value)
	if len(found[0].StartupTaints) > 0 {
		patch = fmt.Sprintf(`[{"op":"add","path":"/spec/template/spec/startupTaints/-","value":%s}]`, value)
	}
	f := warn("nodes of %s are born without startup taint %s: pods come to them before Cilium runs there, and Karpenter may go on adding nodes", count(len(found), "NodePool"), startupTaint)
	f.Objects, f.Mend = pools(found), fmt.Sprintf("kubectl patch nodepool %s --type json -p '%s' (its nodes drift by that: budgets of 0 first)", found[0].Name, patch)
	return append(out, f)
}

// autoscaled: cluster-autoscaler removes nodes that are little used, as one that has just joined is.
func (s *Snapshot) autoscaled() []Finding {
	var found []string
	var first *Autoscaler
	for i := range s.Autoscalers {
		if a := &s.Autoscalers[i]; a.ScalesDown {
			found = append(found, a.Namespace+"/"+a.Pod)
			if first == nil {
				first = a
			}
		}
	}
	if first == nil {
		return nil
	}
	f := warn("cluster-autoscaler removes nodes that are little used, as an old one that is being emptied and a new one that has just joined, without a slot")
	f.Objects = each("Pod/", found)
	f.Mend = fmt.Sprintf(`kubectl -n %s patch deployment %s --type json -p '[{"op":"add","path":"%s/-","value":"--scale-down-enabled=false"}]', and back after the roll`, first.Namespace, cmp.Or(first.Deployment, "<deployment>"), first.Flags)
	return []Finding{f}
}
