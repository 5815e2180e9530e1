// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/golden"
)

func noon() time.Time { return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC) }

func at(ago time.Duration) metav1.Time           { return metav1.NewTime(noon().Add(-ago)) }
func exactly(ago time.Duration) metav1.MicroTime { return metav1.NewMicroTime(noon().Add(-ago)) }

func condition1(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

// rolling is a cutover with everything in it.
func rolling() *v1alpha1.Cutover {
	held := exactly(3 * time.Minute)
	c := &v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName, UID: "u", Generation: 4}}
	c.Spec.State = v1alpha1.StateRunning
	c.Spec.ApprovedPhases = Phases()[:4]
	c.Status = v1alpha1.CutoverStatus{
		ObservedGeneration: 4, Phase: v1alpha1.PhaseRollNodes, Rolled: 7,
		Nodes: v1alpha1.NodeCounts{Total: 20, Legacy: 11, Overlay: 7, Mixed: 1, Unknown: 1},
		Phases: []v1alpha1.PhaseRecord{
			{Phase: v1alpha1.PhaseDecoupleIngress, StartedAt: at(50 * time.Hour), FinishedAt: at(50 * time.Hour)},
			{Phase: v1alpha1.PhaseFenceLegacy, StartedAt: at(5 * time.Hour), FinishedAt: at(5*time.Hour - 90*time.Second)},
			{Phase: v1alpha1.PhaseRollNodes, StartedAt: at(4 * time.Hour)},
		},
		Conditions: []metav1.Condition{
			condition1(v1alpha1.ConditionReady, metav1.ConditionFalse, "Progressing", "7 of 20 nodes are on the overlay"),
			condition1(v1alpha1.ConditionReconciling, metav1.ConditionTrue, "Progressing", "not shown: Ready says it"),
			condition1(v1alpha1.ConditionStalled, metav1.ConditionFalse, "Progressing", "not shown: it is not"),
			condition1(v1alpha1.ConditionFenceIntact, metav1.ConditionFalse, "FenceLabelLost", "node-x lost its label\x1b[31m; labelling it"),
			condition1(v1alpha1.ConditionBudgetExhausted, metav1.ConditionTrue, "BudgetSpent", "1 slot is held"),
		},
		Slots: []v1alpha1.Slot{
			{NodeUID: "a", Node: "node-a", Zone: "eu-central-1a", Step: v1alpha1.StepDrain, Since: exactly(40 * time.Minute), HeldSince: &held, Holder: "c1",
				Reason: v1alpha1.EvictionBlocked, Message: "the budget shop/cart allows no eviction"},
			{NodeUID: "b", Node: "node-b", Replacement: "node-r", ReplacementUID: "r", Step: v1alpha1.StepValidate, Since: exactly(20 * time.Second), Holder: "c1"},
			{NodeUID: "c", Node: "node-c", Step: v1alpha1.StepCordon, Since: exactly(0), Holder: "c1", Reason: v1alpha1.Cordoning},
		},
		Finished: []v1alpha1.FinishedSlot{
			{Node: "node-1", Replacement: "node-2", Outcome: v1alpha1.OutcomeReplaced, GrantedAt: exactly(3 * time.Hour), FinishedAt: exactly(2 * time.Hour)},
			{Node: "node-3", Outcome: v1alpha1.OutcomeReleased, GrantedAt: exactly(2 * time.Hour), FinishedAt: exactly(time.Hour)},
		},
	}
	for i := range mostWaiting + 2 {
		c.Status.Waiting = append(c.Status.Waiting, v1alpha1.Waiting{Node: fmt.Sprintf("next-%d", i), Reason: v1alpha1.BudgetSpent, Message: "rollout.failureBudget is 1"})
	}
	return c
}

