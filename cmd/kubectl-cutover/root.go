// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"
)

// app is what every command shares.
type app struct {
	genericiooptions.IOStreams
	flags *genericclioptions.ConfigFlags
}

func newRoot(streams genericiooptions.IOStreams) *cobra.Command {
	a := &app{IOStreams: streams, flags: genericclioptions.NewConfigFlags(true)}
	root := &cobra.Command{
		Use:   "kubectl-cutover",
		Short: "Move an EKS cluster from the AWS VPC CNI to Cilium: look before, watch, decide",
		Long: "Look before a cutover from the AWS VPC CNI to Cilium, watch it, and decide about it.\n\n" +
			"Exit codes: 0 clean, 1 the plugin itself could not go on, 2 something must be mended first, 3 it could not tell.",
		Example: `  # What would break?
  kubectl cutover preflight --vpc-cidr 10.0.0.0/16

  # What does the move buy, without any cluster?
  kubectl cutover density --instance-type m5.xlarge,t3.medium

  # Values for Cilium beside the VPC CNI, and a check of those that you have
  kubectl cutover values --phase install --cilium-version 1.18.11 > cilium.yaml
  kubectl cutover values check -f cilium.yaml --cilium-version 1.18.11 --vpc-cidr 10.0.0.0/16

  # What will the roll do, and how long does it take?
  kubectl cutover plan

  # Watch, and let the next phase begin
  kubectl cutover status -w
  kubectl cutover approve FenceLegacy

  # What did it leave behind?
  kubectl cutover report > cutover.md`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl cutover"},
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	a.flags.AddFlags(root.PersistentFlags())
	root.AddCommand(a.preflight(), a.density(), a.values(), a.plan(), a.status(), a.report(), a.approve(), a.pause(), a.resume(), a.abort())
	return root
}

// note tells a person something that is no part of the output.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.ErrOut, "note: "+format+"\n", args...)
}

// print writes a value as json or yaml; table is called for everything else.
func (a *app) print(format string, value any, table func() error) error {
	switch format {
	case "", "table", "wide":
		return table()
	case "json":
		out := json.NewEncoder(a.Out)
		out.SetIndent("", "  ")
		return out.Encode(value)
	case "yaml":
		out, err := yaml.Marshal(value)
		if err != nil {
			return fmt.Errorf("writing yaml: %w", err)
		}
		_, err = a.Out.Write(out)
		return err
	}
	return fmt.Errorf("reading --output %q: want table, wide, json or yaml", format)
}
