// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"math"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func TestOnlyAWholeFreshAnswerOfThisNodeAllowsADrain(t *testing.T) {
	now := time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC)
	q := question{Purpose: v1alpha1.PurposeDrain, Role: v1alpha1.RoleLegacy}
	finding := func(s *v1alpha1.NodeCutoverStatus, check v1alpha1.CheckName) *v1alpha1.Finding {
		for i := range s.Findings {
			if s.Findings[i].Check == check {
				return &s.Findings[i]
			}
		}
		return nil
	}
	tests := map[string]struct {
		change func(*Node, *v1alpha1.Challenge, *v1alpha1.NodeCutoverStatus)
		spec   func(*v1alpha1.CutoverSpec)
		safe   bool
		reason v1alpha1.Reason
		asks   bool
	}{
		"a whole answer passes": {safe: true, reason: v1alpha1.AsWanted},
		"a warning passes": {safe: true, reason: v1alpha1.NodeNotSafe, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			*finding(s, v1alpha1.CheckMTU) = v1alpha1.Finding{Check: v1alpha1.CheckMTU, Verdict: v1alpha1.VerdictWarn, Reason: v1alpha1.MTUWasteful}
		}},
		"a warning that holdOn names does not": {reason: v1alpha1.NodeNotSafe, spec: func(s *v1alpha1.CutoverSpec) { s.Rollout.HoldOn = []string{"MTUWasteful"} }, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			*finding(s, v1alpha1.CheckMTU) = v1alpha1.Finding{Check: v1alpha1.CheckMTU, Verdict: v1alpha1.VerdictWarn, Reason: v1alpha1.MTUWasteful}
		}},
		"a fail does not": {reason: v1alpha1.NodeNotSafe, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			finding(s, v1alpha1.CheckPrograms).Verdict = v1alpha1.VerdictFail
		}},
		"unknown does not": {reason: v1alpha1.NodeNotSafe, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			finding(s, v1alpha1.CheckPrograms).Verdict = v1alpha1.VerdictUnknown
		}},
		"a check that the chart switched off does not": {reason: v1alpha1.NodeNotSafe, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			finding(s, v1alpha1.CheckPrograms).Verdict = v1alpha1.VerdictNotAsked
		}},
		"a verdict of a later release does not": {reason: v1alpha1.NodeNotSafe, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			finding(s, v1alpha1.CheckPrograms).Verdict = "Splendid"
		}},
		"a missing finding does not": {reason: v1alpha1.NodeNotSafe, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			s.Findings = s.Findings[1:]
		}},
		"no findings do not, whatever the report's own verdict": {reason: v1alpha1.NodeNotSafe, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			s.Findings, s.Verdict = nil, v1alpha1.VerdictPass
		}},
		"an answer to another question does not": {reason: v1alpha1.NoAnswer, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			s.ChallengeID = "term1-0"
		}},
		"an answer of an earlier node of that name does not": {reason: v1alpha1.AnswerRefused, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			s.NodeUID = "uid-before"
		}},
		"an answer of an earlier boot does not": {reason: v1alpha1.AnswerRefused, change: func(n *Node, _ *v1alpha1.Challenge, _ *v1alpha1.NodeCutoverStatus) {
			n.BootID = "boot-after"
		}},
		"a node without a boot id does not": {reason: v1alpha1.AnswerRefused, change: func(n *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			n.BootID, s.BootID = "", ""
		}},
		"an answer for another role does not": {reason: v1alpha1.AnswerRefused, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			s.JudgedRole = v1alpha1.RoleOverlay
		}},
		"a host that shows another role does not": {reason: v1alpha1.AnswerRefused, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			s.Role = v1alpha1.RoleMixed
		}},
		"an answer without a version does not": {reason: v1alpha1.AnswerRefused, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			s.AgentVersion = ""
		}},
		"an expired question is asked again": {reason: v1alpha1.NoAnswer, asks: true, change: func(_ *Node, c *v1alpha1.Challenge, _ *v1alpha1.NodeCutoverStatus) {
			c.ExpiresAt = metav1.NewMicroTime(now)
		}},
		"a question whose end somebody moved away is asked again": {reason: v1alpha1.NoAnswer, asks: true, change: func(_ *Node, c *v1alpha1.Challenge, _ *v1alpha1.NodeCutoverStatus) {
			c.ExpiresAt = metav1.NewMicroTime(now.AddDate(7000, 0, 0))
		}},
		"two findings of one check, one of them a fail, do not": {reason: v1alpha1.NodeNotSafe, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			s.Findings = append(s.Findings, v1alpha1.Finding{Check: v1alpha1.CheckPrograms, Verdict: v1alpha1.VerdictFail})
		}},
		"64 findings of checks that nobody asked for do not": {reason: v1alpha1.NodeNotSafe, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			s.Findings = nil
			for i := range 64 {
				s.Findings = append(s.Findings, v1alpha1.Finding{Check: v1alpha1.CheckName(fmt.Sprint("Check", i)), Verdict: v1alpha1.VerdictPass, Reason: v1alpha1.AsWanted})
			}
		}},
		"numbers and times are not asked": {safe: true, reason: v1alpha1.AsWanted, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			s.ObservedAt = metav1.NewMicroTime(now.AddDate(7000, 0, 0))
			s.Findings[0].Evidence = []v1alpha1.Evidence{{Name: "n", Value: math.MinInt64}, {Name: "m", Value: math.MaxInt64}}
		}},
		"a question of another leader is asked again": {reason: v1alpha1.NoAnswer, asks: true, change: func(_ *Node, c *v1alpha1.Challenge, _ *v1alpha1.NodeCutoverStatus) {
			c.ID = "term0-1"
		}},
		"a question that requires less is asked again": {reason: v1alpha1.NoAnswer, asks: true, change: func(_ *Node, c *v1alpha1.Challenge, _ *v1alpha1.NodeCutoverStatus) {
			c.RequiredChecks = c.RequiredChecks[1:]
		}},
		"a waiver drops a check": {safe: true, reason: v1alpha1.AsWanted, spec: func(s *v1alpha1.CutoverSpec) {
			s.Waivers = []v1alpha1.Waiver{{Check: "Programs", Until: metav1.NewTime(now.Add(time.Hour))}}
		}, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			finding(s, v1alpha1.CheckPrograms).Verdict = v1alpha1.VerdictFail
		}},
		"a waiver that has ended does not": {reason: v1alpha1.NodeNotSafe, spec: func(s *v1alpha1.CutoverSpec) {
			s.Waivers = []v1alpha1.Waiver{{Check: "Programs", Until: metav1.NewTime(now)}}
		}, change: func(_ *Node, _ *v1alpha1.Challenge, s *v1alpha1.NodeCutoverStatus) {
			finding(s, v1alpha1.CheckPrograms).Verdict = v1alpha1.VerdictFail
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec := baseSpec()
			if tt.spec != nil {
				tt.spec(&spec)
			}
			d := &decider{w: &World{Now: now, Term: "term1"}, spec: &spec}
			n := Node{Name: "n1", UID: "uid-1", BootID: "boot-1"}
			c := d.newChallenge(&n, q)
			s := v1alpha1.NodeCutoverStatus{ChallengeID: c.ID, NodeUID: n.UID, BootID: n.BootID, Role: q.Role, JudgedRole: q.Role, AgentVersion: "v1"}
			for _, check := range allChecks() {
				s.Findings = append(s.Findings, v1alpha1.Finding{Check: check, Verdict: v1alpha1.VerdictPass, Reason: v1alpha1.AsWanted})
			}
			if tt.change != nil {
				tt.change(&n, &c, &s)
			}
			n.Cutover = &v1alpha1.NodeCutover{Spec: v1alpha1.NodeCutoverSpec{Challenge: &c}, Status: s}
			got := d.ask(&n, q, true)
			if got.safe != tt.safe || got.reason != tt.reason {
				t.Errorf("answer = safe %t, %s (%s), want safe %t, %s", got.safe, got.reason, got.message, tt.safe, tt.reason)
			}
			if asks := len(d.actions) > 0; asks != tt.asks {
				t.Errorf("asks again = %t, want %t", asks, tt.asks)
			}
			if !got.safe && got.message == "" {
				t.Error("nobody is told why")
			}
		})
	}
}

