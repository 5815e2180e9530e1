// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Kind is the definition of a kind that belongs to somebody else, Cilium's or Karpenter's, with a schema that takes whatever their own
// would. The scope is Cluster or Namespaced; a subresource is status.
func Kind(group, version, kind, plural, scope string, subresources ...string) *unstructured.Unstructured {
	below := map[string]any{}
	for _, name := range subresources {
		below[name] = map[string]any{}
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": plural + "." + group, "annotations": map[string]any{
			"api-approved.kubernetes.io": "unapproved, made by a test", // asked for in groups of Kubernetes' own
		}},
		"spec": map[string]any{
			"group": group, "scope": scope,
			"names": map[string]any{"kind": kind, "listKind": kind + "List", "plural": plural, "singular": strings.ToLower(kind)},
			"versions": []any{map[string]any{
				"name": version, "served": true, "storage": true, "subresources": below,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
			}},
		},
	}}
}
