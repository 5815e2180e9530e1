// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/coordinator/drain"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// drains is what the coordinator's drain would do with the pods of a snapshot.
type drains struct {
	s *Snapshot
	// nodes that are rolled.
	nodes map[string]bool
	// evicted are the pods that have to leave them and have not been told yet, refused those that a drain does not delete, by
	// what it says of them.
	evicted []*Pod
	refused map[string][]*Pod
	// budgets by namespace/name, and the evicted pods that each selects.
	budgets  map[string]*Budget
	selected map[*Budget][]*Pod
}

// drained asks the coordinator's own rules what happens to each pod of the nodes that are rolled.
func (s *Snapshot) drained() (*drains, error) {
	nodes, err := s.rolled()
	if err != nil {
		return nil, err
	}
	d := &drains{s: s, nodes: nodes, refused: map[string][]*Pod{}, budgets: map[string]*Budget{}, selected: map[*Budget][]*Pod{}}
	for i := range s.Budgets {
		d.budgets[s.Budgets[i].Namespace+"/"+s.Budgets[i].Name] = &s.Budgets[i]
	}
	kept := drain.Kept{DaemonSets: map[types.NamespacedName]bool{}}
	for _, id := range s.DaemonSets {
		namespace, name, _ := strings.Cut(id, "/")
		kept.DaemonSets[types.NamespacedName{Namespace: namespace, Name: name}] = true
	}
	known := map[shape]plan.Drain{}
	for i := range s.Pods {
		p := &s.Pods[i]
		if !nodes[p.Node] {
			continue
		}
		of := p.shape()
		left, seen := known[of]
		if !seen {
			kept.Pods = []corev1.Pod{of.object()}
			if left, err = kept.Look(s.Rollout.Drain); err != nil {
				return nil, err
			}
			known[of] = left
		}
		for _, sentence := range left.Impossible {
			sentence = strings.TrimSuffix(sentence, ": "+of.namespace+"/"+shapeName)
			for strings.HasPrefix(sentence, "cannot delete ") { // kubectl says it once or twice
				sentence = strings.TrimPrefix(sentence, "cannot delete ")
			}
			d.refused[sentence] = append(d.refused[sentence], p)
		}
		if len(left.Evict) == 0 {
			continue
		}
		d.evicted = append(d.evicted, p)
		for _, name := range p.Budgets {
			if b := d.budgets[p.Namespace+"/"+name]; b != nil {
				d.selected[b] = append(d.selected[b], p)
			}
		}
	}
	return d, nil
}

func draining(s *Snapshot) []Finding {
	if s.unseen("nodes", "pods", "daemonsets.apps") {
		return []Finding{unknown("nodes, pods or DaemonSets were not all seen, so what a drain would meet is not known")}
	}
	d, err := s.drained()
	if err != nil {
		return []Finding{unknown("which nodes are rolled is not known: %v", err)}
	}
	out := d.refusals()
	if s.unseen("poddisruptionbudgets.policy") {
		out = append(out, unknown("PodDisruptionBudgets were not seen, so whether they let pods go is not known"))
	} else {
		out = append(out, d.overlaps()...)
		out = append(out, d.stopping()...)
		out = append(out, d.deadlocks()...)
	}
	if s.unseen("persistentvolumes") {
		out = append(out, unknown("PersistentVolumes were not seen, so whether pods have data on their nodes is not known"))
	}
	out = append(out, d.blocked()...)
	for _, tell := range []func() *Finding{d.local, d.hostPaths, d.scratch, d.bare, d.asking, d.single, d.slow} {
		if f := tell(); f != nil {
			out = append(out, *f)
		}
	}
	return append(out, d.summary())
}

// refusals are the pods that a drain does not delete.
func (d *drains) refusals() []Finding {
	var out []Finding
	for _, sentence := range slices.Sorted(maps.Keys(d.refused)) {
		pods := d.refused[sentence]
		f := fail("a drain does not delete %s", sentence)
		f.Objects, f.Mend = objects(pods), deletion(pods)
		out = append(out, f)
	}
	return out
}

// deletion is the command that deletes pods of one namespace, the first one's.
func deletion(pods []*Pod) string {
	var names []string
	others := 0
	for _, p := range pods {
		switch {
		case p.Namespace != pods[0].Namespace || len(names) == 10:
			others++
		default:
			names = append(names, p.Name)
		}
	}
	more := ""
	if others > 0 {
		more = fmt.Sprintf(", and so on for the other %d", others)
	}
	return fmt.Sprintf("kubectl -n %s delete pod %s%s, if they may go", pods[0].Namespace, strings.Join(names, " "), more)
}

