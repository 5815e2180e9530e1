// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func minutes(n time.Duration) metav1.Duration { return metav1.Duration{Duration: n * time.Minute} }

func someSlot(uid types.UID) v1alpha1.Slot {
	at := metav1.NewMicroTime(time.Date(2030, 1, 1, 0, 0, 0, 123456000, time.UTC))
	return v1alpha1.Slot{
		NodeUID: uid, Node: "node-of-" + string(uid), Step: v1alpha1.StepCordon, Since: at, GrantedAt: at,
		Holder: "coordinator-1", Generation: 1,
		Terms: v1alpha1.Terms{
			// A delay and a soak of zero, and no, are wishes too: none of them may come back as a default.
			Drain:       v1alpha1.Drain{Timeout: minutes(10), DeleteEmptyDirData: new(bool)},
			Replacement: v1alpha1.Replacement{Type: v1alpha1.ReplacementExternal, Timeout: minutes(1), JoinTimeout: minutes(2)},
		},
	}
}

// ledger creates a Cutover and returns it as the API server has it.
func ledger(t *testing.T) *v1alpha1.Cutover {
	t.Helper()
	var c v1alpha1.Cutover
	if err := cluster.Get(t.Context(), client.ObjectKeyFromObject(created(t, object(t, smallest))), &c); err != nil {
		t.Fatal(err)
	}
	return &c
}

func TestALedgerIsBoundedAndNamesANodeOnce(t *testing.T) {
	c := ledger(t)
	slots := func(n int) (out []v1alpha1.Slot) {
		for i := range n {
			out = append(out, someSlot(types.UID(fmt.Sprint("uid-", i))))
		}
		return out
	}
	one := func(change func(*v1alpha1.Slot)) []v1alpha1.Slot {
		s := slots(1)
		change(&s[0])
		return s
	}
	for name, x := range map[string]struct {
		slots []v1alpha1.Slot
		want  string // empty: accepted
	}{
		"64 slots":           {slots(64), ""},
		"65 slots":           {slots(65), "must have at most 64 items"},
		"two for one node":   {append(slots(2), slots(1)...), `Duplicate value: {"nodeUID":"uid-0"}`},
		"a step nobody does": {one(func(s *v1alpha1.Slot) { s.Step = "Reboot" }), `supported values: "Surge", "Cordon"`},
		"a long message":     {one(func(s *v1alpha1.Slot) { s.Message = strings.Repeat("x", 513) }), "may not be more than 512 bytes"},
		"a drain of days":    {one(func(s *v1alpha1.Slot) { s.Terms.Drain.Timeout.Duration = 25 * time.Hour }), "rollout.drain.timeout must be between 1s and 24h"},
	} {
		t.Run(name, func(t *testing.T) {
			next := c.DeepCopy()
			next.Status.Slots = x.slots
			err := cluster.Status().Update(t.Context(), next, client.DryRunAll)
			switch {
			case x.want != "":
				refused(t, err, x.want)
			case err != nil:
				t.Error(err)
			}
		})
	}
}

// TestTwoCoordinatorsCannotBothGrant shows the compare-and-swap that law 2 rests on.
func TestTwoCoordinatorsCannotBothGrant(t *testing.T) {
	c := ledger(t)
	first, second := c.DeepCopy(), c.DeepCopy()
	first.Status.Slots = []v1alpha1.Slot{someSlot("uid-1")}
	second.Status.Slots = []v1alpha1.Slot{someSlot("uid-2")}
	if err := cluster.Status().Update(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Status().Update(t.Context(), second); !apierrors.IsConflict(err) {
		t.Errorf("the second grant from the same ledger: %v; want a conflict", err)
	}
	var got v1alpha1.Cutover
	if err := cluster.Get(t.Context(), client.ObjectKeyFromObject(c), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]v1alpha1.Slot{someSlot("uid-1")}, got.Status.Slots); diff != "" {
		t.Errorf("the ledger does not come back as it was written:\n%s", diff)
	}
}

func TestAWriteOfTheSpecDoesNotTouchTheLedger(t *testing.T) {
	c := ledger(t)
	c.Status.Phase = v1alpha1.PhaseRollNodes
	if err := cluster.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	c.Status.Phase, c.Spec.State = v1alpha1.PhaseDone, v1alpha1.StatePaused
	if err := cluster.Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if c.Status.Phase != v1alpha1.PhaseRollNodes || c.Spec.State != v1alpha1.StatePaused {
		t.Errorf("after a write of the spec: phase %s, state %s; want RollNodes and Paused", c.Status.Phase, c.Spec.State)
	}
	c.Spec.State = v1alpha1.StateAborted
	if err := cluster.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if c.Spec.State != v1alpha1.StatePaused {
		t.Errorf("a write of the ledger changed the spec: state %s", c.Spec.State)
	}
}
