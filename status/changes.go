// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Standing says in one word whether a cutover goes on.
type Standing int

// The standings.
const (
	// Going: it goes on, or is done.
	Going Standing = iota
	// Blocked: nothing goes on before a person acts, or slots are held.
	Blocked
	// Unseen: the coordinator has not looked at the spec as it is now.
	Unseen
)

// StandingOf judges a cutover.
func StandingOf(c *v1alpha1.Cutover) Standing {
	held := func(s v1alpha1.Slot) bool { return s.HeldSince != nil }
	switch {
	case meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionStalled), slices.ContainsFunc(c.Status.Slots, held):
		return Blocked
	case c.Status.ObservedGeneration < c.Generation:
		return Unseen
	}
	return Going
}

// Changes says what has changed from one reading of a cutover to the next, a line each, in the order: what people want, phase,
// conditions, slots that ended, slots that are new, slots that went on.
func Changes(before, after *v1alpha1.Cutover) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if before.UID != after.UID {
		say("this is another Cutover than before")
		before = &v1alpha1.Cutover{}
	}
	if before.Spec.State != after.Spec.State && before.Spec.State != "" {
		say("state: %s -> %s", before.Spec.State, after.Spec.State)
	}
	for _, p := range after.Spec.ApprovedPhases {
		if !slices.Contains(before.Spec.ApprovedPhases, p) {
			say("approved: %s", p)
		}
	}
	was, is := &before.Status, &after.Status
	if was.Phase != is.Phase {
		say("phase: %s -> %s", dash(string(was.Phase)), is.Phase)
	}
	for i := range is.Conditions {
		c := &is.Conditions[i]
		old := meta.FindStatusCondition(was.Conditions, c.Type)
		if old == nil || old.Status != c.Status || old.Reason != c.Reason || old.Message != c.Message {
			say("%s %s (%s): %s", c.Type, c.Status, c.Reason, printing(c.Message))
		}
	}
	if was.Nodes != is.Nodes {
		say("%s", nodes(is.Nodes))
	}
	for i := range is.Finished {
		f := &is.Finished[i]
		same := func(o v1alpha1.FinishedSlot) bool {
			return o.Node == f.Node && o.GrantedAt.Time.Equal(f.GrantedAt.Time)
		}
		if !slices.ContainsFunc(was.Finished, same) {
			say("slot of %s: %s, replacement %s", f.Node, f.Outcome, dash(f.Replacement))
		}
	}
	old := map[types.UID]*v1alpha1.Slot{}
	for i := range was.Slots {
		old[was.Slots[i].NodeUID] = &was.Slots[i]
	}
	for i := range is.Slots {
		out = append(out, slotChanges(old[is.Slots[i].NodeUID], &is.Slots[i])...)
	}
	return out
}

func slotChanges(was, is *v1alpha1.Slot) []string {
	var out []string
	say := func(format string, args ...any) {
		out = append(out, fmt.Sprintf("slot of %s: ", is.Node)+fmt.Sprintf(format, args...))
	}
	if was == nil {
		say("granted by %s", is.Holder)
		was = &v1alpha1.Slot{}
	}
	if was.Step != is.Step {
		say("step %s", is.Step)
	}
	if was.Replacement != is.Replacement && is.Replacement != "" {
		say("replacement %s", is.Replacement)
	}
	if was.HeldSince == nil && is.HeldSince != nil {
		say("held in %s", is.Step)
	}
	if was.HeldSince != nil && is.HeldSince == nil {
		say("goes on")
	}
	if (was.Reason != is.Reason || was.Message != is.Message) && is.Reason != "" {
		say("waits for %s", waits(is.Reason, is.Message))
	}
	return out
}
