// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// Forecast is what a roll will do with a cluster as a snapshot shows it.
type Forecast struct {
	Server  string    `json:"server"`
	TakenAt time.Time `json:"takenAt"`
	// Waves are nodes that are in slots at once, in order.
	Waves []Wave `json:"waves"`
	// Never are nodes that get no slot, and why.
	Never []v1alpha1.Waiting `json:"never,omitempty"`
	// Obstacles are nodes that get a slot and could not be emptied today, and why; Stuck are budgets that would wait for pods
	// for which there is no room.
	Obstacles []Obstacle `json:"obstacles,omitempty"`
	Stuck     []string   `json:"stuck,omitempty"`
	Budget    NodeBudget `json:"budget"`
	// Seconds that all waves take.
	Seconds int64 `json:"seconds"`
	// Assumed is what the forecast takes for granted, Unseen what could not be read.
	Assumed []string `json:"assumed"`
	Unseen  []string `json:"unseen,omitempty"`
}

// Wave is a set of nodes that are in slots at once.
type Wave struct {
	Nodes []NodeForecast `json:"nodes"`
	// Why no more nodes are in it; empty in the last one.
	Why     string `json:"why,omitempty"`
	Seconds int64  `json:"seconds"`
}

// NodeForecast is what happens to one node.
type NodeForecast struct {
	Name string `json:"name"`
	Zone string `json:"zone,omitempty"`
	// Evicted is how many pods leave it, NoRoom those that fit on no node outside of the wave as they are now.
	Evicted int      `json:"evicted"`
	NoRoom  []NoRoom `json:"noRoom,omitempty"`
}

// Obstacle is why a node could not be emptied. Stays: mending pods does not help.
type Obstacle struct {
	Node  string `json:"node"`
	Why   string `json:"why"`
	Stays bool   `json:"stays"`
}

// NodeBudget is what a roll needs beside what is there.
type NodeBudget struct {
	// Extra nodes at once, each with an instance and an address of its subnet: with surge as many as a wave has.
	Extra int `json:"extra"`
	// Slices of the overlay that there are, and that nodes take at once.
	Slices      int `json:"slices"`
	SlicesTaken int `json:"slicesTaken"`
}

// coordinatorName is its Deployment's (chart cni-cutover).
const coordinatorName = "cutover-coordinator"

// joinMargin is what validation and the steps of the coordinator take beside what is waited for.
const joinMargin = time.Minute

// Foresee forecasts a roll in which a node takes so long to be replaced and to be Ready.
func Foresee(s *Snapshot, replaced time.Duration) (Forecast, error) {
	f := Forecast{Server: s.Server, TakenAt: s.TakenAt}
	needed := []string{"nodes", "nodecutovers.cni-cutover.dev", "pods", "daemonsets.apps"}
	for _, m := range s.Missing {
		if m.Verb == "list" && slices.Contains(append(needed, "poddisruptionbudgets.policy"), m.Resource) || m.Resource == CutoverResource {
			f.Unseen = append(f.Unseen, m.Resource)
		}
	}
	if s.unseen(needed...) {
		return f, nil // half of it would look like all of it
	}
	d, err := s.drained()
	if err != nil {
		return f, fmt.Errorf("choosing the nodes to roll: %w", err)
	}
	waves, never := plan.Waves(s.world(d.nodes))
	f.Never = append(never, s.unmoved()...)
	f.waves(s, d, waves, replaced)
	for name, o := range d.obstacles() {
		f.Obstacles = append(f.Obstacles, Obstacle{name, o.cause, o.hold == stuck})
	}
	slices.SortFunc(f.Obstacles, func(a, b Obstacle) int { return strings.Compare(a.Node, b.Node) })
	f.Budget.Slices = slicesOf(networks(s.Overlay), s.NodeMaskSize)
	f.Budget.SlicesTaken = len(s.Nodes) + max(s.Joining, f.Budget.Extra)
	f.Assumed = s.assumed(replaced)
	return f, nil
}

// world is the snapshot as the coordinator's rules look at it. A node without a report is taken for one that the VPC CNI owns.
func (s *Snapshot) world(rolled map[string]bool) *plan.World {
	cutover := &v1alpha1.Cutover{}
	cutover.Spec.Rollout, cutover.Status.Rolled = s.Rollout, s.Rolled
	for _, name := range s.Slots {
		cutover.Status.Slots = append(cutover.Status.Slots, v1alpha1.Slot{NodeUID: types.UID(name), Node: name})
	}
	w := &plan.World{Now: s.TakenAt, Cutover: cutover}
	for i := range s.Pods {
		if p := &s.Pods[i]; p.Deployment == coordinatorName && !p.finished() {
			w.OwnNode = p.Node
		}
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		node := plan.Node{
			Name: n.Name, UID: types.UID(n.Name), BootID: n.Name, Zone: n.Labels[corev1.LabelTopologyZone], Ready: n.Ready, WasReady: true,
			Cordoned: n.Unschedulable, OptedOut: n.OptedOut, Selected: rolled[n.Name] && n.kind() == "", Cutover: &v1alpha1.NodeCutover{},
		}
		node.Cutover.Status = v1alpha1.NodeCutoverStatus{NodeUID: node.UID, BootID: node.BootID, Role: n.Role}
		if n.Role == "" || n.Role == v1alpha1.RoleUnknown {
			node.Cutover.Status.Role = v1alpha1.RoleLegacy
		}
		w.Nodes = append(w.Nodes, node)
	}
	return w
}

