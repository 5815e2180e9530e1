// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// patchNode sends a JSON merge patch with the node's UID as a precondition: a node that was re-created under the same name
// is another node. An empty resourceVersion leaves the patch without that second precondition.
func (m mover) patchNode(ctx context.Context, name string, uid types.UID, resourceVersion string, patch map[string]any) error {
	metadata, _ := patch["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		patch["metadata"] = metadata
	}
	metadata["uid"] = uid
	if resourceVersion != "" {
		metadata["resourceVersion"] = resourceVersion
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encoding the patch of node %s: %w", name, err)
	}
	_, err = m.kube.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{})
	return client.IgnoreNotFound(err)
}

// setFenceLabel sets or removes the fence label. A null removes a key in a JSON merge patch (RFC 7396). Once the fence
// stands, a label that was lost is put back only on the boot whose agent showed that the node is Legacy: without the label, a
// node that restarts gets pods of both CNIs, and a Mixed node is never labelled again.
func (m mover) setFenceLabel(ctx context.Context, w *plan.World, a plan.SetFenceLabel) error {
	var value any
	if a.On {
		value = v1alpha1.FenceValue
	}
	version := ""
	if a.On && w.Legacy.Fenced {
		n, err := m.kube.CoreV1().Nodes().Get(ctx, a.Node, metav1.GetOptions{})
		if err != nil {
			return client.IgnoreNotFound(err)
		}
		same := func(seen plan.Node) bool { return seen.UID == n.UID && seen.BootID == n.Status.NodeInfo.BootID }
		if !slices.ContainsFunc(w.Nodes, same) {
			return errStale
		}
		version = n.ResourceVersion
	}
	return m.patchNode(ctx, a.Node, a.UID, version, map[string]any{"metadata": map[string]any{
		"labels": map[string]any{w.Cutover.Spec.Legacy.FenceLabel: value},
	}})
}

func (m mover) fenceDaemonSet(ctx context.Context, w *plan.World, a plan.FenceDaemonSet) error {
	spec := w.Cutover.Spec.Legacy
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": a.UID},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"nodeSelector": map[string]string{spec.FenceLabel: v1alpha1.FenceValue},
		}}},
	})
	if err != nil {
		return fmt.Errorf("encoding the patch of DaemonSet %s: %w", spec.DaemonSet.Name, err)
	}
	_, err = m.kube.AppsV1().DaemonSets(spec.DaemonSet.Namespace).Patch(ctx, spec.DaemonSet.Name, types.MergePatchType, body, metav1.PatchOptions{})
	return err
}

// cordon cordons a node, takes it out of load balancers and records what stood there before, in one patch that the API
// server refuses if the node has changed since it was read.
func (m mover) cordon(ctx context.Context, a plan.Cordon) error {
	n, err := m.kube.CoreV1().Nodes().Get(ctx, a.Node, metav1.GetOptions{})
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	if n.UID != a.Slot {
		return nil
	}
	_, excluded := n.Labels[v1alpha1.LabelExcludeBalancers]
	record := cordonOf(n)
	if record == nil || record.Slot != a.Slot {
		record = &cordonRecord{Slot: a.Slot, Unschedulable: n.Spec.Unschedulable, Excluded: excluded}
	}
	// What stood there before and has been taken away since is nobody's wish any more.
	record.Unschedulable, record.Excluded = record.Unschedulable && n.Spec.Unschedulable, record.Excluded && excluded
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encoding the record of the cordon of %s: %w", a.Node, err)
	}
	return m.patchNode(ctx, a.Node, a.Slot, n.ResourceVersion, map[string]any{
		"metadata": map[string]any{
			"annotations": map[string]any{v1alpha1.AnnotationCordon: string(value)},
			"labels":      map[string]any{v1alpha1.LabelExcludeBalancers: "true"},
		},
		"spec": map[string]any{"unschedulable": true},
	})
}

// uncordon undoes a cordon of ours as far as it is still so, leaves alone what stood there before it, and takes back what
// the slot asked for: a request that stayed would count as made when the node gets its next slot.
func (m mover) uncordon(ctx context.Context, a plan.Uncordon) error {
	n, err := m.kube.CoreV1().Nodes().Get(ctx, a.Node, metav1.GetOptions{})
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	annotations := map[string]any{}
	for _, request := range []string{v1alpha1.AnnotationReplace, v1alpha1.AnnotationSurge} {
		if n.Annotations[request] == string(a.Slot) {
			annotations[request] = nil
		}
	}
	metadata := map[string]any{"annotations": annotations}
	patch := map[string]any{"metadata": metadata}
	if record := cordonOf(n); record != nil && record.Slot == a.Slot {
		annotations[v1alpha1.AnnotationCordon] = nil
		if !record.Excluded {
			metadata["labels"] = map[string]any{v1alpha1.LabelExcludeBalancers: nil}
		}
		if !record.Unschedulable && n.Spec.Unschedulable {
			patch["spec"] = map[string]any{"unschedulable": false}
		}
	}
	if len(annotations) == 0 {
		return nil
	}
	return m.patchNode(ctx, a.Node, n.UID, n.ResourceVersion, patch)
}

// setLeaving sets or removes our taint. A node's taints are one list to a merge patch, so the patch is refused if the node
// has changed since it was read.
func (m mover) setLeaving(ctx context.Context, a plan.SetLeaving) error {
	n, err := m.kube.CoreV1().Nodes().Get(ctx, a.Node, metav1.GetOptions{})
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	taints := slices.DeleteFunc(slices.Clone(n.Spec.Taints), func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintLeaving })
	if a.On {
		taints = append(taints, corev1.Taint{Key: v1alpha1.TaintLeaving, Effect: corev1.TaintEffectPreferNoSchedule})
	}
	return m.patchNode(ctx, a.Node, a.UID, n.ResourceVersion, map[string]any{"spec": map[string]any{"taints": taints}})
}

// setSafe shows people a passing answer, or that it has expired. The kubelet keeps conditions that it does not know.
func (m mover) setSafe(ctx context.Context, a plan.SetSafe) error {
	condition := map[string]any{
		"type": v1alpha1.ConditionSafeToDrain, "status": "False", "reason": "AnswerExpired", "message": a.Message,
		"lastTransitionTime": time.Now().UTC().Format(time.RFC3339), "lastHeartbeatTime": time.Now().UTC().Format(time.RFC3339),
	}
	if a.Safe {
		condition["status"], condition["reason"] = "True", "AgentPasses"
	}
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": a.UID},
		"status":   map[string]any{"conditions": []any{condition}},
	})
	if err != nil {
		return fmt.Errorf("encoding the condition of node %s: %w", a.Node, err)
	}
	_, err = m.kube.CoreV1().Nodes().Patch(ctx, a.Node, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	return client.IgnoreNotFound(err)
}
