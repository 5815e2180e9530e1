// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// hold is how far budgets keep a pod where it is.
type hold int

const (
	free    hold = iota
	unclear      // the budget's numbers are old
	waits        // none may be evicted now, which changes when pods become healthy
	stuck        // none may be evicted, however healthy all are
)

// never says whether a budget would allow nothing if all of its pods were healthy.
func (b *Budget) never() bool { return b.Allowed == 0 && b.Expected > 0 && b.Desired >= b.Expected }

// written is what a budget asks for, as it was written.
func (b *Budget) written() string {
	if b.MaxUnavailable != "" {
		return "maxUnavailable " + b.MaxUnavailable
	}
	return "minAvailable " + b.MinAvailable
}

// evictable decides as the eviction API does (kubernetes pkg/registry/core/pod/storage/eviction.go): pods that do not run are
// in no budget; of two budgets it can lower neither, and answers 500; a pod that is not Ready goes if its budget says so, or
// if enough others are healthy.
func evictable(p *Pod, budgets map[string]*Budget) hold {
	if p.finished() || p.Phase == corev1.PodPending || p.Deleted != nil || len(p.Budgets) == 0 {
		return free
	}
	if len(p.Budgets) > 1 {
		return stuck
	}
	b := budgets[p.Namespace+"/"+p.Budgets[0]]
	switch {
	case b == nil, b.Behind:
		return unclear
	case !p.Ready && (b.AlwaysAllow || b.Healthy >= b.Desired && b.Desired > 0), b.Allowed > 0:
		return free
	case b.Trouble != "", b.never():
		return stuck
	}
	return waits
}

// overlaps are pods that more than one budget selects, by those budgets.
func (d *drains) overlaps() []Finding {
	by := map[string][]*Pod{}
	for _, p := range d.evicted {
		if len(p.Budgets) > 1 && evictable(p, d.budgets) == stuck {
			key := p.Namespace + " " + strings.Join(p.Budgets, " ")
			by[key] = append(by[key], p)
		}
	}
	var out []Finding
	for _, key := range slices.Sorted(maps.Keys(by)) {
		pods := by[key]
		namespace, names := pods[0].Namespace, pods[0].Budgets
		f := fail("%s of %s select the same %s, so the eviction API answers 500 for each and no node with one can be emptied", strings.Join(names, " and "), namespace, count(len(pods), "pod"))
		f.Objects = append(each("PodDisruptionBudget/"+namespace+"/", names), objects(pods)...)
		f.Mend = fmt.Sprintf("kubectl -n %s delete pdb %s, or change its selector so that only one of them selects a pod", namespace, strings.Join(names[1:], " "))
		out = append(out, f)
	}
	return out
}

// stopping are the budgets that keep pods of nodes that are to be drained, one by one.
func (d *drains) stopping() []Finding {
	var out []Finding
	for i := range d.s.Budgets {
		b := &d.s.Budgets[i]
		held := slices.DeleteFunc(slices.Clone(d.selected[b]), func(p *Pod) bool { return len(p.Budgets) > 1 || evictable(p, d.budgets) == free })
		if len(held) == 0 {
			continue
		}
		f := stopped(b, held)
		f.Objects = append([]string{"PodDisruptionBudget/" + b.Namespace + "/" + b.Name}, objects(held)...)
		out = append(out, f)
	}
	return out
}

func stopped(b *Budget, held []*Pod) Finding {
	numbers := fmt.Sprintf("%s; %d of %d pods are healthy, %d must be", b.written(), b.Healthy, b.Expected, b.Desired)
	see := fmt.Sprintf("kubectl -n %s get pdb %s -o yaml", b.Namespace, b.Name)
	switch {
	case b.Behind:
		f := unknown("its controller has not looked at it since it was last changed: whether it lets %s go is not known", count(len(held), "pod"))
		f.Mend = see
		return f
	case b.Trouble != "":
		f := fail("it allows no eviction, because its controller cannot count its pods (%s)", b.Trouble)
		f.Mend = see
		return f
	case b.never():
		f := fail("it can never allow an eviction (%s): nodes with %s cannot be emptied", numbers, count(len(held), "of its pods", "of its pods"))
		f.Mend = fmt.Sprintf(`kubectl -n %s patch pdb %s --type merge -p '{"spec":{"minAvailable":null,"maxUnavailable":1}}'`, b.Namespace, b.Name)
		if b.Expected == 1 && held[0].Owner.Kind != "" {
			f.Mend = fmt.Sprintf("kubectl -n %s scale %s --replicas=2, or, if it may be away for a moment, %s", b.Namespace, held[0].workload(), f.Mend)
		}
		return f
	}
	f := warn("it allows no eviction now (%s)", numbers)
	f.Mend = fmt.Sprintf(`kubectl -n %s get pods, and mend those that are not Ready; kubectl -n %s patch pdb %s --type merge -p '{"spec":{"unhealthyPodEvictionPolicy":"AlwaysAllow"}}' lets them go`, b.Namespace, b.Namespace, b.Name)
	return f
}

// deadlocks are pairs of budgets that can make two nodes that are drained at once wait for each other: each node has evicted
// what the other one's budget waits for, and no pod of either can start again before one of the nodes is replaced. Whether
// taints, selectors or a lack of room leave even fewer nodes to them is not looked at.
func (d *drains) deadlocks() []Finding {
	atOnce := int(d.s.Rollout.MaxConcurrent)
	if atOnce < 2 || d.s.Rollout.Surge {
		return nil
	}
	type tight struct {
		b     *Budget
		nodes map[string]bool
	}
	var hanging []tight
	for i := range d.s.Budgets {
		b := &d.s.Budgets[i]
		room := int(b.Expected - b.Desired)
		nodes := map[string]bool{}
		alone := true
		for _, p := range d.selected[b] {
			if !p.finished() {
				nodes[p.Node] = true
				alone = alone && p.Alone
			}
		}
		if room >= 1 && room < atOnce && alone && len(nodes) > 1 && d.s.elsewhere(nodes) == 0 {
			hanging = append(hanging, tight{b, nodes})
		}
	}
	var out []Finding
	for i, a := range hanging {
		for _, b := range hanging[i+1:] {
			var both []string
			for n := range a.nodes {
				if b.nodes[n] {
					both = append(both, n)
				}
			}
			if len(both) < 2 {
				continue
			}
			slices.Sort(both)
			f := warn("two nodes that are drained at once can wait for each other for ever: %s/%s and %s/%s have pods on the same %d nodes, each pod needs a node of its own, and no other node is left", a.b.Namespace, a.b.Name, b.b.Namespace, b.b.Name, len(both))
			f.Objects = append([]string{"PodDisruptionBudget/" + a.b.Namespace + "/" + a.b.Name, "PodDisruptionBudget/" + b.b.Namespace + "/" + b.b.Name}, each("Node/", both)...)
			f.Mend = `kubectl patch cutover cluster --type merge -p '{"spec":{"rollout":{"maxConcurrent":1}}}', or "surge":true, which adds a node before one is drained`
			out = append(out, f)
		}
	}
	return out
}

// elsewhere counts the nodes that take pods and are not among some.
func (s *Snapshot) elsewhere(nodes map[string]bool) int {
	n := 0
	for i := range s.Nodes {
		if !nodes[s.Nodes[i].Name] && !s.Nodes[i].Unschedulable && s.Nodes[i].kind() == "" {
			n++
		}
	}
	return n
}
