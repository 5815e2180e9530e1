// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"os"
	"testing"

	"github.com/cni-cutover/cni-cutover/internal/isolated"
)

func TestMain(m *testing.M) {
	if role, ok := roles()[os.Getenv(roleVariable)]; ok {
		role()
		return
	}
	os.Exit(isolated.Run(m.Run))
}

func needsRoot(tb testing.TB) {
	tb.Helper()
	if !isolated.Tests() {
		tb.Skip("needs root: loads programs and makes network namespaces")
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
