// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func (c *toyCluster) violate(law int, format string, args ...any) {
	c.broken = append(c.broken, fmt.Sprintf("law %d at %s: %s", law, c.clock(), fmt.Sprintf(format, args...)))
}

// checkDecision asserts the laws of what a Decision writes. It looks at the toy cluster's truth, not at the decider.
func (c *toyCluster) checkDecision(w *World, d Decision) {
	r := w.Cutover.Spec.Rollout
	granted := map[string]bool{}
	for _, s := range w.Cutover.Status.Slots {
		granted[string(s.NodeUID)] = true
	}
	for _, s := range d.Status.Slots {
		if granted[string(s.NodeUID)] {
			continue
		}
		if len(d.Status.Slots) > int(r.MaxConcurrent) {
			c.violate(2, "%s granted as slot %d of %d", s.Node, len(d.Status.Slots), r.MaxConcurrent)
		}
		if out := outOfService(w, d.Status.Slots); out > int(r.MaxUnavailable) {
			c.violate(2, "%s granted with %d of %d nodes out of service", s.Node, out, r.MaxUnavailable)
		}
		if n := c.byUID(s.NodeUID); n == nil || n.Cutover == nil || n.Cutover.Status.NodeUID != s.NodeUID || n.Cutover.Status.Verdict == v1alpha1.VerdictFail {
			c.violate(1, "%s granted without an answer of its own", s.Node)
		}
		held, zone := 0, 0
		for _, other := range d.Status.Slots {
			if other.HeldSince != nil {
				held++
			}
			if other.Zone == s.Zone {
				zone++
			}
		}
		if held >= int(r.FailureBudget) {
			c.violate(2, "%s granted with %d slots held of a budget of %d", s.Node, held, r.FailureBudget)
		}
		if r.MaxConcurrentPerZone != nil && zone > int(*r.MaxConcurrentPerZone) {
			c.violate(2, "%s granted as slot %d of zone %s", s.Node, zone, s.Zone)
		}
		if w.Cutover.Spec.State != v1alpha1.StateRunning {
			c.violate(2, "%s granted while %s", s.Node, w.Cutover.Spec.State)
		}
	}
	claimed := map[string]string{}
	for _, s := range d.Status.Slots {
		if s.ReplacementUID == "" {
			continue
		}
		if other, twice := claimed[string(s.ReplacementUID)]; twice {
			c.violate(2, "%s and %s both claim %s", other, s.Node, s.Replacement)
		}
		claimed[string(s.ReplacementUID)] = s.Node
	}
}

// outOfService counts as the law says: slots, and all other nodes that were Ready once and are not, or are cordoned.
func outOfService(w *World, slots []v1alpha1.Slot) int {
	in := map[string]bool{}
	for _, s := range slots {
		in[string(s.NodeUID)], in[string(s.ReplacementUID)] = true, true
	}
	out := len(slots)
	for _, n := range w.Nodes {
		if !in[string(n.UID)] && (n.Cordoned || (n.WasReady && !n.Ready)) {
			out++
		}
	}
	return out
}

// checkAction asserts the laws of what is done to the cluster, before it is done.
func (c *toyCluster) checkAction(a Action) {
	slot := func(uid string) *v1alpha1.Slot {
		for i := range c.cutover.Status.Slots {
			if string(c.cutover.Status.Slots[i].NodeUID) == uid {
				return &c.cutover.Status.Slots[i]
			}
		}
		return nil
	}
	switch a := a.(type) {
	case Evict:
		s, n := slot(string(a.Slot)), c.byUID(a.Slot)
		switch {
		case s == nil || s.Step != v1alpha1.StepDrain:
			c.violate(2, "eviction on %s without a slot in Drain", a.Node)
		case n.Cutover == nil || n.Cutover.Spec.Challenge == nil || n.Cutover.Spec.Challenge.Purpose != v1alpha1.PurposeDrain:
			c.violate(1, "eviction on %s that was never asked", a.Node)
		case n.CordonedBy != a.Slot:
			c.violate(3, "eviction on %s without our cordon", a.Node)
		}
	case Cordon:
		if slot(string(a.Slot)) == nil {
			c.violate(2, "cordon of %s without a slot", a.Node)
		}
	case Uncordon:
		if n := c.node(a.Node); n.marked() != a.Slot || slot(string(a.Slot)) != nil {
			c.violate(3, "uncordon of %s, which is not ours to undo", a.Node)
		}
	case SetFenceLabel:
		if n := c.node(a.Node); a.On && (n.role == v1alpha1.RoleOverlay || (c.legacy.Fenced && n.role == v1alpha1.RoleMixed)) {
			c.violate(3, "fence label put on %s node %s", n.role, a.Node)
		}
	case FenceDaemonSet:
		for _, n := range c.nodes {
			if n.LegacyPod && !n.FenceLabel {
				c.violate(3, "the VPC CNI is taken from %s", n.Name)
			}
		}
	case DeleteLegacy:
		for _, n := range c.nodes {
			if n.LegacyPod || n.role != v1alpha1.RoleOverlay {
				c.violate(3, "the VPC CNI is deleted while %s needs it", n.Name)
			}
		}
	}
}
