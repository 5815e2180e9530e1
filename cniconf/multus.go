// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
)

// MultusOptions is the part of Multus' configuration that decides which CNI gives a pod its first interface: clusterNetwork, or
// else the first delegate (multus-cni pkg/types: LoadNetConf).
type MultusOptions struct {
	Shim                   bool   // the thick plugin: a daemon does the work and has settings of its own
	ClusterNetwork         string // a NetworkAttachmentDefinition, a network's name or a path; wins over Delegates
	ConfDir                string // where Multus looks a name up; "" is /etc/cni/multus/net.d
	DefaultNetworks        []string
	ReadinessIndicatorFile string // Multus adds no pod until this exists
	Delegates              []Delegate

	// File is the file of this directory that ClusterNetwork names, "" when it names none here. The mount
	// a path goes through (/host/etc/...) is disregarded: what ends in /cni/net.d/x, or in the directory that was read, is x here.
	File string
}

// Delegate is a CNI written out inside Multus' own configuration: a copy, which does not follow when the original file changes.
type Delegate struct {
	Network string
	Plugins []string
	Kind    Kind
}

// multusOptions parses what Multus would parse. The second result says why Multus would refuse every pod, "" when it would not.
func multusOptions(plugin string, b []byte) (*MultusOptions, string) {
	type conf struct {
		Name    string `json:"name"`
		Type    string `json:"type"`
		Plugins []struct {
			Type string `json:"type"`
		} `json:"plugins"`
	}
	var raw struct {
		ClusterNetwork         string   `json:"clusterNetwork"`
		ConfDir                string   `json:"confDir"`
		DefaultNetworks        []string `json:"defaultNetworks"`
		ReadinessIndicatorFile string   `json:"readinessindicatorfile"`
		Delegates              []conf   `json:"delegates"`
	}
	m := &MultusOptions{Shim: plugin == "multus-shim"}
	if err := json.Unmarshal(b, &raw); err != nil {
		return m, "Multus cannot parse its options: " + clip(err.Error())
	}
	m.ClusterNetwork, m.ConfDir = raw.ClusterNetwork, raw.ConfDir
	m.DefaultNetworks, m.ReadinessIndicatorFile = raw.DefaultNetworks, raw.ReadinessIndicatorFile
	for _, d := range raw.Delegates {
		out := Delegate{Network: d.Name}
		if d.Type != "" {
			out.Plugins = []string{d.Type}
		} else {
			for _, p := range d.Plugins {
				out.Plugins = append(out.Plugins, p.Type)
			}
		}
		if len(out.Plugins) > 0 {
			out.Kind = kindOf(out.Plugins)
		}
		m.Delegates = append(m.Delegates, out)
	}
	switch {
	case m.Shim, m.ClusterNetwork != "":
		return m, ""
	case len(m.Delegates) == 0:
		return m, "Multus has neither clusterNetwork nor delegates and refuses every pod"
	case slices.ContainsFunc(m.Delegates, func(d Delegate) bool { return len(d.Plugins) == 0 || d.Plugins[0] == "" }):
		return m, "Multus has a delegate without a plugin type and refuses every pod"
	}
	return m, ""
}

// resolve finds what Multus asks for a pod's first interface, among the candidates of the same directory.
func (c *Candidate) resolve(dir string, all []Candidate) {
	m := c.Multus
	if m == nil || c.Condition != Loads {
		return
	}
	if m.ClusterNetwork == "" {
		if len(m.Delegates) > 0 && m.Delegates[0].Kind != Multus {
			c.PodNetwork = m.Delegates[0].Kind
		}
		return
	}
	if !path.IsAbs(m.ClusterNetwork) {
		return // a name: looked up in the API first, then in a directory of Multus' own
	}
	in := path.Dir(path.Clean(m.ClusterNetwork))
	if in != path.Clean(dir) && !strings.HasSuffix(in, "/cni/net.d") {
		return
	}
	m.File = path.Base(m.ClusterNetwork)
	for _, o := range all {
		if o.File == m.File && o.Condition == Loads && o.Kind != Multus {
			c.PodNetwork = o.Kind
		}
	}
}
