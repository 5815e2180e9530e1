// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// shownObjects is how many objects that speak against a proof a page names.
const shownObjects = 10

// Write prints the report as a page of Markdown.
func (r *Report) Write(w io.Writer) error {
	fmt.Fprintf(w, "# Cutover of %s\n\nAs seen at %s, in phase %s, after %d nodes were replaced: **%s**.\n", r.Server, stamp(r.TakenAt), orDash(string(r.Phase)), r.Rolled, r.Verdict())
	fmt.Fprint(w, "\n## What is there now\n\n| | verdict | |\n|---|---|---|\n")
	for _, p := range r.Proofs {
		fmt.Fprintf(w, "| %s | %s | %s |\n", p.Name, p.Verdict, cell(p.Message))
	}
	for _, p := range r.Proofs {
		if len(p.Objects) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s:\n\n", p.Name)
		for _, o := range p.Objects[:min(len(p.Objects), shownObjects)] {
			fmt.Fprintf(w, "- %s\n", cell(o))
		}
		if more := len(p.Objects) - shownObjects; more > 0 {
			fmt.Fprintf(w, "- and %d more; `-o json` has all\n", more)
		}
	}
	r.writePhases(w)
	r.writeSteps(w)
	return r.writeSlots(w)
}

func (r *Report) writePhases(w io.Writer) {
	if len(r.Phases) == 0 {
		return
	}
	fmt.Fprint(w, "\n## Phases\n\n| phase | began | took |\n|---|---|---|\n")
	for _, p := range r.Phases {
		took := "goes on"
		if !p.EndedAt.IsZero() {
			took = round(p.EndedAt.Sub(p.StartedAt))
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", p.Name, stamp(p.StartedAt), took)
	}
}

func (r *Report) writeSteps(w io.Writer) {
	if len(r.Steps) == 0 {
		return
	}
	fmt.Fprint(w, "\n## Steps\n\nAs far as Events still tell.\n\n| step | slots | median | longest | of |\n|---|---|---|---|---|\n")
	for _, s := range r.Steps {
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s |\n", s.Step, s.Slots, round(s.Median), round(s.Longest), s.Slowest)
	}
}

func (r *Report) writeSlots(w io.Writer) error {
	if len(r.Slots) > 0 {
		fmt.Fprintf(w, "\n## Slots\n\nThe last %d.\n\n| node | replacement | zone | outcome | granted | took |\n|---|---|---|---|---|---|\n", len(r.Slots))
	}
	for i := range r.Slots {
		s := &r.Slots[i]
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", s.Node, orDash(s.Replacement), orDash(s.Zone), s.Outcome, stamp(s.GrantedAt.Time), round(s.FinishedAt.Sub(s.GrantedAt.Time)))
	}
	_, err := fmt.Fprintf(w, "\n%s\n", conclusion(r.Verdict()))
	return err
}

func conclusion(v v1alpha1.Verdict) string {
	switch v {
	case v1alpha1.VerdictPass:
		return "Every statement above is borne out by the cluster's objects."
	case v1alpha1.VerdictWarn:
		return "Every statement that the cutover answers for is borne out; see to the rest."
	case v1alpha1.VerdictUnknown:
		return "Not everything could be seen; make the report again with the rights that are named above."
	}
	return "The cluster is not what a finished cutover leaves behind."
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// round is a time to the tenth of a second below a minute, and to the second above.
func round(d time.Duration) string {
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// cell keeps a text within its cell and its line.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "\r", " ").Replace(text)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