// obstacle is what keeps a node from being emptied.
type obstacle struct {
	hold  hold
	cause string
}

// obstacles are those of today, by node: of each the one that stays longest.
func (d *drains) obstacles() map[string]obstacle {
	out := map[string]obstacle{}
	note := func(p *Pod, h hold, cause string) {
		if known, is := out[p.Node]; !is || h > known.hold {
			out[p.Node] = obstacle{h, cause}
		}
	}
	for _, sentence := range slices.Sorted(maps.Keys(d.refused)) {
		for _, p := range d.refused[sentence] {
			note(p, stuck, "Pod "+p.ID()+" is not deleted")
		}
	}
	for _, p := range d.evicted {
		if h := evictable(p, d.budgets); h != free {
			note(p, h, fmt.Sprintf("%s keeps Pod %s", strings.Join(p.Budgets, " and "), p.ID()))
		}
	}
	return out
}

// blocked names the nodes that could not be emptied today.
func (d *drains) blocked() []Finding {
	why := d.obstacles()
	if len(why) == 0 {
		return nil
	}
	nodes, worst := slices.Sorted(maps.Keys(why)), free
	for _, o := range why {
		worst = max(worst, o.hold)
	}
	f := fail("%d of %d nodes that are to be rolled could not be emptied today, as %s: %s", len(nodes), len(d.nodes), nodes[0], why[nodes[0]].cause)
	if worst < stuck {
		f = warn("%d of %d nodes that are to be rolled could not be emptied just now, as %s: %s", len(nodes), len(d.nodes), nodes[0], why[nodes[0]].cause)
	}
	f.Objects, f.Mend = each("Node/", nodes), "mend what is said of those pods and budgets, or keep a node out of the roll: kubectl annotate node "+nodes[0]+" cni-cutover.dev/opt-out='who: why'"
	return []Finding{f}
}

// where collects the evicted pods that are such, and finished ones are not.
func (d *drains) where(such func(*Pod) bool) []*Pod {
	var out []*Pod
	for _, p := range d.evicted {
		if !p.finished() && such(p) {
			out = append(out, p)
		}
	}
	return out
}

func (d *drains) local() *Finding {
	pods := d.where(func(p *Pod) bool { return len(p.LocalClaims) > 0 })
	if len(pods) == 0 {
		return nil
	}
	first := pods[0]
	f := fail("PersistentVolumes of %s exist on one node alone (%s of %s): with the node the data is gone, and a pod whose claim is bound to it stays Pending", count(len(pods), "pod"), first.LocalClaims[0], first.ID())
	f.Objects = objects(pods)
	f.Mend = fmt.Sprintf("kubectl annotate node %s cni-cutover.dev/opt-out='who: why' until the data is elsewhere; then kubectl -n %s delete pvc %s, and the pod gets another volume", first.Node, first.Namespace, strings.Join(first.LocalClaims, " "))
	return &f
}

func (d *drains) hostPaths() *Finding {
	pods := d.where(func(p *Pod) bool { return p.HostPath })
	if len(pods) == 0 {
		return nil
	}
	f := warn("hostPath volumes let %s write to the node's disk, and what was written there does not come along", count(len(pods), "pod"))
	f.Objects, f.Mend = objects(pods), fmt.Sprintf("kubectl -n %s get pod %s -o jsonpath='{.spec.volumes[*].hostPath.path}', and copy what must stay", pods[0].Namespace, pods[0].Name)
	return &f
}

// scratch is about state that was left in scratch space: everybody else's emptyDir is meant to go.
func (d *drains) scratch() *Finding {
	pods := d.where(func(p *Pod) bool { return p.EmptyDir && p.Owner.Kind == "StatefulSet" })
	if len(pods) == 0 {
		return nil
	}
	f := warn("the data in emptyDir volumes of %s goes with them, and a StatefulSet may have meant to keep it", count(len(pods), "pod"))
	f.Objects = objects(pods)
	f.Mend = fmt.Sprintf(`see that nothing in them must stay (kubectl -n %s get pod %s -o yaml); to be held instead: kubectl patch cutover cluster --type merge -p '{"spec":{"rollout":{"drain":{"deleteEmptyDirData":false}}}}'`, pods[0].Namespace, pods[0].Name)
	return &f
}

