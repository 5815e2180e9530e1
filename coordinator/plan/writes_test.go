// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// TestNothingIsWrittenTwice: every write of a slot is one of thousands.
func TestNothingIsWrittenTwice(t *testing.T) {
	c := rolling(t, 2, baseSpec())
	c.until(t, "a slot is granted", func() bool { return len(c.cutover.Status.Slots) > 0 })
	granted := c.cutover.Status.Slots[0]
	if now := Decide(c.world()).Status.Slots[0]; granted.Reason != v1alpha1.Cordoning || now.Reason != granted.Reason || now.Message != granted.Message {
		t.Errorf("the slot is granted as %q (%s), and then waits for %q (%s)", granted.Reason, granted.Message, now.Reason, now.Message)
	}

	c.until(t, "load balancers finish with it", c.inStep(v1alpha1.StepDeregister))
	w := c.world()
	for i := range w.Nodes {
		n := &w.Nodes[i]
		if n.Name != granted.Node {
			continue
		}
		n.SafeShown = true
		n.Cutover = n.Cutover.DeepCopy()
		challenge := (&decider{w: w, spec: &w.Cutover.Spec}).newChallenge(n, question{Purpose: v1alpha1.PurposeDrain, Role: n.Role()})
		n.Cutover.Spec.Challenge = &challenge
	}
	down := func() (n int) {
		for _, a := range Decide(w).Actions {
			if s, ok := a.(SetSafe); ok && !s.Safe {
				n++
			}
		}
		return n
	}
	if n := down(); n != 0 {
		t.Errorf("SafeToDrain is taken down %d times when the node has only just been asked again", n)
	}
	w.Now = w.Now.Add(answerGrace)
	if n := down(); n != 1 {
		t.Errorf("SafeToDrain is taken down %d times when the node does not answer, want once", n)
	}

	c.until(t, "its replacement soaks", c.inStep(v1alpha1.StepSoak))
	w = c.world()
	s := w.Cutover.Status.Slots[0]
	w.Now = s.Since.Add(s.Terms.Soak.Duration)
	d := Decide(w)
	if len(d.Status.Slots) == 0 || d.Status.Slots[0].Reason != v1alpha1.Soaking {
		t.Errorf("while the last answer of a soak is on its way the slots are %+v, want one that soaks", d.Status.Slots)
	}
}

func TestAsManyNodesAreAskedAsSlotsAreFree(t *testing.T) {
	for limit, want := range map[int32]int{1: 3, 3: 3, 8: 8} {
		spec := baseSpec()
		spec.Rollout.MaxConcurrent, spec.Rollout.MaxUnavailable, spec.Rollout.Canary = limit, limit, nil
		c := rolling(t, 10, spec)
		w := c.world()
		for i := range w.Nodes {
			if nc := w.Nodes[i].Cutover; nc != nil {
				nc = nc.DeepCopy()
				nc.Spec.Challenge = nil
				w.Nodes[i].Cutover = nc
			}
		}
		w.Cutover.Status.Phases = append(w.Cutover.Status.Phases, v1alpha1.PhaseRecord{Phase: v1alpha1.PhaseRollNodes, StartedAt: w.Cutover.Status.Phases[0].StartedAt})
		asked := 0
		for _, a := range Decide(w).Actions {
			if _, ok := a.(Ask); ok {
				asked++
			}
		}
		if asked != want {
			t.Errorf("with %d slots free %d nodes are asked, want %d", limit, asked, want)
		}
	}
}
