// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"strings"
	"testing"
)

func TestTheHouseKeepsItsLaws(t *testing.T) {
	tree, err := Tracked("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, law := range Laws {
		t.Run(law.Name, func(t *testing.T) {
			if broken := law.Broken(tree); len(broken) > 0 {
				t.Errorf("%s:\n  %s", law.Why, strings.Join(broken, "\n  "))
			}
		})
	}
}

const head = "// Copyright The cni-cutover Authors\n// SPDX-License-Identifier: Apache-2.0\n\n"

// TestEachLawBites shows each law a tree that breaks it and its nearest neighbour that does not.
func TestEachLawBites(t *testing.T) {
	type files map[string]string
	cases := map[string]struct{ broken, kept files }{
		"Licence": {
			broken: files{"a.sh": "#!/bin/sh\necho\n"},
			kept:   files{"a.sh": "#!/bin/sh\n# Copyright The cni-cutover Authors\n# SPDX-License-Identifier: Apache-2.0\n", "testdata/a.yaml": "a: 1\n"},
		},
		"PackageComment": {
			broken: files{"a/a.go": "// Package a is a.\npackage a\n", "a/b.go": "// Package a is a again.\npackage a\n"},
			kept:   files{"a/a.go": "// Package a is a.\npackage a\n", "a/b.go": head + "package a\n", "a/a_test.go": "// Tests of a.\npackage a_test\n"},
		},
		"FileLength": {
			broken: files{"a.c": strings.Repeat("\n", maxFileLines+1)},
			kept:   files{"a.c": strings.Repeat("\n", maxFileLines), "a.md": strings.Repeat("\n", 2*maxFileLines)},
		},
		"FunctionLength": {
			broken: files{"a.go": "package a\nfunc a() {\n" + strings.Repeat("\n", maxFunctionLines-1) + "}\n"},
			kept:   files{"a.go": "package a\nfunc a() {\n" + strings.Repeat("\n", maxFunctionLines-2) + "}\n"},
		},
		"NoInit": {
			broken: files{"a.go": "package a\nfunc init() {}\n"},
			kept:   files{"a.go": "package a\ntype t int\nfunc (t) init() {}\n"},
		},
		"GerundErrors": {
			broken: files{"a.go": "package a\nvar err = fmt.Errorf(\"Failed to \" + \"read\")\n"},
			kept:   files{"a.go": "package a\nvar err = fmt.Errorf(\"reading: the pod failed\")\n"},
		},
		"NoSleepInTests": {
			broken: files{"a_test.go": "package a\nfunc a() { time.Sleep(1) }\n"},
			kept:   files{"a_test.go": "package a\nimport \"testing/synctest\"\nfunc a() { time.Sleep(1) }\n", "a.go": "package a\nfunc b() { time.Sleep(1) }\n"},
		},
		"NothingUnfinished": {
			broken: files{"a.go": "package a // TO" + "DO\n"},
			kept:   files{"a.go": "package a // into" + "dos\n"},
		},
		"NoMachinePaths": {
			broken: files{"a.md": "see /wo" + "rk/main\n"},
			kept:   files{"a.md": "see /var/lib/wo" + "rk/main\n"},
		},
		"NoBinaries": {
			broken: files{"agent": "\x7fELF\x00"},
			kept:   files{"bpf/meter.o": "\x7fELF\x00", "a/testdata/x": "\x00"},
		},
		"FolderNames": {
			broken: files{"agent/util/a.go": "package util\n"},
			kept:   files{"agent/utility/a.go": "package utility\n"},
		},
		"GoVersion": {
			broken: files{"go.mod": "module a\n\ngo 1.26.0\n", "b/go.mod": "module b\n\ngo 1.25.0\n"},
			kept:   files{"go.mod": "module a\n\ngo 1.26.0\n", "b/go.mod": "module b\n\ngo 1.26.0\n"},
		},
		"KubernetesVersion": {
			broken: files{"go.mod": "\tk8s.io/client-go v0.35.4\n", "b/go.mod": "\tk8s.io/kubernetes v1.35.3\n"},
			kept:   files{"go.mod": "\tk8s.io/client-go v0.35.4\n", "b/go.mod": "\tk8s.io/kubernetes v1.35.4\n"},
		},
	}
	tree := func(t *testing.T, fs files) (tree Tree) {
		for path, text := range fs {
			f, err := NewFile(path, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			tree = append(tree, f)
		}
		return tree
	}
	for _, law := range Laws {
		t.Run(law.Name, func(t *testing.T) {
			c, ok := cases[law.Name]
			if !ok {
				t.Fatal("no case: show that it bites")
			}
			if len(law.Broken(tree(t, c.broken))) == 0 {
				t.Error("the breach was not seen")
			}
			if broken := law.Broken(tree(t, c.kept)); len(broken) > 0 {
				t.Errorf("seen where the law is kept: %v", broken)
			}
		})
	}
}
