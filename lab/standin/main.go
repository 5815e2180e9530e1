// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Command standin is every program of the lab's stand-ins in one file, so that one image
// and one copy on a node's disk serve all. It is the program it was called as (a CNI plugin
// is called by its own name), or else the one its first argument names.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/cni-cutover/cni-cutover/lab/standin/awsnode"
	"github.com/cni-cutover/cni-cutover/lab/standin/cilium"
)

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if name == "standin" && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	if err := run(name, args); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func run(name string, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	switch name {
	case "aws-node":
		return awsnode.Agent(ctx, args)
	case "aws-cni":
		awsnode.CNI()
	case "egress-cni":
		awsnode.EgressCNI()
	case "cilium-agent":
		return cilium.Agent(ctx, args)
	case "cilium-operator":
		return cilium.Operator(ctx, args)
	case "cilium-cni":
		cilium.CNI()
	default:
		return fmt.Errorf("choosing a program: there is no %q here: want aws-node, aws-cni, egress-cni, cilium-agent, cilium-operator or cilium-cni", name)
	}
	return nil
}
