// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
)

// A Kind is what sort of CNI a file configures, told from its plugins' types and never from its name.
type Kind uint8

// The kinds. The zero Kind is a file that nobody could parse.
const (
	KindUnknown   Kind = iota
	Cilium             // cilium-cni is the first plugin: the pod's address is Cilium's
	VPCCNI             // aws-cni is the first plugin and cilium-cni is in none
	ChainedCilium      // cilium-cni follows another plugin, which gives the address: see Candidate.Primary
	Multus             // Multus is in front and asks another CNI: see Candidate.Multus
	OtherCNI
)

// String names the kind for a sentence.
func (k Kind) String() string {
	switch k {
	case Cilium:
		return "Cilium"
	case VPCCNI:
		return "the AWS VPC CNI"
	case ChainedCilium:
		return "Cilium chained behind another CNI"
	case Multus:
		return "Multus"
	case OtherCNI:
		return "another CNI"
	}
	return "an unknown CNI"
}

// A Condition says what the runtime makes of one file.
type Condition uint8

// The conditions. The zero Condition claims nothing.
const (
	CannotTell Condition = iota // we could not read what the runtime may well be able to read
	Loads                       // the runtime loads it, and nothing in it makes it refuse pods
	Refuses                     // the runtime loads it and calls the node ready, then every pod fails
	Broken                      // the runtime cannot load it
)

// String is the condition's constant name.
func (c Condition) String() string {
	switch c {
	case Loads:
		return "Loads"
	case Refuses:
		return "Refuses"
	case Broken:
		return "Broken"
	}
	return "CannotTell"
}

// Candidate is one file that the runtime lists, judged by itself.
type Candidate struct {
	File      string // name in the directory
	Condition Condition
	Reason    string // why it does not simply load, as the end of a sentence; "" when it does

	Kind          Kind
	Network       string         // the network's name
	CNIVersion    string         // as the runtime will use it
	Plugins       []string       // plugin types in the order they run
	FromDirectory int            // how many of Plugins came from the directory named after the network, which only libcni 1.3 reads
	Multus        *MultusOptions // what Multus does with it, when Kind is Multus

	// PodNetwork is the kind that gives a pod its address in the end: Kind, or what Multus asks. KindUnknown when that is not in
	// this directory.
	PodNetwork Kind
}

// Primary is the plugin that gives the pod its interface and address, "" when the file did not load.
func (c *Candidate) Primary() string {
	if len(c.Plugins) == 0 {
		return ""
	}
	return c.Plugins[0]
}

// load judges one file of the directory as containerd's go-cni loads it.
func load(entries []Entry, e Entry) Candidate {
	c := Candidate{File: e.Name}
	if e.Problem != NoProblem {
		c.Condition, c.Reason = unreadable(e)
		return c
	}
	list, err := parse(e.Name, e.Bytes)
	if err != nil {
		c.Condition, c.Reason = Broken, wording(err)
		return c
	}
	c.Network, c.CNIVersion = list.Name, list.CNIVersion
	if strings.HasSuffix(e.Name, ".conflist") && !list.LoadOnlyInlinedPlugins {
		inline := len(list.Plugins)
		cond, why := c.addFromDirectory(entries, list)
		if cond != Loads {
			c.Condition, c.Reason = cond, why
			return c
		}
		c.FromDirectory = len(list.Plugins) - inline
	}
	if len(list.Plugins) == 0 {
		c.Condition, c.Reason = Broken, "it names no plugins"
		return c
	}
	c.describe(list)
	return c
}

// parse turns bytes into a network by the extension of the name, as go-cni does.
func parse(name string, b []byte) (*libcni.NetworkConfigList, error) {
	if strings.HasSuffix(name, ".conflist") {
		return libcni.NetworkConfFromBytes(b)
	}
	// go-cni 1.1.x goes through libcni's old single-plugin functions; so must a judge of it.
	conf, err := libcni.ConfFromBytes(b) //nolint:staticcheck // see above
	if err != nil {
		return nil, err
	}
	return libcni.ConfListFromConf(conf) //nolint:staticcheck // see above
}

// addFromDirectory appends the plugins libcni 1.3 reads from <directory>/<network name>/*.conf. Anything but a missing directory
// there that cannot be listed, or a file in it that does not load, breaks the network.
func (c *Candidate) addFromDirectory(entries []Entry, list *libcni.NetworkConfigList) (Condition, string) {
	files, cond, why := pluginFiles(entries, list.Name)
	if cond != Loads {
		return cond, why
	}
	for _, f := range files {
		at := "its plugin file " + quote(filepath.Join(list.Name, f.Name))
		if f.Problem != NoProblem {
			cond, why := unreadable(f)
			return cond, at + " does not help: " + why
		}
		p, err := libcni.NetworkPluginConfFromBytes(f.Bytes)
		if err != nil {
			return Broken, at + " does not load: " + wording(err)
		}
		list.Plugins = append(list.Plugins, p)
	}
	return Loads, ""
}

