// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"fmt"
	"go/ast"
	"maps"
	"path"
	"slices"
	"strings"
)

func packageComment(tree Tree) []string {
	voices := map[string][]string{} // folder → its files that carry a package comment
	for _, f := range tree {
		if f.Syntax == nil || strings.HasSuffix(f.Syntax.Name.Name, "_test") {
			continue
		}
		dir := path.Dir(f.Path)
		with := voices[dir]
		if f.Syntax.Doc != nil {
			with = append(with, f.Path)
		}
		voices[dir] = with
	}
	var broken []string
	for _, dir := range slices.Sorted(maps.Keys(voices)) {
		if with := voices[dir]; len(with) != 1 {
			broken = append(broken, fmt.Sprintf("%s: %d package comments %v, want exactly one", dir, len(with), with))
		}
	}
	return broken
}

func functionLength(f File) []string {
	if f.Syntax == nil || f.test() || f.generated() {
		return nil
	}
	var broken []string
	for _, decl := range f.Syntax.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := f.line(fn.End()) - f.line(fn.Pos()) + 1; n > maxFunctionLines {
			broken = append(broken, fmt.Sprintf("%s:%d: %s has %d lines, at most %d", f.Path, f.line(fn.Pos()), fn.Name.Name, n, maxFunctionLines))
		}
	}
	return broken
}

func noInit(f File) []string {
	if f.Syntax == nil || f.generated() {
		return nil
	}
	var broken []string
	for _, decl := range f.Syntax.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			broken = append(broken, fmt.Sprintf("%s:%d: func init; build it in a constructor or a literal", f.Path, f.line(fn.Pos())))
		}
	}
	return broken
}

func gerundErrors(f File) []string {
	if f.Syntax == nil || f.generated() {
		return nil
	}
	var broken []string
	f.calls(func(name string, call *ast.CallExpr) {
		if name != "errors.New" && name != "fmt.Errorf" || len(call.Args) == 0 {
			return
		}
		ast.Inspect(call.Args[0], func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && strings.Contains(strings.ToLower(lit.Value), "failed to") {
				broken = append(broken, fmt.Sprintf("%s:%d: error text %s; say what was being done: \"reading x: %%w\"", f.Path, f.line(lit.Pos()), lit.Value))
			}
			return true
		})
	})
	return broken
}

func noSleepInTests(f File) []string {
	if f.Syntax == nil || !f.test() {
		return nil
	}
	// Inside a synctest bubble the clock is a toy: sleeping there is exact and takes no time.
	if slices.ContainsFunc(f.Syntax.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` }) {
		return nil
	}
	var broken []string
	f.calls(func(name string, call *ast.CallExpr) {
		if name == "time.Sleep" {
			broken = append(broken, fmt.Sprintf("%s:%d: time.Sleep", f.Path, f.line(call.Pos())))
		}
	})
	return broken
}

// calls visits every call of the form package.Function, in source order.
func (f File) calls(visit func(name string, call *ast.CallExpr)) {
	ast.Inspect(f.Syntax, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
			if pkg, ok := sel.X.(*ast.Ident); ok {
				visit(pkg.Name+"."+sel.Sel.Name, call)
			}
		}
		return true
	})
}
