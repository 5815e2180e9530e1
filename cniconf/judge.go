// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"cmp"
	"slices"
	"strings"
)

// A State is the answer to "does the next pod get a network, and do we know".
type State uint8

// The states, a closed set. The zero State claims nothing.
const (
	Unreadable State = iota // could not tell: we cannot read the directory, or not the file that decides
	Ready                   // the first file loads: Winner gives the next pod its network
	Refusing                // the first file loads and the node says Ready, but every pod would be refused
	NoNetwork               // the first file does not load: the node has no network, whatever the others say
	Empty                   // no file that the runtime would list
	Missing                 // no such directory, or it is no directory
	Unstable                // the directory kept changing while it was read: look again
)

// String is the state's constant name.
func (s State) String() string {
	switch s {
	case Ready:
		return "Ready"
	case Refusing:
		return "Refusing"
	case NoNetwork:
		return "NoNetwork"
	case Empty:
		return "Empty"
	case Missing:
		return "Missing"
	case Unstable:
		return "Unstable"
	}
	return "Unreadable"
}

// Outcome is the judgement of one directory.
type Outcome struct {
	State     State
	Winner    *Candidate  // the file that decides, in whatever condition; nil when there is none. Only in state Ready does it give pods a network
	Next      *Candidate  // what would decide if Winner went away, judged as Winner is; nil when nothing would
	Ignored   []Candidate // every file behind Winner, in order, so Ignored[0] is Next
	Leftovers []Leftover  // what else lies there and tells of a CNI, in order of name

	Why  string // one or two sentences: what was found, where, and what to do about it; at most 512 bytes
	Then string // one sentence: what would follow if Winner went away; "" without a Winner
}

// Leftover is something the runtime does not read that tells of a CNI.
type Leftover struct {
	Name string
	Kind Kind   // of the configuration inside, when it can be parsed
	What string // what it is, as the end of a sentence

	SetAside bool // renamed by Cilium (cni.exclusive)
}

// Judge says which CNI gives the next pod its network. It is pure: the same directory gives the same outcome, and it changes nothing.
func (d Directory) Judge() Outcome {
	switch d.Listing {
	case Listed:
	case NoDirectory, NotDirectory:
		return Outcome{State: Missing, Why: d.whyMissing()}
	case Changing:
		return Outcome{State: Unstable, Why: d.whyUnstable()}
	default:
		return Outcome{State: Unreadable, Why: d.whyUnlisted()}
	}
	entries := slices.Clone(d.Entries)
	slices.SortStableFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })

	var all []Candidate
	for _, e := range entries {
		if e.Type != Dir && isConf(e.Name) {
			all = append(all, load(entries, e))
		}
	}
	for i := range all {
		all[i].resolve(d.Path, all)
	}
	o := Outcome{Leftovers: leftovers(entries)}
	if len(all) == 0 {
		o.State, o.Why = Empty, d.whyEmpty(o.Leftovers)
		return o
	}
	o.Winner, o.Ignored = &all[0], all[1:]
	if len(all) > 1 {
		o.Next = &all[1]
	}
	o.State = stateOf(o.Winner.Condition)
	o.Why, o.Then = d.whyWinner(o), o.whyNext()
	return o
}

func stateOf(c Condition) State {
	switch c {
	case Loads:
		return Ready
	case Refuses:
		return Refusing
	case Broken:
		return NoNetwork
	}
	return Unreadable
}

// leftovers lists what lies beside the configuration and tells of a CNI that is here, was here, or was told to step aside.
func leftovers(entries []Entry) []Leftover {
	var out []Leftover
	for _, e := range entries {
		l := Leftover{Name: e.Name}
		switch {
		case isSetAside(e.Name):
			was := e
			was.Name = strings.TrimSuffix(e.Name, setAside)
			if was.Problem == NoProblem && isConf(was.Name) {
				l.Kind = load(entries, was).Kind
			}
			l.SetAside = true
			l.What = "set aside by Cilium (cni.exclusive); containerd does not read it"
		case e.Type == Dir && isConf(e.Name):
			l.What = "a directory, whatever its name says; containerd does not list it"
		case isConf(e.Name):
			continue
		case strings.Contains(e.Name, ".conf"), strings.Contains(e.Name, ".json"):
			l.What = "a backup or a temporary file by its name; containerd does not read it"
		case ownerOf(e.Name) != "":
			l.What = "a part of " + ownerOf(e.Name)
		default:
			continue
		}
		out = append(out, l)
	}
	return out
}

// ownerOf knows the names other CNIs leave in net.d besides their configuration.
func ownerOf(name string) string {
	switch name {
	case "calico-kubeconfig", "calico-tls", "canal-kubeconfig":
		return "Calico"
	case "multus.d":
		return "Multus"
	case "whereabouts.d":
		return "Whereabouts, the address plugin that is used with Multus"
	}
	return ""
}
