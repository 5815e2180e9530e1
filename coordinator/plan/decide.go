// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Decision is what the coordinator should do next.
type Decision struct {
	// Status is what the ledger should say. It is written by compare-and-swap on the object that the World was read from.
	Status v1alpha1.CutoverStatus
	// Actions are what to do in the cluster now. Each is allowed by the ledger as it was read.
	Actions []Action
	// Notes are what people should hear of once Status is written.
	Notes []Note
	// Wake is when to look again if nothing else happens; zero if only an event can change anything.
	Wake time.Time
}

// decider collects a Decision. Its fields besides w and spec are the Decision in the making.
type decider struct {
	w    *World
	spec *v1alpha1.CutoverSpec

	status  v1alpha1.CutoverStatus
	actions []Action
	notes   []Note
	wake    time.Time

	// fence is judged once, before anything that depends on it.
	fence fence
	// claims are the nodes that slots have claimed in this Decision.
	claims []types.UID
	// first are the questions to nodes that have no NodeCutover yet.
	first map[types.UID]*v1alpha1.Challenge
	// ledger, byUID and newcomers are built when they are first asked for: the slots as they were read, all nodes, and those
	// that joined since the first slot was granted.
	ledger    map[types.UID]bool
	byUID     map[types.UID]*Node
	newcomers []*Node
}

// Decide decides. It does not change the World.
func Decide(w *World) Decision {
	d := &decider{w: w, spec: &w.Cutover.Spec, status: *w.Cutover.Status.DeepCopy()}
	d.status.ObservedGeneration = w.Cutover.Generation
	if d.status.Phase == "" {
		d.status.Phase = phases()[0].Name
	}
	d.count()
	d.judgeFence()
	d.slots()
	state := d.phase()
	d.nodeCutovers()
	d.tidy()
	d.conditions(state)
	return Decision{Status: d.status, Actions: d.actions, Notes: d.notes, Wake: d.wake}
}

func (d *decider) act(a Action) { d.actions = append(d.actions, a) }

func (d *decider) note(node string, warning bool, reason v1alpha1.Reason, action, format string, args ...any) {
	d.notes = append(d.notes, Note{Node: node, Warning: warning, Reason: reason, Action: action, Message: Clip(fmt.Sprintf(format, args...))})
}

// wakeAt asks to look again at a time, if that is not past: what has passed has been seen.
func (d *decider) wakeAt(t time.Time) {
	if t.After(d.w.Now) && (d.wake.IsZero() || t.Before(d.wake)) {
		d.wake = t
	}
}

// nodeCutovers makes sure that every node can be asked. An object made for an earlier node of the same name dies with
// that node's owner reference; until then it is not touched. That of a node which joins waits for the question that it will be
// asked once it is Ready: its agent would have to report twice. If it is not Ready in time, people will want to see why.
func (d *decider) nodeCutovers() {
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		if n.Cutover != nil || n.NameTaken || n.Deleting {
			continue
		}
		if late := n.Created.Add(readyGrace); !n.WasReady && d.w.Now.Before(late) {
			d.wakeAt(late)
			continue
		}
		d.act(CreateNodeCutover{Node: n.Name, UID: n.UID, Challenge: d.first[n.UID]})
	}
}

// count counts the selected nodes by what their hosts show.
func (d *decider) count() {
	var c v1alpha1.NodeCounts
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		if !n.Selected {
			continue
		}
		c.Total++
		switch n.Role() {
		case v1alpha1.RoleLegacy:
			c.Legacy++
		case v1alpha1.RoleOverlay:
			c.Overlay++
		case v1alpha1.RoleMixed:
			c.Mixed++
		default:
			c.Unknown++
		}
	}
	d.status.Nodes = c
}

