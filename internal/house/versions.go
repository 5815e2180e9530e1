// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

var (
	goLine         = regexp.MustCompile(`(?m)^go (\S+)$`)
	kubernetesLine = regexp.MustCompile(`(?m)^\s*(?:require )?k8s\.io/kubernetes v1\.(\S+)`)
	clientLine     = regexp.MustCompile(`(?m)^\s*(?:require )?k8s\.io/client-go v0\.(\S+)`)
)

// goVersion compares every module with the root's.
func goVersion(tree Tree) []string {
	want := tree.find("go.mod", goLine)
	var broken []string
	for _, f := range tree {
		if path.Base(f.Path) != "go.mod" {
			continue
		}
		if got := submatch(goLine, f); got == "" || got != want {
			broken = append(broken, fmt.Sprintf("%s: go %q, the root module says %q", f.Path, got, want))
		}
	}
	return broken
}

// kubernetesVersion compares k8s.io/kubernetes v1.X.Y, wherever it is required, with the root's
// k8s.io/client-go v0.X.Y: the numbering of the published staging repositories.
func kubernetesVersion(tree Tree) []string {
	want := tree.find("go.mod", clientLine)
	var broken []string
	for _, f := range tree {
		if path.Base(f.Path) != "go.mod" || strings.HasPrefix(f.Path, "tools/") {
			continue
		}
		if got := submatch(kubernetesLine, f); got != "" && got != want {
			broken = append(broken, fmt.Sprintf("%s: k8s.io/kubernetes v1.%s, the root module has k8s.io/client-go v0.%s", f.Path, got, want))
		}
	}
	return broken
}

func (t Tree) find(name string, pattern *regexp.Regexp) string {
	for _, f := range t {
		if f.Path == name {
			return submatch(pattern, f)
		}
	}
	return ""
}

func submatch(pattern *regexp.Regexp, f File) string {
	if m := pattern.FindSubmatch(f.Data); m != nil {
		return string(m[1])
	}
	return ""
}
