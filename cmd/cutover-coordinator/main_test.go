// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
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
	os.Exit(apiserver.Run(m, func(s *apiserver.Server) error {
		server = s
		return s.InstallAccounts(context.Background(), namespace)
	}))
}
