// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package status is what people see of a cutover: a table of how far it is, what it waits for and why, and lines of what has
// changed. It is pure: objects and the time are handed in.
package status

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// View is a cutover at a time. Reports are those of the nodes in slots, by name; a node without one has not reported.
type View struct {
	Cutover *v1alpha1.Cutover
	Reports map[string]*v1alpha1.NodeCutover
	Now     time.Time
}

// Nodes are the names of the nodes whose reports a view shows.
func Nodes(c *v1alpha1.Cutover) []string {
	var out []string
	for i := range c.Status.Slots {
		s := &c.Status.Slots[i]
		for _, name := range []string{s.Node, s.Replacement} {
			if name != "" && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// Write prints the view as a table.
func (v View) Write(w io.Writer) error {
	c, s := v.Cutover, &v.Cutover.Status
	phase := string(s.Phase)
	if phase == "" {
		phase = "not begun"
	}
	fmt.Fprintf(w, "Phase %s, state %s. %s.\n", phase, c.Spec.State, nodes(s.Nodes))
	if s.ObservedGeneration < c.Generation {
		fmt.Fprintf(w, "The coordinator has not looked at this spec yet (generation %d, seen %d): is it running?\n", c.Generation, s.ObservedGeneration)
	}
	for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionStalled, v1alpha1.ConditionFenceIntact, v1alpha1.ConditionBudgetExhausted} {
		if line := condition(s.Conditions, kind); line != "" {
			fmt.Fprintln(w, line)
		}
	}
	out := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	v.phases(out)
	v.slots(out)
	waiting(out, s.Waiting)
	v.finished(out)
	return out.Flush()
}

func nodes(n v1alpha1.NodeCounts) string {
	text := fmt.Sprintf("%d of %d nodes are on the overlay, %d legacy", n.Overlay, n.Total, n.Legacy)
	if n.Mixed > 0 {
		text += fmt.Sprintf(", %d mixed", n.Mixed)
	}
	if n.Unknown > 0 {
		text += fmt.Sprintf(", %d not known yet", n.Unknown)
	}
	return text
}

// condition is the line of a condition that has something to say: that it is stalled or exhausted, that the fence is open,
// why it is not ready.
func condition(conditions []metav1.Condition, kind string) string {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil {
		return ""
	}
	bad := metav1.ConditionTrue
	if kind == v1alpha1.ConditionReady || kind == v1alpha1.ConditionFenceIntact {
		bad = metav1.ConditionFalse
	}
	switch {
	case c.Status == metav1.ConditionUnknown, c.Status == bad, kind == v1alpha1.ConditionReady, kind == v1alpha1.ConditionFenceIntact:
		return fmt.Sprintf("%s %s (%s): %s", kind, c.Status, c.Reason, printing(c.Message))
	}
	return ""
}

func (v View) phases(w io.Writer) {
	s := &v.Cutover.Status
	fmt.Fprintln(w, "\nPHASE\tAPPROVED\tBEGUN\tTOOK")
	for _, phase := range Phases() {
		approved, begun, took := "-", "-", "-"
		if slices.Contains(v.Cutover.Spec.ApprovedPhases, phase) {
			approved = "yes"
		}
		for i := range s.Phases {
			r := &s.Phases[i]
			if r.Phase != phase || r.StartedAt.IsZero() {
				continue
			}
			begun = v.ago(r.StartedAt.Time)
			if !r.FinishedAt.IsZero() {
				took = duration.HumanDuration(r.FinishedAt.Sub(r.StartedAt.Time))
			}
		}
		name := string(phase)
		if phase == s.Phase {
			name += " *"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, approved, begun, took)
	}
}

// Phases are those that can be approved, in order.
func Phases() []v1alpha1.Phase {
	return []v1alpha1.Phase{
		v1alpha1.PhaseDecoupleIngress, v1alpha1.PhaseInstallCilium, v1alpha1.PhaseFenceLegacy,
		v1alpha1.PhaseRollNodes, v1alpha1.PhaseRemoveLegacy, v1alpha1.PhaseFullEBPF,
	}
}

func (v View) slots(w io.Writer) {
	slots := v.Cutover.Status.Slots
	if len(slots) == 0 {
		return
	}
	fmt.Fprintln(w, "\nSLOT\tZONE\tSTEP\tSINCE\tREPLACEMENT\tVERDICT\tWAITS FOR")
	for i := range slots {
		s := &slots[i]
		step := string(s.Step)
		if s.HeldSince != nil {
			step += " (held)"
		}
		// From Join on the replacement is asked, before it the node itself.
		asked := s.Node
		if s.Replacement != "" {
			asked = s.Replacement
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Node, dash(s.Zone), step, v.ago(s.Since.Time), dash(s.Replacement), v.verdict(asked), waits(s.Reason, s.Message))
	}
}

// verdict is what the agent of a node says, with the reasons of what is not well.
func (v View) verdict(node string) string {
	r := v.Reports[node]
	if r == nil || r.Status.Verdict == "" {
		return "no report"
	}
	var reasons []string
	for i := range r.Status.Findings {
		f := &r.Status.Findings[i]
		if f.Verdict == r.Status.Verdict && f.Verdict != v1alpha1.VerdictPass {
			reasons = append(reasons, string(f.Reason))
		}
	}
	if len(reasons) == 0 {
		return string(r.Status.Verdict)
	}
	return fmt.Sprintf("%s (%s)", r.Status.Verdict, strings.Join(reasons, ", "))
}

// mostWaiting is how many waiting nodes a table shows; they mostly wait for the same.
const mostWaiting = 8

func waiting(w io.Writer, list []v1alpha1.Waiting) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintln(w, "\nNEXT\tWAITS FOR")
	for i := range list[:min(len(list), mostWaiting)] {
		fmt.Fprintf(w, "%s\t%s\n", list[i].Node, waits(list[i].Reason, list[i].Message))
	}
	if more := len(list) - mostWaiting; more > 0 {
		fmt.Fprintf(w, "and %d more\t\n", more)
	}
}

// mostFinished is how many of the last finished slots a table shows.
const mostFinished = 5

func (v View) finished(w io.Writer) {
	list := v.Cutover.Status.Finished
	if len(list) == 0 {
		return
	}
	fmt.Fprintln(w, "\nFINISHED LAST\tREPLACEMENT\tOUTCOME\tTOOK\tENDED")
	for i := len(list) - 1; i >= max(0, len(list)-mostFinished); i-- {
		f := &list[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Node, dash(f.Replacement), f.Outcome, duration.HumanDuration(f.FinishedAt.Sub(f.GrantedAt.Time)), v.ago(f.FinishedAt.Time))
	}
}

func waits(reason v1alpha1.Reason, message string) string {
	switch {
	case reason == "":
		return dash(printing(message))
	case message == "":
		return string(reason)
	}
	return fmt.Sprintf("%s: %s", reason, printing(message))
}

// printing leaves a terminal's control characters out of a text: messages quote what others wrote.
func printing(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

func (v View) ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return duration.HumanDuration(max(v.Now.Sub(t), 0)) + " ago"
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
