// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// reason is one constant of reasons.go as it is written there.
type reason struct{ name, value, comment string }

// reasons reads the constants of type Reason from the source: a list of them in Go would be a second one to keep.
func reasons(t *testing.T) []reason {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var out []reason
	for _, decl := range file.Decls {
		block, ok := decl.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		for _, spec := range block.Specs {
			v, ok := spec.(*ast.ValueSpec)
			if !ok || len(v.Names) != 1 || len(v.Values) != 1 {
				t.Fatalf("a constant that is not one name and one value: %v", spec)
			}
			value, ok := literal(v.Values[0])
			if kind, isName := v.Type.(*ast.Ident); !ok || !isName || kind.Name != "Reason" {
				t.Errorf("%s is not a Reason with a value of its own", v.Names[0].Name)
			}
			out = append(out, reason{name: v.Names[0].Name, value: value, comment: v.Doc.Text()})
		}
	}
	if len(out) < 50 {
		t.Fatalf("%d constants found; this test no longer reads reasons.go as it is written", len(out))
	}
	return out
}

// literal returns the text of a string literal.
func literal(e ast.Expr) (string, bool) {
	b, ok := e.(*ast.BasicLit)
	if !ok || b.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(b.Value)
	return s, err == nil
}

func TestEveryReasonIsExplained(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range reasons(t) {
		if r.name != r.value {
			t.Errorf("%s has the value %q: people search for what they read", r.name, r.value)
		}
		if seen[r.value] {
			t.Errorf("%s is there twice", r.value)
		}
		seen[r.value] = true
		sentence, ok := strings.CutPrefix(r.comment, r.name+": ")
		if !ok || !strings.HasSuffix(strings.TrimSpace(sentence), ".") {
			t.Errorf("%s needs a comment of the form %q, has %q", r.name, r.name+": a sentence.", r.comment)
		}
	}
}

func TestEveryReasonHasASectionInTheRunbook(t *testing.T) {
	text, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for i, part := range strings.Split("\n"+string(text), "\n## ") {
		title, body, _ := strings.Cut(part, "\n")
		if i == 0 {
			continue
		}
		if _, twice := sections[title]; twice {
			t.Errorf("two sections %q", title)
		}
		body, _, _ = strings.Cut(body, "\n# ")
		sections[title] = body
	}
	for _, r := range reasons(t) {
		body, ok := sections[r.value]
		if !ok {
			t.Errorf("no section %q in docs/runbook.md: say what it means, where it is seen and what to do", "## "+r.value)
		}
		for _, part := range []string{"**Seen:**", "**Do:**"} {
			if ok && !strings.Contains(body, part) {
				t.Errorf("section %s of docs/runbook.md has no %s", r.value, part)
			}
		}
		delete(sections, r.value)
	}
	for title := range sections {
		t.Errorf("docs/runbook.md has a section %q, and reasons.go no such constant", title)
	}
}

// TestLinksOfTheRunbookLead follows the links to sections of the runbook that stand in the documentation.
func TestLinksOfTheRunbookLead(t *testing.T) {
	var anchors []string
	for _, r := range reasons(t) {
		anchors = append(anchors, strings.ToLower(r.value))
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		links := strings.Split(string(text), "runbook.md#")[1:]
		if filepath.Base(page) == "runbook.md" {
			links = append(links, strings.Split(string(text), "](#")[1:]...)
			for _, l := range links {
				if anchor, _, _ := strings.Cut(l, ")"); !slices.Contains(anchors, anchor) {
					t.Errorf("%s links to #%s, which no reason is called", page, anchor)
				}
			}
			continue
		}
		for _, l := range links {
			if anchor, _, _ := strings.Cut(l, ")"); !slices.Contains(anchors, anchor) {
				t.Errorf("%s links to runbook.md#%s, which no reason is called", page, anchor)
			}
		}
	}
}

// TestReasonsAreWrittenAsConstants finds the words of reasons in string literals of the programs: those would go on being
// printed when the constant is renamed, and nobody would find their section.
func TestReasonsAreWrittenAsConstants(t *testing.T) {
	known := map[string]bool{}
	for _, r := range reasons(t) {
		known[r.value] = true
	}
	files := 0
	for _, root := range []string{"../../agent", "../../coordinator", "../../cmd", "../../cniconf"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				return err
			}
			files++
			ast.Inspect(file, func(n ast.Node) bool {
				if e, ok := n.(ast.Expr); ok {
					if s, ok := literal(e); ok && known[s] {
						t.Errorf("%s writes %q; use v1alpha1.%s", set.Position(e.Pos()), s, s)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 20 {
		t.Errorf("only %d files were looked at; the rooms have moved", files)
	}
}
