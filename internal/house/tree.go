// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// File is one tracked file: its path from the root of the repository with forward slashes, its bytes
// and, when it is Go, its syntax.
type File struct {
	Path   string
	Data   []byte
	Syntax *ast.File
	Set    *token.FileSet
}

// Tree is what git tracks, in git's order.
type Tree []File

// NewFile parses data when path says it is Go. Fixtures are data, whatever their name ends in.
func NewFile(path string, data []byte) (File, error) {
	f := File{Path: path, Data: data}
	if !strings.HasSuffix(path, ".go") || f.fixture() {
		return f, nil
	}
	f.Set = token.NewFileSet()
	var err error
	if f.Syntax, err = parser.ParseFile(f.Set, path, data, parser.ParseComments|parser.SkipObjectResolution); err != nil {
		return f, fmt.Errorf("parsing a tracked Go file: %w", err)
	}
	return f, nil
}

// Tracked reads the files that git tracks under root. A file that is deleted but not yet committed so
// is left out: the working tree is judged, and it is no longer there.
func Tracked(root string) (Tree, error) {
	// A clone of another user's is refused by git unless told otherwise, and the tests run as root.
	list, err := exec.Command("git", "-c", "safe.directory=*", "-C", root, "ls-files", "-z").Output()
	if err != nil {
		return nil, fmt.Errorf("listing tracked files with git ls-files in %s (is it a git clone?): %w", root, err)
	}
	var tree Tree
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading a tracked file: %w", err)
		}
		f, err := NewFile(name, data)
		if err != nil {
			return nil, err
		}
		tree = append(tree, f)
	}
	return tree, nil
}

func (f File) test() bool { return strings.HasSuffix(f.Path, "_test.go") }

// fixture says whether the file is a test's data: goldens and captures keep the shape they were taken in.
func (f File) fixture() bool { return strings.Contains("/"+f.Path, "/testdata/") }

// generated says whether a program wrote the file. Go files carry the standard mark; the CRDs carry
// the annotation of their generator.
func (f File) generated() bool {
	if f.Syntax != nil {
		return ast.IsGenerated(f.Syntax)
	}
	return bytes.Contains(f.Data, []byte("controller-gen.kubebuilder.io/version:"))
}

func (f File) binary() bool { return bytes.IndexByte(f.Data, 0) >= 0 }

func (f File) lines() int { return bytes.Count(f.Data, []byte("\n")) }

// code says whether people write the file in a language with comments: source, scripts and manifests.
func (f File) code() bool {
	switch path.Ext(f.Path) {
	case ".go", ".c", ".h", ".sh", ".yaml", ".yml":
		return true
	}
	switch path.Base(f.Path) {
	case "Makefile", "Dockerfile":
		return true
	}
	return bytes.HasPrefix(f.Data, []byte("#!"))
}

func (f File) line(pos token.Pos) int { return f.Set.Position(pos).Line }
