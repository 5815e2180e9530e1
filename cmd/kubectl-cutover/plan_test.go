// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// TestARollIsForetold has three nodes, one of which has moved already by its agent's report.
func TestARollIsForetold(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(func(c *v1alpha1.Cutover) { c.Spec.Rollout.MaxConcurrent, c.Spec.Rollout.MaxUnavailable = 2, 2 }))
	node := func(name string) *corev1.Node {
		is := machine()
		is.BootID = "boot-of-" + name
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: "eu-central-1a"}}, Status: corev1.NodeStatus{
			NodeInfo: is, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1930m"), corev1.ResourceMemory: resource.MustParse("7Gi"), corev1.ResourcePods: resource.MustParse("29")},
		}}
	}
	a, b, moved := node("roll-a"), node("roll-b"), node("roll-c")
	w.make(a, b, moved)
	w.make(&v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: moved.Name}, Spec: v1alpha1.NodeCutoverSpec{NodeUID: moved.UID},
		Status: v1alpha1.NodeCutoverStatus{NodeUID: moved.UID, BootID: "boot-of-roll-c", Role: v1alpha1.RoleOverlay}})
	grace := int64(90)
	large := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "large", OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(a, corev1.SchemeGroupVersion.WithKind("Node"))}},
		Spec: corev1.PodSpec{NodeName: a.Name, TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{{
			Name: "c", Image: "none", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("8Gi")}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	w.make(large)
	on(t, "plan").want(t, codeClean, "2 nodes in 2 waves, at most 1 at once: about 33m50s", "0 of 1 canaries are done",
		"roll-a  eu-central-1a  1        1        17m40s", "default/large of roll-a: 2 nodes have too little memory", "Slices of the overlay: 512, taken at once: 5")
	on(t, "plan", "-o", "json", "--replace-time", "10m").want(t, codeClean, `"evicted": 1`, `"pod": "default/large"`, `"seconds": 2630`)

	file := filepath.Join(t.TempDir(), "snapshot.tgz")
	on(t, "preflight", "--vpc-cidr", "10.0.0.0/16", "--save", file)
	if live, from := on(t, "plan", "-o", "yaml"), plugin(t, "", "plan", "--from", file, "-o", "yaml"); stripTime(live.stdout) != stripTime(from.stdout) || from.code != codeClean {
		t.Errorf("a kept snapshot is foretold otherwise (%d):\n%s\n%s", from.code, live.stdout, from.stdout)
	}
	bare := large.DeepCopy()
	bare.OwnerReferences = nil
	if err := w.client.Patch(t.Context(), bare, client.MergeFrom(large)); err != nil {
		t.Fatal(err)
	}
	on(t, "plan").want(t, codeBlocked, "roll-a: Pod default/large is not deleted")

	nobody := w.as("plan-nobody")
	plugin(t, "", "plan", "--kubeconfig", nobody).want(t, codeUnsure, "Nothing is foretold, because this was not seen: cutovers.cni-cutover.dev, nodecutovers.cni-cutover.dev, nodes,")
	for _, args := range [][]string{{"-o", "junit"}, {"--replace-time", "-1s"}, {"--from", "/does/not/exist"}} {
		plugin(t, "", append([]string{"plan"}, args...)...).want(t, codeFailed, "kubectl cutover:")
	}
}

// stripTime takes away when a snapshot was taken.
func stripTime(page string) string {
	return regexp.MustCompile(`takenAt: .*`).ReplaceAllString(page, "")
}
