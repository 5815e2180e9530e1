// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// Places on the host, relative to its root.
const (
	BinDir   = "opt/cni/bin"
	NetDir   = "etc/cni/net.d"
	Conflist = "10-aws.conflist"
)

// install puts the plugins and then, last, the conflist in place: from that moment the
// runtime gives pods to this CNI. Nothing here is ever removed again by aws-node.
func install(h host, executable string, s Settings) error {
	for _, dir := range []string{BinDir, NetDir} {
		if err := os.MkdirAll(h.path(dir), 0o755); err != nil {
			return fmt.Errorf("making %s: %w", h.path(dir), err)
		}
	}
	if err := installBinary(executable, h.path(BinDir, "aws-cni")); err != nil {
		return err
	}
	if err := linkBinary(h.path(BinDir, "aws-cni"), h.path(BinDir, "egress-cni")); err != nil {
		return err
	}
	_, err := os.Stat(h.path(BinDir, "portmap"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking for the portmap plugin: %w", err)
	}
	data, err := conflist(s, err == nil)
	if err != nil {
		return err
	}
	return replaceFile(h.path(NetDir, Conflist), data, 0o644)
}

// installBinary copies and renames, because a plugin that is running can't be written to.
func installBinary(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("reading our own program: %w", err)
	}
	defer source.Close()
	temporary, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".*.tmp")
	if err != nil {
		return fmt.Errorf("installing %s: %w", to, err)
	}
	_, err = io.Copy(temporary, source)
	err = errors.Join(err, temporary.Chmod(0o755), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), to)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("installing %s: %w", to, err), os.Remove(temporary.Name()))
	}
	return nil
}

// linkBinary makes a second name of one file: a lab node's disk is memory.
func linkBinary(from, to string) error {
	temporary := filepath.Join(filepath.Dir(to), "."+filepath.Base(to)+".tmp")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("installing %s: %w", to, err)
	}
	err := os.Link(from, temporary)
	if err == nil {
		err = os.Rename(temporary, to)
	}
	if err != nil {
		return fmt.Errorf("installing %s: %w", to, err)
	}
	return nil
}

// plugin is one entry of the conflist; the order of the fields is the original's.
type plugin struct {
	Name               string          `json:"name,omitempty"`
	Type               string          `json:"type"`
	VethPrefix         string          `json:"vethPrefix,omitempty"`
	MTU                string          `json:"mtu,omitempty"` // bytes; a string in the original too
	Enabled            string          `json:"enabled,omitempty"`
	PodSGEnforcingMode string          `json:"podSGEnforcingMode,omitempty"`
	PluginLogFile      string          `json:"pluginLogFile,omitempty"`
	PluginLogLevel     string          `json:"pluginLogLevel,omitempty"`
	Capabilities       map[string]bool `json:"capabilities,omitempty"`
	SNAT               bool            `json:"snat,omitempty"`
}

// conflist renders 10-aws.conflist. On a real node portmap is always there; a lab node
// that has no such binary could start no pod at all if it were named.
func conflist(s Settings, portmap bool) ([]byte, error) {
	plugins := []plugin{
		{
			Name: "aws-cni", Type: "aws-cni", VethPrefix: s.VethPrefix, MTU: strconv.Itoa(s.PodMTU),
			PodSGEnforcingMode: "strict", PluginLogFile: "/" + LogDir + "/plugin.log", PluginLogLevel: "DEBUG",
			Capabilities: map[string]bool{"io.kubernetes.cri.pod-annotations": true},
		},
		{Name: "egress-cni", Type: "egress-cni", MTU: strconv.Itoa(s.PodMTU), Enabled: "false", PluginLogFile: "/" + LogDir + "/egress-v6-plugin.log", PluginLogLevel: "DEBUG"},
	}
	if portmap {
		plugins = append(plugins, plugin{Type: "portmap", Capabilities: map[string]bool{"portMappings": true}, SNAT: true})
	}
	data, err := json.MarshalIndent(struct {
		CNIVersion   string   `json:"cniVersion"`
		Name         string   `json:"name"`
		DisableCheck bool     `json:"disableCheck"`
		Plugins      []plugin `json:"plugins"`
	}{"0.4.0", "aws-cni", true, plugins}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the conflist: %w", err)
	}
	return append(data, '\n'), nil
}
