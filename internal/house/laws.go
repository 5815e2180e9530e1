// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package house

// Law is one rule of the house. Broken returns a line per breach, "path: what was found", and nothing
// where the law is kept.
type Law struct {
	Name   string
	Why    string
	Broken func(Tree) []string
}

// Limits in lines. Medians of the codebases we admire are 100 lines a file and 12 a function; these are
// the points at which a second noun, or a second verb, is surely hiding inside.
const (
	maxFileLines     = 450
	maxFunctionLines = 100
)

// Laws is the house book, cheapest to understand first.
var Laws = []Law{
	{"Licence", "a file travels alone; its licence must travel with it", eachFile(licence)},
	{"PackageComment", "go doc is how the rooms are read: one voice a room, not none and not two", packageComment},
	{"FileLength", "a long file hides a second noun", eachFile(fileLength)},
	{"FunctionLength", "a long function hides a second verb", eachFile(functionLength)},
	{"NoInit", "registration by side effect cannot be read, ordered or tested", eachFile(noInit)},
	{"GerundErrors", "a chain of wrapped errors reads as a sentence only if each link says what was being done", eachFile(gerundErrors)},
	{"NoSleepInTests", "a test that sleeps is slow on a good day and wrong on a bad one: poll, or use testing/synctest", eachFile(noSleepInTests)},
	{"NothingUnfinished", "unfinished work is an issue, not a comment", eachFile(nothingUnfinished)},
	{"NoMachinePaths", "a path of the machine it was built on works for nobody else", eachFile(noMachinePaths)},
	{"NoBinaries", "what cannot be reviewed is built, not committed; eBPF objects are the exception, so that users need no clang", eachFile(noBinaries)},
	{"FolderNames", "a folder is named by its noun; these names say only that nobody found one", eachFile(folderNames)},
	{"GoVersion", "one Go version in every module, or a fresh clone builds half of them", goVersion},
	{"KubernetesVersion", "the lab's cluster is the release whose client we ship", kubernetesVersion},
}

// eachFile turns a rule about one file into a rule about the tree.
func eachFile(rule func(File) []string) func(Tree) []string {
	return func(tree Tree) []string {
		var broken []string
		for _, f := range tree {
			broken = append(broken, rule(f)...)
		}
		return broken
	}
}
