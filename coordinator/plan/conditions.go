// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// conditions says outwardly what the Decision found; no other place sets a condition.
func (d *decider) conditions(s state) {
	if d.status.Phase != v1alpha1.PhaseRollNodes {
		d.status.Waiting = nil
	}
	complete := d.status.Phase == v1alpha1.PhaseDone
	d.condition(v1alpha1.ConditionReady, status(complete && s.done), s.reason, s.message)
	d.condition(v1alpha1.ConditionReconciling, status(!s.stalled && !(complete && s.done)), s.reason, s.message)
	if s.stalled {
		d.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, s.reason, s.message)
	} else {
		d.condition(v1alpha1.ConditionStalled, metav1.ConditionFalse, v1alpha1.NotStalled, "nothing waits for a person")
	}
	intact := metav1.ConditionUnknown
	if d.fence.watched {
		intact = status(d.fence.intact)
	}
	d.condition(v1alpha1.ConditionFenceIntact, intact, d.fence.reason, d.fence.message)
	if held := d.heldSlots(); held > 0 && held >= int(d.spec.Rollout.FailureBudget) {
		d.condition(v1alpha1.ConditionBudgetExhausted, metav1.ConditionTrue, v1alpha1.BudgetSpent, "no slot is granted before one is mended or released: "+d.firstHeld())
	} else {
		d.condition(v1alpha1.ConditionBudgetExhausted, metav1.ConditionFalse, v1alpha1.WithinBudget, "slots may be granted as far as held ones are concerned")
	}
}

// Urgent says whether a ledger says more than the one before about anything but counts: those of nodes, and the sentences
// that hold them. Thousands of agents that report for the first time are no reason to write it thousands of times.
func Urgent(before, after *v1alpha1.CutoverStatus) bool {
	b, a := *before, *after
	b.Nodes, a.Nodes = v1alpha1.NodeCounts{}, v1alpha1.NodeCounts{}
	b.Conditions, a.Conditions = withoutMessages(b.Conditions), withoutMessages(a.Conditions)
	return !equality.Semantic.DeepEqual(b, a)
}

func withoutMessages(conditions []metav1.Condition) []metav1.Condition {
	conditions = slices.Clone(conditions)
	for i := range conditions {
		conditions[i].Message = ""
	}
	return conditions
}

// Refused says in the conditions of the status of a Decision that the API server refused what belongs to no slot. With stalls
// the phase waits for it; without, the cutover goes on.
func Refused(w *World, s *v1alpha1.CutoverStatus, reason v1alpha1.Reason, message string, stalls bool) {
	if meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionStalled) && !stalls {
		return
	}
	d := &decider{w: w, status: *s}
	d.again(v1alpha1.ConditionReady, metav1.ConditionFalse, reason, message)
	d.again(v1alpha1.ConditionReconciling, status(!stalls), reason, message)
	if stalls {
		d.again(v1alpha1.ConditionStalled, metav1.ConditionTrue, reason, message)
	}
	*s = d.status
}

// again sets a condition that this Decision has set before: its time is that of the last change in the ledger.
func (d *decider) again(kind string, s metav1.ConditionStatus, reason v1alpha1.Reason, message string) {
	if before := meta.FindStatusCondition(d.w.Cutover.Status.Conditions, kind); before != nil {
		if now := meta.FindStatusCondition(d.status.Conditions, kind); now != nil {
			*now = *before
		}
	}
	d.condition(kind, s, reason, message)
}

// Blind decides without having seen the world: the ledger stays as it is, but for slots whose deadline passes meanwhile.
// World needs no more than the time and the Cutover.
func Blind(w *World, reason v1alpha1.Reason, message string) Decision {
	d := &decider{w: w, spec: &w.Cutover.Spec, status: *w.Cutover.Status.DeepCopy()}
	d.status.ObservedGeneration = w.Cutover.Generation
	d.fence = fence{reason: reason, message: message}
	for i := range d.status.Slots {
		s := &d.status.Slots[i]
		s.Reason, s.Message = reason, Clip(message)
		d.checkDeadline(s)
	}
	waiting := d.status.Waiting
	d.conditions(stalled(reason, "%s", message))
	d.status.Waiting = waiting
	return Decision{Status: d.status, Notes: d.notes, Wake: d.wake}
}

// Alarming picks the waits of a slot that are not part of every slot's way.
func Alarming(r v1alpha1.Reason) bool {
	return !slices.Contains([]v1alpha1.Reason{
		v1alpha1.Cordoning, v1alpha1.Deregistering, v1alpha1.Evicting, v1alpha1.AwaitingReplacement, v1alpha1.AwaitingNode,
		v1alpha1.ReplacementNotReady, v1alpha1.NoAnswer, v1alpha1.Soaking, v1alpha1.VolumesAttached,
	}, r)
}

// IsRefusal says whether a reason is that the API server did not do what it was asked for.
func IsRefusal(r v1alpha1.Reason) bool { return slices.Contains(refused(), r) }

func status(yes bool) metav1.ConditionStatus {
	if yes {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

func (d *decider) condition(kind string, s metav1.ConditionStatus, reason v1alpha1.Reason, message string) {
	meta.SetStatusCondition(&d.status.Conditions, metav1.Condition{
		Type: kind, Status: s, Reason: string(reason), Message: Clip(message),
		ObservedGeneration: d.w.Cutover.Generation, LastTransitionTime: metav1.NewTime(d.w.Now),
	})
}
