// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// live lets everything but coordinators and people do its work once.
func (s *simulation) live() {
	s.replaceNodes()
	s.scale()
	s.daemonSets()
	s.collect()
	s.kubelets()
	for _, m := range s.machines {
		if m.held == nil {
			s.publish(m, s.look(m))
		}
	}
}

// daemonSets are their controller: a pod of the VPC CNI on every node that the selector allows, one of Cilium's on every node.
func (s *simulation) daemonSets() {
	for _, m := range s.machines {
		had := m.LegacyPod
		m.LegacyPod = s.legacy.Found && (!s.legacy.Fenced || m.FenceLabel)
		if m.LegacyPod && !had {
			m.podSince = s.tick
		}
		if m.LegacyPod && m.role == v1alpha1.RoleUnknown {
			m.role, m.roleSince = v1alpha1.RoleLegacy, s.tick
		}
		if len(m.CiliumPods) == 0 {
			s.made++
			name := fmt.Sprintf("cilium-%d", s.made)
			m.CiliumPods = []Pod{{Namespace: "kube-system", Name: name, UID: types.UID(name), Created: s.now.Truncate(time.Second)}}
			s.resolve(m)
		}
	}
	s.legacy.Rollout.Current = true
	s.legacyRollout()
}

func (s *simulation) legacyRollout() {
	n := int32(0)
	for _, m := range s.machines {
		if m.LegacyPod {
			n++
		}
	}
	s.legacy.Rollout = Rollout{Desired: n, Updated: n, Ready: n, Current: s.legacy.Rollout.Current}
}

// collect is the garbage collector: a NodeCutover dies with its node.
func (s *simulation) collect() {
	s.objects = slices.DeleteFunc(s.objects, func(o object) bool { return s.byUID(o.Spec.NodeUID) == nil })
}

// replaceNodes is whoever replaces nodes, who believes the annotations.
func (s *simulation) replaceNodes() {
	for _, m := range slices.Clone(s.machines) {
		switch {
		case m.Deleting, m.going:
			s.vanish(m)
			s.say("%s is gone", m.Name)
		case m.ReplaceAsked == m.UID:
			m.Deleting, m.going = true, true
			m.version++
			if m.surged {
				s.wanted[zoneOf(m)]--
			}
		case m.SurgeAsked == m.UID && !m.surged:
			m.surged = true
			s.wanted[zoneOf(m)]++
		}
	}
}

// scale is the autoscaling group of each zone.
func (s *simulation) scale() {
	for zone, wanted := range s.wanted {
		for _, m := range s.machines {
			if zoneOf(m) == zone {
				wanted--
			}
		}
		for ; wanted > 0; wanted-- {
			s.say("%s joins in zone %s", s.join(zone).Name, zoneName(zone))
		}
	}
}

// kubelets are Ready as soon as a CNI is there, end the pods that have to go, and let volumes go with them.
func (s *simulation) kubelets() {
	for _, m := range s.machines {
		if m.role == v1alpha1.RoleUnknown && m.configured && !m.LegacyPod {
			m.role, m.roleSince = v1alpha1.RoleOverlay, s.tick
		}
		if ready := m.role != v1alpha1.RoleUnknown && !m.silent; ready && !m.Ready {
			m.Ready, m.WasReady = true, true
			m.version++
		}
		if len(m.pods) > 0 {
			m.pods = slices.DeleteFunc(m.pods, func(p podOn) bool { return p.going })
		}
	}
}

// look is an agent looking at its host now, at the question that is there now.
func (s *simulation) look(m *machine) look {
	l := look{uid: m.UID, boot: m.BootID, role: m.role, health: m.health}
	switch {
	case m.role == v1alpha1.RoleOverlay && m.LegacyPod:
		l.health.fails = 1 + uint8(slices.Index(allChecks(), v1alpha1.CheckLegacyResidue))
	case m.role == v1alpha1.RoleUnknown:
		l.health.fails = 1 + uint8(slices.Index(allChecks(), v1alpha1.CheckConflist))
	}
	if o := s.objectOf(m.Name); o != nil {
		l.ask = o.ask
	}
	return l
}

