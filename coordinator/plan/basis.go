// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Basis is what has to be read from the API server before a Decision may stand that gives something away for good: a new
// slot, a node's pods, the VPC CNI's nodes, or the VPC CNI. A cache may show any of it as it was long ago. The ledger is
// always read live, and so is what is not watched.
type Basis struct {
	// Everything is asked for where a CNI is taken away from nodes: all of them, with answers and pods, and both DaemonSets.
	Everything bool
	// Nodes are all nodes without their answers, and what else the fence is made of: the limit on nodes out of service counts
	// every node, and each may have lost its label.
	Nodes bool
	// Answers are the nodes whose NodeCutovers have to be read: those that are decided about, and those of which it is not known
	// whether the fence has to hold them.
	Answers []NodeRef
	// Drains are the slots, as they will be, whose pods have to be looked at: the first of them are to be evicted.
	Drains []v1alpha1.Slot
}

// None says whether nothing has to be read: the Decision may stand.
func (b Basis) None() bool {
	return !b.Everything && !b.Nodes && len(b.Answers) == 0
}

// With returns what is asked for in either.
func (b Basis) With(more Basis) Basis {
	b.Everything, b.Nodes = b.Everything || more.Everything, b.Nodes || more.Nodes
	b.Answers, b.Drains = append(slices.Clip(b.Answers), more.Answers...), append(slices.Clip(b.Drains), more.Drains...)
	return b
}

// Lacks returns the Basis of a Decision on this World, without what the World holds of it.
func (w *World) Lacks(d Decision) Basis {
	var b Basis
	if w.Live.Everything {
		return b
	}
	for _, a := range d.Actions {
		switch a.(type) {
		case FenceDaemonSet, DeleteLegacy, DeleteCiliumPod:
			return Basis{Everything: true}
		}
	}
	decisive := false
	for i := range d.Status.Slots {
		s := &d.Status.Slots[i]
		before := w.Cutover.Status.SlotOf(s.NodeUID)
		granted := before == nil
		emptied := !granted && emptying(s.Step) && !emptying(before.Step)
		if !granted && !emptied {
			continue
		}
		decisive = true
		b.Nodes = b.Nodes || !w.Live.Nodes
		if w.Live.Answers[s.NodeUID] {
			continue
		}
		b.Answers = append(b.Answers, NodeRef{Name: s.Node, UID: s.NodeUID})
		if emptied {
			b.Drains = append(b.Drains, *s)
		}
	}
	if decisive {
		b.Answers = append(b.Answers, w.unfenced(b.Answers)...)
	}
	return b
}

// unfenced returns the nodes without the fence label that do not show role Overlay, without those that are read already: one that has
// lost its label, and has said since that it is Legacy, opens the fence.
func (w *World) unfenced(read []NodeRef) []NodeRef {
	var out []NodeRef
	for i := range w.Nodes {
		n := &w.Nodes[i]
		ref := NodeRef{Name: n.Name, UID: n.UID}
		if !n.FenceLabel && !n.Deleting && n.Role() != v1alpha1.RoleOverlay && !w.Live.Answers[n.UID] && !slices.Contains(read, ref) {
			out = append(out, ref)
		}
	}
	return out
}

// emptying says whether a node's pods have been told to go in this step.
func emptying(s v1alpha1.Step) bool {
	switch s {
	case v1alpha1.StepDrain, v1alpha1.StepDetach, v1alpha1.StepReplace:
		return true
	}
	return false
}
