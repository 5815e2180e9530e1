// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/internal/golden"
)

// TestPagesOnATerminal holds what people see of a cluster on a terminal of 120 columns. tools/pictures draws it.
func TestPagesOnATerminal(t *testing.T) {
	s := kept(t, "shop")
	r := Judge(s)
	f, err := Foresee(s, 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	var judged, foreseen strings.Builder
	if err := r.Write(&judged, true); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(&foreseen, false); err != nil {
		t.Fatal(err)
	}
	golden.Match(t, filepath.Join("testdata", "shop.ansi"), Wrap(judged.String(), 120))
	golden.Match(t, filepath.Join("testdata", "shop-plan.txt"), Wrap(foreseen.String(), 120))
}

func TestLinesAreBrokenWhereAPersonReadsOn(t *testing.T) {
	for name, c := range map[string]struct{ page, want string }{
		"short":             {"Pass    Overlap: clear.\n", "Pass    Overlap: clear.\n"},
		"a finding":         {"Fail    Draining Pod/a: nobody makes it again.\n", "Fail    Draining Pod/a:\n        nobody makes it\n        again.\n"},
		"a coloured one":    {"\x1b[31;1mFail   \x1b[0m Draining Pod/a: nobody makes it again.\n", "\x1b[31;1mFail   \x1b[0m Draining Pod/a:\n        nobody makes it\n        again.\n"},
		"an item":           {"  - one two three four five six\n", "  - one two three four\n    five six\n"},
		"objects":           {"        Pod/shop/a, Pod/shop/b\n", "        Pod/shop/a,\n        Pod/shop/b\n"},
		"a paragraph":       {"\nSlices of the overlay: 256\n", "\nSlices of the overlay:\n256\n"},
		"a word too long":   {"  - ip-10-0-1-10.eu-central-1.compute.internal\n", "  - ip-10-0-1-10.eu-central-1.compute.internal\n"},
		"a command":         {"        > kubectl -n shop scale deployment/a --replicas=2\n", "        > kubectl -n shop scale deployment/a --replicas=2\n"},
		"a row of a table":  {"1     node-a  eu-central-1a  2  0\n", "1     node-a  eu-central-1a  2  0\n"},
		"letters, no bytes": {"  - ääää ööö üüüü ääää öö\n", "  - ääää ööö üüüü ääää\n    öö\n"},
		"no end of line":    {"one two three four five six", "one two three four five\nsix"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Wrap(c.page, 23)
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(c.page), " ") {
				t.Error("it says something else")
			}
		})
	}
}
