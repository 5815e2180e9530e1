// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package golden holds what code gives against a file in the repository that people read and agree to. With the flag
// -update, which it adds to every test binary that imports it, the file is written first:
//
//	go test ./density -update
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what the tests got as golden files")

// Match fails the test if got is not what stands in the file, whose path is relative to the test's folder.
func Match(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("reading the golden file: run go test with -update to make it: %v", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s is not what the code gives (-want +got); look at the difference, and if it is right run go test with -update:\n%s", path, diff)
	}
}
