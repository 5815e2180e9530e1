// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// TestPodsAreEvictedOnlyOnAGoodAnswer changes what the agent of a half-drained node has said.
func TestPodsAreEvictedOnlyOnAGoodAnswer(t *testing.T) {
	drain := question{Purpose: v1alpha1.PurposeDrain, Role: v1alpha1.RoleLegacy}
	answered := func(change func(*World, *Node)) func(*World) {
		return func(w *World) {
			answerAs(w, "n01", drain)
			if change != nil {
				change(w, &w.Nodes[0])
			}
		}
	}
	for name, tt := range map[string]struct {
		change       func(*World)
		evicts, asks bool
		reason       v1alpha1.Reason
	}{
		"a passing answer":            {answered(nil), true, false, v1alpha1.Evicting},
		"it has expired":              {answered(func(w *World, _ *Node) { w.Now = w.Now.Add(challengeTTL) }), false, true, v1alpha1.Evicting},
		"another leader asked for it": {answered(func(w *World, _ *Node) { w.Term = "next" }), false, true, v1alpha1.Evicting},
		"it was asked about a replacement": {func(w *World) {
			answerAs(w, "n01", question{Purpose: v1alpha1.PurposeValidate, Role: v1alpha1.RoleLegacy})
		}, false, true, v1alpha1.Evicting},
		"the node is safe no more":   {answered(func(_ *World, n *Node) { n.Cutover.Status.Findings[0].Verdict = v1alpha1.VerdictFail }), false, false, v1alpha1.NodeNotSafe},
		"nothing is said of a check": {answered(func(_ *World, n *Node) { n.Cutover.Status.Findings = n.Cutover.Status.Findings[1:] }), false, false, v1alpha1.NodeNotSafe},
		"the agent is silent": {answered(func(w *World, n *Node) {
			n.Cutover.Status.ChallengeID = "an earlier one"
			w.Now = w.Now.Add(answerGrace)
		}), false, false, v1alpha1.NoAnswer},
		"the node has restarted":    {answered(func(_ *World, n *Node) { n.BootID = "next" }), false, false, v1alpha1.AnswerRefused},
		"another node has its name": {answered(func(_ *World, n *Node) { n.Cutover.Status.NodeUID = "other" }), false, false, v1alpha1.AnswerRefused},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := slotWorld(v1alpha1.StepDrain)
			tt.change(w)
			d := Decide(w)
			evicts, asks := false, false
			for _, a := range d.Actions {
				switch a := a.(type) {
				case Evict:
					evicts = true
					if left := a.Until.Sub(w.Now); left <= 0 || left > challengeTTL {
						t.Errorf("pods may be evicted until %s from now, an answer lasts %s", left, challengeTTL)
					}
				case Ask:
					asks = asks || a.Node == s.Node
				}
			}
			if evicts != tt.evicts || asks != tt.asks {
				t.Errorf("evicts %t, asks %t; want %t, %t: %+v", evicts, asks, tt.evicts, tt.asks, d.Actions)
			}
			if got := d.Status.Slots[0]; got.Step != v1alpha1.StepDrain || got.Reason != tt.reason {
				t.Errorf("the slot is in %s and waits for %s (%s), want %s", got.Step, got.Reason, got.Message, tt.reason)
			}
			if wait := d.Wake.Sub(w.Now); wait <= 0 || wait > time.Second {
				t.Errorf("looks again in %s: a drain is watched by the second", wait)
			}
		})
	}
}
