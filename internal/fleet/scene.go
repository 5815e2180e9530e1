// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/apiserver"
)

// HybridEnv are the VPC CNI's settings without which the coordinator refuses to fence it, for the overlay 10.244.0.0/16.
func HybridEnv() []corev1.EnvVar {
	return []corev1.EnvVar{
		{Name: "AWS_EXTERNAL_SERVICE_CIDRS", Value: "10.244.0.0/16"}, {Name: "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", Value: "10.244.0.0/16"},
	}
}

// CNIs makes both CNIs' DaemonSets and the kind CiliumNodeConfig, the VPC CNI with these settings.
func (f *Fleet) CNIs(legacy ...corev1.EnvVar) {
	f.tb.Helper()
	f.nodeConfigs()
	f.must(f.Client.Create(f.ctx, cni("aws-node", "aws-node", legacy)))
	f.must(f.Client.Create(f.ctx, cni("cilium", "cilium-agent", nil)))
}

func cni(name, container string, env []corev1.EnvVar) *appsv1.DaemonSet {
	labels := map[string]string{"k8s-app": name}
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					HostNetwork: true, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
					Containers: []corev1.Container{{Name: container, Image: "none", Env: env}},
				},
			},
		},
	}
}

// nodeConfigs makes the kind CiliumNodeConfig known.
func (f *Fleet) nodeConfigs() {
	f.tb.Helper()
	f.must(f.Client.Create(f.ctx, apiserver.Kind("cilium.io", "v2", "CiliumNodeConfig", "ciliumnodeconfigs", "Namespaced")))
	Eventually(f.tb, 10*time.Second, func() string {
		if err := f.Client.List(f.ctx, nodeConfigList()); err != nil {
			return "kind CiliumNodeConfig: " + err.Error()
		}
		return ""
	})
}

func nodeConfigList() *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: "cilium.io", Version: "v2", Kind: "CiliumNodeConfigList"})
	return list
}

// Legacy returns the VPC CNI's DaemonSet, nil when it is gone.
func (f *Fleet) Legacy() *appsv1.DaemonSet {
	f.tb.Helper()
	var ds appsv1.DaemonSet
	err := f.Client.Get(f.ctx, client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: "aws-node"}, &ds)
	if apierrors.IsNotFound(err) {
		return nil
	}
	f.must(err)
	return &ds
}

// Deployment makes a workload of namespace default, spread over the nodes, and waits until it is ready.
func (f *Fleet) Deployment(name string, replicas int32) {
	f.tb.Helper()
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{Name: name, Image: "none"}},
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
					}},
				},
			},
		},
	}
	f.must(f.Client.Create(f.ctx, d))
	// As slow as thousands of pods are on two cores: the lab's 5,500 took 147 s.
	Eventually(f.tb, 2*time.Minute+time.Duration(replicas)*50*time.Millisecond, func() string {
		f.must(f.Client.Get(f.ctx, client.ObjectKeyFromObject(d), d))
		if d.Status.ReadyReplicas == replicas {
			return ""
		}
		return fmt.Sprintf("%d of %d pods of %s are ready", d.Status.ReadyReplicas, replicas, name)
	})
}

// Budget sets how many pods of a Deployment must be available.
func (f *Fleet) Budget(name string, available int) {
	f.tb.Helper()
	least := intstr.FromInt(available)
	pdb := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}},
	}
	err := f.Client.Create(f.ctx, pdb)
	if apierrors.IsAlreadyExists(err) {
		body := fmt.Sprintf(`{"spec":{"minAvailable":%d}}`, available)
		err = f.Client.Patch(f.ctx, pdb, client.RawPatch(types.MergePatchType, []byte(body)))
	}
	f.must(err)
}

// Cutover reads the Cutover.
func (f *Fleet) Cutover() *v1alpha1.Cutover {
	f.tb.Helper()
	var c v1alpha1.Cutover
	f.must(f.Client.Get(f.ctx, client.ObjectKey{Name: v1alpha1.CutoverName}, &c))
	return &c
}

// Condition reads a condition of the Cutover; an empty one if it is not there.
func (f *Fleet) Condition(kind string) metav1.Condition {
	f.tb.Helper()
	if c := meta.FindStatusCondition(f.Cutover().Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// Patch changes the Cutover as a person would, by a JSON merge patch.
func (f *Fleet) Patch(body string) {
	f.tb.Helper()
	c := &v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName}}
	f.must(f.Client.Patch(f.ctx, c, client.RawPatch(types.MergePatchType, []byte(body))))
}

// Nodes lists the nodes.
func (f *Fleet) Nodes() []corev1.Node {
	f.tb.Helper()
	var nodes corev1.NodeList
	f.must(f.Client.List(f.ctx, &nodes))
	return nodes.Items
}

// clear removes everything that a fleet and a coordinator make, the owners before what they own, until it is gone.
func (f *Fleet) clear() {
	f.tb.Helper()
	everything := []struct {
		of   client.Object
		list client.ObjectList
		in   string
	}{
		{&v1alpha1.Cutover{}, &v1alpha1.CutoverList{}, ""},
		{&policyv1.PodDisruptionBudget{}, &policyv1.PodDisruptionBudgetList{}, metav1.NamespaceDefault},
		{&appsv1.Deployment{}, &appsv1.DeploymentList{}, metav1.NamespaceDefault},
		{&appsv1.ReplicaSet{}, &appsv1.ReplicaSetList{}, metav1.NamespaceDefault},
		{&appsv1.DaemonSet{}, &appsv1.DaemonSetList{}, metav1.NamespaceSystem},
		{&corev1.Node{}, &corev1.NodeList{}, ""},
		{&v1alpha1.NodeCutover{}, &v1alpha1.NodeCutoverList{}, ""},
		{&corev1.Pod{}, &corev1.PodList{}, metav1.NamespaceDefault},
		{&corev1.Pod{}, &corev1.PodList{}, metav1.NamespaceSystem},
	}
	Eventually(f.tb, time.Minute, func() string {
		for _, e := range everything {
			if err := f.Client.List(f.ctx, e.list, client.InNamespace(e.in)); err != nil {
				return err.Error()
			}
			if left := meta.LenList(e.list); left > 0 {
				err := f.Client.DeleteAllOf(f.ctx, e.of, client.InNamespace(e.in), client.GracePeriodSeconds(0), client.PropagationPolicy(metav1.DeletePropagationBackground))
				return fmt.Sprintf("%d of %T are left: %v", left, e.list, err)
			}
		}
		if err := f.clearNodeConfigs(f.ctx); err != nil {
			return err.Error()
		}
		return ""
	})
}

func (f *Fleet) clearNodeConfigs(ctx context.Context) error {
	list := nodeConfigList()
	err := f.Client.List(ctx, list)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil
	}
	for i := range list.Items {
		err = errors.Join(err, client.IgnoreNotFound(f.Client.Delete(ctx, &list.Items[i])))
	}
	return err
}
