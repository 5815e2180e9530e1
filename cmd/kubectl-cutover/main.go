// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Command kubectl-cutover is the plugin behind `kubectl cutover`: what the move buys, which of Cilium's values are right, how
// far a cutover is, and a person's decisions about it. Everything that it judges by is in rooms of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// version is set when a release is built.
var version = "dev"

// The exit codes.
const (
	codeClean   = 0
	codeFailed  = 1 // the plugin itself could not go on
	codeBlocked = 2 // something must be mended first
	codeUnsure  = 3 // it could not tell
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}))
}

// run runs one command and returns the code to exit with.
func run(ctx context.Context, args []string, streams genericiooptions.IOStreams) int {
	root := newRoot(streams)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	return codeOf(err, streams.ErrOut)
}

// verdict ends a command that did what it should with a code that tells the outcome.
type verdict int

func (v verdict) Error() string { return fmt.Sprintf("the outcome is %d", int(v)) }

// exitOf returns the end of a command that judged something.
func exitOf(v v1alpha1.Verdict) error {
	switch v {
	case v1alpha1.VerdictFail:
		return verdict(codeBlocked)
	case v1alpha1.VerdictUnknown:
		return verdict(codeUnsure)
	}
	return nil
}

func codeOf(err error, stderr io.Writer) int {
	var v verdict
	var right *missingRight
	switch {
	case err == nil:
		return codeClean
	case errors.As(err, &v):
		return int(v)
	case errors.As(err, &right) && !right.writes:
		fmt.Fprintln(stderr, "kubectl cutover: could not tell:", err)
		return codeUnsure
	}
	fmt.Fprintln(stderr, "kubectl cutover:", err)
	return codeFailed
}
