// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// lock is one whose writes take a while and end as the test says.
type lock struct {
	resourcelock.Interface
	takes time.Duration
	err   error
}

func (l *lock) Identity() string { return "me" }

func (l *lock) Update(context.Context, resourcelock.LeaderElectionRecord) error {
	time.Sleep(l.takes)
	return l.err
}

func TestLeadershipIsCertainForAsLongAsNobodyElseCanLead(t *testing.T) {
	mine, nobodys := resourcelock.LeaderElectionRecord{HolderIdentity: "me"}, resourcelock.LeaderElectionRecord{}
	synctest.Test(t, func(t *testing.T) {
		under := &lock{}
		l := &Lease{Interface: under}
		want := func(certain bool, when string) {
			t.Helper()
			if l.Certain() != certain {
				t.Errorf("%s: certain is %t", when, !certain)
			}
		}
		want(false, "before the lease was ever held")
		under.takes = 3 * time.Second
		_ = l.Update(t.Context(), mine)
		want(true, "after a renewal")
		time.Sleep(RenewDeadline - 3*time.Second - time.Nanosecond)
		want(true, "just before the deadline, counted from when the renewal was begun")
		time.Sleep(time.Nanosecond)
		want(false, "at the deadline")
		under.err = errors.New("a conflict: somebody else has it")
		_ = l.Update(t.Context(), mine)
		want(false, "after a renewal that was refused")
		under.takes, under.err = 0, nil
		_ = l.Update(t.Context(), mine)
		want(true, "after another renewal")
		under.err = errors.New("the answer was lost")
		_ = l.Update(t.Context(), nobodys)
		want(false, "after it was given up, whether that was heard or not")
	})
}

// TestNothingIsBegunByWhoIsNotCertainToLead: an action that has begun ends within moveTimeout, and that is all.
func TestNothingIsBegunByWhoIsNotCertainToLead(t *testing.T) {
	client := fake.NewClientset(node("n1", "uid-1"))
	certain := true
	m := mover{kube: client, leads: func() bool { return certain }}
	label := func(node string) plan.Action { return plan.SetFenceLabel{Node: node, UID: "uid-1", On: true} }
	m.run(t.Context(), &plan.World{Cutover: &v1alpha1.Cutover{}}, &sharedLedger{live: m.live}, []plan.Action{label("n1")})
	certain = false
	m.run(t.Context(), &plan.World{Cutover: &v1alpha1.Cutover{}}, &sharedLedger{live: m.live}, []plan.Action{label("n1"), label("n1")})
	if got := len(client.Actions()); got != 1 {
		t.Errorf("%d requests, want that of the leader alone: %v", got, client.Actions())
	}
	r := Reconciler{move: m}
	w := &plan.World{Cutover: &v1alpha1.Cutover{}}
	if _, err := r.write(t.Context(), w, plan.Decision{Status: v1alpha1.CutoverStatus{Rolled: 1}}); !errors.Is(err, errNotLeading) {
		t.Errorf("writing a ledger without the lease: %v", err)
	}
}
