// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Command cutover-agent looks at the node it runs on and says whether the node may be drained, or whether a replacement works.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=...
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := root().ExecuteContext(ctx)
	if v := verdictError(""); errors.As(err, &v) {
		os.Exit(v.code())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cutover-agent:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "cutover-agent",
		Short:         "Look at this node and say whether it may be drained, or whether a replacement works",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	var o options
	o.flags(cmd.PersistentFlags())
	cmd.AddCommand(runCommand(&o), lookCommand(&o))
	return cmd
}