// publish writes an answer. The admission policy keeps an agent from the object of another node.
func (s *simulation) publish(m *machine, l look) bool {
	o := s.objectOf(m.Name)
	if o == nil || o.Spec.NodeUID != m.UID {
		return false
	}
	if l == m.last && o.Status.NodeUID == l.uid {
		return false
	}
	status := v1alpha1.NodeCutoverStatus{
		NodeUID: l.uid, BootID: l.boot, Role: l.role, JudgedRole: l.role, AgentVersion: "toy", Findings: s.gallery.findings(l.health),
		ObservedAt: metav1.NewMicroTime(s.now),
	}
	if l.ask.challenge != nil {
		status.ChallengeID, status.JudgedRole = l.ask.challenge.ID, l.ask.challenge.Role
	}
	next := *o.NodeCutover
	next.Status = status
	o.NodeCutover, m.last = &next, l
	if l.ask.challenge != nil && l.ask.challenge.Purpose == v1alpha1.PurposeValidate && l.uid == m.UID && s.passes(l, &s.cutover.Spec, time.Time{}) {
		m.validated = s.tick
	}
	if s.allowsDrain(m) {
		m.safeUntil = l.ask.at.Add(answerLasts)
	}
	return true
}

// doAgent is what an agent does that it should not, or in another order.
func (s *simulation) doAgent(m *machine, e event) bool {
	switch e.kind {
	case anAnswer:
		if m.held != nil {
			held := *m.held
			m.held = nil
			s.say("the agent on %s publishes what it had seen earlier", m.Name)
			return s.publish(m, held)
		}
		return s.publish(m, s.look(m))
	case aLateAnswer:
		l := s.look(m)
		m.held = &l
		s.say("the agent on %s looks, and does not publish it yet", m.Name)
	case aForeignAnswer:
		l := s.look(m)
		l.uid += "-other"
		s.say("the agent on %s answers for another node", m.Name)
		return s.publish(m, l)
	case aFault:
		m.health.fails = 1 + e.arg%uint8(len(allChecks()))
		s.say("%s breaks: %s fails", m.Name, allChecks()[m.health.fails-1])
	case aMend:
		s.say("%s is well", m.Name)
		m.health = health{}
	case anOldAgent:
		m.health.lacks = 1 + e.arg%uint8(len(allChecks()))
		s.say("the agent on %s is of a release without check %s", m.Name, allChecks()[m.health.lacks-1])
	case aWarning:
		m.health.warns = true
		s.say("%s warns", m.Name)
	}
	return true
}

// gallery keeps the findings of each health, for they are made once and never changed.
type gallery map[health][]v1alpha1.Finding

func (g gallery) findings(h health) []v1alpha1.Finding {
	if f, ok := g[h]; ok {
		return f
	}
	var out []v1alpha1.Finding
	for i, check := range allChecks() {
		f := v1alpha1.Finding{Check: check, Verdict: v1alpha1.VerdictPass, Reason: v1alpha1.AsWanted}
		switch {
		case h.fails == uint8(i)+1:
			f.Verdict, f.Reason = v1alpha1.VerdictFail, v1alpha1.TunnelDown
		case h.lacks == uint8(i)+1:
			continue
		case h.warns && check == v1alpha1.CheckMTU:
			f.Verdict, f.Reason = v1alpha1.VerdictWarn, v1alpha1.TunnelDown
		}
		out = append(out, f)
	}
	g[h] = out
	return out
}

// calmRounds bounds how long an undisturbed end may take.
const calmRounds = 700

