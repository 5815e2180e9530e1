// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/containernetworking/cni/pkg/version"
)

// The sentences. Each says what was found and where; one that is bad news says what to do. Names and reasons come from files that
// anybody may have written, so they are clipped and made printable: a sentence stays below 512 bytes.
const (
	maxName   = 64  // bytes of a name
	maxReason = 160 // bytes of somebody else's words
	maxWhy    = 512
)

func (d Directory) whyMissing() string {
	if d.Listing == NotDirectory {
		return cut(fmt.Sprintf("New pods get no network: %s is not a directory. Move away what is there, so that a CNI can write its configuration.", plain(d.Path)))
	}
	return cut(fmt.Sprintf("New pods get no network: there is no directory %s. A CNI's agent creates it; see whether one runs on this node.", plain(d.Path)))
}

func (d Directory) whyUnstable() string {
	return cut(fmt.Sprintf("Could not tell which CNI gets the next pod: %s changed during each of %d looks. Look again; if it goes on, find out who rewrites it (two agents that rename each other's files do).", plain(d.Path), d.Looks))
}

func (d Directory) whyUnlisted() string {
	switch {
	case d.Listing == TooManyNames:
		return cut(fmt.Sprintf("Could not tell which CNI gets the next pod: %s holds more than %d names. Clear out what does not belong there.", plain(d.Path), MaxNames))
	case d.Detail == "":
		return cut(fmt.Sprintf("Could not tell which CNI gets the next pod: %s has not been read.", plain(d.Path)))
	}
	return cut(fmt.Sprintf("Could not tell which CNI gets the next pod: listing %s went wrong (%s). See that this process may read it.", plain(d.Path), clip(d.Detail)))
}

func (d Directory) whyEmpty(left []Leftover) string {
	s := fmt.Sprintf("New pods get no network: %s holds no .conf, .conflist or .json file.", plain(d.Path))
	for _, l := range left {
		if isSetAside(l.Name) {
			return cut(s + fmt.Sprintf(" Cilium has set %s aside and not written its own yet: see whether the Cilium agent of this node is up.", quote(l.Name)))
		}
	}
	return cut(s + " See whether a CNI's agent runs on this node.")
}

// whyWinner explains the file that decides.
func (d Directory) whyWinner(o Outcome) string {
	w := o.Winner
	first := fmt.Sprintf("%s, %s in %s", quote(w.File), firstOf(1+len(o.Ignored)), plain(d.Path))
	switch o.State {
	case Ready:
		return cut(fmt.Sprintf("New pods get their network from %s: %s, loads (network %s, plugins %s).%s", w.who(), first, quote(w.Network), joined(w.Plugins), w.caveats()))
	case Refusing:
		return cut(fmt.Sprintf("New pods are refused although the node may say Ready: %s, loads, but %s. Correct the file, or remove it.", first, w.Reason))
	case NoNetwork:
		return cut(fmt.Sprintf("New pods get no network: %s, does not load: %s. containerd does not fall back to the next file. Repair it, or remove it.", first, w.Reason))
	}
	return cut(fmt.Sprintf("Could not tell which CNI gets the next pod: %s, decides and could not be read: %s. Replace it by a plain file that this process may read.", first, w.Reason))
}

// who names the CNI that gives the pod its address, and through whom.
func (c *Candidate) who() string {
	switch c.Kind {
	case OtherCNI:
		return "another CNI (" + quote(c.Primary()) + ")"
	case ChainedCilium:
		return quote(c.Primary()) + " with Cilium chained behind it"
	case Multus:
		return c.whoMultus()
	}
	return c.Kind.String()
}

func (c *Candidate) whoMultus() string {
	m := c.Multus
	asks := "what its daemon is configured with"
	switch {
	case m.File != "" && c.PodNetwork == KindUnknown:
		asks = quote(m.ClusterNetwork) + ", which serves no pod or is not there"
	case m.File != "":
		asks = c.PodNetwork.String() + " (" + quote(m.ClusterNetwork) + ")"
	case m.ClusterNetwork != "":
		asks = quote(m.ClusterNetwork) + ", which is not in this directory"
	case len(m.Delegates) > 0:
		asks = fmt.Sprintf("a copy of %s (%s) in its own file", c.PodNetwork, quote(strings.Join(m.Delegates[0].Plugins, "+")))
	}
	return "Multus, which asks " + asks
}

// caveats are what a reader of a good answer should know all the same.
func (c *Candidate) caveats() string {
	var s string
	if c.FromDirectory > 0 {
		s += fmt.Sprintf(" Plugins taken from the directory %s: %d; only containerd with libcni 1.3 or later reads it.", quote(c.Network), c.FromDirectory)
	}
	if newerThanKnown(c.CNIVersion) {
		s += fmt.Sprintf(" Its cniVersion %s is newer than %s: see that containerd and the plugins know it.", quote(c.CNIVersion), version.Current())
	}
	if c.Multus != nil && c.Multus.ReadinessIndicatorFile != "" {
		s += fmt.Sprintf(" Multus adds no pod before %s exists.", quote(c.Multus.ReadinessIndicatorFile))
	}
	return s
}

// whyNext explains what would decide if the winner went away.
func (o Outcome) whyNext() string {
	w, n := quote(o.Winner.File), o.Next
	switch {
	case n == nil:
		return cut(fmt.Sprintf("Without %s the node would have no network: there is no other file.", w))
	case n.Condition == Loads:
		return cut(fmt.Sprintf("Without %s, %s would decide: %s.", w, quote(n.File), n.who()))
	case n.Condition == Refuses:
		return cut(fmt.Sprintf("Without %s, %s would decide and pods would be refused: %s.", w, quote(n.File), n.Reason))
	case n.Condition == Broken:
		return cut(fmt.Sprintf("Without %s the node would have no network: %s would decide and does not load: %s.", w, quote(n.File), n.Reason))
	}
	return cut(fmt.Sprintf("Without %s, %s would decide, which could not be judged: %s.", w, quote(n.File), n.Reason))
}

func firstOf(n int) string {
	if n == 1 {
		return "the only file"
	}
	return fmt.Sprintf("the first of %d files", n)
}

// joined lists the plugins, the first few of them.
func joined(plugins []string) string {
	const most = 5
	var s []string
	for i, p := range plugins {
		if i == most {
			s = append(s, fmt.Sprintf("and %d more", len(plugins)-most))
			break
		}
		s = append(s, quote(p))
	}
	return strings.Join(s, ", ")
}

// quote returns a name fit for a sentence: as it is when it is an ordinary one, quoted and cut when not.
func quote(s string) string {
	const ordinary = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./+"
	if s != "" && len(s) <= maxName && strings.Trim(s, ordinary) == "" {
		return s
	}
	if q := strconv.QuoteToASCII(s); len(q) <= maxName {
		return q
	}
	return strconv.QuoteToASCII(truncate(s, maxName/4))
}

// plain is quote for a path the operator gave, which may be longer.
func plain(path string) string {
	if path == "" {
		return "the directory"
	}
	return truncate(printable(path), maxReason)
}

// clip is for other people's words.
func clip(s string) string { return truncate(printable(s), maxReason) }

// cut bounds a whole sentence.
func cut(s string) string { return truncate(s, maxWhy) }

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// truncate cuts at a rune's edge and says that it did.
func truncate(s string, most int) string {
	if len(s) <= most {
		return s
	}
	n := most - len("...")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}
