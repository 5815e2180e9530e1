// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
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
