// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// judgeDecision judges what a Decision would write into the ledger by the truth of this very moment, and returns the law
// that it breaks. It counts only if the write is accepted: what a stale cache shows may be wrong, but not be written.
func (s *simulation) judgeDecision(c *coordinator) string {
	before, after := c.read.Status.Slots, c.d.Status.Slots
	for i := range after {
		sl := &after[i]
		was := find(before, sl.NodeUID)
		var broken string
		switch {
		case was == nil:
			broken = s.judgeGrant(c, sl)
		case sl.Step == v1alpha1.StepDrain && was.Step != v1alpha1.StepDrain && was.Step != v1alpha1.StepDetach:
			broken = s.judgeDrain(c, sl)
		}
		if broken == "" && was != nil {
			broken = s.judgeAbsence(sl, was)
		}
		if broken == "" {
			broken = judgeWait(c, sl, was)
		}
		if broken != "" {
			return broken
		}
	}
	for i := range before {
		if find(after, before[i].NodeUID) == nil {
			if broken := s.judgeFinish(c, &before[i]); broken != "" {
				return broken
			}
		}
	}
	return ""
}

func find(slots []v1alpha1.Slot, uid types.UID) *v1alpha1.Slot {
	for i := range slots {
		if slots[i].NodeUID == uid {
			return &slots[i]
		}
	}
	return nil
}

// judgeGrant judges a new slot: the node is one that may have it, its agent has said so, and not too many are out.
func (s *simulation) judgeGrant(c *coordinator, sl *v1alpha1.Slot) string {
	spec := &c.read.Spec
	m := s.byUID(sl.NodeUID)
	switch {
	case m == nil:
		return fmt.Sprintf("slots need facts: %s gets a slot and is not there", sl.Node)
	case !m.Ready, m.OptedOut, m.Deleting, m.Cordoned && m.CordonedBy == "", m.marked() != "":
		return fmt.Sprintf("slots need facts: %s gets a slot while it is Ready %t, opted out %t, deleting %t, cordoned %t, marked by %q",
			sl.Node, m.Ready, m.OptedOut, m.Deleting, m.Cordoned, m.marked())
	case !s.fenced():
		return fmt.Sprintf("no slot while the fence is open: %s", sl.Node)
	case !windowOpen(spec.Rollout.Windows, c.w.Now):
		return fmt.Sprintf("slots are bounded: %s gets a slot outside of every window", sl.Node)
	}
	if why := s.answered(c, m, 0); why != "" {
		return fmt.Sprintf("nothing moves on Unknown: %s gets a slot, but %s", sl.Node, why)
	}
	held, out := 0, len(c.d.Status.Slots)
	for i := range c.d.Status.Slots {
		if c.d.Status.Slots[i].HeldSince != nil {
			held++
		}
	}
	if held >= int(spec.Rollout.FailureBudget) {
		return fmt.Sprintf("slots are bounded: %s gets a slot while %d are held", sl.Node, held)
	}
	for _, o := range s.machines {
		if !inSlots(c.d.Status.Slots, o.UID) && (o.Cordoned || o.WasReady && !o.Ready) {
			out++
		}
	}
	if out > int(spec.Rollout.MaxUnavailable) {
		return fmt.Sprintf("no more out of service than allowed: %s gets a slot, and then %d of %d nodes are", sl.Node, out, spec.Rollout.MaxUnavailable)
	}
	return ""
}

func inSlots(slots []v1alpha1.Slot, uid types.UID) bool {
	for i := range slots {
		if slots[i].NodeUID == uid || slots[i].ReplacementUID == uid {
			return true
		}
	}
	return false
}

// judgeAbsence judges a slot that goes on because a node is gone.
func (s *simulation) judgeAbsence(sl, was *v1alpha1.Slot) string {
	if r := s.byUID(was.ReplacementUID); r != nil && !r.Deleting && sl.ReplacementUID != was.ReplacementUID {
		return fmt.Sprintf("what is gone is gone: the slot of %s gives up %s, which is there", sl.Node, was.Replacement)
	}
	emptied := was.ReplacementUID == "" && was.Step != v1alpha1.StepJoin && was.Step != v1alpha1.StepSurge
	if emptied && s.byUID(sl.NodeUID) != nil && slices.Contains([]v1alpha1.Step{v1alpha1.StepJoin, v1alpha1.StepValidate, v1alpha1.StepSoak}, sl.Step) {
		return fmt.Sprintf("what is gone is gone: the slot of %s is in %s while its node is there", sl.Node, sl.Step)
	}
	return ""
}

