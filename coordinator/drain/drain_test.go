// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"maps"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func podOf(name, kind, owner string) corev1.Pod {
	yes := true
	return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name, OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: owner, Controller: &yes}}}}
}

func TestEveryDaemonSetIsAskedForOnce(t *testing.T) {
	client := fake.NewClientset(&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "there"}})
	found, err := There(t.Context(), client, DaemonSetsOf([]corev1.Pod{
		podOf("a", "DaemonSet", "there"), podOf("b", "DaemonSet", "there"), podOf("c", "DaemonSet", "gone"), podOf("d", "ReplicaSet", "r"), {},
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := map[types.NamespacedName]bool{{Namespace: "kube-system", Name: "there"}: true, {Namespace: "kube-system", Name: "gone"}: false}
	if !maps.Equal(found, want) {
		t.Errorf("found %v, want %v", found, want)
	}
	if asked := client.Actions(); len(asked) != 2 {
		t.Errorf("%d requests for 2 DaemonSets: %v", len(asked), asked)
	}
}

// TestARefusedDaemonSetIsNotAGoneOne: a pod of a DaemonSet that is gone may be evicted, so that a refusal must stay one.
func TestARefusedDaemonSetIsNotAGoneOne(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("get", "daemonsets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(appsv1.Resource("daemonsets"), "there", nil)
	})
	if _, err := There(t.Context(), client, []types.NamespacedName{{Namespace: "kube-system", Name: "there"}}); !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
}
