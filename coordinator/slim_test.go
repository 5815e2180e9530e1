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
)

// TestASlimNodeTellsPlanTheSame holds the cache's transform to everything that toNode reads.
func TestASlimNodeTellsPlanTheSame(t *testing.T) {
	full := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: "n1", UID: "u1", CreationTimestamp: metav1.NewTime(time.Unix(1000, 0)), ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
			Labels: map[string]string{
				v1alpha1.FenceLabel: "true", corev1.LabelTopologyZone: "a", "karpenter.sh/nodepool": "pool", v1alpha1.LabelExcludeBalancers: "true",
			},
			Annotations: map[string]string{
				v1alpha1.AnnotationCordon: `{"slot":"u1"}`, v1alpha1.AnnotationReplace: "u1", v1alpha1.AnnotationSurge: "u1", v1alpha1.AnnotationOptOut: "no",
			},
		},
		Spec: corev1.NodeSpec{ProviderID: "aws:///a/i-1", Unschedulable: true, Taints: []corev1.Taint{{Key: v1alpha1.TaintLeaving}}},
		Status: corev1.NodeStatus{
			Images:   []corev1.ContainerImage{{Names: []string{"image"}}},
			NodeInfo: corev1.NodeSystemInfo{BootID: "boot", KernelVersion: "6.12"},
			Conditions: []corev1.NodeCondition{
				{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: v1alpha1.ConditionSafeToDrain, Status: corev1.ConditionTrue},
			},
		},
	}
	slim := full.DeepCopy()
	if _, err := Slim(slim); err != nil {
		t.Fatal(err)
	}
	if slim.Status.Images != nil || slim.Status.NodeInfo.KernelVersion != "" || slim.ManagedFields != nil {
		t.Errorf("a slim node keeps %+v", slim)
	}
	want, got := toNode(full, v1alpha1.FenceLabel, labels.Everything()), toNode(slim, v1alpha1.FenceLabel, labels.Everything())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-full +slim)\n%s", diff)
	}
}

func TestASlimPodKeepsWhoseItIsAndWhereItIs(t *testing.T) {
	yes := true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "kube-system", Name: "p", UID: "u", Annotations: map[string]string{"a": "b"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "DaemonSet", Name: "aws-node", Controller: &yes}},
		},
		Spec:   corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1"},
	}
	if _, err := Slim(pod); err != nil {
		t.Fatal(err)
	}
	want := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "p", UID: "u", OwnerReferences: pod.OwnerReferences},
		Spec:       corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	if diff := cmp.Diff(want, pod); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !ownedBy(pod, v1alpha1.ObjectRef{Namespace: "kube-system", Name: "aws-node"}) {
		t.Error("a slim pod belongs to nobody")
	}
}
