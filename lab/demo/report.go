// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab/traffic/balancer"
	"github.com/cni-cutover/cni-cutover/lab/traffic/load"
)

// report is all that is said at the end.
type report struct {
	claims   []claim
	phases   []v1alpha1.PhaseRecord
	finished []v1alpha1.FinishedSlot
	took     func(node string, end time.Time) map[v1alpha1.Step]time.Duration
	summary  load.Summary
	failures []balancer.Event
}

func (r report) write(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	r.writeTimes(table)
	r.writeRequests(table)
	fmt.Fprintln(table, "\nVERIFIED FROM THE CLUSTER")
	for _, c := range r.claims {
		mark := "yes"
		if !c.holds {
			mark = "NO"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", mark, c.name, c.detail)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// writeTimes is about the coordinator's own records: how long, never whether.
func (r report) writeTimes(out io.Writer) {
	fmt.Fprintln(out, "\nPHASE\tTOOK")
	for _, p := range r.phases {
		if !p.FinishedAt.IsZero() {
			fmt.Fprintf(out, "%s\t%.0f s\n", p.Phase, p.FinishedAt.Sub(p.StartedAt.Time).Seconds())
		}
	}
	shown := []v1alpha1.Step{
		v1alpha1.StepCordon, v1alpha1.StepDeregister, v1alpha1.StepConfirm, v1alpha1.StepDrain, v1alpha1.StepDetach,
		v1alpha1.StepReplace, v1alpha1.StepJoin, v1alpha1.StepValidate, v1alpha1.StepSoak,
	}
	fmt.Fprint(out, "\nNODE\tREPLACEMENT\tTOOK")
	for _, step := range shown {
		fmt.Fprintf(out, "\t%s", step)
	}
	fmt.Fprintln(out)
	for _, f := range r.finished {
		fmt.Fprintf(out, "%s\t%s\t%.1f s", f.Node, f.Replacement, f.FinishedAt.Sub(f.GrantedAt.Time).Seconds())
		times := r.took(f.Node, f.FinishedAt.Time)
		for _, step := range shown {
			fmt.Fprintf(out, "\t%.1f", times[step].Seconds())
		}
		fmt.Fprintln(out)
	}
}

func (r report) writeRequests(out io.Writer) {
	fmt.Fprintln(out, "\nREQUESTS\tSENT\tLOST\tFROM VPC\tFROM OVERLAY\tP50\tP99\tMAX")
	row := func(name string, s load.AppSummary) {
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%d\t%.1f ms\t%.1f ms\t%.1f ms\n", name, s.Sent, s.Lost, s.Networks["vpc"], s.Networks["overlay"],
			s.Latency.P50, s.Latency.P99, s.Latency.Max)
	}
	for _, name := range slices.Sorted(maps.Keys(r.summary.Apps)) {
		row(name, r.summary.Apps[name])
	}
	row("all", r.summary.Total)
	for _, f := range r.summary.Failures {
		fmt.Fprintf(out, "lost %s %s after %.0f ms: %s (client %s)\n", f.Due.Format(time.TimeOnly), f.App, f.After, f.Detail, f.Local)
	}
	if len(r.summary.Failures) == 0 {
		return
	}
	for _, f := range r.failures {
		fmt.Fprintf(out, "balancer %s %s by %s: %s (client %s)\n", f.Time.Format(time.TimeOnly), f.Service, orDash(f.Node), f.Reason, f.Client)
	}
}
