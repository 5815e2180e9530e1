// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// laws is what the laws remember of the ledger: the slots that are or were, by the UID of their node.
type laws struct {
	slots map[types.UID]*granted
	// claims are the slots by the replacement that they claimed.
	claims map[types.UID]types.UID
	// released are the names of the nodes whose slot a person has given back.
	released map[string]bool
}

// granted is one slot as the ledger really had it.
type granted struct {
	live         bool
	began, ended time.Time
	step         v1alpha1.Step
	// since is the tick in which the step was written; left is when each step was left.
	since int
	tick  int
	left  map[v1alpha1.Step]time.Time
}

const (
	// answerLasts is how long an answer may be used, with what a clock that was stepped twice can add.
	answerLasts = 2*time.Minute + 10*time.Second
	// noLonger is how long after a slot has moved on an action of its former step may still be sent: that action's timeout.
	noLonger = moveTimeout
)

func (s *simulation) violate(law, format string, args ...any) {
	if s.broken == "" {
		s.broken = law + ": " + fmt.Sprintf(format, args...)
		s.say("BROKEN %s", s.broken)
	}
}

// in says whether a slot is in a step, or was until a moment ago.
func (s *simulation) in(uid types.UID, step v1alpha1.Step) bool {
	g := s.laws.slots[uid]
	if g == nil {
		return false
	}
	left, was := g.left[step]
	return g.live && g.step == step || was && s.now.Sub(left) <= noLonger
}

// forget ends every slot: the Cutover that held them is no more.
func (l *laws) forget(now time.Time) {
	for _, g := range l.slots {
		if g.live {
			g.live, g.ended, g.left[g.step] = false, now, now
		}
	}
}

// judgeSending judges an action when it leaves the coordinator. What is then in flight may arrive at any time.
func (s *simulation) judgeSending(r *request) {
	const law = "an action needs its slot"
	switch a := r.action.(type) {
	case Evict:
		switch {
		case s.in(a.Slot, v1alpha1.StepDrain):
		case !s.in(a.Slot, v1alpha1.StepConfirm) && !s.in(a.Slot, v1alpha1.StepDeregister):
			s.violate(law, "a pod of %s is evicted without a slot in Deregister, Confirm or Drain", a.Node)
		case r.from.verdict != "": // of the Decision that lets it pass into Drain
			s.violate(law, "a pod of %s is evicted: %s", a.Node, r.from.verdict)
		}
		// A spec that asks for less by now may let an answer pass that did not when it was given.
		if m := s.byUID(a.Slot); m != nil && !s.now.Before(m.safeUntil) && !(s.allowsDrain(m) && s.now.Sub(m.last.ask.at) <= answerLasts) {
			s.violate("nothing moves on Unknown", "a pod of %s is evicted, and no passing answer of it lasts until now", m.Name)
		}
		for _, m := range s.machines {
			for _, p := range m.pods {
				if p.UID == r.pod.UID && m.UID != a.Slot {
					s.violate(law, "a pod of %s is evicted for the slot of another node", m.Name)
				}
			}
		}
	case Cordon:
		if g := s.laws.slots[a.Slot]; g == nil || !g.live && s.now.Sub(g.ended) > noLonger {
			s.violate(law, "%s is cordoned without a slot", a.Node)
		}
	case RequestReplacement:
		if !s.in(a.Slot, v1alpha1.StepReplace) {
			s.violate(law, "%s is to be replaced without a slot in Replace", a.Node)
		}
	case RequestSurge:
		if !s.in(a.Slot, v1alpha1.StepSurge) {
			s.violate(law, "one more node is asked for beside %s without a slot in Surge", a.Node)
		}
	case Uncordon:
		if g := s.laws.slots[a.Slot]; g != nil && g.live && s.now.Sub(g.began) > noLonger {
			s.violate(law, "the cordon of %s is undone while its slot is in %s", a.Node, g.step)
		}
	}
}