// unmoved are nodes that are kept out of the roll, or have no agent.
func (s *Snapshot) unmoved() []v1alpha1.Waiting {
	var out []v1alpha1.Waiting
	for i := range s.Nodes {
		n := &s.Nodes[i]
		switch {
		case n.kind() != "":
			out = append(out, v1alpha1.Waiting{Node: n.Name, Reason: v1alpha1.NoAnswer, Message: "a node of kind " + n.kind() + " has no agent"})
		case n.OptedOut:
			out = append(out, v1alpha1.Waiting{Node: n.Name, Reason: v1alpha1.OptedOut, Message: "kept out of the roll by its annotation"})
		}
	}
	return out
}

// waves fills in what each wave evicts, where that fits, and how long it takes.
func (f *Forecast) waves(s *Snapshot, d *drains, waves []plan.Wave, replaced time.Duration) {
	room := s.room()
	pods, zones := map[string][]*Pod{}, map[string]string{}
	for _, p := range d.evicted {
		pods[p.Node] = append(pods[p.Node], p)
	}
	for i := range s.Nodes {
		zones[s.Nodes[i].Name] = s.Nodes[i].Labels[corev1.LabelTopologyZone]
	}
	stuck := map[string]bool{}
	for _, from := range waves {
		away := map[string]bool{}
		for _, name := range from.Nodes {
			away[name] = true
		}
		wave := Wave{Why: from.Full.Message}
		var leaving []*Pod
		longest := int64(0)
		for _, name := range from.Nodes {
			wave.Nodes = append(wave.Nodes, NodeForecast{Name: name, Zone: zones[name], Evicted: len(pods[name])})
			for _, p := range pods[name] {
				longest = max(longest, p.Grace)
				if !p.finished() {
					leaving = append(leaving, p)
				}
			}
		}
		if s.Rollout.Surge {
			f.Budget.Extra = max(f.Budget.Extra, len(from.Nodes))
		} else {
			none := room.place(leaving, away)
			for i := range wave.Nodes {
				for _, n := range none {
					if n.pod.Node == wave.Nodes[i].Name {
						wave.Nodes[i].NoRoom = append(wave.Nodes[i].NoRoom, n)
					}
				}
			}
			for _, id := range d.waitForRoom(leaving, none) {
				if !stuck[id] {
					stuck[id] = true
					f.Stuck = append(f.Stuck, id)
				}
			}
		}
		drain := s.Rollout.Drain.DeregistrationDelay.Duration + time.Duration(longest)*time.Second
		wave.Seconds = int64((drain + replaced + joinMargin + s.Rollout.Soak.Duration).Seconds())
		f.Seconds += wave.Seconds
		f.Waves = append(f.Waves, wave)
	}
}

// waitForRoom are budgets that allow no further eviction from the nodes of a wave once those pods are evicted that cannot
// start again before the nodes are replaced: which waits for the evictions.
func (d *drains) waitForRoom(leaving []*Pod, none []NoRoom) []string {
	if len(none) == 0 {
		return nil
	}
	all, homeless := map[string]int{}, map[string]int{}
	for _, p := range leaving {
		for _, b := range p.Budgets {
			all[p.Namespace+"/"+b]++
		}
	}
	for _, n := range none {
		for _, b := range n.pod.Budgets {
			homeless[n.pod.Namespace+"/"+b]++
		}
	}
	var out []string
	for id, n := range homeless {
		if b := d.budgets[id]; b != nil && !b.never() {
			if may := int(b.Expected - b.Desired); n >= may && all[id] > may {
				out = append(out, "PodDisruptionBudget/"+id)
			}
		}
	}
	slices.Sort(out)
	return out
}

// assumed is what a forecast takes for granted, in words.
func (s *Snapshot) assumed(replaced time.Duration) []string {
	r := &s.Rollout
	out := []string{
		"every agent's answer allows the drain, every slot ends well, and the slots of a wave end together; a node without a report is owned by the VPC CNI",
		"pods are where they are now in each wave, and each takes its whole grace period to end",
		fmt.Sprintf("a wave takes rollout.drain.deregistrationDelay (%s), the longest grace period of its pods, %s until the replacement is Ready, %s to validate, and rollout.soak (%s)",
			r.Drain.DeregistrationDelay.Duration, replaced, joinMargin, r.Soak.Duration),
		"approvals, rollout.windows and volumes that detach slowly are not counted",
		"room: requests of CPU and memory, maxPods, node selectors, required node affinity, taints and pods that need a node each; not pod affinity, topology spread, zones of volumes, host ports, other resources, priorities and quotas",
	}
	if r.Surge {
		out = append(out, "with rollout.surge a node like it joins before a node is drained, and its pods fit there")
	}
	return out
}