// bare is about pods that a drain deletes because rollout.drain.force says so.
func (d *drains) bare() *Finding {
	pods := d.where(func(p *Pod) bool { return p.Owner.Kind == "" })
	if len(pods) == 0 {
		return nil
	}
	f := warn("rollout.drain.force lets a drain delete %s without a controller, which nobody makes again", count(len(pods), "pod"))
	f.Objects, f.Mend = objects(pods), `kubectl patch cutover cluster --type merge -p '{"spec":{"rollout":{"drain":{"force":false}}}}', if one of them must stay`
	return &f
}

func (d *drains) asking() *Finding {
	pods := d.where(func(p *Pod) bool { return p.Keep != "" })
	if len(pods) == 0 {
		return nil
	}
	f := warn("a wish not to be disrupted (%s) is written on %s: autoscalers heed it, a drain evicts all the same", pods[0].Keep, count(len(pods), "pod"))
	f.Objects, f.Mend = objects(pods), fmt.Sprintf("kubectl annotate node %s cni-cutover.dev/opt-out='who: why', until they are done", pods[0].Node)
	return &f
}

// single is about workloads of which one pod runs although there could be more.
func (d *drains) single() *Finding {
	scaled := []string{"ReplicaSet", "StatefulSet", "ReplicationController"}
	running := map[string]int{}
	id := func(p *Pod) string { return p.Namespace + " " + p.Owner.Kind + "/" + p.Owner.Name }
	for i := range d.s.Pods {
		if p := &d.s.Pods[i]; !p.finished() && p.Deleted == nil {
			running[id(p)]++
		}
	}
	pods := d.where(func(p *Pod) bool { return slices.Contains(scaled, p.Owner.Kind) && running[id(p)] == 1 })
	if len(pods) == 0 {
		return nil
	}
	f := warn("there is one pod only of %s: from its eviction until it is Ready elsewhere there is none", count(len(pods), "workload"))
	f.Objects, f.Mend = objects(pods), fmt.Sprintf("kubectl -n %s scale %s --replicas=2, where a second one is of use", pods[0].Namespace, pods[0].workload())
	return &f
}

// slow is about pods that may take longer to end than a slot waits.
func (d *drains) slow() *Finding {
	limit := d.s.Rollout.Drain.Timeout.Duration
	pods := d.where(func(p *Pod) bool { return limit > 0 && time.Duration(p.Grace)*time.Second >= limit })
	if len(pods) == 0 {
		return nil
	}
	longest := slices.MaxFunc(pods, func(a, b *Pod) int { return cmp.Compare(a.Grace, b.Grace) })
	f := warn("the grace period of %s is as long as a drain may take in all (%s: %s, rollout.drain.timeout: %s): then the slot is held", count(len(pods), "pod"), longest.ID(), time.Duration(longest.Grace)*time.Second, limit)
	f.Objects = objects(pods)
	f.Mend = fmt.Sprintf(`kubectl patch cutover cluster --type merge -p '{"spec":{"rollout":{"drain":{"timeout":"%ds"}}}}'`, longest.Grace+int64(limit.Seconds()))
	return &f
}

// summary says what a roll evicts.
func (d *drains) summary() Finding {
	scratch, longest := 0, int64(0)
	for _, p := range d.where(func(*Pod) bool { return true }) {
		if p.EmptyDir {
			scratch++
		}
		longest = max(longest, p.Grace)
	}
	return pass("a roll of %s evicts %s, %d of them with emptyDir volumes, whose data goes with them; the longest grace period is %s", count(len(d.nodes), "node"), count(len(d.evicted), "pod"), scratch, time.Duration(longest)*time.Second)
}

// objects names pods as findings do.
func objects(pods []*Pod) []string {
	out := make([]string, 0, len(pods))
	for _, p := range pods {
		out = append(out, "Pod/"+p.ID())
	}
	return out
}

func each(prefix string, names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, prefix+n)
	}
	return out
}

// count is a number of things: 1 pod, 2 pods.
func count(n int, one string, many ...string) string {
	switch {
	case n == 1:
	case len(many) > 0:
		one = many[0]
	default:
		one += "s"
	}
	return fmt.Sprintf("%d %s", n, one)
}
