// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
	"github.com/cni-cutover/cni-cutover/internal/meddler"
)

// TestTheAPIServerIsGoneForLongerThanTheLease: the coordinator ends itself when it can no longer show that it leads, and the
// next one goes on where the ledger says. With make crash the API server is gone for 30 s.
func TestTheAPIServerIsGoneForLongerThanTheLease(t *testing.T) {
	r := newRoll(t)
	p := r.proxy()
	d := r.deployment(p)
	var once sync.Once
	gone := make(chan struct{})
	p.Meddle(func(q meddler.Request) (f meddler.Fate) {
		if q.Subresource == "eviction" {
			once.Do(func() { f.After = func() { go p.GoAway(); close(gone) } })
		}
		return f
	})
	d.run()
	await(t, gone, time.Minute, "nothing is evicted")
	away := time.Now()
	fleet.Eventually(t, 20*time.Second, func() string {
		if d.incarnation() > 1 {
			return ""
		}
		return "the coordinator lives, though it cannot renew its lease"
	})
	if *crashTo == 0 {
		<-time.After(time.Until(away.Add(30 * time.Second)))
	}
	p.ComeBack()
	r.ends(time.Minute)
	r.oracle.judged(20, 2)
}

// TestABadDayAtTheAPIServer: every fifth write meets one of the answers of a server in trouble, or is done without the
// coordinator hearing of it, until each has been met; lists are slow, and watches break off in the middle of an event. With
// make crash the trouble does not end: an action that met some is tried again after 5 s, so that takes minutes.
func TestABadDayAtTheAPIServer(t *testing.T) {
	r := newRoll(t)
	p := r.proxy()
	troubles := []meddler.Fate{
		{Answer: http.StatusConflict},
		{Unheard: true},
		{Answer: http.StatusTooManyRequests, RetryAfter: time.Second},
		{Delay: 300 * time.Millisecond},
		{Answer: http.StatusInternalServerError},
		{Lost: true},
		{Answer: http.StatusServiceUnavailable, RetryAfter: time.Second},
	}
	var mu sync.Mutex
	watches, met := 0, 0
	p.Meddle(func(q meddler.Request) meddler.Fate {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case q.Verb == "watch" && (watches < 15 || *crashTo == 0): // three of each; client-go waits ever longer between them
			watches++
			return meddler.Fate{Cut: int64(500 + 1700*(watches%7))}
		case q.Write%5 == 1 && (met < len(troubles) || *crashTo == 0):
			met++
			return troubles[met%len(troubles)]
		case q.Verb == "list":
			return meddler.Fate{Delay: 50 * time.Millisecond}
		}
		return meddler.Fate{}
	})
	d := r.deployment(p)
	d.run()
	r.ends(3 * time.Minute)
	r.oracle.judged(20, 2)
	mu.Lock()
	defer mu.Unlock()
	if met < len(troubles) || watches < 10 || d.incarnation() != 1 {
		t.Errorf("%d writes met trouble, %d watches were begun, %d coordinators ran", met, watches, d.incarnation())
	}
	t.Logf("%d of %d writes met trouble, %d watches were cut", met, p.Writes(), watches)
}

// TestANodeIsCreatedAgainUnderItsNameInTheMiddleOfASlot: the slot is about the first one, which is gone; the second one is
// the replacement, and nothing is evicted from it. The first eviction is the middle: a node that is empty at once is never
// recorded in step Drain.
func TestANodeIsCreatedAgainUnderItsNameInTheMiddleOfASlot(t *testing.T) {
	r := newRoll(t)
	p := r.proxy()
	var once sync.Once
	names := make(chan string, 1)
	p.Meddle(func(q meddler.Request) (f meddler.Fate) {
		if q.Subresource == "eviction" {
			once.Do(func() {
				f.After = func() {
					lost := r.Cutover().Status.Slots[0].Node
					r.Lose(lost)
					r.Join(fleet.Node{Name: lost, Role: v1alpha1.RoleOverlay})
					names <- lost
				}
			})
		}
		return f
	})
	r.deployment(p).run()
	lost := await(t, names, time.Minute, "nothing is evicted")
	other := map[string]string{"node-1": "node-2", "node-2": "node-1"}[lost]
	fleet.Eventually(t, time.Minute, func() string {
		c := r.Cutover()
		got := map[string]string{}
		for _, f := range c.Status.Finished {
			got[f.Node] = fmt.Sprintf("%s by %s", f.Outcome, f.Replacement)
		}
		if want := map[string]string{lost: "Replaced by " + lost, other: "Replaced by node-3"}; !maps.Equal(got, want) || c.Status.Phase != v1alpha1.PhaseFullEBPF {
			return fmt.Sprintf("phase %s, finished %v, want %v; slots %+v", c.Status.Phase, got, want, c.Status.Slots)
		}
		return ""
	})
	r.oracle.judged(20, 0) // all pods may have been on the node that was lost
}

