// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

// TestWhatADrainMeetsIsGathered has what only a real API server can refuse: a selector, a claim, a controller.
func TestWhatADrainMeetsIsGathered(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(nil))
	if diff := cmp.Diff(w.cutover().Spec.Rollout, defaultRollout()); diff != "" {
		t.Errorf("a Cutover without spec.rollout has other defaults (-the API server's +ours):\n%s", diff)
	}
	_, pod, _ := service("web", false)
	pod.Labels = map[string]string{"app": "web"}
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-of-web"}}}}
	bare := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "bare"}, Spec: corev1.PodSpec{NodeName: "n", Containers: pod.Spec.Containers}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "of-n"}, Spec: corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		ClaimRef: &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: "default", Name: "data-of-web"}, StorageClassName: "local",
		PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/mnt/nvme0"}},
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"n"}}}}}}},
	}}
	local, one, replicas := "local", intstr.FromInt32(1), int32(1)
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data-of-web"}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: &local, VolumeName: volume.Name, AccessModes: volume.Spec.AccessModes, Resources: corev1.VolumeResourceRequirements{Requests: volume.Spec.Capacity},
	}}
	selector := &metav1.LabelSelector{MatchLabels: pod.Labels}
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: selector}}
	set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: appsv1.ReplicaSetSpec{
		Replicas: &replicas, Selector: selector, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels}, Spec: corev1.PodSpec{Containers: pod.Spec.Containers}},
	}}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	w.make(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{NodeInfo: machine()}}, pod, bare, volume, claim, budget, set)
	fleet.Eventually(t, time.Minute, func() string { // the controllers adopt, count and bind
		for _, o := range []client.Object{pod, budget, volume} {
			if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
				return err.Error()
			}
		}
		if metav1.GetControllerOf(pod) == nil || budget.Status.CurrentHealthy != 1 || volume.Status.Phase != corev1.VolumeBound {
			return fmt.Sprintf("%v, %+v, %+v", pod.OwnerReferences, budget.Status, volume.Status)
		}
		return ""
	})
	ask := []string{"preflight", "--vpc-cidr", "10.0.0.0/16"}
	on(t, ask...).want(t, codeBlocked,
		"Fail    Draining Pod/default/bare: a drain does not delete Pods that declare no controller", "> kubectl -n default delete pod bare",
		"Fail    Draining PodDisruptionBudget/default/web: it can never allow an eviction (minAvailable 1; 1 of 1 pods are healthy, 1 must be)", "kubectl -n default scale replicaset/web --replicas=2",
		"Fail    Draining Pod/default/web: PersistentVolumes of 1 pod exist on one node alone (data-of-web of default/web)",
		"Fail    Draining Node/n: 1 of 1 nodes that are to be rolled could not be emptied today")

	out := w.cutover()
	out.Spec.Nodes.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "other"}}
	if err := w.client.Update(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	if page := on(t, ask...).stdout; !strings.Contains(page, "Pass    Draining: a roll of 0 nodes evicts 0 pods") || strings.Contains(page, "Fail    Draining") {
		t.Errorf("a node that is not selected is judged:\n%s", page)
	}
}
