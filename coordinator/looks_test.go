// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"maps"
	"sync/atomic"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cni-cutover/cni-cutover/coordinator/drain"
)

func podOf(name, kind, owner string) corev1.Pod {
	yes := true
	return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name, OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: owner, Controller: &yes}}}}
}

func TestEveryDaemonSetIsAskedForOnce(t *testing.T) {
	var asked atomic.Int32
	live := clientfake.NewClientBuilder().WithObjects(&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "there"}}).
		WithInterceptorFuncs(interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			asked.Add(1)
			return c.Get(ctx, key, o, options...)
		}}).Build()
	found, err := gatherer{live: live}.there(t.Context(), drain.DaemonSetsOf([]corev1.Pod{
		podOf("a", "DaemonSet", "there"), podOf("b", "DaemonSet", "there"), podOf("c", "DaemonSet", "gone"), podOf("d", "ReplicaSet", "r"), {},
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := map[types.NamespacedName]bool{{Namespace: "kube-system", Name: "there"}: true, {Namespace: "kube-system", Name: "gone"}: false}
	if !maps.Equal(found, want) {
		t.Errorf("found %v, want %v", found, want)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("%d requests for 2 DaemonSets", n)
	}
}

// TestARefusedDaemonSetIsNotAGoneOne: a pod of a DaemonSet that is gone may be evicted, so that a refusal must stay one.
func TestARefusedDaemonSetIsNotAGoneOne(t *testing.T) {
	live := clientfake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
		return apierrors.NewForbidden(appsv1.Resource("daemonsets"), "there", nil)
	}}).Build()
	if _, err := (gatherer{live: live}).there(t.Context(), []types.NamespacedName{{Namespace: "kube-system", Name: "there"}}); !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
}