// TestNoEvictionFollowsABadAnswer asks agents that answer in every wrong way, before a slot and again in it, just before the
// first eviction. Each is told apart, none moves anything, and the roll goes on once they answer as they should.
func TestNoEvictionFollowsABadAnswer(t *testing.T) {
	r := newRoll(t)
	p := r.proxy()
	r.deployment(p).run()
	bad := []struct {
		name         string
		is           fleet.Agent
		before, then string // what is said before a slot, and in it; empty where it is not tried
	}{
		{"an older version, that lacks a finding", bent(func(s *v1alpha1.NodeCutoverStatus) {
			s.Findings = slices.DeleteFunc(s.Findings, func(f v1alpha1.Finding) bool { return f.Check == v1alpha1.CheckPrograms })
		}), "is the agent older than the coordinator?", "is the agent older than the coordinator?"},
		// A report of another node or boot is none at all, so that nobody knows which CNI owns the pods.
		{"for the UID of another node", bent(func(s *v1alpha1.NodeCutoverStatus) { s.NodeUID = "another" }), "has not reported which CNI", "shows role Unknown"},
		{"for another role", bent(func(s *v1alpha1.NodeCutoverStatus) { s.JudgedRole = v1alpha1.RoleOverlay }), `was asked about "Legacy"`, `was asked about "Legacy"`},
		{"of another boot", bent(func(s *v1alpha1.NodeCutoverStatus) { s.BootID = "yesterday" }), `is of boot "yesterday"`, "shows role Unknown"},
		{"one check fails", fleet.Agent{Verdict: v1alpha1.VerdictFail, Reason: v1alpha1.TunnelDown}, string(v1alpha1.TunnelDown), string(v1alpha1.TunnelDown)},
		{"late: to an earlier question", bent(func(s *v1alpha1.NodeCutoverStatus) {
			if s.ChallengeID != "" {
				s.ChallengeID = "earlier"
			}
		}), "", "has not answered"}, // which is said after 10 s
		{"what cannot be told", fleet.Agent{Verdict: v1alpha1.VerdictUnknown, Reason: v1alpha1.PeersUnknown}, string(v1alpha1.PeersUnknown), string(v1alpha1.PeersUnknown)},
	}
	tryAll := func(where string, within bool, says func(*v1alpha1.Cutover) string) {
		for _, agent := range bad {
			want := agent.before
			if within {
				want = agent.then
			}
			if want == "" {
				continue
			}
			t.Log(where + ": " + agent.name)
			r.SetAgent("node-1", agent.is)
			r.SetAgent("node-2", agent.is)
			fleet.Eventually(t, 30*time.Second, func() string {
				c := r.Cutover()
				if got := says(c); !strings.Contains(got, want) {
					return fmt.Sprintf("%s says %q, want %q; slots %+v", where, got, want, c.Status.Slots)
				}
				return ""
			})
		}
	}
	// A slot is granted the moment that agents answer well, so that they begin with a bad one.
	r.SetAgent("node-1", bad[0].is)
	r.SetAgent("node-2", bad[0].is)
	tryAll("the wait for a slot", false, func(c *v1alpha1.Cutover) string {
		if len(c.Status.Slots) > 0 {
			t.Fatalf("a slot was granted on a bad answer: %+v", c.Status.Slots)
		}
		for _, w := range c.Status.Waiting {
			if w.Node == "node-1" {
				return w.Message
			}
		}
		if ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
			return ready.Message
		}
		return ""
	})
	var once sync.Once
	p.Witness(func(q meddler.Request, status int) {
		// The slot is in the ledger: whatever is answered from now on is answered to the second question.
		if q.Resource == "cutovers" && status == http.StatusOK && strings.Contains(string(q.Body), `"step":`) {
			once.Do(func() { r.SetAgent("node-1", bad[0].is) })
		}
	})
	r.SetAgent("node-2", fleet.Agent{Silent: true})
	r.SetAgent("node-1", fleet.Agent{})
	fleet.Eventually(t, 30*time.Second, func() string {
		if len(r.Cutover().Status.Slots) == 1 {
			return ""
		}
		return "no slot is granted, though node-1 answers well"
	})
	tryAll("step Confirm", true, func(c *v1alpha1.Cutover) string {
		if len(c.Status.Slots) != 1 || c.Status.Slots[0].Step != v1alpha1.StepConfirm {
			return ""
		}
		return c.Status.Slots[0].Message
	})
	if n := r.oracle.evicted(); n != 0 {
		t.Errorf("%d evictions followed bad answers", n)
	}

	t.Log("answered well, and twice")
	r.SetAgent("node-1", fleet.Agent{})
	r.SetAgent("node-2", fleet.Agent{})
	r.answerAgain("node-1")
	r.ends(time.Minute)
	r.oracle.judged(20, 2)
}

