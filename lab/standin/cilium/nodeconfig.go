// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// nodeConfig is the part of a CiliumNodeConfig (cilium.io/v2) that is read here.
type nodeConfig struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		NodeSelector *metav1.LabelSelector `json:"nodeSelector"`
		Defaults     map[string]string     `json:"defaults"`
	} `json:"spec"`
}

func parseNodeConfig(raw []byte) (nodeConfig, error) {
	var c nodeConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return nodeConfig{}, fmt.Errorf("reading a CiliumNodeConfig: %w", err)
	}
	return c, nil
}

// resolve merges the cluster's options with those of every config that selects the node, in the
// order of their names: the later one wins. A config without a selector selects nothing.
func resolve(base map[string]string, node labels.Set, configs []nodeConfig) (map[string]string, error) {
	options := maps.Clone(base)
	if options == nil {
		options = map[string]string{}
	}
	configs = slices.SortedFunc(slices.Values(configs), func(a, b nodeConfig) int {
		return cmp.Compare(a.Metadata.Name, b.Metadata.Name)
	})
	for _, config := range configs {
		selector, err := metav1.LabelSelectorAsSelector(config.Spec.NodeSelector)
		if err != nil {
			return nil, fmt.Errorf("reading the nodeSelector of CiliumNodeConfig %s: %w", config.Metadata.Name, err)
		}
		if selector.Matches(node) {
			maps.Copy(options, config.Spec.Defaults)
		}
	}
	return options, nil
}
