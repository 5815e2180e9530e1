// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cni-cutover/cni-cutover/preflight"
)

func (a *app) plan() *cobra.Command {
	var o preflightOptions
	var replaced time.Duration
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Say what the roll will do: which nodes in which order, what leaves them and where it fits, and how long it takes",
		Long: "Say in which waves nodes get slots and why no more at once, what each drain evicts and which of that fits on no other node,\n" +
			"which nodes get no slot or could not be emptied, and about how long it takes. Order and limits are the coordinator's own rules, with\n" +
			"the Cutover's terms, or its defaults without one. What is assumed stands at the end. It only reads.",
		Example: `  kubectl cutover plan
  kubectl cutover plan -o wide --replace-time 8m
  kubectl cutover plan --from snapshot.tgz -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runPlan(cmd.Context(), o, replaced) },
	}
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "", "a snapshot that preflight --save kept; no cluster is asked")
	f.DurationVar(&replaced, "replace-time", 5*time.Minute, "from the request to replace a node until its replacement is Ready")
	f.StringVarP(&o.output, "output", "o", "table", "table, wide, json or yaml")
	return cmd
}

func (a *app) runPlan(ctx context.Context, o preflightOptions, replaced time.Duration) error {
	if !slices.Contains([]string{"table", "wide", "json", "yaml"}, o.output) {
		return fmt.Errorf("reading --output %q: want table, wide, json or yaml", o.output)
	}
	if replaced < 0 {
		return fmt.Errorf("reading --replace-time %s: want a time that passes", replaced)
	}
	s, err := a.snapshot(ctx, o)
	if err != nil {
		return err
	}
	f, err := preflight.Foresee(s, replaced)
	if err != nil {
		return err
	}
	write := func(w io.Writer, _ bool) error { return f.Write(w, o.output == "wide") }
	if err := a.print(o.output, &f, func() error { return a.page(write) }); err != nil {
		return err
	}
	return exitOf(f.Verdict())
}
