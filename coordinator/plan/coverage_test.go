// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// coverage counts what a set of schedules has really reached. A nil one counts nothing.
type coverage struct {
	events   [kinds]int
	actions  map[string]int
	steps    map[v1alpha1.Step]int
	phases   map[v1alpha1.Phase]int
	outcomes map[v1alpha1.Outcome]int
	reasons  map[v1alpha1.Reason]int
	held     int
}

func newCoverage() *coverage {
	return &coverage{
		actions: map[string]int{}, steps: map[v1alpha1.Step]int{}, phases: map[v1alpha1.Phase]int{}, outcomes: map[v1alpha1.Outcome]int{},
		reasons: map[v1alpha1.Reason]int{},
	}
}

func (c *coverage) event(k kind) {
	if c != nil {
		c.events[k]++
	}
}

func (c *coverage) action(a Action) {
	if c != nil {
		c.actions[fmt.Sprintf("%T", a)]++
	}
}

// ledger counts what an accepted write of the ledger says that was not said before.
func (c *coverage) ledger(before, after *v1alpha1.CutoverStatus) {
	if c == nil {
		return
	}
	if before.Phase != after.Phase {
		c.phases[after.Phase]++
	}
	for i := range after.Slots {
		sl := &after.Slots[i]
		was := find(before.Slots, sl.NodeUID)
		if was == nil || was.Step != sl.Step {
			c.steps[sl.Step]++
		}
		if sl.HeldSince != nil && (was == nil || was.HeldSince == nil) {
			c.held++
		}
		c.reasons[sl.Reason]++
	}
	if n := len(after.Finished) - len(before.Finished); n > 0 {
		for _, f := range after.Finished[len(before.Finished):] {
			c.outcomes[f.Outcome]++
		}
	}
}

// missing names what was not reached.
func (c *coverage) missing() []string {
	var out []string
	need := func(n int, what any) {
		if n == 0 {
			out = append(out, fmt.Sprintf("%T %v", what, what))
		}
	}
	for k, n := range c.events {
		need(n, kind(k))
	}
	for _, a := range allActions() {
		need(c.actions[fmt.Sprintf("%T", a)], fmt.Sprintf("%T", a))
	}
	for _, s := range steps() {
		need(c.steps[s.Name], s.Name)
	}
	for _, p := range Phases() {
		if p != v1alpha1.PhaseDecoupleIngress {
			need(c.phases[p], p)
		}
	}
	need(c.outcomes[v1alpha1.OutcomeReplaced], v1alpha1.OutcomeReplaced)
	need(c.outcomes[v1alpha1.OutcomeReleased], v1alpha1.OutcomeReleased)
	need(c.held, "a held slot")
	for _, r := range []v1alpha1.Reason{
		v1alpha1.EvictionBlocked, v1alpha1.CordonChanged, v1alpha1.FenceOpen, v1alpha1.AnswerRefused, v1alpha1.NodeNotSafe, v1alpha1.ReplacementElsewhere,
		v1alpha1.ReplacementUnhealthy, v1alpha1.VolumesAttached, v1alpha1.WriteRefused,
	} {
		need(c.reasons[r], r)
	}
	return out
}

// allActions is one of each Action.
func allActions() []Action {
	return []Action{
		CreateNodeCutover{}, Ask{}, SetFenceLabel{}, FenceDaemonSet{}, WriteNodeConfig{}, DeleteCiliumPod{}, SetLeaving{}, SetSafe{}, RequestSurge{}, Cordon{},
		Uncordon{}, Evict{}, RequestReplacement{}, RemoveRelease{}, DeleteLegacy{},
	}
}
