// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func TestAPhaseIsApprovedInItsTurn(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(func(c *v1alpha1.Cutover) {
		c.Status.Phase = v1alpha1.PhaseInstallCilium
		c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: "AwaitingApproval", Message: "install Cilium first", LastTransitionTime: metav1.Now()}}
	}))
	on(t, "approve", "Installcilium", "--dry-run=server").want(t, codeClean, "InstallCilium approved (server dry run)")
	if got := w.cutover().Spec.ApprovedPhases; len(got) != 0 {
		t.Errorf("a dry run approved %v", got)
	}
	on(t, "approve", "RollNodes").want(t, codeFailed, "is in phase InstallCilium", "install Cilium first", "--ahead")
	on(t, "approve", "Done").want(t, codeFailed, "want one of DecoupleIngress, ")
	on(t, "approve").want(t, codeFailed, "accepts 1 arg")
	on(t, "approve", "InstallCilium").want(t, codeClean, "InstallCilium approved\n")
	on(t, "approve", "InstallCilium").want(t, codeClean, "was approved already")
	on(t, "approve", "DecoupleIngress").want(t, codeClean, "approved") // one that is behind
	on(t, "approve", "RollNodes", "--ahead").want(t, codeClean, "approved")
	on(t, "approve", "RollNodes", "--dry-run=client").want(t, codeFailed, "want server or none")
	c := w.cutover()
	if want := []v1alpha1.Phase{v1alpha1.PhaseInstallCilium, v1alpha1.PhaseDecoupleIngress, v1alpha1.PhaseRollNodes}; !slices.Equal(c.Spec.ApprovedPhases, want) {
		t.Errorf("approved: %v, want %v", c.Spec.ApprovedPhases, want)
	}
	owns := slices.ContainsFunc(c.ManagedFields, func(m metav1.ManagedFieldsEntry) bool {
		return m.Manager == fieldManager && strings.Contains(string(m.FieldsV1.Raw), "approvedPhases")
	})
	if !owns {
		t.Errorf("%s does not own the approvals, so a spec kept in Git would take them back: %v", fieldManager, c.ManagedFields)
	}
}

// TestDecisionsOfSeveralPeopleAllCount: each carries the version that it was made on, and is made again on a newer one.
func TestDecisionsOfSeveralPeopleAllCount(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(nil))
	phases := []string{"DecoupleIngress", "InstallCilium", "FenceLegacy", "RollNodes"}
	var people sync.WaitGroup
	codes := make([]outcome, len(phases))
	for i, p := range phases {
		people.Go(func() { codes[i] = on(t, "approve", p, "--ahead") })
	}
	people.Wait()
	for i, o := range codes {
		if o.code != codeClean {
			t.Errorf("approving %s: %+v", phases[i], o)
		}
	}
	if got := w.cutover().Spec.ApprovedPhases; len(got) != len(phases) {
		t.Errorf("approved: %v, want all of %v", got, phases)
	}
}

func TestPauseResumeAndAbort(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(func(c *v1alpha1.Cutover) {
		rolling(c)
		c.Status.Slots[0].HeldSince = &c.Status.Slots[0].Since
	}))
	state := func(want v1alpha1.State) {
		t.Helper()
		if got := w.cutover().Spec.State; got != want {
			t.Errorf("state %s, want %s", got, want)
		}
	}
	on(t, "pause").want(t, codeClean, "state Running -> Paused\n", "Goes on: slot of node-b (Drain, held).")
	state(v1alpha1.StatePaused)
	on(t, "pause").want(t, codeClean, "the state was Paused already")
	on(t, "approve", "RollNodes").want(t, codeClean, "was approved already")
	on(t, "approve", "RemoveLegacy", "--ahead").want(t, codeClean, "does not begin before kubectl cutover resume")
	on(t, "resume").want(t, codeClean, "state Paused -> Running\n")
	state(v1alpha1.StateRunning)
	on(t, "abort", "--dry-run=server").want(t, codeClean, "(server dry run)")
	state(v1alpha1.StateRunning)
	on(t, "abort").want(t, codeClean, "state Running -> Aborted\n", "Goes on: slot of node-b", "Put back: taint cni-cutover.dev/leaving of 3 old nodes.",
		"Stays: 1 nodes on the overlay", "label io.cilium/aws-node-enabled", "DaemonSet kube-system/aws-node", "CiliumNodeConfig cni-cutover-overlay", "section Undo")
	state(v1alpha1.StateAborted)
	on(t, "pause", "now").want(t, codeFailed, "unknown command")
}
