// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Command demo shows a whole cutover on this machine and proves it; `make demo` builds what it
// needs. It leaves nothing behind, however it ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab"
	"github.com/cni-cutover/cni-cutover/lab/demo"
	"github.com/cni-cutover/cni-cutover/lab/stage"
)

func main() {
	lab.Main()
	ctx, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, release) // the second Ctrl-C ends it at once
	var mode, logs string
	var keep bool
	root := &cobra.Command{
		Use: "demo", Short: "Watch a whole cutover on this machine", Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			install, ok := map[string]v1alpha1.InstallMode{"secondary": v1alpha1.InstallSecondary, "shared": v1alpha1.InstallShared}[mode]
			if !ok {
				return fmt.Errorf("choosing an install mode: %q is none: want secondary or shared", mode)
			}
			if os.Geteuid() != 0 {
				return fmt.Errorf("starting the demo: it makes namespaces and needs root, and you are user %d: run sudo make demo", os.Geteuid())
			}
			return run(cmd.Context(), stage.Options{Install: install, Dir: logs}, keep, os.Stdout)
		},
	}
	root.Flags().StringVar(&mode, "mode", "secondary", "how Cilium is installed beside the VPC CNI: secondary or shared")
	root.Flags().StringVar(&logs, "logs", "", "directory to keep the logs in, the API server's audit log among them (default: they go with the cluster)")
	root.Flags().BoolVar(&keep, "keep", false, "leave the cluster up at the end, until Ctrl-C")
	switch err := root.ExecuteContext(ctx); {
	case errors.Is(err, errInterrupted):
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// errInterrupted: a signal came before there was a verdict.
var errInterrupted = errors.New("ended by a signal; nothing is left")

func run(ctx context.Context, options stage.Options, keep bool, out io.Writer) (err error) {
	began := time.Now()
	fmt.Fprintln(out, "Setting the scene (half a minute):")
	options.Say = func(what string, took time.Duration) { fmt.Fprintf(out, "  %4.1f s  %s\n", took.Seconds(), what) }
	e, err := stage.Up(ctx, options)
	if ctx.Err() != nil {
		return errors.Join(errInterrupted, closed(e))
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if err = demo.Run(ctx, e, options.Install, out); ctx.Err() != nil {
		return errInterrupted
	}
	fmt.Fprintf(out, "\n%s after %.0f s\n", verdict(err), time.Since(began).Seconds())
	if keep {
		if err != nil {
			fmt.Fprintln(out, "demo:", err)
		}
		stay(ctx, e.Cluster, out)
	}
	return err
}

func closed(e *stage.Env) error {
	if e == nil {
		return nil
	}
	return e.Close()
}

func verdict(err error) string {
	if err != nil {
		return "NOT PROVED"
	}
	return "PROVED"
}

// stay says how to reach the cluster and keeps it until ctx ends.
func stay(ctx context.Context, c *lab.Cluster, out io.Writer) {
	fmt.Fprintf(out, "\nThe cluster stays until you press Ctrl-C here (process %d):\n", os.Getpid())
	for _, line := range []string{
		"export KUBECONFIG=" + c.Kubeconfig(),
		"bin/lab-kube kubectl get cutovers,nodecutovers,nodes,pods -A -o wide",
		"bin/lab --state " + c.State() + " list                     # the machines, and where their logs are",
		"bin/lab --state " + c.State() + " exec node-5 -- ip route  # any command on any machine",
	} {
		fmt.Fprintln(out, "  "+strings.TrimSpace(line))
	}
	<-ctx.Done()
}