// judgeDrain judges the step into Drain, with which pods begin to leave for good.
func (s *simulation) judgeDrain(c *coordinator, sl *v1alpha1.Slot) string {
	m, g := s.byUID(sl.NodeUID), s.laws.slots[sl.NodeUID]
	switch {
	case m == nil:
		return fmt.Sprintf("no drain without facts: %s is to be drained and is not there", sl.Node)
	case !m.Cordoned || !m.Excluded || m.CordonedBy != m.UID:
		return fmt.Sprintf("no drain without facts: %s is to be drained without our cordon", sl.Node)
	case !s.fenced():
		return fmt.Sprintf("no drain while the fence is open: %s", sl.Node)
	case g == nil:
		return "" // the ledger does not have it: the write cannot be accepted
	}
	if why := s.answered(c, m, g.since); why != "" {
		return fmt.Sprintf("nothing moves on Unknown: %s is to be drained, but %s", sl.Node, why)
	}
	return ""
}

// answered says why the last answer that was published for a node does not allow it to be drained, if it does not. The
// question must have arrived after a tick, in this very life of the coordinator.
func (s *simulation) answered(c *coordinator, m *machine, after int) string {
	l, ch := &m.last, m.last.ask.challenge
	switch {
	case ch == nil || ch.Purpose != v1alpha1.PurposeDrain:
		return "its last answer is to no question about a drain"
	case l.uid != m.UID || ch.NodeUID != m.UID:
		return "its last answer is of another node"
	case l.boot != m.BootID:
		return "its last answer is of another boot"
	case l.role != m.role || l.role == v1alpha1.RoleOverlay || ch.Role != m.role:
		return fmt.Sprintf("it was judged as %s, was %s and is %s", ch.Role, l.role, m.role)
	case l.ask.tick <= after:
		return "the question was asked before the slot came so far"
	case l.ask.term != c.term+c.id<<16:
		return "the question was asked by another leader"
	case s.now.Sub(l.ask.at) > answerLasts:
		return fmt.Sprintf("the question is %s old", s.now.Sub(l.ask.at))
	case !s.passes(*l, &c.read.Spec, c.w.Now):
		return fmt.Sprintf("its agent does not pass: %+v", l.health)
	}
	return ""
}

// allowsDrain says whether the last answer that was published for a node is its own, to a question before a drain, and passes.
func (s *simulation) allowsDrain(m *machine) bool {
	ch := m.last.ask.challenge
	return ch != nil && ch.Purpose == v1alpha1.PurposeDrain && ch.NodeUID == m.UID && m.last.uid == m.UID && s.passes(m.last, &s.cutover.Spec, time.Time{})
}

// passes says whether what an agent saw allows what it was asked about. Without a time, waivers do not end.
func (s *simulation) passes(l look, spec *v1alpha1.CutoverSpec, now time.Time) bool {
	h := l.health
	if h.warns && len(spec.Rollout.HoldOn) > 0 && !skipped(v1alpha1.CheckMTU, l.role, spec, now) {
		return false
	}
	return (h.fails == 0 || skipped(allChecks()[h.fails-1], l.role, spec, now)) && (h.lacks == 0 || skipped(allChecks()[h.lacks-1], l.role, spec, now))
}

// skipped says whether a check does not count for a role: by design.md a Legacy node may have residue, for it is no
// residue there, and a Mixed one is drained because of what it shows.
func skipped(check v1alpha1.CheckName, role v1alpha1.Role, spec *v1alpha1.CutoverSpec, now time.Time) bool {
	for _, w := range spec.Waivers {
		if w.Check == string(check) && now.Before(w.Until.Time) {
			return true
		}
	}
	switch check {
	case v1alpha1.CheckLegacyResidue:
		return role != v1alpha1.RoleOverlay
	case v1alpha1.CheckConflist, v1alpha1.CheckPodAddresses:
		return role == v1alpha1.RoleMixed
	}
	return false
}