// judgeArrival judges what is about to change in the cluster. A node that has joined, or lost its label to somebody else,
// since the photograph is not held against the coordinator.
func (s *simulation) judgeArrival(r *request) {
	const one, own = "one CNI owns a node", "only own cordons are undone"
	switch a := r.action.(type) {
	case Cordon, SetLeaving, RequestReplacement, RequestSurge, SetSafe:
		if m := s.byName(r.name); m != nil && m.UID != r.uid && s.bug == bugAnyNodeOfTheName {
			s.violate("an action needs its slot", "%T of an earlier node is done to %s", a, m.Name)
		}
	case Uncordon:
		m := s.byName(r.name)
		if m != nil && m.CordonedBy == a.Slot && m.Cordoned && m.foreign && !m.was.cordoned && (m.version == r.version || s.bug == bugBlindPatch) {
			s.violate(own, "%s was cordoned by somebody else before, and is uncordoned", m.Name)
		}
	case SetFenceLabel:
		m := s.byName(r.name)
		switch {
		case m == nil || m.UID != r.uid || !s.legacy.Found:
		case a.On && (m.role == v1alpha1.RoleOverlay || r.fenced && m.role == v1alpha1.RoleMixed && m.roleSince <= r.photo):
			s.violate(one, "the fence label is put on %s node %s", m.role, m.Name)
		case !a.On && m.role != v1alpha1.RoleOverlay:
			s.violate(one, "the fence label is taken off %s node %s", m.role, m.Name)
		}
	case FenceDaemonSet, DeleteLegacy:
		_, deleting := a.(DeleteLegacy)
		for _, m := range s.machines {
			// Binding takes nothing from a node where the VPC CNI did not run when the world was photographed: there it comes back
			// with the label, as soon as the agent has said that the node is Legacy.
			legacy := m.roleSince <= r.photo && m.born <= r.photo && !m.Deleting && (m.role == v1alpha1.RoleLegacy && deleting || m.role != v1alpha1.RoleOverlay && m.LegacyPod && m.podSince <= r.photo)
			if legacy && s.legacy.Found && (deleting || !m.FenceLabel && !m.unlabelled) {
				s.violate(one, "%s takes the VPC CNI from %s node %s", a, m.role, m.Name)
			}
		}
	case DeleteCiliumPod:
		m := s.byName(a.Node)
		if m != nil && len(m.CiliumPods) > 0 && m.CiliumPods[0].UID == a.Pod.UID && m.role == v1alpha1.RoleLegacy && m.roleSince <= r.photo && !m.FenceLabel && s.config.Found {
			s.violate(one, "Cilium is started again on Legacy node %s and takes its next pods", m.Name)
		}
	}
}

// judgeLedger judges a write of the ledger that the API server accepts, and remembers it.
func (s *simulation) judgeLedger(r *request) {
	if r.verdict != "" {
		law, what, _ := strings.Cut(r.verdict, ": ")
		s.violate(law, "%s", what)
	}
	if s.laws.claims == nil {
		s.laws.claims = map[types.UID]types.UID{}
	}
	before, after := s.cutover.Status.Slots, r.status.Slots
	for i := range before {
		b := &before[i]
		if hasSlot(after, b.NodeUID) {
			continue
		}
		if !hasSlot(r.read.Status.Slots, b.NodeUID) {
			s.violate("slots end by a decision", "the slot of %s in %s is written over by a coordinator that had not seen it", b.Node, b.Step)
		}
		g := s.laws.slots[b.NodeUID]
		g.live, g.ended, g.left[b.Step] = false, s.now, s.now
	}
	granted, zones := 0, map[string]int(nil)
	for i := range after {
		a := &after[i]
		if s.rememberSlot(a) {
			granted++
		}
		if a.ReplacementUID == "" {
			continue
		}
		if other, taken := s.laws.claims[a.ReplacementUID]; taken && other != a.NodeUID {
			s.violate("one slot claims a replacement", "%s claims %s, which the slot of %s has claimed", a.Node, a.Replacement, other)
		}
		s.laws.claims[a.ReplacementUID] = a.NodeUID
	}
	if granted == 0 {
		return
	}
	limits := &s.cutover.Spec.Rollout
	if len(after) > int(limits.MaxConcurrent) {
		s.violate("slots are bounded", "a slot is granted as number %d of %d", len(after), limits.MaxConcurrent)
	}
	if limits.MaxConcurrentPerZone != nil {
		zones = map[string]int{}
		for i := range after {
			zones[after[i].Zone]++
		}
		if n := zones[after[len(after)-1].Zone]; n > int(*limits.MaxConcurrentPerZone) {
			s.violate("slots are bounded", "a slot is granted as number %d of zone %s", n, after[len(after)-1].Zone)
		}
	}
	if limits.Canary != nil && r.status.Rolled < *limits.Canary && len(after) > 1 {
		s.violate("slots are bounded", "a slot is granted beside a canary")
	}
	if s.cutover.Spec.State != v1alpha1.StateRunning {
		s.violate("slots are bounded", "a slot is granted while the state is %s", s.cutover.Spec.State)
	}
}

