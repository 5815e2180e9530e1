// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Command app plays one of the lab's applications; see package app. It takes
// its identity from POD_NAME, POD_NAMESPACE, POD_IP and NODE_NAME.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cni-cutover/cni-cutover/lab/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("app", flag.ExitOnError)
	flavour := flags.String("flavour", "", "which application to be: nginx, httpd or echo")
	listen := flags.String("listen", ":8080", "TCP address to answer on")
	linger := flags.Duration("linger", 2*time.Second, "how long to go on accepting after SIGTERM")
	finish := flags.Duration("finish", 4*time.Second, "how long answers under way may take after that")
	if err := flags.Parse(args); err != nil {
		return err
	}

	var known []string
	for _, a := range app.Apps() {
		known = append(known, a.Flavour)
	}
	if !slices.Contains(known, *flavour) {
		return fmt.Errorf("choosing a flavour: %q is none of %s; set --flavour", *flavour, strings.Join(known, ", "))
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("opening the address of --listen: %w", err)
	}
	return app.Serve(ctx, listener, app.Identity{
		Flavour:   *flavour,
		Pod:       os.Getenv("POD_NAME"),
		Namespace: os.Getenv("POD_NAMESPACE"),
		Node:      os.Getenv("NODE_NAME"),
		PodIP:     os.Getenv("POD_IP"),
	}, app.Grace{Linger: *linger, Finish: *finish})
}
