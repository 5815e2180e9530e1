// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cni-cutover/cni-cutover/internal/apiserver"
	"github.com/cni-cutover/cni-cutover/internal/program"
)

// namespace of the coordinator's account and lease.
const namespace = "cni-cutover"

var server *apiserver.Server

func TestMain(m *testing.M) {
	if program.Is() {
		main()
		return
	}
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	var err error
	if server, err = apiserver.Start(); err == nil {
		err = server.InstallAccounts(context.Background(), namespace)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
