// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Command lab starts a cluster by hand and works on one that runs, also on one that a test
// or the demo has started.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cni-cutover/cni-cutover/lab"
)

func main() {
	lab.Main()
	ctx, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer release()
	var state string
	root := &cobra.Command{Use: "lab", Short: "A real Kubernetes cluster on one machine", SilenceUsage: true, SilenceErrors: true}
	root.PersistentFlags().StringVar(&state, "state", "", "state directory of the lab to work on (default: the only one)")
	root.AddCommand(up(), list(&state), add(&state), terminate(&state), execute(&state), writeImage())
	err := root.ExecuteContext(ctx)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func up() *cobra.Command {
	var config lab.Config
	cmd := &cobra.Command{
		Use: "up", Args: cobra.NoArgs,
		Short: "Start a lab and keep it until this command ends (Ctrl-C)",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c, err := lab.Start(cmd.Context(), config)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, c.Stop()) }()
			if err := describe(cmd, c); err != nil {
				return err
			}
			<-cmd.Context().Done()
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&config.Nodes, "nodes", 2, "number of nodes")
	flags.StringSliceVar(&config.Zones, "zones", []string{"lab-a"}, "zones, used in turn")
	flags.StringSliceVar(&config.Images, "image", nil, "image archive to import into every node; may be repeated")
	flags.IntVar(&config.MTU, "mtu", 0, "MTU of the VPC (default 9001)")
	flags.StringVar(&config.Dir, "dir", "", "keep logs and control plane files here")
	return cmd
}

func list(state *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Args: cobra.NoArgs, Short: "Show the machines and how to enter them",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return attached(cmd, *state, func(c *lab.Cluster) error { return describe(cmd, c) })
		},
	}
}

func add(state *string) *cobra.Command {
	var options lab.NodeOptions
	cmd := &cobra.Command{
		Use: "add", Args: cobra.NoArgs, Short: "Add a node",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return attached(cmd, *state, func(c *lab.Cluster) error {
				host, err := c.AddNode(cmd.Context(), options)
				if err == nil {
					show(cmd, host)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&options.Zone, "zone", "", "zone of the node")
	cmd.Flags().StringToStringVar(&options.Labels, "label", nil, "label the node joins with")
	return cmd
}

func terminate(state *string) *cobra.Command {
	return &cobra.Command{
		Use: "terminate NODE", Args: cobra.ExactArgs(1), Short: "Terminate a node as an autoscaling group does",
		RunE: func(cmd *cobra.Command, args []string) error {
			return attached(cmd, *state, func(c *lab.Cluster) error { return c.Terminate(cmd.Context(), args[0]) })
		},
	}
}

func execute(state *string) *cobra.Command {
	return &cobra.Command{
		Use: "exec MACHINE -- COMMAND...", Args: cobra.MinimumNArgs(2), Short: "Run a command on a machine",
		RunE: func(cmd *cobra.Command, args []string) error {
			return attached(cmd, *state, func(c *lab.Cluster) error {
				run, err := c.Command(cmd.Context(), args[0], args[1:]...)
				if err != nil {
					return err
				}
				run.Stdin, run.Stdout, run.Stderr = os.Stdin, os.Stdout, os.Stderr
				return run.Run()
			})
		},
	}
}

func attached(cmd *cobra.Command, state string, work func(*lab.Cluster) error) error {
	c, err := lab.Attach(cmd.Context(), state)
	if err != nil {
		return err
	}
	return errors.Join(work(c), c.Stop())
}

func describe(cmd *cobra.Command, c *lab.Cluster) error {
	hosts, err := c.Hosts(cmd.Context())
	if err != nil {
		return err
	}
	cmd.Printf("export KUBECONFIG=%s\nlogs   %s\naudit  %s\nstate  %s\n", c.Kubeconfig(), c.Logs(), c.AuditLog(), c.State())
	for _, host := range hosts {
		show(cmd, host)
	}
	return nil
}
