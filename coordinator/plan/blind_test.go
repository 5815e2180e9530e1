// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// TestWhoeverCannotSeeMovesNothing: a slot in any step stays where it is, says why, and is held at its deadline.
func TestWhoeverCannotSeeMovesNothing(t *testing.T) {
	for _, name := range allSteps() {
		w, s := slotWorld(name)
		meta.SetStatusCondition(&w.Cutover.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionFenceIntact, Status: metav1.ConditionTrue, Reason: "x"})
		row, _ := stepOf(name)
		w.Now, w.Nodes = s.Since.Add(row.Deadline(&s.Terms)-time.Second), nil
		early := Blind(w, v1alpha1.PermissionMissing, "no right to list nodes")
		got := early.Status.Slots[0]
		if got.Step != name || got.HeldSince != nil || got.Reason != v1alpha1.PermissionMissing || len(early.Actions) > 0 || early.Wake.IsZero() {
			t.Errorf("%s: slot %+v, %d actions, wakes at %s; want it to wait for its deadline", name, got, len(early.Actions), early.Wake)
		}
		if c := meta.FindStatusCondition(early.Status.Conditions, v1alpha1.ConditionFenceIntact); c.Status != metav1.ConditionUnknown {
			t.Errorf("%s: FenceIntact = %s of a fence that nobody sees", name, c.Status)
		}
		if !meta.IsStatusConditionTrue(early.Status.Conditions, v1alpha1.ConditionStalled) {
			t.Errorf("%s: it does not say that a person has to act", name)
		}
		w.Now = w.Now.Add(time.Second)
		if late := Blind(w, v1alpha1.PermissionMissing, "no right to list nodes"); late.Status.Slots[0].HeldSince == nil {
			t.Errorf("%s: it waits for ever", name)
		}
	}
}

// TestARefusalThatLastsIsWrittenOnce: a time that changed with every look would write the ledger with every look.
func TestARefusalThatLastsIsWrittenOnce(t *testing.T) {
	for _, stalls := range []bool{true, false} {
		w, _ := slotWorld(v1alpha1.StepCordon)
		first := Decide(w).Status
		Refused(w, &first, v1alpha1.PermissionMissing, "no right to patch nodes", stalls)
		w.Cutover.Status, w.Now = first, w.Now.Add(5*time.Second)
		second := Decide(w).Status
		Refused(w, &second, v1alpha1.PermissionMissing, "no right to patch nodes", stalls)
		for i, c := range second.Conditions {
			if c != first.Conditions[i] {
				t.Errorf("stalls %t: %+v was %+v", stalls, c, first.Conditions[i])
			}
		}
		if got := meta.IsStatusConditionTrue(second.Conditions, v1alpha1.ConditionStalled); got != stalls {
			t.Errorf("Stalled = %t, want %t", got, stalls)
		}
	}
}

func TestAPodThatDoesNotGoIsNamed(t *testing.T) {
	w, s := slotWorld(v1alpha1.StepDrain)
	for name, tt := range map[string]struct {
		due        time.Duration
		finalizers []string
		reason     v1alpha1.Reason
		words      string
	}{
		"in its grace period":            {30 * time.Second, nil, v1alpha1.Evicting, "pods are leaving"},
		"in a very long grace period":    {time.Hour, nil, v1alpha1.Evicting, "grace period of shop/web ends at"},
		"just over":                      {-leavingSlack, nil, v1alpha1.Evicting, "pods are leaving"},
		"overdue, and its node is ill":   {-leavingSlack - time.Second, nil, v1alpha1.PodStuck, "kubelet has not ended it"},
		"overdue, and a finalizer holds": {-time.Hour, []string{"example.com/keep"}, v1alpha1.PodStuck, "example.com/keep"},
	} {
		w.Drains[s.NodeUID] = Drain{Going: 1, Leaving: []Leaving{{Pod: "shop/web", Due: w.Now.Add(tt.due), Finalizers: tt.finalizers}}}
		if got := Decide(w).Status.Slots[0]; got.Step != v1alpha1.StepDrain || got.Reason != tt.reason || !strings.Contains(got.Message, tt.words) {
			t.Errorf("%s: %s %s %q, want Drain %s %q", name, got.Step, got.Reason, got.Message, tt.reason, tt.words)
		}
	}
}

// TestAReplacementThatShowsTheOldCNIIsNotValidated whatever its checks say.
func TestAReplacementThatShowsTheOldCNIIsNotValidated(t *testing.T) {
	for role, want := range map[v1alpha1.Role]bool{v1alpha1.RoleOverlay: true, v1alpha1.RoleUnknown: true, v1alpha1.RoleLegacy: false, v1alpha1.RoleMixed: false} {
		c := v1alpha1.Challenge{ID: "q", NodeUID: "u", Role: v1alpha1.RoleOverlay, Purpose: v1alpha1.PurposeValidate, RequiredChecks: []v1alpha1.CheckName{v1alpha1.CheckConflist}}
		n := Node{Name: "n", UID: "u", BootID: "b", Cutover: &v1alpha1.NodeCutover{Spec: v1alpha1.NodeCutoverSpec{NodeUID: "u", Challenge: &c}}}
		n.Cutover.Status = v1alpha1.NodeCutoverStatus{
			ChallengeID: "q", NodeUID: "u", BootID: "b", Role: role, JudgedRole: v1alpha1.RoleOverlay, AgentVersion: "v",
			Findings: []v1alpha1.Finding{{Check: v1alpha1.CheckConflist, Verdict: v1alpha1.VerdictPass}},
		}
		if got := judge(&n, nil); got.safe != want {
			t.Errorf("role %s: safe = %t (%s), want %t", role, got.safe, got.message, want)
		}
	}
}
