// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

func TestPeopleHearOfAWaitOnceAndOfEveryChangeOfItsCause(t *testing.T) {
	slot := func(r v1alpha1.Reason) v1alpha1.CutoverStatus {
		return v1alpha1.CutoverStatus{Slots: []v1alpha1.Slot{{NodeUID: "u", Node: "n1", Step: v1alpha1.StepDrain, Reason: r, Message: "because"}}}
	}
	waits := func(r v1alpha1.Reason) v1alpha1.CutoverStatus {
		return v1alpha1.CutoverStatus{Waiting: []v1alpha1.Waiting{{Node: "n1", Reason: r, Message: "because"}}}
	}
	fence := func(s metav1.ConditionStatus, reason string) v1alpha1.CutoverStatus {
		return v1alpha1.CutoverStatus{Conditions: []metav1.Condition{{Type: v1alpha1.ConditionFenceIntact, Status: s, Reason: reason, Message: "because"}}}
	}
	tests := map[string]struct {
		before, after v1alpha1.CutoverStatus
		want          []plan.Note
	}{
		"a budget begins to block": {slot(v1alpha1.Evicting), slot(v1alpha1.EvictionBlocked), []plan.Note{
			{Node: "n1", Warning: true, Reason: v1alpha1.EvictionBlocked, Action: "Wait", Message: "Drain: because"},
		}},
		"it still does":                 {slot(v1alpha1.EvictionBlocked), slot(v1alpha1.EvictionBlocked), nil},
		"an ordinary wait is no alarm":  {slot(""), slot(v1alpha1.Evicting), []plan.Note{{Node: "n1", Reason: v1alpha1.Evicting, Action: "Wait", Message: "Drain: because"}}},
		"a node turns out to be unsafe": {v1alpha1.CutoverStatus{}, waits(v1alpha1.NodeNotSafe), []plan.Note{{Node: "n1", Warning: true, Reason: v1alpha1.NodeNotSafe, Action: "Wait", Message: "n1 waits for a slot: because"}}},
		"a limit does its work":         {v1alpha1.CutoverStatus{}, waits(v1alpha1.SlotsTaken), nil},
		"the fence opens":               {fence(metav1.ConditionTrue, "FenceComplete"), fence(metav1.ConditionFalse, "FenceLabelLost"), []plan.Note{{Warning: true, Reason: v1alpha1.FenceLabelLost, Action: "FenceIntact", Message: "because"}}},
		"the fence closes":              {fence(metav1.ConditionFalse, "FenceLabelLost"), fence(metav1.ConditionTrue, "FenceComplete"), []plan.Note{{Reason: v1alpha1.FenceComplete, Action: "FenceIntact", Message: "because"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, changes(tt.before, tt.after)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestWhatPeopleAreToldIsPlain: an Event ends in a terminal, and the names in it are whoever's named the thing.
func TestWhatPeopleAreToldIsPlain(t *testing.T) {
	recorder := events.NewFakeRecorder(1)
	note := plan.Note{Reason: v1alpha1.Evicting, Action: "Wait", Message: "pod \x1b[2J\x1b[31mx\x1b[0m\nWarning: all is well" + strings.Repeat(" long", 500)}
	newTeller(recorder).about(t.Context(), &plan.World{Cutover: &v1alpha1.Cutover{}}, plan.Decision{Notes: []plan.Note{note}}, nil)
	told := <-recorder.Events
	if strings.ContainsFunc(told, func(r rune) bool { return !unicode.IsPrint(r) }) || !strings.Contains(told, "all is well") || len(told) > 1024 {
		t.Errorf("%d bytes: %q", len(told), told)
	}
}

func TestMetrics(t *testing.T) {
	now := time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC)
	m := newMetrics()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m)
	held := metav1.NewMicroTime(now)
	w := &plan.World{Now: now, Cutover: &v1alpha1.Cutover{}, Nodes: []plan.Node{{Name: "n1", SafeShown: true}, {Name: "n2"}}}
	w.Cutover.Status.Slots = []v1alpha1.Slot{{NodeUID: "u", Step: v1alpha1.StepCordon, Since: metav1.NewMicroTime(now.Add(-2 * time.Second))}}
	m.observe(w, v1alpha1.CutoverStatus{
		Phase: v1alpha1.PhaseRollNodes, Nodes: v1alpha1.NodeCounts{Total: 2, Legacy: 2},
		Slots:      []v1alpha1.Slot{{NodeUID: "u", Step: v1alpha1.StepDrain, Reason: v1alpha1.EvictionBlocked, HeldSince: &held}},
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionFenceIntact, Status: metav1.ConditionTrue}},
	})
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("promlint: %s: %s", p.Metric, p.Text)
	}
	for metric, want := range map[string]int{
		"cni_cutover_coordinator_node_safe_to_drain":    2,
		"cni_cutover_coordinator_slots":                 1,
		"cni_cutover_coordinator_waits":                 1,
		"cni_cutover_coordinator_slots_held_total":      1,
		"cni_cutover_coordinator_step_duration_seconds": 1,
		"cni_cutover_coordinator_phase":                 7,
		"cni_cutover_coordinator_fence_intact":          1,
		"cni_cutover_coordinator_nodes":                 4,
		"cni_cutover_coordinator_slots_finished_total":  0,
	} {
		if got, err := testutil.GatherAndCount(registry, metric); err != nil || got != want {
			t.Errorf("%s has %d series (%v), want %d", metric, got, err, want)
		}
	}
	m.forget()
	if got, err := testutil.GatherAndCount(registry, "cni_cutover_coordinator_phase"); err != nil || got != 0 {
		t.Errorf("a Cutover that is gone leaves %d series (%v)", got, err)
	}
}
