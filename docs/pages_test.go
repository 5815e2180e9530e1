// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package docs_test holds the pages to the tree that they speak of.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func pages(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"../*.md", "*.md", "../charts/cni-cutover/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no pages at %s: %v", pattern, err)
		}
		out = append(out, found...)
	}
	return out
}

func TestLinksLeadToFiles(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: link to %s: %v", page, m[1], err)
			}
		}
	}
}

// TestPathsAreThere looks for what is written as code and looks like a path of this repository.
func TestPathsAreThere(t *testing.T) {
	path := regexp.MustCompile("`((?:api|agent|bpf|charts|cmd|cniconf|coordinator|docs|internal|lab|tools)/[a-z0-9A-Z_./-]*)`")
	room := regexp.MustCompile(`(?m)^([a-z][a-z0-9/-]+) {3,}\S`)
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		found := path.FindAllStringSubmatch(string(text), -1)
		if filepath.Base(page) == "ARCHITECTURE.md" {
			rooms := room.FindAllStringSubmatch(string(text), -1)
			if len(rooms) < 10 {
				t.Errorf("%s: only %d rooms found in its tree; is it still written as one?", page, len(rooms))
			}
			found = append(found, rooms...)
		}
		for _, m := range found {
			if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
				t.Errorf("%s speaks of %s: %v", page, m[1], err)
			}
		}
	}
}

// TestTheTestsThatPagesNameAreThere keeps docs/safety.md honest: what it says would fail has to exist.
func TestTheTestsThatPagesNameAreThere(t *testing.T) {
	written := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			written[m[1]] = true
		}
		return err
	})
	if err != nil || len(written) == 0 {
		t.Fatalf("no test was found below the root: %v", err)
	}
	named := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w+)`").FindAllStringSubmatch(string(text), -1) {
			named++
			if !written[m[1]] {
				t.Errorf("%s names %s, which no file declares", page, m[1])
			}
		}
	}
	if named == 0 {
		t.Error("no page names a test; docs/safety.md should")
	}
}
