// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

// setCordon cordons a node or not, as a person does.
func (k *scene) setCordon(node string, on bool) {
	k.t.Helper()
	k.patch(&corev1.Node{}, "", node, fmt.Sprintf(`{"spec":{"unschedulable":%t}}`, on))
}

// waitsForSlot waits until a node without a slot waits for a reason, and an Event says so.
func (k *scene) waitsForSlot(node string, reason v1alpha1.Reason) {
	k.t.Helper()
	fleet.Eventually(k.t, 20*time.Second, func() string {
		s := k.Cutover().Status
		if slices.ContainsFunc(s.Waiting, func(w v1alpha1.Waiting) bool { return w.Node == node && w.Reason == reason && w.Message != "" }) {
			return ""
		}
		return fmt.Sprintf("%s does not wait for %s: %+v; slots %+v", node, reason, s.Waiting, s.Slots)
	})
	if s := k.slot(node); s != nil {
		k.t.Errorf("%s has a slot: %+v", node, s)
	}
	k.wantWarning(node, reason)
	k.counted("cni_cutover_coordinator_waits", string(reason))
}

// release gives the held slot of a node back, as a person does, and waits until it is gone and its cordon undone.
func (k *scene) release(node string) *corev1.Node {
	k.t.Helper()
	k.patch(&v1alpha1.NodeCutover{}, "", node, fmt.Sprintf(`{"metadata":{"annotations":{%q:"me: it is enough"}}}`, v1alpha1.AnnotationRelease))
	fleet.Eventually(k.t, 20*time.Second, func() string {
		if _, ours := k.node(node).Annotations[v1alpha1.AnnotationCordon]; k.slot(node) == nil && !ours {
			return ""
		}
		return fmt.Sprintf("the slot of %s is not released: %+v", node, k.slot(node))
	})
	return k.node(node)
}

func TestOtherPeoplesCordonsAreRespected(t *testing.T) {
	k := newScene(t, make([]fleet.Node, 4)...)
	k.rolling(nil)

	t.Log("node-1 was cordoned by somebody else")
	k.setCordon("node-1", true)
	k.turn("node-1")
	k.waitsForSlot("node-1", v1alpha1.CordonedByOthers)
	k.setCordon("node-1", false)
	k.replaced("node-1")

	t.Log("node-2 is NotReady")
	k.SetReady("node-2", false)
	k.turn("node-2")
	k.waitsForSlot("node-2", v1alpha1.NodeNotReady)
	k.SetReady("node-2", true)
	k.replaced("node-2")

	t.Log("a stranger uncordons node-3 while it is drained")
	k.Pod("node-3", "needed", nil)
	k.budget("budget", "needed", 1, nil)
	k.turn("node-3")
	k.waits("node-3", v1alpha1.StepDrain, v1alpha1.EvictionBlocked)
	k.setCordon("node-3", false)
	k.wantWarning("node-3", v1alpha1.CordonChanged)
	k.waits("node-3", v1alpha1.StepDrain, v1alpha1.EvictionBlocked)
	if !k.node("node-3").Spec.Unschedulable {
		t.Error("node-3 is not cordoned again")
	}
	k.endBudget("budget")
	k.replaced("node-3")

	t.Log("somebody else cordons node-4 before we can, and gets it back as it was")
	allow := k.deny("nobody-patches-nodes", "", "nodes", "UPDATE")
	k.turn("node-4")
	k.waits("node-4", v1alpha1.StepCordon, v1alpha1.AdmissionRefused, "nobody-patches-nodes", "trying to cordon node-4")
	k.setCordon("node-4", true)
	k.Pod("node-4", "needed", nil)
	k.budget("budget", "needed", 1, nil)
	allow()
	k.waits("node-4", v1alpha1.StepDrain, v1alpha1.EvictionBlocked)
	k.held("node-4", v1alpha1.StepDrain, v1alpha1.EvictionBlocked)
	n := k.release("node-4")
	if _, excluded := n.Labels[v1alpha1.LabelExcludeBalancers]; !n.Spec.Unschedulable || excluded {
		t.Errorf("node-4 was handed back unschedulable=%t, excluded=%t, want the other cordon and nothing else", n.Spec.Unschedulable, excluded)
	}
	k.waitsForSlot("node-4", v1alpha1.CordonedByOthers)
	k.endBudget("budget")
	k.setCordon("node-4", false)
	k.replaced("node-4")
}

// TestTwoDrainsThatWaitForEachOtherAreNamedAndCanBeParted: the second pod of each budget can only come up where the other
// slot has cordoned.
func TestTwoDrainsThatWaitForEachOtherAreNamedAndCanBeParted(t *testing.T) {
	k := newScene(t, make([]fleet.Node, 2)...)
	k.rolling(func(c *v1alpha1.Cutover) {
		r := &c.Spec.Rollout
		r.MaxConcurrent, r.MaxUnavailable, r.FailureBudget, r.Canary = 2, 2, 3, new(int32(0))
		r.Drain.DeregistrationDelay = metav1.Duration{Duration: 4 * time.Second}
	})
	k.Pod("node-1", "x", nil)
	k.Pod("node-2", "y", nil)
	k.budget("budget-x", "x", 1, nil)
	k.budget("budget-y", "y", 1, nil)
	k.turn("node-1")
	k.turn("node-2")
	k.waits("node-1", v1alpha1.StepDeregister, v1alpha1.Deregistering)
	k.waits("node-2", v1alpha1.StepDeregister, v1alpha1.Deregistering)
	k.second("x", "node-2")
	k.second("y", "node-1")

	for node, budget := range map[string]string{"node-1": "budget-x", "node-2": "budget-y"} {
		k.waits(node, v1alpha1.StepDrain, v1alpha1.EvictionBlocked, budget+" needs 1 healthy pods and has 1 currently")
		k.held(node, v1alpha1.StepDrain, v1alpha1.EvictionBlocked)
	}
	t.Log("one is kept out for now and released; the other goes on by itself, and then the first")
	k.annotate("node-2", v1alpha1.AnnotationOptOut, "it waits for node-1, which waits for it")
	k.release("node-2")
	k.replaced("node-1")
	k.endBudget("budget-y")
	k.endBudget("budget-x")
	k.turn("node-2")
	k.replaced("node-2")
}

// second makes another pod of an app, which the scheduler may put onto one node only.
func (k *scene) second(app, node string) {
	k.t.Helper()
	k.must(k.Client.Create(k.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: app + "-2", Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{corev1.LabelHostname: node},
			Containers:   []corev1.Container{{Name: app, Image: "none"}},
		},
	}))
}

// withoutCancel is for what a test undoes when its own context has ended.
func (k *scene) withoutCancel() context.Context { return context.WithoutCancel(k.t.Context()) }
