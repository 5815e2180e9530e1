// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package values

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Values are Helm values by their dotted path, as cni.exclusive: what somebody has set, over what Cilium's chart sets.
type Values struct {
	// Origin says where they come from, for people.
	Origin string
	// Version of Cilium; zero: not known.
	Version Version

	set      map[string]any // lists are one value
	defaults map[string]any
	hidden   map[string]bool // paths that the origin does not show
}

// chartDefaults are the defaults of Cilium's chart for what the rules look at (install/kubernetes/cilium/values.yaml; the same
// in 1.18.11, 1.19.0 and 1.20.2). What is absent is unset there too.
func chartDefaults() map[string]any {
	return map[string]any{
		"kubeProxyReplacement": "false", "k8sServiceHost": "", "k8sServicePort": "",
		"routingMode": "", "tunnelProtocol": "", "tunnelPort": 0, "autoDirectNodeRoutes": false, "MTU": 0,
		"ipam.mode": "cluster-pool", "ipam.operator.clusterPoolIPv4PodCIDRList": []any{"10.0.0.0/8"}, "ipam.operator.clusterPoolIPv4MaskSize": 24,
		"cni.install": true, "cni.customConf": false, "cni.exclusive": true, "cni.uninstall": false, "cni.iptablesRemoveAWSRules": true, "cni.configMap": "",
		"operator.removeNodeTaints": true, "operator.unmanagedPodWatcher.restart": true,
		"policyEnforcementMode": "default", "ipv6.enabled": false, "eni.enabled": false,
		"hubble.enabled": true, "hubble.relay.enabled": false, "hubble.ui.enabled": false,
	}
}

// FromYAML reads a values file: one document, a mapping. Nothing in it is nothing that is set.
func FromYAML(origin string, data []byte, v Version) (*Values, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root map[string]any
	if err := decoder.Decode(&root); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading Helm values from %s: %w", origin, err)
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading Helm values from %s: there is a second document, which Helm would not see: split the file", origin)
	}
	return fromMap(origin, root, v), nil
}

func fromMap(origin string, root map[string]any, v Version) *Values {
	out := &Values{Origin: origin, Version: v, set: map[string]any{}, defaults: chartDefaults()}
	flatten(out.set, "", root)
	// What extraConfig says stands last in cilium-config and wins.
	for _, o := range options() {
		if value, ok := out.set["extraConfig."+o.key]; ok && value != nil {
			out.set[o.path] = value
		}
	}
	if value, ok := out.set["extraConfig."+watcherInterval]; ok && value != nil {
		out.set["operator.unmanagedPodWatcher.restart"] = watches(fmt.Sprint(value))
	}
	return out
}

// flatten makes paths of nested keys. Helm reads a key that is null as "without the chart's default".
func flatten(into map[string]any, prefix string, from map[string]any) {
	for key, value := range from {
		if nested, ok := value.(map[string]any); ok && len(nested) > 0 {
			flatten(into, prefix+key+".", nested)
			continue
		}
		into[prefix+key] = value
	}
}

// get returns a value and whether it is there at all.
func (v *Values) get(path string) (any, bool) {
	value, ok := v.set[path]
	if !ok {
		value, ok = v.defaults[path]
	}
	return value, ok && value != nil
}

// given says whether somebody set a path, or something below it.
func (v *Values) given(path string) bool {
	if value, ok := v.set[path]; ok {
		return value != nil
	}
	for p, value := range v.set {
		if strings.HasPrefix(p, path+".") && value != nil {
			return true
		}
	}
	return false
}

// text returns a value as Helm's templates print it; empty if it is not there.
func (v *Values) text(path string) string {
	value, ok := v.get(path)
	if !ok {
		return ""
	}
	return strings.TrimSpace(fmt.Sprint(value))
}

// on says whether a switch is on. Anything but a clear yes is no, as it is to Cilium's templates and flags.
func (v *Values) on(path string) bool {
	on, err := strconv.ParseBool(v.text(path))
	return err == nil && on
}

// list returns a value as a list of words: YAML's own, or one text with blanks or commas between.
func (v *Values) list(path string) []string {
	value, _ := v.get(path)
	if items, ok := value.([]any); ok {
		out := make([]string, len(items))
		for i, item := range items {
			out[i] = strings.TrimSpace(fmt.Sprint(item))
		}
		return out
	}
	return strings.FieldsFunc(v.text(path), func(r rune) bool { return r == ' ' || r == ',' })
}

// networks reads a list of networks and returns what in it is none.
func (v *Values) networks(path string) (out []netip.Prefix, wrong []string) {
	for _, text := range v.list(path) {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		} else {
			wrong = append(wrong, text)
		}
	}
	return out, wrong
}

// with returns a copy in which a path is set.
func (v *Values) with(path string, value any) *Values {
	out := *v
	out.set = maps.Clone(v.set)
	out.set[path] = value
	return &out
}