// rollingWell is one in which all is as it should be. tools/pictures draws it.
func rollingWell() *v1alpha1.Cutover {
	c := rolling()
	s := &c.Status
	s.Nodes = v1alpha1.NodeCounts{Total: 20, Legacy: 12, Overlay: 8}
	s.Conditions = append(s.Conditions[:0],
		condition1(v1alpha1.ConditionReady, metav1.ConditionFalse, "Progressing", "8 of 20 nodes are on the overlay"),
		condition1(v1alpha1.ConditionFenceIntact, metav1.ConditionTrue, string(v1alpha1.FenceComplete), "every Legacy node carries the fence label and the VPC CNI is bound to it"))
	s.Slots = []v1alpha1.Slot{
		{NodeUID: "a", Node: "ip-10-0-1-14", Zone: "eu-central-1a", Step: v1alpha1.StepDrain, Since: exactly(40 * time.Second), Holder: "c1", Reason: v1alpha1.Evicting, Message: "5 of 14 pods are left"},
		{NodeUID: "b", Node: "ip-10-0-2-31", Zone: "eu-central-1b", Replacement: "ip-10-0-2-87", ReplacementUID: "r", Step: v1alpha1.StepSoak, Since: exactly(2 * time.Minute), Holder: "c1"},
	}
	s.Finished = []v1alpha1.FinishedSlot{
		{Node: "ip-10-0-3-20", Replacement: "ip-10-0-3-77", Outcome: v1alpha1.OutcomeReplaced, GrantedAt: exactly(40 * time.Minute), FinishedAt: exactly(26 * time.Minute)},
		{Node: "ip-10-0-1-12", Replacement: "ip-10-0-1-90", Outcome: v1alpha1.OutcomeReplaced, GrantedAt: exactly(26 * time.Minute), FinishedAt: exactly(11 * time.Minute)},
	}
	s.Waiting = []v1alpha1.Waiting{
		{Node: "ip-10-0-3-22", Reason: v1alpha1.SlotsTaken, Message: "rollout.maxConcurrent is 2"},
		{Node: "ip-10-0-1-15", Reason: v1alpha1.SlotsTaken, Message: "rollout.maxConcurrent is 2"},
	}
	return c
}

func finding(verdict v1alpha1.Verdict, reason v1alpha1.Reason) v1alpha1.Finding {
	return v1alpha1.Finding{Check: v1alpha1.CheckName(reason), Verdict: verdict, Reason: reason}
}

func TestTheTable(t *testing.T) {
	reports := map[string]*v1alpha1.NodeCutover{
		"node-a": {Status: v1alpha1.NodeCutoverStatus{Verdict: v1alpha1.VerdictPass, Findings: []v1alpha1.Finding{finding(v1alpha1.VerdictPass, v1alpha1.AsWanted)}}},
		"node-r": {Status: v1alpha1.NodeCutoverStatus{Verdict: v1alpha1.VerdictFail, Findings: []v1alpha1.Finding{
			finding(v1alpha1.VerdictFail, v1alpha1.TunnelDown), finding(v1alpha1.VerdictUnknown, v1alpha1.MapUnreadable), finding(v1alpha1.VerdictFail, v1alpha1.RouteMissing),
		}}},
		"node-c": {},

		"ip-10-0-1-14": {Status: v1alpha1.NodeCutoverStatus{Verdict: v1alpha1.VerdictPass, Findings: []v1alpha1.Finding{finding(v1alpha1.VerdictPass, v1alpha1.AsWanted)}}},
		"ip-10-0-2-87": {Status: v1alpha1.NodeCutoverStatus{Verdict: v1alpha1.VerdictPass, Findings: []v1alpha1.Finding{finding(v1alpha1.VerdictPass, v1alpha1.AsWanted)}}},
	}
	unseen := rolling()
	unseen.Generation = 5
	unseen.Status = v1alpha1.CutoverStatus{}
	unseen.Spec.ApprovedPhases = nil
	for name, c := range map[string]*v1alpha1.Cutover{"rolling.txt": rolling(), "unseen.txt": unseen, "well.txt": rollingWell()} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := (View{Cutover: c, Reports: reports, Now: noon()}).Write(&out); err != nil {
				t.Fatal(err)
			}
			golden.Match(t, filepath.Join("testdata", name), out.String())
			if strings.Contains(out.String(), "\x1b") {
				t.Error("a message reached the terminal with its control characters")
			}
		})
	}
}

