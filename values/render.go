// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package values

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Write prints what is wrong or cannot be told, the worst first, and with all also what is right.
func (r *Report) Write(w io.Writer, all bool) error {
	fmt.Fprintf(w, "%s, Cilium %s, phase %s\n\n", r.Origin, r.Version, r.Phase)
	shown := []v1alpha1.Verdict{v1alpha1.VerdictFail, v1alpha1.VerdictUnknown, v1alpha1.VerdictWarn}
	if all {
		shown = append(shown, v1alpha1.VerdictPass, v1alpha1.VerdictNotAsked)
	}
	count := map[v1alpha1.Verdict]int{}
	for i := range r.Findings {
		count[r.Findings[i].Verdict]++
	}
	for _, verdict := range shown {
		for i := range r.Findings {
			f := &r.Findings[i]
			if f.Verdict != verdict {
				continue
			}
			fmt.Fprintf(w, "%-8s %s: %s.\n", f.Verdict, f.Rule, f.Message)
			if f.Mend != "" {
				fmt.Fprintf(w, "         set %s\n", f.Mend)
			}
			if f.Verdict != v1alpha1.VerdictPass && f.Verdict != v1alpha1.VerdictNotAsked {
				fmt.Fprintf(w, "         (%s)\n", f.Source)
			}
		}
	}
	_, err := fmt.Fprintf(w, "\n%d Fail, %d Unknown, %d Warn, %d Pass, %d not asked\n", count[v1alpha1.VerdictFail], count[v1alpha1.VerdictUnknown],
		count[v1alpha1.VerdictWarn], count[v1alpha1.VerdictPass], count[v1alpha1.VerdictNotAsked])
	return err
}

// WriteRules prints the checklist.
func WriteRules(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(out, "RULE\tPHASES\tASKS\tSOURCE")
	for _, r := range rules() {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", r.name, r.in(), r.asks, r.source)
	}
	return out.Flush()
}

func (r *rule) in() string {
	if len(r.phases) > 1 {
		return "both"
	}
	return string(r.phases[0])
}
