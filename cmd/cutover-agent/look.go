// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/cni-cutover/cni-cutover/agent"
	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// verdictError ends `look --once` with a status that a script can read.
type verdictError v1alpha1.Verdict

func (e verdictError) Error() string { return "the verdict is " + string(e) }

// code is 2 for Fail and 3 for what could not be told; 1 is left to errors.
func (e verdictError) code() int {
	if v1alpha1.Verdict(e) == v1alpha1.VerdictFail {
		return 2
	}
	return 3
}

func lookCommand(o *options) *cobra.Command {
	var (
		once   bool
		format string
		role   string
	)
	cmd := &cobra.Command{
		Use:   "look",
		Short: "Look at this node and print the report",
		Long: "Look at this node and print the report. Nothing is written anywhere. Without an API server, what only it knows " +
			"(pods, peers, the Cutover) is Unknown; --overlay-cidrs and --role help then.\n\n" +
			"With --once the exit status is 0 for Pass and Warn, 2 for Fail and 3 for Unknown; without it, the report is printed again at every interval.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for {
				verdict, err := look(cmd.Context(), o, cmd.OutOrStdout(), format, v1alpha1.Role(role))
				if err != nil {
					return err
				}
				if once {
					if verdict == v1alpha1.VerdictFail || verdict == v1alpha1.VerdictUnknown {
						return verdictError(verdict)
					}
					return nil
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(o.interval):
				}
			}
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "print one report and exit")
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json or yaml")
	cmd.Flags().StringVar(&role, "role", "", "role to judge by: Legacy, Overlay or Mixed (default: the one that the host shows)")
	return cmd
}

func look(ctx context.Context, o *options, w io.Writer, format string, role v1alpha1.Role) (v1alpha1.Verdict, error) {
	switch role {
	case "", v1alpha1.RoleLegacy, v1alpha1.RoleOverlay, v1alpha1.RoleMixed:
	default:
		return "", fmt.Errorf("reading --role: %q is none of Legacy, Overlay and Mixed", role)
	}
	node, err := o.nodeName()
	if err != nil {
		return "", err
	}
	off, err := o.switchedOff()
	if err != nil {
		return "", err
	}
	fallback, err := o.fallback()
	if err != nil {
		return "", err
	}
	around, api := surroundings(ctx, o, node)
	if around.Settings.Sight != facts.Seen {
		around.Settings = fallback
	}
	at := time.Now()
	f := o.host.Look()
	f.At = at
	f.Settings, f.Node, f.Own, f.Pods, f.Peers = around.Settings, around.Node, around.Own, around.Pods, around.Peers
	f.Kubernetes = around.Kubernetes
	o.host.LookAsked(&f)
	if api != nil {
		agent.AskSuspects(&f, func(names []string) map[string]facts.PeerNode { return api.PeerNodes(ctx, names) })
		if !off[v1alpha1.CheckServices] {
			agent.AskServices(ctx, &f, o.host.LookServices, api.WantedServices)
		}
	}
	status := agent.Report(&f, role, version, off)
	_, why := check.Role(&f)
	return status.Verdict, agent.Show(w, format, node, why, status)
}

// surroundings asks the API server, if there is one. People ask as the coordinator does: peers included.
func surroundings(ctx context.Context, o *options, node string) (agent.Surroundings, *agent.API) {
	config, err := o.rest()
	if err != nil {
		return unreached(err), nil
	}
	api, err := agent.NewAPI(config, node, func(bool) {})
	if err != nil {
		return unreached(err), nil
	}
	return api.Surroundings(ctx, true), api
}

// unreached is what is known without an API server.
func unreached(err error) agent.Surroundings {
	l := facts.Look{Sight: facts.Failed, Detail: err.Error()}
	return agent.Surroundings{
		Settings: facts.Settings{Look: l}, Node: facts.Node{Look: l}, Own: facts.Own{Look: l}, Pods: facts.Pods{Look: l}, Peers: facts.Peers{Look: l}, Kubernetes: facts.Kubernetes{Look: l},
	}
}
