// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// joinGrace is how close to its creation a node's Ready condition must have last changed for the node to count as one that
// was never Ready. A kubelet registers its node with Ready=False and that time; it changes only when Ready becomes True, or
// Unknown after the kubelet fell silent, and a silent node counts as one that is out of service.
const joinGrace = 10 * time.Second

// groupLabels are the labels by which the group of a node is known, the first that is there: EKS managed node groups,
// Karpenter's node pools, eksctl's unmanaged groups.
func groupLabels() []string {
	return []string{"eks.amazonaws.com/nodegroup", "karpenter.sh/nodepool", "alpha.eksctl.io/nodegroup-name"}
}

// cordonRecord is the value of our cordon annotation: which slot cordoned the node and what stood there before.
type cordonRecord struct {
	Slot          types.UID `json:"slot"`
	Unschedulable bool      `json:"unschedulable"`
	Excluded      bool      `json:"excluded"`
}

// cordonOf reads our cordon annotation; nil if there is none. One that cannot be read is taken for nobody's.
func cordonOf(n *corev1.Node) *cordonRecord {
	value, ok := n.Annotations[v1alpha1.AnnotationCordon]
	if !ok {
		return nil
	}
	var r cordonRecord
	if json.Unmarshal([]byte(value), &r) != nil || r.Slot == "" {
		return nil
	}
	return &r
}

// toNode turns a Node into what plan wants to know of it.
func toNode(n *corev1.Node, fenceLabel string, selector labels.Selector) plan.Node {
	out := plan.Node{
		Name: n.Name, UID: n.UID, BootID: n.Status.NodeInfo.BootID, ProviderID: n.Spec.ProviderID,
		Zone: n.Labels[corev1.LabelTopologyZone], Created: n.CreationTimestamp.Time, Deleting: n.DeletionTimestamp != nil,
		Cordoned:     n.Spec.Unschedulable,
		FenceLabel:   n.Labels[fenceLabel] == v1alpha1.FenceValue,
		ReplaceAsked: types.UID(n.Annotations[v1alpha1.AnnotationReplace]),
		SurgeAsked:   types.UID(n.Annotations[v1alpha1.AnnotationSurge]),
		Selected:     selector != nil && selector.Matches(labels.Set(n.Labels)),
	}
	_, out.Excluded = n.Labels[v1alpha1.LabelExcludeBalancers]
	out.OptOut, out.OptedOut = n.Annotations[v1alpha1.AnnotationOptOut]
	if c := cordonOf(n); c != nil {
		out.CordonedBy = c.Slot
	}
	for _, label := range groupLabels() {
		if g := n.Labels[label]; g != "" {
			out.Group = g
			break
		}
	}
	for _, t := range n.Spec.Taints {
		out.Leaving = out.Leaving || t.Key == v1alpha1.TaintLeaving
	}
	for _, c := range n.Status.Conditions {
		switch c.Type {
		case corev1.NodeReady:
			out.Ready = c.Status == corev1.ConditionTrue
			never := c.Status == corev1.ConditionFalse && c.LastTransitionTime.Sub(n.CreationTimestamp.Time) <= joinGrace
			out.WasReady = !never
		case v1alpha1.ConditionSafeToDrain:
			out.SafeShown = c.Status == corev1.ConditionTrue
		}
	}
	return out
}
