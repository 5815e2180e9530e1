// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Command lab-traffic is the outside world of the lab: a load balancer in
// front of its applications and a client of theirs. Both run in the client's
// network namespace, write one JSON object a line to standard output, and end
// with a last line on SIGTERM or SIGINT.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	root := &cobra.Command{
		Use:           "lab-traffic",
		Short:         "Stand in for the load balancer and the clients of the lab's applications",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(balancerCommand(), loadCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lab-traffic:", err)
		os.Exit(1)
	}
}