// calm ends the mischief: one coordinator leads, people mend what is broken, and the cutover has to come to its end.
func (s *simulation) calm() {
	s.say("from here on nobody makes mischief")
	for _, c := range s.coordinators {
		s.land(c)
		s.begin(c)
		c.skew, c.fate = 0, arrives
	}
	c := s.coordinators[0]
	for round := range calmRounds {
		if round%16 == 0 {
			s.mend()
		}
		s.round(c)
		if s.broken != "" {
			return
		}
		if s.cutover.Status.Phase == v1alpha1.PhaseDone && s.tidy() {
			s.judgeEnd()
			return
		}
	}
	s.violate("every slot ends and the cutover too", "after %d rounds without mischief it is in %s: %s", calmRounds, s.cutover.Status.Phase, s.whyNot())
}

// round is ordinary life with one coordinator: everybody does his work, and time passes until there is some again.
func (s *simulation) round(c *coordinator) {
	s.live()
	s.observe(c)
	before := s.cutover
	s.reconcile(c)
	switch wake := c.d.Wake.Sub(s.clock(c)); {
	case s.cutover != before || len(c.d.Actions) > 0 || wake <= 0:
		s.now = s.now.Add(time.Second)
	default:
		s.now = s.now.Add(wake)
	}
}

// mend is people doing what the conditions ask for.
func (s *simulation) mend() {
	spec := s.setup.spec()
	if !sameSpec(&spec, &s.cutover.Spec) {
		s.person(func(now *v1alpha1.CutoverSpec) { *now = spec })
	}
	if s.legacy.Found && !s.legacy.Rollout.Current {
		s.daemonSets()
	}
	for _, m := range slices.Clone(s.machines) {
		m.silent, m.blocked, m.volume, m.OptedOut, m.OptOut, m.held, m.health = false, false, false, false, "", nil, health{}
		if m.Cordoned && m.CordonedBy == "" && m.foreign {
			m.Cordoned, m.foreign = false, false
			m.version++
		}
		if m.WasReady && (!s.legacy.Found && m.role != v1alpha1.RoleOverlay || s.config.Found && m.role == v1alpha1.RoleUnknown && !m.configured) {
			s.vanish(m) // nothing but a new node helps: it lost its CNI, or fell silent before it had one
		}
	}
	for i := range s.cutover.Status.Slots {
		// Whoever removed nodes for good gives one back to a slot that waits for it.
		sl := &s.cutover.Status.Slots[i]
		if sl.HeldSince != nil && sl.Step == v1alpha1.StepJoin && sl.ReplacementUID == "" {
			s.wanted[int(sl.Zone[0]-'a')]++
		}
		// A replacement that came up with the VPC CNI is terminated, as the slot's message asks.
		if m := s.byUID(sl.ReplacementUID); m != nil && (m.role == v1alpha1.RoleLegacy || m.role == v1alpha1.RoleMixed) {
			s.vanish(m)
		}
	}
	if len(s.machines) == 0 {
		s.wanted[0] = 1
	}
	if phase := s.cutover.Status.Phase; s.setup[setShared] == 0 && phaseIndex(phase) > phaseIndex(v1alpha1.PhaseRemoveLegacy) {
		// The last phase is a person's, and so is the CiliumNodeConfig from then on.
		s.config.Found = true
		for _, m := range s.machines {
			if !m.configured {
				m.CiliumPods = nil
			}
		}
	}
}

// sameSpec compares what changeSpec changes.
func sameSpec(a, b *v1alpha1.CutoverSpec) bool {
	x, y := &a.Rollout, &b.Rollout
	return a.State == b.State && len(a.Waivers) == len(b.Waivers) && x.MaxConcurrent == y.MaxConcurrent && x.MaxUnavailable == y.MaxUnavailable &&
		x.Surge == y.Surge && x.Soak == y.Soak && x.FailureBudget == y.FailureBudget && len(x.HoldOn) == len(y.HoldOn) && len(x.Windows) == len(y.Windows)
}
