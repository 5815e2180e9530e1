// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// order are the phases as the header counts them.
func order() []v1alpha1.Phase {
	return []v1alpha1.Phase{
		v1alpha1.PhaseDecoupleIngress, v1alpha1.PhaseInstallCilium, v1alpha1.PhaseFenceLegacy,
		v1alpha1.PhaseRollNodes, v1alpha1.PhaseRemoveLegacy, v1alpha1.PhaseFullEBPF,
	}
}

// frame draws a snapshot as a page, a line each.
func frame(s snapshot) []string {
	header := "the coordinator has not looked yet"
	if i := slices.Index(order(), s.phase); i >= 0 {
		header = fmt.Sprintf("phase %d of %d: %s", i+1, len(order()), s.phase)
	}
	lines := []string{
		clock(s.elapsed) + "  " + header,
		"       " + orDash(s.message),
		"",
		fmt.Sprintf("%-9s %-6s %-10s %-8s %-8s %s", "NODE", "ZONE", "STATE", "ROLE", "VERDICT", "SLOT"),
	}
	for _, f := range s.done {
		took := f.FinishedAt.Sub(f.GrantedAt.Time).Seconds()
		lines = append(lines, fmt.Sprintf("%-9s %-6s %-10s %-8s %-8s %s by %s, %.0f s", f.Node, f.Zone, "gone", "", "", strings.ToLower(string(f.Outcome)), f.Replacement, took))
	}
	for _, n := range s.nodes {
		lines = append(lines, fmt.Sprintf("%-9s %-6s %-10s %-8s %-8s %s", n.name, n.zone, state(n), orDash(string(n.role)), orDash(string(n.verdict)), slotOf(s, n)))
	}
	return append(lines, "", "pods      "+pods(s), "requests  "+requests(s))
}

// status is a snapshot in one line.
func status(s snapshot) string {
	var slots []string
	for _, slot := range s.slots {
		slots = append(slots, slot.Node+" "+string(slot.Step))
	}
	return fmt.Sprintf("%s  %s [%s]  pods: %s  requests: %s", clock(s.elapsed), orDash(string(s.phase)), strings.Join(slots, ", "), pods(s), requests(s))
}

// changes tells what is different from the snapshot before, a line each.
func changes(before, now snapshot) []string {
	var lines []string
	say := func(format string, args ...any) {
		lines = append(lines, clock(now.elapsed)+"  "+fmt.Sprintf(format, args...))
	}
	if now.phase != before.phase {
		say("phase %s", now.phase)
	}
	if now.message != before.message && (now.stalled || len(now.slots) == 0) {
		say("  %s", now.message)
	}
	for _, slot := range now.slots {
		i := slices.IndexFunc(before.slots, func(old v1alpha1.Slot) bool { return old.NodeUID == slot.NodeUID })
		switch {
		case i < 0 || before.slots[i].Step != slot.Step:
			say("%s: %s%s", slot.Node, slot.Step, replacement(slot))
		case slot.HeldSince != nil && before.slots[i].HeldSince == nil:
			say("%s: held in %s: %s", slot.Node, slot.Step, slot.Message)
		}
	}
	for _, f := range now.done[min(len(before.done), len(now.done)):] {
		say("%s: %s by %s", f.Node, strings.ToLower(string(f.Outcome)), f.Replacement)
	}
	for _, n := range now.nodes {
		i := slices.IndexFunc(before.nodes, func(old nodeRow) bool { return old.uid == n.uid })
		switch {
		case i < 0:
			say("%s joined in %s", n.name, n.zone)
		case before.nodes[i].verdict != n.verdict || before.nodes[i].role != n.role:
			say("%s: the agent says %s as %s%s", n.name, orDash(string(n.verdict)), orDash(string(n.role)), n.why)
		}
	}
	if lost := now.load.Total.Lost - before.load.Total.Lost; now.load.Total.Lost > before.load.Total.Lost {
		say("LOST %d requests: %v", lost, now.load.Last.Causes)
	}
	return lines
}

func state(n nodeRow) string {
	switch {
	case !n.ready:
		return "not ready"
	case n.cordoned:
		return "cordoned"
	}
	return "ready"
}

func slotOf(s snapshot, n nodeRow) string {
	for _, slot := range s.slots {
		switch n.uid {
		case slot.NodeUID:
			return string(slot.Step) + held(slot) + ": " + slot.Message
		case slot.ReplacementUID:
			return fmt.Sprintf("%s%s for %s", slot.Step, held(slot), slot.Node)
		}
	}
	for _, f := range s.done {
		if f.ReplacementUID == n.uid {
			return "in the place of " + f.Node
		}
	}
	return ""
}

func held(slot v1alpha1.Slot) string {
	if slot.HeldSince != nil {
		return " (held)"
	}
	return ""
}

func replacement(slot v1alpha1.Slot) string {
	if slot.Replacement == "" {
		return ""
	}
	return " (replacement " + slot.Replacement + ")"
}

func pods(s snapshot) string {
	text := fmt.Sprintf("%d in VPC addresses, %d in the overlay", s.vpcPods, s.overlayPods)
	if s.startingPods > 0 {
		text += fmt.Sprintf(", %d starting", s.startingPods)
	}
	return text
}

func requests(s snapshot) string {
	return fmt.Sprintf("%d sent, %d lost; now %d %% of the answers are from the overlay", s.load.Total.Sent, s.load.Total.Lost,
		percent(s.load.Last.Networks["overlay"], s.load.Last.OK))
}

func percent(part, whole uint64) uint64 {
	if whole == 0 {
		return 0
	}
	return part * 100 / whole
}

func clock(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
