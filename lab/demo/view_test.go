// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/golden"
	"github.com/cni-cutover/cni-cutover/lab/traffic/load"
)

func at(seconds int) metav1.MicroTime {
	return metav1.NewMicroTime(time.Date(2026, 1, 1, 12, 0, seconds, 0, time.UTC))
}

// midway are two looks at a roll, a moment apart.
func midway() (before, now snapshot) {
	finished := v1alpha1.FinishedSlot{Node: "node-1", Replacement: "node-5", ReplacementUID: "e", Zone: "lab-a", Outcome: v1alpha1.OutcomeReplaced, GrantedAt: at(0), FinishedAt: at(24)}
	before = snapshot{
		elapsed: 62 * time.Second, phase: v1alpha1.PhaseRollNodes, message: "rolling",
		slots: []v1alpha1.Slot{{NodeUID: "b", Node: "node-2", Zone: "lab-b", Step: v1alpha1.StepDrain, Since: at(31), Message: "pods are leaving node-2"}},
		done:  []v1alpha1.FinishedSlot{finished},
		nodes: []nodeRow{
			{name: "node-2", zone: "lab-b", uid: "b", ready: true, cordoned: true, role: v1alpha1.RoleLegacy, verdict: v1alpha1.VerdictPass},
			{name: "node-5", zone: "lab-a", uid: "e", ready: true, role: v1alpha1.RoleOverlay, verdict: v1alpha1.VerdictPass},
		},
		vpcPods: 5, overlayPods: 4, startingPods: 1,
	}
	before.load.Total = load.Counts{Sent: 7200}
	before.load.Last = load.Counts{OK: 120, Networks: map[string]uint64{"overlay": 60}}
	now = before
	now.elapsed, now.startingPods, now.overlayPods = 70*time.Second, 0, 5
	held := at(69)
	now.slots = []v1alpha1.Slot{{
		NodeUID: "b", Node: "node-2", Zone: "lab-b", Step: v1alpha1.StepJoin, Since: at(40), HeldSince: &held,
		Replacement: "node-6", ReplacementUID: "f", Message: "node-6 has joined and is not Ready yet",
	}}
	now.nodes = []nodeRow{before.nodes[1], {name: "node-6", zone: "lab-b", uid: "f"}}
	now.load.Total = load.Counts{Sent: 8160, Lost: 2}
	now.load.Last.Causes = map[load.Cause]uint64{load.Refused: 2}
	return before, now
}

func TestViewTellsWhatAPersonWantsToFollow(t *testing.T) {
	before, now := midway()
	text := strings.Join([]string{
		"FRAME", strings.Join(frame(before), "\n"), "", "FRAME", strings.Join(frame(now), "\n"), "",
		"CHANGES FROM NOTHING", strings.Join(changes(snapshot{}, before), "\n"), "",
		"CHANGES", strings.Join(changes(before, now), "\n"), "", "STATUS", status(now), "",
	}, "\n")
	golden.Match(t, filepath.Join("testdata", "view.golden"), text)
	if same := changes(now, now); len(same) > 0 {
		t.Errorf("the same again is told as %q", same)
	}
}

func TestScreenDrawsOverItselfOnATerminalOnly(t *testing.T) {
	before, now := midway()
	var terminal, file bytes.Buffer
	for _, s := range []*screen{{out: &terminal, width: 60}, {out: &file}} {
		if !s.show(before) || s.show(before) || !s.show(now) {
			t.Error("what is new was not told from what is not")
		}
	}
	if back := "\x1b[10A"; strings.Count(terminal.String(), back) != 2 { // each page has ten lines
		t.Errorf("the terminal got %q, want %q twice", terminal.String(), back)
	}
	for line := range strings.Lines(terminal.String()) {
		if visible := strings.NewReplacer("\r", "", "\n", "", "\x1b[K", "", "\x1b[J", "", "\x1b[10A", "").Replace(line); len([]rune(visible)) > 60 {
			t.Errorf("%q is wider than the terminal", visible)
		}
	}
	if strings.Contains(file.String(), "\x1b") || !strings.Contains(file.String(), "node-2: Join") {
		t.Errorf("the file got %q", file.String())
	}
}

func TestReportShowsTimesRequestsAndProof(t *testing.T) {
	e := proved()
	e.lose(load.Reset)
	e.summary.Failures = []load.Failure{{Due: at(3).Time, App: "echo", Cause: load.Reset, After: 12, Local: "10.0.0.10:1", Detail: "connection reset by peer"}}
	r := &record{steps: map[string][]stepTime{}}
	for _, s := range []v1alpha1.Slot{{Node: "node-1", Step: v1alpha1.StepDeregister, Since: at(0)}, {Node: "node-1", Step: v1alpha1.StepDrain, Since: at(5)}, {Node: "node-1", Step: v1alpha1.StepDrain, Since: at(5)}} {
		r.slots([]v1alpha1.Slot{s})
	}
	var out strings.Builder
	err := report{
		claims:   prove(e),
		phases:   []v1alpha1.PhaseRecord{{Phase: v1alpha1.PhaseRollNodes, StartedAt: metav1.NewTime(at(0).Time), FinishedAt: metav1.NewTime(at(24).Time)}, {Phase: v1alpha1.PhaseFullEBPF}},
		finished: []v1alpha1.FinishedSlot{{Node: "node-1", Replacement: "node-3", GrantedAt: at(0), FinishedAt: at(24)}},
		took:     r.took, summary: e.summary,
	}.write(&out)
	if err != nil {
		t.Fatal(err)
	}
	golden.Match(t, filepath.Join("testdata", "report.golden"), out.String())
}