func bent(bend func(*v1alpha1.NodeCutoverStatus)) fleet.Agent { return fleet.Agent{Bend: bend} }

// answerAgain writes the answer of a node once more.
func (r *roll) answerAgain(node string) {
	r.t.Helper()
	fleet.Eventually(r.t, 10*time.Second, func() string {
		var nc v1alpha1.NodeCutover
		if err := r.Client.Get(r.t.Context(), client.ObjectKey{Name: node}, &nc); err != nil {
			return err.Error()
		}
		if nc.Spec.Challenge == nil || nc.Status.ChallengeID != nc.Spec.Challenge.ID {
			return node + " has not answered"
		}
		nc.Status.ObservedAt = metav1.NowMicro()
		if err := r.Client.Status().Update(r.t.Context(), &nc); err != nil {
			return err.Error()
		}
		return ""
	})
}

// TestAForeignCordonStays: the roll goes around a node that somebody else has cordoned, and leaves it as it is.
func TestAForeignCordonStays(t *testing.T) {
	r := newRoll(t, func(c *v1alpha1.Cutover) { c.Spec.Rollout.MaxUnavailable = 2 })
	cordoned := func() *corev1.Node {
		n := &corev1.Node{}
		if err := r.Client.Get(t.Context(), client.ObjectKey{Name: "node-2"}, n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	r.Budget("shop", 0) // what leaves node-1 has nowhere to go before its replacement joins
	body := []byte(`{"spec":{"unschedulable":true}}`)
	if err := r.Client.Patch(t.Context(), cordoned(), client.RawPatch(types.MergePatchType, body)); err != nil {
		t.Fatal(err)
	}
	r.deployment(r.proxy()).run()
	fleet.Eventually(t, time.Minute, func() string {
		s := r.Cutover().Status
		waits := slices.ContainsFunc(s.Waiting, func(w v1alpha1.Waiting) bool { return w.Node == "node-2" && w.Reason == v1alpha1.CordonedByOthers })
		if s.Rolled == 1 && waits {
			return ""
		}
		return fmt.Sprintf("%d nodes are rolled, want node-1 alone, and node-2 to wait as CordonedByOthers: %+v", s.Rolled, s.Waiting)
	})
	if n := cordoned(); !n.Spec.Unschedulable || n.Annotations[v1alpha1.AnnotationCordon] != "" {
		t.Errorf("node-2 is cordoned %t, by %q", n.Spec.Unschedulable, n.Annotations[v1alpha1.AnnotationCordon])
	}
}
