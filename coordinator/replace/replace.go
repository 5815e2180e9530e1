// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package replace asks for nodes to be replaced. Who replaces them differs from cluster to cluster; the plan does not know:
// it asks, and believes only the Node that is gone and the Node that has joined. A provider is two methods that may be
// called many times for the same node and change nothing the second time.
package replace

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// External leaves replacing to the tools or people who own the nodes: it writes an annotation on the Node that names the
// slot, and the coordinator tells of it by an Event. docs/external-replacement.md says what the other side has to do.
type External struct {
	Client kubernetes.Interface
}

// Replace asks for a drained node to be replaced by one of the same zone and group.
func (e External) Replace(ctx context.Context, node string, slot types.UID) error {
	return e.annotate(ctx, node, slot, v1alpha1.AnnotationReplace)
}

// Surge asks for one more node of the same zone and group, and for this one to be kept.
func (e External) Surge(ctx context.Context, node string, slot types.UID) error {
	return e.annotate(ctx, node, slot, v1alpha1.AnnotationSurge)
}

// annotate writes the annotation with the node's UID as a precondition: a slot is named by the UID of its node.
func (e External) annotate(ctx context.Context, node string, slot types.UID, annotation string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         slot,
		"annotations": map[string]string{annotation: string(slot)},
	}})
	if err != nil {
		return fmt.Errorf("encoding the request to replace %s: %w", node, err)
	}
	if _, err := e.Client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("asking for %s to be replaced by annotation %s: %w", node, annotation, err)
	}
	return nil
}
