// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package values knows Cilium's Helm values: which are right beside the VPC CNI and which after it, and what is wrong with
// those that somebody has. It reads no file and no cluster: bytes and objects are handed in.
//
// The verdicts are those of the contract. Fail: the release refuses it, or traffic or nodes are lost. Warn: it works and
// will surprise. Unknown: what was handed in does not show it; the message says what would. NotAsked: the rule has nothing to
// say in this phase. Every rule names its source, and docs/values.md is rendered from the table of the rules.
package values

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is a release of Cilium.
type Version struct{ Major, Minor, Patch int }

// ParseVersion reads a version as 1.18.3, v1.18.3 or 1.18.
func ParseVersion(text string) (Version, error) {
	number, _, _ := strings.Cut(strings.TrimPrefix(text, "v"), "-")
	parts := strings.Split(number, ".")
	var v Version
	for i, at := range []*int{&v.Major, &v.Minor, &v.Patch} {
		if i >= len(parts) {
			break
		}
		n, err := strconv.ParseUint(parts[i], 10, 16)
		if err != nil {
			return Version{}, fmt.Errorf("reading Cilium's version %q: want one as 1.18.3", text)
		}
		*at = int(n)
	}
	if len(parts) < 2 || len(parts) > 3 {
		return Version{}, fmt.Errorf("reading Cilium's version %q: want one as 1.18.3", text)
	}
	return v, nil
}

// String is the version as Helm's --version wants it.
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// AtLeast says whether v is of this minor release or a later one.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// Phase is what the values are for.
type Phase string

// The phases that people give values to, by the names of the command line.
const (
	// Install: beside the VPC CNI, from phase InstallCilium to RemoveLegacy.
	Install Phase = "install"
	// FullEBPF: after it.
	FullEBPF Phase = "full-ebpf"
)

// ParsePhase reads the name of a phase.
func ParsePhase(name string) (Phase, error) {
	switch p := Phase(name); p {
	case Install, FullEBPF:
		return p, nil
	}
	return "", fmt.Errorf("reading the phase %q: want %s or %s", name, Install, FullEBPF)
}