// tidy puts right what outlived its reason: cordons, requests and release annotations of slots that are no more, the leaving taint,
// and the SafeToDrain condition of an answer that has expired.
func (d *decider) tidy() {
	rolling := d.status.Phase == v1alpha1.PhaseRollNodes && d.begun(v1alpha1.PhaseRollNodes) && d.spec.State != v1alpha1.StateAborted
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		if n.Deleting {
			continue
		}
		if slot := n.marked(); slot != "" && !d.held(slot) {
			d.act(Uncordon{Slot: slot, Node: n.Name})
		}
		if releaseAsked(n) && !d.inSlot(n.UID) {
			d.act(RemoveRelease{Node: n.Name})
		}
		role := n.Role()
		leaving := rolling && n.Selected && !n.OptedOut && (role == v1alpha1.RoleLegacy || role == v1alpha1.RoleMixed)
		if leaving != n.Leaving && (leaving || !rolling || role != v1alpha1.RoleUnknown) {
			d.act(SetLeaving{Node: n.Name, UID: n.UID, On: leaving})
		}
		if n.SafeShown && !d.shownSafe(n) && !d.justAsked(n) {
			d.act(SetSafe{Node: n.Name, UID: n.UID, Message: "the agent's last passing answer has expired or no longer holds"})
		}
	}
}

// held says whether the ledger, as it was read, has the slot. A slot that ends in this very Decision still counts: its
// cordon may be undone once that is written.
func (d *decider) held(slot types.UID) bool {
	if len(d.w.Cutover.Status.Slots) == 0 {
		return false
	}
	if d.ledger == nil {
		d.ledger = make(map[types.UID]bool, len(d.w.Cutover.Status.Slots))
		for i := range d.w.Cutover.Status.Slots {
			d.ledger[d.w.Cutover.Status.Slots[i].NodeUID] = true
		}
	}
	return d.ledger[slot]
}

// inSlot says whether a node is part of a slot, by the ledger as it was read or as it will be.
func (d *decider) inSlot(uid types.UID) bool {
	for _, slots := range [][]v1alpha1.Slot{d.w.Cutover.Status.Slots, d.status.Slots} {
		for _, s := range slots {
			if s.NodeUID == uid || s.ReplacementUID == uid {
				return true
			}
		}
	}
	return false
}

// node returns the node of a UID.
func (d *decider) node(uid types.UID) (*Node, bool) {
	if d.byUID == nil {
		d.byUID = make(map[types.UID]*Node, len(d.w.Nodes))
		for i := range d.w.Nodes {
			d.byUID[d.w.Nodes[i].UID] = &d.w.Nodes[i]
		}
	}
	if n, ok := d.byUID[uid]; ok && uid != "" {
		return n, true
	}
	return &Node{}, false
}

// created returns the nodes that were created since the first slot of the ledger was granted: few, where all nodes may be
// thousands and each slot looks for one.
func (d *decider) created() []*Node {
	if d.newcomers != nil {
		return d.newcomers
	}
	since := d.w.Now
	for i := range d.w.Cutover.Status.Slots {
		if s := &d.w.Cutover.Status.Slots[i]; s.GrantedAt.Time.Before(since) {
			since = s.GrantedAt.Time
		}
	}
	since = since.Truncate(time.Second)
	d.newcomers = []*Node{}
	for i := range d.w.Nodes {
		if n := &d.w.Nodes[i]; !n.Created.Before(since) {
			d.newcomers = append(d.newcomers, n)
		}
	}
	return d.newcomers
}

// SafeToDrain says whether a node's last answer allows a drain and has not expired, for whoever shows that to people.
func SafeToDrain(w *World, n Node) bool {
	d := &decider{w: w, spec: &w.Cutover.Spec}
	return d.shownSafe(&n)
}

// shownSafe says whether the answer behind a SafeToDrain condition still holds.
func (d *decider) shownSafe(n *Node) bool {
	if n.Cutover == nil || n.Cutover.Spec.Challenge == nil || n.Cutover.Spec.Challenge.Purpose != v1alpha1.PurposeDrain {
		return false
	}
	c := n.Cutover.Spec.Challenge
	if !d.w.Now.Before(c.ExpiresAt.Time) {
		return false
	}
	d.wakeAt(c.ExpiresAt.Time)
	return c.NodeUID == n.UID && judge(n, d.spec.Rollout.HoldOn).safe
}
