// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// header is looked for in the first lines: a shebang, a build constraint or a document mark may precede it.
var header = []string{"Copyright The cni-cutover Authors", "SPDX-License-Identifier: Apache-2.0"}

const headerWithin = 6 // lines

func licence(f File) []string {
	if !f.code() || f.fixture() || f.generated() && f.Syntax == nil || f.binary() {
		return nil
	}
	lines := bytes.SplitN(f.Data, []byte("\n"), headerWithin+1)
	top := bytes.Join(lines[:min(len(lines), headerWithin)], []byte("\n"))
	for _, want := range header {
		if !bytes.Contains(top, []byte(want)) {
			return []string{fmt.Sprintf("%s: %q is not in its first %d lines", f.Path, want, headerWithin)}
		}
	}
	return nil
}

func fileLength(f File) []string {
	if !f.code() || f.test() || f.fixture() || f.generated() {
		return nil
	}
	if n := f.lines(); n > maxFileLines {
		return []string{fmt.Sprintf("%s: %d lines, at most %d", f.Path, n, maxFileLines)}
	}
	return nil
}

// The words are put together here, so that this file does not break its own laws.
var (
	unfinished   = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b`)
	machinePaths = regexp.MustCompile(`(^|[^\w.\-/}])/(wo` + `rk|fa` + `rm)/|/tmp/ba` + `sh_jobs|/go/pkg/m` + `od/`)
)

func nothingUnfinished(f File) []string {
	if !f.code() || f.fixture() {
		return nil
	}
	return f.grep(unfinished)
}

func noMachinePaths(f File) []string { return f.grep(machinePaths) }

// grep reports each line that matches; in a binary only the match itself, for want of lines.
func (f File) grep(pattern *regexp.Regexp) []string {
	if f.binary() {
		if found := pattern.Find(f.Data); found != nil {
			return []string{fmt.Sprintf("%s: %q", f.Path, found)}
		}
		return nil
	}
	var broken []string
	for i, line := range strings.Split(string(f.Data), "\n") {
		if pattern.MatchString(line) {
			broken = append(broken, fmt.Sprintf("%s:%d: %s", f.Path, i+1, strings.TrimSpace(line)))
		}
	}
	return broken
}

func noBinaries(f File) []string {
	if !f.binary() || f.fixture() || path.Ext(f.Path) == ".o" && strings.Contains("/"+f.Path, "/bpf/") {
		return nil
	}
	return []string{f.Path + ": a binary"}
}

var emptyNames = []string{"pkg", "util", "utils", "common", "helpers", "misc", "mocks"}

func folderNames(f File) []string {
	for name := range strings.SplitSeq(path.Dir(f.Path), "/") {
		if slices.Contains(emptyNames, name) {
			return []string{fmt.Sprintf("%s: a folder called %s", f.Path, name)}
		}
	}
	return nil
}