// fenced says whether the fence stands in truth, as far as any agent has told.
func (s *simulation) fenced() bool {
	if !s.legacy.Found || !s.legacy.Fenced || s.setup[setShared] == 0 && !(s.config.Found && s.config.Intact) {
		return false
	}
	for _, m := range s.machines {
		if m.role == v1alpha1.RoleLegacy && !m.FenceLabel && !m.Deleting && m.last.uid == m.UID && m.last.boot == m.BootID && m.last.role == m.role {
			return false
		}
	}
	return true
}

func windowOpen(windows []v1alpha1.Window, now time.Time) bool {
	for _, w := range windows {
		start, err := time.Parse("15:04", w.Start)
		if err != nil {
			return false
		}
		opened := time.Date(now.Year(), now.Month(), now.Day(), start.Hour(), start.Minute(), 0, 0, time.UTC)
		for _, day := range []time.Duration{0, 24 * time.Hour} {
			if since := now.Sub(opened.Add(-day)); since >= 0 && since < w.Duration.Duration {
				return true
			}
		}
	}
	return len(windows) == 0
}

// judgeWait judges a slot that stays: every wait says what it waits for and has a deadline.
func judgeWait(c *coordinator, sl, was *v1alpha1.Slot) string {
	if was == nil || was.Step != sl.Step {
		return ""
	}
	if sl.Reason == "" || sl.Message == "" {
		return fmt.Sprintf("every wait says why: the slot of %s in %s does not", sl.Node, sl.Step)
	}
	if sl.HeldSince == nil && c.w.Now.Sub(sl.Since.Time) >= allowed(sl) {
		return fmt.Sprintf("every wait has a deadline: the slot of %s is in %s since %s and is not held", sl.Node, sl.Step, sl.Since.Format("15:04:05"))
	}
	return ""
}

// allowed is how long a step may take before its slot is held, as docs/phases.md says.
func allowed(sl *v1alpha1.Slot) time.Duration {
	switch sl.Step {
	case v1alpha1.StepSurge, v1alpha1.StepCordon:
		return 2 * time.Minute
	case v1alpha1.StepDeregister:
		return sl.Terms.Drain.DeregistrationDelay.Duration + 2*time.Minute
	case v1alpha1.StepConfirm:
		return 5 * time.Minute
	case v1alpha1.StepDrain:
		return sl.Terms.Drain.Timeout.Duration
	case v1alpha1.StepReplace:
		return sl.Terms.Replacement.Timeout.Duration
	case v1alpha1.StepJoin:
		return sl.Terms.Replacement.JoinTimeout.Duration
	case v1alpha1.StepSoak:
		return sl.Terms.Soak.Duration + 5*time.Minute
	}
	return 10 * time.Minute
}

// judgeFinish judges the end of a slot: a person gave it back, or its replacement has proved itself.
func (s *simulation) judgeFinish(c *coordinator, sl *v1alpha1.Slot) string {
	g := s.laws.slots[sl.NodeUID]
	if g == nil || len(c.d.Status.Finished) == 0 {
		return fmt.Sprintf("slots end by a decision: that of %s is gone without a word", sl.Node)
	}
	for i := range c.d.Status.Finished {
		f := &c.d.Status.Finished[len(c.d.Status.Finished)-1-i]
		if f.Node != sl.Node || !f.GrantedAt.Equal(&sl.GrantedAt) {
			continue
		}
		if f.Outcome == v1alpha1.OutcomeReleased {
			if !s.laws.released[f.Node] && !s.laws.released[f.Replacement] {
				return fmt.Sprintf("slots end by a decision: nobody gave that of %s back", sl.Node)
			}
			return ""
		}
		if s.byUID(sl.NodeUID) != nil {
			return fmt.Sprintf("what is gone is gone: %s counts as replaced and is there", sl.Node)
		}
		if r := s.byUID(f.ReplacementUID); f.ReplacementUID == "" || r != nil && r.validated < g.tick {
			return fmt.Sprintf("nothing moves on Unknown: %s counts as replaced by %s, which has not proved itself", sl.Node, f.Replacement)
		}
		return ""
	}
	return fmt.Sprintf("slots end by a decision: that of %s is gone without a word", sl.Node)
}
