// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// room is what is free on the nodes of a snapshot. Requests, maxPods, node selectors, node affinity and taints are looked at,
// the latter as a scheduler does (k8s.io/component-helpers), and that no two pods that need a node each share one.
type room struct {
	s     *Snapshot
	nodes []freeNode
	// places by what chooses them: thousands of workloads differ in requests, and choose nodes in a few ways.
	places map[string]*places
	// chosen are those of the snapshot's needs.
	chosen map[int]*places
}

// places are the nodes on which pods may be that choose alike, however much is free there.
type places struct {
	nodes []int
	// refusals are why not, of every node; empty: they may.
	refusals []string
	// from is where the search for the next pod begins, so that pods are spread.
	from int
}

// freeNode is what is free on one node.
type freeNode struct {
	name              string
	object            corev1.Node
	cpu, memory, pods int64
	// kinds of pods that need a node each and are there.
	kinds map[string]int
}

// kindOf names what a pod is one of.
func kindOf(p *Pod) string { return p.Namespace + "/" + p.workload() }

func (s *Snapshot) room() *room {
	r := &room{s: s, places: map[string]*places{}, chosen: map[int]*places{}}
	at := map[string]int{}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if !n.Ready || n.Unschedulable || n.kind() != "" {
			continue
		}
		at[n.Name] = len(r.nodes)
		r.nodes = append(r.nodes, freeNode{
			name: n.Name, cpu: n.CPU, memory: n.Memory, pods: n.Pods, kinds: map[string]int{},
			object: corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels}, Spec: corev1.NodeSpec{Taints: n.Taints}},
		})
	}
	for i := range s.Pods {
		p := &s.Pods[i]
		if i, known := at[p.Node]; known && !p.finished() {
			r.take(p, i, 1)
		}
	}
	return r
}

// needs are those of a pod. A snapshot that does not hold them was changed by hand.
func (r *room) needs(p *Pod) Needs {
	if p.Needs < 0 || p.Needs >= len(r.s.Needs) {
		return Needs{}
	}
	return r.s.Needs[p.Needs]
}

func (r *room) take(p *Pod, i int, times int64) {
	n, want := &r.nodes[i], r.needs(p)
	n.cpu, n.memory, n.pods = n.cpu-times*want.CPU, n.memory-times*want.Memory, n.pods-times
	if p.Alone {
		n.kinds[kindOf(p)] += int(times)
	}
}

// The words for why a pod does not fit on a node.
const (
	noPods     = "no pod more by maxPods"
	noCPU      = "too little CPU"
	noMemory   = "too little memory"
	ofItsKind  = "one of its kind"
	unwanted   = "labels that it does not select"
	untolerate = "a taint that it does not tolerate"
)

// against says why a pod does not fit on a node.
func (r *room) against(p *Pod, i int) string {
	n, want := &r.nodes[i], r.needs(p)
	switch {
	case n.pods < 1:
		return noPods
	case n.cpu < want.CPU && want.CPU > 0:
		return noCPU
	case n.memory < want.Memory && want.Memory > 0:
		return noMemory
	case p.Alone && n.kinds[kindOf(p)] > 0:
		return ofItsKind
	}
	return r.placesOf(p).refusals[i]
}

func (r *room) placesOf(p *Pod) *places {
	if found := r.chosen[p.Needs]; found != nil {
		return found
	}
	want := r.needs(p)
	want.CPU, want.Memory = 0, 0
	key, err := json.Marshal(want)
	if err != nil {
		panic(err) // it was read from JSON, or is written as such
	}
	found := r.places[string(key)]
	if found == nil {
		found = r.choose(want)
		r.places[string(key)] = found
	}
	r.chosen[p.Needs] = found
	return found
}

func (r *room) choose(want Needs) *places {
	pod := &corev1.Pod{Spec: corev1.PodSpec{NodeSelector: want.NodeSelector, Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: want.Affinity}}}}
	affinity := nodeaffinity.GetRequiredNodeAffinity(pod)
	out := &places{}
	for i := range r.nodes {
		why := refuses(affinity, want.Tolerations, &r.nodes[i].object)
		if out.refusals = append(out.refusals, why); why == "" {
			out.nodes = append(out.nodes, i)
		}
	}
	return out
}

func refuses(affinity nodeaffinity.RequiredNodeAffinity, tolerations []corev1.Toleration, node *corev1.Node) string {
	if match, err := affinity.Match(node); err != nil || !match {
		return unwanted
	}
	keepsOut := func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	}
	if _, found := corehelpers.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, tolerations, keepsOut, false); found {
		return untolerate
	}
	return ""
}

// NoRoom is a pod that fits on no other node.
type NoRoom struct {
	Pod string `json:"pod"`
	// Why counts what keeps it from the nodes that are left.
	Why string `json:"why"`
	pod *Pod
}

// place finds nodes for pods, largest first, none of them in away, and gives the room back.
func (r *room) place(pods []*Pod, away map[string]bool) []NoRoom {
	type placed struct {
		p *Pod
		i int
	}
	var done []placed
	var none []NoRoom
	hopeless := map[int]string{} // needs for which nothing was found: room only gets less
	order := slices.Clone(pods)
	slices.SortStableFunc(order, func(a, b *Pod) int {
		x, y := r.needs(a), r.needs(b)
		return cmp.Or(cmp.Compare(y.Memory, x.Memory), cmp.Compare(y.CPU, x.CPU))
	})
	for _, p := range order {
		if why, known := hopeless[p.Needs]; known {
			none = append(none, NoRoom{p.ID(), why, p})
			continue
		}
		if i := r.find(p, away); i >= 0 {
			r.take(p, i, 1)
			done = append(done, placed{p, i})
			continue
		}
		why := r.why(p, away)
		none = append(none, NoRoom{p.ID(), why, p})
		if !p.Alone {
			hopeless[p.Needs] = why
		}
	}
	for _, d := range done {
		r.take(d.p, d.i, -1)
	}
	return none
}

// find returns a node, or -1.
func (r *room) find(p *Pod, away map[string]bool) int {
	in := r.placesOf(p)
	for k := range in.nodes {
		at := (in.from + k) % len(in.nodes)
		if i := in.nodes[at]; !away[r.nodes[i].name] && r.against(p, i) == "" {
			in.from = at + 1
			return i
		}
	}
	return -1
}

func (r *room) why(p *Pod, away map[string]bool) string {
	counts := map[string]int{}
	for i := range r.nodes {
		if !away[r.nodes[i].name] {
			counts[r.against(p, i)]++
		}
	}
	if len(counts) == 0 {
		return "there is no other node"
	}
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, count(counts[why], "node has ", "nodes have ")+why)
	}
	return strings.Join(parts, ", ")
}
