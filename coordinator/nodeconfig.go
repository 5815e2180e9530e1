// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"fmt"
	"maps"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// nodeConfigDefaults is what Cilium is told on nodes without the fence label (Cilium's
// Documentation/installation/k8s-install-migration.rst, 1.18): write the conflist, and keep every other one out of the way.
func nodeConfigDefaults() map[string]any {
	return map[string]any{
		"write-cni-conf-when-ready": "/host/etc/cni/net.d/05-cilium.conflist",
		"custom-cni-conf":           "false",
		"cni-chaining-mode":         "none",
		"cni-exclusive":             "true",
	}
}

// newNodeConfig is our CiliumNodeConfig. It has no owner reference: deleting a Cutover must not leave the next node
// without a CNI.
func newNodeConfig(namespace, fenceLabel string) *unstructured.Unstructured {
	u := emptyNodeConfig()
	u.SetNamespace(namespace)
	u.SetName(v1alpha1.NodeConfigName)
	u.Object["spec"] = map[string]any{
		"nodeSelector": map[string]any{"matchExpressions": []any{map[string]any{"key": fenceLabel, "operator": "DoesNotExist"}}},
		"defaults":     nodeConfigDefaults(),
	}
	return u
}

func emptyNodeConfig() *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: "cilium.io", Version: "v2", Kind: "CiliumNodeConfig"})
	return u
}

// readNodeConfig reads our CiliumNodeConfig live. A kind that does not exist is a config that does not exist.
func readNodeConfig(ctx context.Context, c client.Reader, namespace, fenceLabel string) (plan.NodeConfig, error) {
	u := emptyNodeConfig()
	err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.NodeConfigName}, u)
	switch {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return plan.NodeConfig{}, nil
	case err != nil:
		return plan.NodeConfig{}, fmt.Errorf("reading CiliumNodeConfig %s/%s: %w", namespace, v1alpha1.NodeConfigName, err)
	}
	return plan.NodeConfig{Found: true, Intact: nodeConfigIntact(u, fenceLabel), Created: u.GetCreationTimestamp().Time}, nil
}

// knownConfig is our CiliumNodeConfig as it was read last. Its kind may not exist and cannot be watched then, so that for a look at
// the caches this is its cache. Its zero value is ready; it is of one goroutine.
type knownConfig struct {
	of     [2]string // namespace and fence label
	config plan.NodeConfig
	at     time.Time
}

// intact says whether it was as we write it less than an age ago.
func (k *knownConfig) intact(of [2]string, now time.Time, age time.Duration) bool {
	since := now.Sub(k.at)
	return k.of == of && k.config.Intact && since >= 0 && since < age
}

// nodeConfigIntact says whether selector and defaults are as we write them.
func nodeConfigIntact(u *unstructured.Unstructured, fenceLabel string) bool {
	defaults, _, err := unstructured.NestedMap(u.Object, "spec", "defaults")
	if err != nil || !maps.EqualFunc(defaults, nodeConfigDefaults(), func(a, b any) bool { return a == b }) {
		return false
	}
	matchLabels, _, err := unstructured.NestedMap(u.Object, "spec", "nodeSelector", "matchLabels")
	if err != nil || len(matchLabels) > 0 {
		return false
	}
	terms, _, err := unstructured.NestedSlice(u.Object, "spec", "nodeSelector", "matchExpressions")
	if err != nil || len(terms) != 1 {
		return false
	}
	term, ok := terms[0].(map[string]any)
	return ok && term["key"] == fenceLabel && term["operator"] == "DoesNotExist"
}