// TestAnAnswerToAnEarlierQuestionDoesNotCount: a slot is confirmed by the question that was asked for its step. Times of two
// clocks, or of one that was set back, do not tell which that is.
func TestAnAnswerToAnEarlierQuestionDoesNotCount(t *testing.T) {
	now := time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC)
	spec := baseSpec()
	d := &decider{w: &World{Now: now, Term: "term1"}, spec: &spec}
	n := Node{Name: "n1", UID: "uid-1", BootID: "boot-1"}
	ask := func(after time.Time) question {
		return question{Purpose: v1alpha1.PurposeDrain, Role: v1alpha1.RoleLegacy, After: after}
	}
	for name, tt := range map[string]struct {
		asked, wanted time.Time
		want          bool
	}{
		"for this step":                              {now.Add(-time.Minute), now.Add(-time.Minute), true},
		"before there was a slot":                    {time.Time{}, now.Add(-time.Minute), false},
		"for an earlier step":                        {now.Add(-time.Minute), now.Add(-time.Second), false},
		"for an earlier step, and the clock is back": {now.Add(-time.Second), now.Add(-time.Minute), false},
		"for this step, and the clock is back":       {now.Add(time.Second), now.Add(time.Second), true},
	} {
		c := d.newChallenge(&n, ask(tt.asked))
		n.Cutover = &v1alpha1.NodeCutover{Spec: v1alpha1.NodeCutoverSpec{Challenge: &c}}
		if got := d.asked(&n, ask(tt.wanted)); got != tt.want {
			t.Errorf("asked %s: counts = %t, want %t", name, got, tt.want)
		}
	}
}
