// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// shownObjects is how many objects of a finding a table names, shownEvidence how many lines of evidence.
const (
	shownObjects  = 3
	shownEvidence = 10
)

// Write prints a report for people: what blocks first, and in a line each what is well. Colour is ANSI's.
func (r *Report) Write(w io.Writer, colour bool) error {
	fmt.Fprintf(w, "%s, looked at %s\n", r.Server, r.TakenAt.UTC().Format(time.RFC3339))
	count := map[v1alpha1.Verdict]int{}
	for _, verdict := range []v1alpha1.Verdict{v1alpha1.VerdictFail, v1alpha1.VerdictUnknown, v1alpha1.VerdictWarn, v1alpha1.VerdictPass} {
		for i := range r.Findings {
			f := &r.Findings[i]
			if f.Verdict != verdict {
				continue
			}
			if count[verdict]++; count[verdict] == 1 {
				fmt.Fprintln(w)
			}
			head := f.Check
			if len(f.Objects) > 0 && strings.Contains(f.Objects[0], "/") {
				head += " " + f.Objects[0]
			}
			fmt.Fprintf(w, "%s %s: %s.\n", painted(verdict, colour), head, f.Message)
			if len(f.Objects) > 1 {
				more := ""
				if n := len(f.Objects) - 1 - shownObjects; n > 0 {
					more = fmt.Sprintf(" and %d more", n)
				}
				fmt.Fprintf(w, "        %s%s\n", strings.Join(f.Objects[1:min(len(f.Objects), 1+shownObjects)], ", "), more)
			}
			for _, line := range f.Evidence[:min(len(f.Evidence), shownEvidence)] {
				fmt.Fprintf(w, "        - %s\n", line)
			}
			if n := len(f.Evidence) - shownEvidence; n > 0 {
				fmt.Fprintf(w, "        - and %d more: -o json\n", n)
			}
			if f.Mend != "" {
				fmt.Fprintf(w, "        > %s\n", strings.ReplaceAll(f.Mend, "\n", "\n        > "))
			}
		}
	}
	left := r.notAsked(w, colour)
	_, err := fmt.Fprintf(w, "\n%d Fail, %d Unknown, %d Warn, %d Pass%s\n", count[v1alpha1.VerdictFail], count[v1alpha1.VerdictUnknown], count[v1alpha1.VerdictWarn], count[v1alpha1.VerdictPass], left)
	return err
}

// notAsked prints in a line which checks were not asked, and counts them.
func (r *Report) notAsked(w io.Writer, colour bool) string {
	var names []string
	why := ""
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Verdict == v1alpha1.VerdictNotAsked {
			names, why = append(names, f.Check), f.Message
		}
	}
	if len(names) == 0 {
		return ""
	}
	fmt.Fprintf(w, "\n%s %s: %s.\n", painted(v1alpha1.VerdictNotAsked, colour), strings.Join(names, ", "), why)
	return fmt.Sprintf(", %d not asked", len(names))
}

func painted(v v1alpha1.Verdict, colour bool) string {
	text := fmt.Sprintf("%-7s", v)
	codes := map[v1alpha1.Verdict]string{v1alpha1.VerdictFail: "31;1", v1alpha1.VerdictUnknown: "35", v1alpha1.VerdictWarn: "33", v1alpha1.VerdictPass: "32"}
	if !colour || codes[v] == "" {
		return text
	}
	return "\x1b[" + codes[v] + "m" + text + "\x1b[0m"
}

// The parts of JUnit's XML that CI systems read: a suite, its cases, failures and errors.
type suite struct {
	XMLName  xml.Name `xml:"testsuite"`
	Name     string   `xml:"name,attr"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Errors   int      `xml:"errors,attr"`
	Skipped  int      `xml:"skipped,attr"`
	Cases    []testcase
}

type testcase struct {
	XMLName xml.Name `xml:"testcase"`
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Failure *outcome `xml:"failure"`
	Error   *outcome `xml:"error"`
	Skipped *outcome `xml:"skipped"`
	Out     string   `xml:"system-out,omitempty"`
}

type outcome struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit prints a report for CI systems: Fail is a failure, Unknown an error, Warn a passed case with a text, NotAsked one that was skipped.
func (r *Report) WriteJUnit(w io.Writer) error {
	s := suite{Name: "kubectl cutover preflight", Tests: len(r.Findings)}
	for i := range r.Findings {
		f := &r.Findings[i]
		c := testcase{Class: "preflight." + f.Check, Name: f.Check}
		if len(f.Objects) > 0 {
			c.Name += " " + f.Objects[0]
		}
		said := &outcome{f.Message, strings.Join(append(slices.Clone(f.Evidence), f.Mend), "\n")}
		switch f.Verdict {
		case v1alpha1.VerdictFail:
			c.Failure = said
			s.Failures++
		case v1alpha1.VerdictUnknown:
			c.Error = said
			s.Errors++
		case v1alpha1.VerdictWarn:
			c.Out = f.Message
		case v1alpha1.VerdictNotAsked:
			c.Skipped = said
			s.Skipped++
		}
		s.Cases = append(s.Cases, c)
	}
	out, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("writing junit: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, out)
	return err
}
