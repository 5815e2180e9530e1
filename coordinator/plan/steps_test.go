// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/golden"
)

func allSteps() []v1alpha1.Step {
	return []v1alpha1.Step{
		v1alpha1.StepSurge, v1alpha1.StepCordon, v1alpha1.StepDeregister, v1alpha1.StepConfirm, v1alpha1.StepDrain,
		v1alpha1.StepDetach, v1alpha1.StepReplace, v1alpha1.StepJoin, v1alpha1.StepValidate, v1alpha1.StepSoak,
	}
}

func TestTableOfStepsIsComplete(t *testing.T) {
	terms := v1alpha1.Terms{Drain: baseSpec().Rollout.Drain, Soak: baseSpec().Rollout.Soak, Replacement: baseSpec().Replacement}
	for _, name := range allSteps() {
		row, known := stepOf(name)
		if !known {
			t.Errorf("step %s of the API has no row", name)
			continue
		}
		if row.Deadline == nil || row.Deadline(&terms) <= 0 || row.DeadlineIs == "" {
			t.Errorf("step %s may wait for ever", name)
		}
		if row.Reasons[0] == "" || row.Does == "" || row.Done == "" {
			t.Errorf("step %s does not say what it does, when it is over and what it may wait for", name)
		}
	}
	if len(steps()) != len(allSteps()) {
		t.Errorf("the table has %d rows for %d steps", len(steps()), len(allSteps()))
	}
}

func TestNoStepIsADeadEnd(t *testing.T) {
	for _, surge := range []bool{false, true} {
		want := map[bool]string{false: "Soak", true: "Replace"}[surge]
		got := way(surge)
		if got[len(got)-1] != want {
			t.Errorf("with surge %t a slot ends in %v, want %s", surge, got, want)
		}
		for _, s := range steps() {
			at, hops := s.Name, 0
			if !slices.Contains(got, string(at)) {
				continue
			}
			for ; at != ""; hops++ {
				row, known := stepOf(at)
				if !known || hops > len(steps()) {
					t.Fatalf("with surge %t there is no end from %s", surge, s.Name)
				}
				at = row.next(surge)
			}
			if s.Vanished != "" && !slices.Contains(got, string(s.Vanished)) {
				t.Errorf("with surge %t %s leads to %s, which is not on the way", surge, s.Name, s.Vanished)
			}
		}
	}
}

// TestEveryStepIsHeldAtItsDeadline lets each step wait for ever and sees it held, named and not forgotten.
func TestEveryStepIsHeldAtItsDeadline(t *testing.T) {
	for _, name := range allSteps() {
		t.Run(string(name), func(t *testing.T) {
			w, s := slotWorld(name)
			row, _ := stepOf(name)
			w.Now = s.Since.Add(row.Deadline(&s.Terms))
			d := Decide(w)
			if len(d.Status.Slots) != 1 {
				t.Fatalf("the slot is gone: %+v", d.Status.Finished)
			}
			got := d.Status.Slots[0]
			if got.HeldSince == nil || got.Step != name {
				t.Fatalf("slot = %s held since %v, want %s held", got.Step, got.HeldSince, name)
			}
			if !slices.Contains(row.mayWaitFor(), got.Reason) || got.Message == "" {
				t.Errorf("reason %q (%s) is not one that the table names: %v", got.Reason, got.Message, row.mayWaitFor())
			}
			if !slices.ContainsFunc(d.Notes, func(n Note) bool { return n.Warning && n.Action == "Hold" }) {
				t.Errorf("nobody is told: %+v", d.Notes)
			}
			early, _ := slotWorld(name)
			early.Now = s.Since.Add(row.Deadline(&s.Terms) - time.Second)
			if e := Decide(early); e.Status.Slots[0].HeldSince != nil || e.Wake.IsZero() || e.Wake.After(w.Now) {
				t.Errorf("a second earlier: held %v, wakes at %v, want not held and a look by %v", e.Status.Slots[0].HeldSince, e.Wake, w.Now)
			}
		})
	}
}

// slotWorld is a world in which a slot is in a step and nothing that the step waits for happens.
func slotWorld(name v1alpha1.Step) (*World, v1alpha1.Slot) {
	spec := baseSpec()
	spec.Rollout.Soak.Duration = 0
	c := newToyCluster(2, spec)
	for c.cutover.Status.Phase != v1alpha1.PhaseRollNodes || len(c.cutover.Status.Slots) == 0 {
		c.run(1)
	}
	s := &c.cutover.Status.Slots[0]
	n := c.byUID(s.NodeUID)
	r := c.join(v1alpha1.RoleOverlay, n.Zone)
	r.Ready, r.WasReady = true, true
	s.Step, s.Since.Time = name, c.now
	s.Terms.Surge = name == v1alpha1.StepSurge
	switch name {
	case v1alpha1.StepDeregister:
		// Somebody keeps taking the cordon away.
	case v1alpha1.StepConfirm, v1alpha1.StepDrain, v1alpha1.StepDetach, v1alpha1.StepReplace:
		n.Cordoned, n.Excluded, n.CordonedBy = true, true, n.UID
	case v1alpha1.StepValidate, v1alpha1.StepSoak:
		s.Replacement, s.ReplacementUID = r.Name, r.UID
	case v1alpha1.StepJoin:
		r.Zone = "elsewhere"
	}
	for _, x := range c.nodes {
		x.Cutover = &v1alpha1.NodeCutover{Status: v1alpha1.NodeCutoverStatus{NodeUID: x.UID, BootID: x.BootID, Role: x.role}}
	}
	w := c.world()
	w.Volumes[s.NodeUID] = []string{"vol-1"}
	if name == v1alpha1.StepDetach {
		w.Drains[s.NodeUID] = Drain{}
	}
	return w, *s
}

func TestPhasesPageIsRenderedFromTheTables(t *testing.T) {
	golden.Match(t, "../../docs/phases.md", Render())
}