func hasSlot(slots []v1alpha1.Slot, uid types.UID) bool {
	return slices.ContainsFunc(slots, func(s v1alpha1.Slot) bool { return s.NodeUID == uid })
}

// rememberSlot notes where a slot is, and says whether it was just granted.
func (s *simulation) rememberSlot(a *v1alpha1.Slot) bool {
	g := s.laws.slots[a.NodeUID]
	if g == nil || !g.live {
		s.laws.slots[a.NodeUID] = &granted{live: true, began: s.now, step: a.Step, since: s.tick, tick: s.tick, left: map[v1alpha1.Step]time.Time{}}
		return true
	}
	if g.step != a.Step {
		if !mayFollow(g.step, a.Step, a.Terms.Surge) {
			s.violate("a slot goes its way", "the slot of %s goes from %s to %s", a.Node, g.step, a.Step)
		}
		g.left[g.step] = s.now
		g.step, g.since = a.Step, s.tick
	}
	return false
}

// mayFollow says whether a slot may be in one step after it was in another: forward as far as the world is, to Join from
// anywhere, for nodes vanish, and back where a look showed that a step was done too early.
func mayFollow(from, to v1alpha1.Step, surge bool) bool {
	order := []v1alpha1.Step{
		v1alpha1.StepCordon, v1alpha1.StepDeregister, v1alpha1.StepConfirm, v1alpha1.StepDrain, v1alpha1.StepDetach, v1alpha1.StepReplace,
		v1alpha1.StepJoin, v1alpha1.StepValidate, v1alpha1.StepSoak,
	}
	if surge {
		order = []v1alpha1.Step{
			v1alpha1.StepSurge, v1alpha1.StepJoin, v1alpha1.StepValidate, v1alpha1.StepSoak, v1alpha1.StepCordon, v1alpha1.StepDeregister,
			v1alpha1.StepConfirm, v1alpha1.StepDrain, v1alpha1.StepDetach, v1alpha1.StepReplace,
		}
	}
	past := slices.Index(order, v1alpha1.StepJoin)
	is, was := slices.Index(order, to), slices.Index(order, from)
	switch {
	case is < 0 || was < 0:
		return false
	case from == v1alpha1.StepDetach && to == v1alpha1.StepDrain, from == v1alpha1.StepSoak && to == v1alpha1.StepValidate:
		return true
	}
	// By way of Join: whatever a slot does after its node or its replacement has vanished.
	return is > was || is >= past && is <= slices.Index(order, v1alpha1.StepSoak)
}

// judgeEnd judges what is left when the cutover is over: the cluster that the undisturbed one leaves.
func (s *simulation) judgeEnd() {
	const law = "the end is the undisturbed one"
	if s.legacy.Found || len(s.cutover.Status.Slots) > 0 {
		s.violate(law, "the VPC CNI is left (%t), or slots are: %d", s.legacy.Found, len(s.cutover.Status.Slots))
	}
	for _, m := range s.machines {
		if m.role != v1alpha1.RoleOverlay || !m.Ready || m.LegacyPod {
			s.violate(law, "%s is %s, Ready %t, with a pod of the VPC CNI %t", m.Name, m.role, m.Ready, m.LegacyPod)
		}
		if m.FenceLabel || m.Cordoned || m.Excluded || m.Leaving || m.marked() != "" {
			s.violate(law, "%s is left with the fence label %t, cordoned %t, excluded %t, leaving %t, marked by %q", m.Name, m.FenceLabel, m.Cordoned, m.Excluded, m.Leaving, m.marked())
		}
	}
}

// tidy says whether nothing is left to do.
func (s *simulation) tidy() bool {
	return len(s.coordinators[0].d.Actions) == 0 && !slices.ContainsFunc(s.machines, func(m *machine) bool { return m.LegacyPod || !m.Ready || m.Deleting || m.going })
}

// whyNot says what keeps the cutover from its end.
func (s *simulation) whyNot() string {
	var why []string
	for _, c := range s.cutover.Status.Conditions {
		if c.Type == v1alpha1.ConditionReady {
			why = append(why, c.Message)
		}
	}
	for _, sl := range s.cutover.Status.Slots {
		why = append(why, fmt.Sprintf("slot of %s in %s: %s", sl.Node, sl.Step, sl.Message))
	}
	for _, w := range s.cutover.Status.Waiting {
		why = append(why, w.Message)
	}
	for _, a := range s.coordinators[0].d.Actions {
		why = append(why, a.String())
	}
	return strings.Join(why, "; ")
}