// pluginFiles finds the *.conf files in the directory named after the network.
func pluginFiles(entries []Entry, network string) ([]Entry, Condition, string) {
	const nameMax = 255 // bytes of one path component
	switch sub := filepath.Join(".", network); {
	case sub == ".": // the directory itself: every .conf in it is a plugin
		return slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool {
			return e.Type == Dir || filepath.Ext(e.Name) != ".conf"
		}), Loads, ""
	case strings.Contains(network, "\x00"), len(network) > nameMax && !strings.Contains(network, "/"):
		return nil, Broken, "its network name cannot be a directory's name, and containerd looks for one of that name"
	case strings.Contains(network, "/"), network == "..":
		// Outside what was read. describe finds that every pod is refused for such a name, whatever is there.
		return nil, Loads, ""
	}
	i, found := slices.BinarySearchFunc(entries, network, func(e Entry, n string) int { return strings.Compare(e.Name, n) })
	if !found {
		return nil, Loads, ""
	}
	e := entries[i]
	what := "the " + quote(network) + " beside it, named as its network,"
	switch {
	case e.Problem == Dangling:
		return nil, Loads, ""
	case e.Problem == Outside, e.Problem == Denied, e.Problem == ReadFailed:
		_, why := unreadable(e)
		return nil, CannotTell, what + " may hold plugins of it: " + why
	case e.Type == Dir, e.Problem == IsDirectory:
		if e.SubMore {
			return nil, CannotTell, what + " could not be listed: " + clip(e.Detail)
		}
		return e.Sub, Loads, ""
	}
	return nil, Broken, what + " is not a directory, and containerd looks for plugins there"
}

// describe fills in what the network is, and whether its pods can be added.
func (c *Candidate) describe(list *libcni.NetworkConfigList) {
	for _, p := range list.Plugins {
		c.Plugins = append(c.Plugins, p.Network.Type)
	}
	c.Kind = kindOf(c.Plugins)
	c.PodNetwork = c.Kind
	c.Condition, c.Reason = Loads, ""
	if c.Kind == Multus {
		i := slices.IndexFunc(c.Plugins, isMultus)
		c.Multus, c.Reason = multusOptions(c.Plugins[i], list.Plugins[i].Bytes)
		c.PodNetwork = KindUnknown
	}
	if why := refusal(c); why != "" {
		c.Reason = why
	}
	if c.Reason != "" {
		c.Condition = Refuses
	}
}

// refusal says why every pod of a network that loads would fail: libcni checks the name and the plugins' names at each ADD, and
// a plugin built on the CNI library takes exactly the released spec versions. A version newer than those is left to the node's own parts.
func refusal(c *Candidate) string {
	if utils.ValidateNetworkName(c.Network) != nil {
		if c.Network == "" {
			return "its network has no name, and containerd refuses to add pods to it"
		}
		return "its network's name " + quote(c.Network) + " has characters that containerd refuses when it adds a pod"
	}
	for _, p := range c.Plugins {
		if strings.Contains(p, "/") {
			return "its plugin type " + quote(p) + " is a path, and containerd takes plain names only"
		}
	}
	if c.CNIVersion == "" || slices.Contains(version.All.SupportedVersions(), c.CNIVersion) || newerThanKnown(c.CNIVersion) {
		return ""
	}
	return "its cniVersion " + quote(c.CNIVersion) + " is none that was ever released, and plugins refuse it"
}

// newerThanKnown reports a spec version that came after the library this package judges with.
func newerThanKnown(v string) bool {
	newer, err := version.GreaterThan(v, version.Current())
	return err == nil && newer
}

// kindOf tells a network's kind from its plugins, of which there is at least one.
func kindOf(plugins []string) Kind {
	switch {
	case slices.ContainsFunc(plugins, isMultus):
		return Multus
	case plugins[0] == "cilium-cni":
		return Cilium
	case slices.Contains(plugins, "cilium-cni"):
		return ChainedCilium
	case plugins[0] == "aws-cni":
		return VPCCNI
	}
	return OtherCNI
}

// isMultus knows the thin plugin and the thick plugin's shim.
func isMultus(plugin string) bool {
	return plugin == "multus" || plugin == "multus-cni" || plugin == "multus-shim"
}

// unreadable turns a problem into a condition: what fails for us because of what is there fails for the runtime too; what fails
// for us because of who we are may not.
func unreadable(e Entry) (Condition, string) {
	switch e.Problem {
	case Dangling:
		return Broken, "it is a link to " + quote(e.Target) + ", which does not exist"
	case ThroughFile:
		return Broken, "it is a link to " + quote(e.Target) + ", a path through something that is no directory"
	case Loop:
		return Broken, "it is a link that leads back to itself"
	case IsDirectory:
		return Broken, "it is a link to " + quote(e.Target) + ", a directory"
	case Special:
		return Broken, "it is " + clip(e.Detail) + ", not a file"
	case Denied:
		return CannotTell, "this process may not read it (" + clip(e.Detail) + ")"
	case Outside:
		return CannotTell, "it is a link to " + quote(e.Target) + ", outside the directory, where this process need not see what the host sees"
	case TooLarge:
		return CannotTell, fmt.Sprintf("it has %d bytes, more than the %d this program reads", e.Size, MaxFileBytes)
	case NotRead:
		return CannotTell, fmt.Sprintf("the files before it used up the %d bytes this program reads", MaxTotalBytes)
	}
	return CannotTell, "reading it went wrong (" + clip(e.Detail) + ")"
}

// wording is libcni's reason without the preamble that each sentence here has already given.
func wording(err error) string {
	s := err.Error()
	for _, p := range []string{"error parsing configuration list: ", "error parsing configuration: "} {
		s = strings.ReplaceAll(s, p, "")
	}
	return clip(s)
}
