// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/golden"
)

func TestTheChecksPageIsRenderedFromTheChecks(t *testing.T) {
	runbook, err := os.ReadFile("../../docs/runbook.md")
	must(t, err)
	page := Render(string(runbook))
	if i := strings.Index(page, ") |  |"); i >= 0 {
		t.Errorf("a reason has no advice: ...%s", page[max(0, i-80):i])
	}
	golden.Match(t, "../../docs/checks.md", page)
}

func TestEveryCheckIsDescribed(t *testing.T) {
	var names []v1alpha1.CheckName
	for _, d := range descriptions() {
		names = append(names, d.name)
	}
	if !slices.Equal(names, Names()) {
		t.Errorf("described are %v, judged are %v", names, Names())
	}
}

// TestNoReasonIsLeftOut holds the page to the source: a reason that some check gives must be among those of a check, and none may
// be listed that no check gives. Which reason is whose, the tales say.
func TestNoReasonIsLeftOut(t *testing.T) {
	files, err := os.ReadDir(".")
	must(t, err)
	given := map[string]bool{}
	reason := regexp.MustCompile(`\b(?:pass|warn|fail|unknown|note|byNumber|sortPaths)\((?:[\w.-]+, )?v1alpha1\.(\w+)|return v1alpha1\.(\w+), fmt|v1alpha1\.VerdictNotAsked, v1alpha1\.(\w+)|v1alpha1\.(\w+), bad$`)
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "_test.go") || !strings.HasSuffix(f.Name(), ".go") {
			continue
		}
		text, err := os.ReadFile(f.Name())
		must(t, err)
		for _, m := range reason.FindAllStringSubmatch(string(text), -1) {
			given[m[1]+m[2]+m[3]+m[4]] = true
		}
	}
	delete(given, string(v1alpha1.AsWanted))
	delete(given, string(v1alpha1.SwitchedOff)) // both are of any check
	for _, d := range descriptions() {
		for _, r := range d.reasons {
			if !given[string(r)] {
				t.Errorf("%s lists %s, which nothing gives", d.name, r)
			}
		}
	}
	for r := range given {
		if !slices.ContainsFunc(descriptions(), func(d description) bool { return slices.Contains(d.reasons, v1alpha1.Reason(r)) }) {
			t.Errorf("no check lists %s", r)
		}
	}
}