func TestReportsAreThoseOfTheNodesInSlots(t *testing.T) {
	if got, want := Nodes(rolling()), []string{"node-a", "node-b", "node-r", "node-c"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestEachChangeIsALine(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*v1alpha1.Cutover)
		want   []string
	}{
		"nothing":     {func(*v1alpha1.Cutover) {}, nil},
		"state":       {func(c *v1alpha1.Cutover) { c.Spec.State = v1alpha1.StatePaused }, []string{"state: Running -> Paused"}},
		"approval":    {func(c *v1alpha1.Cutover) { c.Spec.ApprovedPhases = Phases()[:5] }, []string{"approved: RemoveLegacy"}},
		"phase":       {func(c *v1alpha1.Cutover) { c.Status.Phase = v1alpha1.PhaseRemoveLegacy }, []string{"phase: RollNodes -> RemoveLegacy"}},
		"counts":      {func(c *v1alpha1.Cutover) { c.Status.Nodes.Overlay++ }, []string{"8 of 20 nodes are on the overlay, 11 legacy, 1 mixed, 1 not known yet"}},
		"a condition": {func(c *v1alpha1.Cutover) { c.Status.Conditions[4].Status = metav1.ConditionFalse }, []string{"BudgetExhausted False (BudgetSpent): 1 slot is held"}},
		"a new condition": {func(c *v1alpha1.Cutover) {
			c.Status.Conditions = append(c.Status.Conditions, condition1("New", metav1.ConditionTrue, "R", "a\nb"))
		}, []string{"New True (R): a b"}},
		"a step": {func(c *v1alpha1.Cutover) {
			c.Status.Slots[0].Step, c.Status.Slots[0].HeldSince, c.Status.Slots[0].Reason, c.Status.Slots[0].Message = v1alpha1.StepDetach, nil, "", ""
		}, []string{"slot of node-a: step Detach", "slot of node-a: goes on"}},
		"a wait and its end": {func(c *v1alpha1.Cutover) {
			c.Status.Slots[1].HeldSince = &c.Status.Slots[1].Since
			c.Status.Slots[1].Reason, c.Status.Slots[1].Message = v1alpha1.NoAnswer, "no agent answers"
		}, []string{"slot of node-b: held in Validate", "slot of node-b: waits for NoAnswer: no agent answers"}},
		"a replacement": {func(c *v1alpha1.Cutover) { c.Status.Slots[2].Replacement = "node-n" }, []string{"slot of node-c: replacement node-n"}},
		"a new slot": {func(c *v1alpha1.Cutover) {
			c.Status.Slots = append(c.Status.Slots, v1alpha1.Slot{NodeUID: "d", Node: "node-d", Step: v1alpha1.StepCordon, Holder: "c2"})
		}, []string{"slot of node-d: granted by c2", "slot of node-d: step Cordon"}},
		"an ended slot": {func(c *v1alpha1.Cutover) {
			c.Status.Slots = c.Status.Slots[:2]
			c.Status.Finished = append(c.Status.Finished, v1alpha1.FinishedSlot{Node: "node-c", Replacement: "node-n", Outcome: v1alpha1.OutcomeReplaced, GrantedAt: exactly(time.Hour), FinishedAt: exactly(0)})
		}, []string{"slot of node-c: Replaced, replacement node-n"}},
		"the same slot read in another time zone": {func(c *v1alpha1.Cutover) {
			f := &c.Status.Finished[0]
			f.GrantedAt.Time, f.FinishedAt.Time = f.GrantedAt.In(time.FixedZone("x", 3600)), f.FinishedAt.In(time.FixedZone("x", 3600))
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			after := rolling()
			c.change(after)
			if got := Changes(rolling(), after); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	other := rolling()
	other.UID = types.UID("another")
	if got := Changes(rolling(), other); len(got) < 10 || got[0] != "this is another Cutover than before" {
		t.Errorf("another Cutover: %q", got)
	}
}
