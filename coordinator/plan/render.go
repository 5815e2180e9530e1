// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Render writes the tables of phases and steps as docs/phases.md shows them. The page is what this function returns; a
// test holds the two together, so the page cannot drift from what runs.
func Render() string {
	var b strings.Builder
	b.WriteString("# Phases and steps\n\nRendered from the tables in `coordinator/plan`; edit those, then run `go test ./coordinator/plan -update`.\n\n")
	b.WriteString("## The phases\n\nA phase begins when it is in `spec.approvedPhases`. One that a person carries out is over once it is approved and proved.\n\n")
	b.WriteString("| | phase | by | what changes | over when |\n|---|---|---|---|---|\n")
	for i, p := range phases() {
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s |\n", i+1, p.Name, p.By, p.Does, p.Done)
	}
	b.WriteString("\n## The steps of a slot\n\n")
	for _, surge := range []bool{false, true} {
		if surge {
			b.WriteString("With surge: ")
		} else {
			b.WriteString("Without surge: ")
		}
		b.WriteString(strings.Join(way(surge), " → ") + ".\n\n")
	}
	b.WriteString("A slot whose step passes its deadline is held: it counts against `rollout.failureBudget`, says why, and goes on by itself when the cause clears. A person may release a held slot. If the replacement disappears, the slot goes back to Join.\n\n")
	b.WriteString("| step | the coordinator | goes on when | held after | if its node vanishes | may wait for |\n|---|---|---|---|---|---|\n")
	for _, s := range steps() {
		vanished := "does not matter"
		if s.Vanished != "" {
			vanished = "goes to " + string(s.Vanished)
		}
		var reasons []string
		for _, r := range s.mayWaitFor() {
			reasons = append(reasons, fmt.Sprintf("[%s](runbook.md#%s)", r, strings.ToLower(string(r))))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", s.Name, s.Does, s.Done, s.DeadlineIs, vanished, strings.Join(reasons, ", "))
	}
	b.WriteString("\nWith surge, a slot whose node vanishes after its replacement has soaked is over.\n")
	return b.String()
}

// way lists the steps of a slot in order.
func way(surge bool) []string {
	var names []string
	for at := firstStep(surge); at != "" && len(names) <= len(steps()); {
		names = append(names, string(at))
		row, known := stepOf(at)
		if !known {
			break
		}
		at = row.next(surge)
	}
	return names
}

// Phases returns the phases in order, Done last.
func Phases() []v1alpha1.Phase {
	var names []v1alpha1.Phase
	for _, p := range phases() {
		names = append(names, p.Name)
	}
	return append(names, v1alpha1.PhaseDone)
}
