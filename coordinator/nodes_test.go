// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

func TestToNode(t *testing.T) {
	born := metav1.NewTime(time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC))
	ready := func(s corev1.ConditionStatus, after time.Duration) []corev1.NodeCondition {
		return []corev1.NodeCondition{{Type: corev1.NodeReady, Status: s, LastTransitionTime: metav1.NewTime(born.Add(after))}}
	}
	tests := map[string]struct {
		node corev1.Node
		want plan.Node
	}{
		"a node in service": {
			corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelTopologyZone: "a", "karpenter.sh/nodepool": "pool", v1alpha1.FenceLabel: "true"}},
				Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{BootID: "boot"}, Conditions: ready(corev1.ConditionTrue, time.Hour)},
			},
			plan.Node{Zone: "a", Group: "pool", BootID: "boot", FenceLabel: true, Ready: true, WasReady: true, Selected: true},
		},
		"a joining node was never Ready":  {corev1.Node{Status: corev1.NodeStatus{Conditions: ready(corev1.ConditionFalse, 0)}}, plan.Node{Selected: true}},
		"a node that stopped being Ready": {corev1.Node{Status: corev1.NodeStatus{Conditions: ready(corev1.ConditionFalse, time.Hour)}}, plan.Node{WasReady: true, Selected: true}},
		"a silent node counts as one that was Ready": {
			corev1.Node{Status: corev1.NodeStatus{Conditions: ready(corev1.ConditionUnknown, 0)}}, plan.Node{WasReady: true, Selected: true},
		},
		"a fence label of another value is none": {
			corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha1.FenceLabel: "yes"}}}, plan.Node{Selected: true},
		},
		"our cordon": {
			corev1.Node{
				ObjectMeta: metav1.ObjectMeta{
					Annotations: map[string]string{v1alpha1.AnnotationCordon: `{"slot":"u1","unschedulable":false,"excluded":false}`},
					Labels:      map[string]string{v1alpha1.LabelExcludeBalancers: "true"},
				},
				Spec: corev1.NodeSpec{Unschedulable: true, Taints: []corev1.Taint{{Key: v1alpha1.TaintLeaving, Effect: corev1.TaintEffectPreferNoSchedule}}},
			},
			plan.Node{Cordoned: true, CordonedBy: "u1", Excluded: true, Leaving: true, Selected: true},
		},
		"a record that cannot be read is nobody's": {
			corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationCordon: "by hand"}}, Spec: corev1.NodeSpec{Unschedulable: true}},
			plan.Node{Cordoned: true, Selected: true},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.node.CreationTimestamp, tt.want.Created = born, born.Time
			if diff := cmp.Diff(tt.want, toNode(&tt.node, v1alpha1.FenceLabel, labels.Everything())); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestNodeConfigIsIntactOnlyAsWeWriteIt(t *testing.T) {
	if u := newNodeConfig("kube-system", "fence"); !nodeConfigIntact(u, "fence") {
		t.Error("what we write does not pass for intact")
	}
	changes := map[string]func(spec map[string]any){
		"another fence label": func(s map[string]any) {
			s["nodeSelector"] = newNodeConfig("", "other").Object["spec"].(map[string]any)["nodeSelector"]
		},
		"every node":            func(s map[string]any) { s["nodeSelector"] = map[string]any{} },
		"a label beside it":     func(s map[string]any) { s["nodeSelector"].(map[string]any)["matchLabels"] = map[string]any{"a": "b"} },
		"another default":       func(s map[string]any) { s["defaults"].(map[string]any)["custom-cni-conf"] = "true" },
		"one default more":      func(s map[string]any) { s["defaults"].(map[string]any)["debug"] = "true" },
		"no defaults":           func(s map[string]any) { delete(s, "defaults") },
		"defaults of odd shape": func(s map[string]any) { s["defaults"] = "yes" },
	}
	for name, change := range changes {
		u := newNodeConfig("kube-system", "fence")
		change(u.Object["spec"].(map[string]any))
		if nodeConfigIntact(u, "fence") {
			t.Errorf("%s passes for intact", name)
		}
	}
}
