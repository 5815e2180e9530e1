// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"testing"

	"github.com/cni-cutover/cni-cutover/internal/isolated"
)

func TestMain(m *testing.M) { os.Exit(isolated.Run(m.Run)) }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
