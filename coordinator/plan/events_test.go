// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// kind is what can happen.
type kind uint8

// The kinds of events. Those of coordinators come first.
const (
	aStep kind = iota
	aReconcile
	aCalm
	aLook
	aLookAtNodes
	aCrash
	aLoss
	anUnansweredWrite
	aLateWrite
	aRepeatedWrite
	anArrival
	aClockStep
	// Ordinary life.
	aWhile
	aLife
	aController
	anAnswer
	// Agents that do what they should not.
	aLateAnswer
	aForeignAnswer
	aFault
	aMend
	anOldAgent
	aWarning
	// Nodes.
	aSpotLoss
	aRemoval
	aJoin
	aReboot
	aRebirth
	aSilence
	aForeignCordon
	aForeignUncordon
	aLostLabel
	aRevertedFence
	aLostConfig
	aBudget
	aVolume
	aPod
	anOptOut
	aRelease
	aSpecChange
	aNewCutover
	kinds
)

// weights is how often each kind is drawn.
func weights() [kinds]int {
	return [kinds]int{
		aStep: 12, aReconcile: 30, aCalm: 4, aLook: 8, aLookAtNodes: 3, aCrash: 2, aLoss: 3, anUnansweredWrite: 3, aLateWrite: 3, aRepeatedWrite: 2,
		anArrival: 4, aClockStep: 1, aWhile: 16, aLife: 32, aController: 6, anAnswer: 8, aLateAnswer: 3, aForeignAnswer: 1, aFault: 2, aMend: 3,
		anOldAgent: 1, aWarning: 1, aSpotLoss: 1, aRemoval: 1, aJoin: 1, aReboot: 1, aRebirth: 1, aSilence: 1, aForeignCordon: 2,
		aForeignUncordon: 2, aLostLabel: 1, aRevertedFence: 1, aLostConfig: 1, aBudget: 2, aVolume: 1, aPod: 1, anOptOut: 1, aRelease: 1, aSpecChange: 4, aNewCutover: 1,
	}
}

func (k kind) String() string {
	return [kinds]string{
		"Step", "Reconcile", "Calm", "Look", "LookAtNodes", "Crash", "Loss", "UnansweredWrite", "LateWrite", "RepeatedWrite", "Arrival", "ClockStep",
		"While", "Life", "Controller", "Answer", "LateAnswer", "ForeignAnswer", "Fault", "Mend", "OldAgent", "Warning",
		"SpotLoss", "Removal", "Join", "Reboot", "Rebirth", "Silence", "ForeignCordon", "ForeignUncordon", "LostLabel", "RevertedFence",
		"LostConfig", "Budget", "Volume", "Pod", "OptOut", "Release", "SpecChange", "NewCutover",
	}[k]
}

// do lets an event happen. One that means nothing here and now does nothing.
func (s *simulation) do(e event) {
	s.tick++
	var happened bool
	if e.kind <= aClockStep {
		happened = s.doCoordinator(e)
	} else {
		happened = s.doWorld(e)
	}
	if happened {
		s.seen.event(e.kind)
	}
}

func (s *simulation) doCoordinator(e event) bool {
	c := s.coordinators[e.who%2]
	switch e.kind {
	case aStep:
		for range 1 + e.arg%4 {
			if s.broken == "" {
				s.step(c)
			}
		}
	case aReconcile:
		s.reconcile(c)
	case aCalm:
		for range 1 + e.arg%32 {
			if s.broken == "" {
				s.round(c)
			}
		}
	case aLook:
		s.observe(c)
	case aLookAtNodes:
		s.observeNodes(c)
	case aCrash:
		s.begin(c)
		s.say("%s dies and starts anew", s.speaker(c))
	case aLoss:
		c.fate = lost
	case anUnansweredWrite:
		c.fate = unanswered
	case aLateWrite:
		c.fate = late
	case aRepeatedWrite:
		c.fate = twice
	case anArrival:
		return s.land(c)
	case aClockStep:
		c.skew = time.Duration(int(e.arg%11)-5) * time.Second
		s.say("the clock of %s is %s off from now on", s.speaker(c), c.skew)
	}
	return true
}

// doWorld is everything that coordinators have no part in.
func (s *simulation) doWorld(e event) bool {
	switch e.kind {
	case aWhile:
		d := [...]time.Duration{1, 2, 4, 6, 11, 11, 21, 21, 31, 130, 320, 660}[e.arg%12] * time.Second
		s.now = s.now.Add(d)
		s.say("%s pass", d)
		return true
	case aLife:
		s.live()
		for _, c := range s.coordinators {
			s.observe(c)
		}
		return true
	case aController:
		return s.controller(e)
	case aJoin:
		zone := int(e.arg) % 2
		s.wanted[zone]++
		s.say("a node joins in zone %s: %s", zoneName(zone), s.join(zone).Name)
		return true
	case aRevertedFence, aLostConfig, aSpecChange, aNewCutover:
		return s.doIntent(e)
	}
	if len(s.machines) == 0 {
		return false
	}
	m := s.machines[int(e.who)%len(s.machines)]
	switch {
	case e.kind <= aWarning:
		return s.doAgent(m, e)
	case e.kind <= aSilence:
		return s.doMachine(m, e)
	}
	return s.doObject(m, e)
}

// controller is one of the programs that aLife lets work all at once.
func (s *simulation) controller(e event) bool {
	switch e.arg % 5 {
	case 0:
		s.daemonSets()
	case 1:
		s.collect()
	case 2:
		s.replaceNodes()
	case 3:
		s.kubelets()
	default:
		s.scale()
	}
	return true
}

// doIntent is what people do to what they want of the cluster.
func (s *simulation) doIntent(e event) bool {
	switch e.kind {
	case aRevertedFence:
		if !s.legacy.Fenced || !s.legacy.Found {
			return false
		}
		s.legacy.Fenced = false
		s.say("somebody takes the node selector off the VPC CNI's DaemonSet")
	case aLostConfig:
		if !s.config.Found {
			return false
		}
		s.config.Intact = e.arg%2 == 0 && s.config.Intact
		s.config.Found = e.arg%2 > 0
		s.configVersion++
		s.say("somebody changes the CiliumNodeConfig")
	case aNewCutover:
		next := *s.cutover
		next.Status, next.Generation = v1alpha1.CutoverStatus{}, 1
		if e.arg%4 > 0 || len(s.cutover.Status.Slots) == 0 {
			return false
		}
		s.cutover = &next
		s.laws.forget(s.now)
		s.say("somebody deletes the Cutover and creates it again")
	default:
		s.changeSpec(e.arg)
	}
	return true
}

// changeSpec is an edit of the spec while slots are under way.
func (s *simulation) changeSpec(arg uint8) {
	n := int32(arg>>4)%3 + 1
	s.person(func(spec *v1alpha1.CutoverSpec) {
		r := &spec.Rollout
		switch arg % 12 {
		case 0:
			r.MaxConcurrent = n
		case 1:
			r.MaxUnavailable = n
		case 2:
			r.Surge = !r.Surge
		case 3:
			r.Soak.Duration = time.Duration(n) * 7 * time.Second
		case 4:
			spec.State = v1alpha1.StatePaused
		case 5:
			spec.State = v1alpha1.StateAborted
		case 6, 7:
			spec.State = v1alpha1.StateRunning
		case 8:
			r.FailureBudget = n
		case 9:
			check := allChecks()[int(arg>>4)%len(allChecks())]
			spec.Waivers = []v1alpha1.Waiver{{Check: string(check), Until: metav1.NewTime(s.now.Add(time.Duration(n) * 3 * time.Minute))}}
		case 10:
			r.HoldOn = []string{string(v1alpha1.TunnelDown)}
		case 11:
			r.Windows = []v1alpha1.Window{{Start: s.now.Add(time.Minute).Format("15:04"), Duration: metav1.Duration{Duration: 5 * time.Minute}, TimeZone: "UTC"}}
			if n == 1 {
				r.Windows = nil
			}
		}
		s.say("somebody edits the spec: maxConcurrent %d, maxUnavailable %d, surge %t, soak %s, state %s, failureBudget %d, %d waivers, holdOn %v, %d windows",
			r.MaxConcurrent, r.MaxUnavailable, r.Surge, r.Soak.Duration, spec.State, r.FailureBudget, len(spec.Waivers), r.HoldOn, len(r.Windows))
	})
}

// doMachine is what happens to a node and its host.
func (s *simulation) doMachine(m *machine, e event) bool {
	switch e.kind {
	case aSpotLoss:
		s.vanish(m)
		s.say("%s is lost without a word", m.Name)
	case aRemoval:
		s.wanted[zoneOf(m)]--
		if e.arg%2 == 0 {
			m.Deleting, m.going = true, true
			s.say("an autoscaler begins to remove %s", m.Name)
		} else {
			s.vanish(m)
			s.say("an autoscaler removes %s", m.Name)
		}
	case aReboot:
		m.BootID += "'"
		m.Ready = false
		m.version++
		s.say("%s boots again", m.Name)
		s.resolve(m)
	case aRebirth:
		s.vanish(m)
		s.say("%s is deleted and joins again under the same name with another UID: %s", m.Name, s.joinAs(m.Name, zoneOf(m)).UID)
	case aSilence:
		m.silent = !m.silent
		m.Ready = m.Ready && !m.silent
		m.WasReady = m.WasReady || m.silent // a kubelet that falls silent makes Ready Unknown, which counts as out of service
		m.version++
		s.say("the kubelet of %s is silent: %t", m.Name, m.silent)
	}
	return true
}

func zoneOf(m *machine) int { return int(m.Zone[0] - 'a') }

// doObject is what people and other programs do to a Node.
func (s *simulation) doObject(m *machine, e event) bool {
	switch e.kind {
	case aForeignCordon:
		if m.Cordoned {
			return false
		}
		m.Cordoned, m.foreign = true, m.CordonedBy == ""
		s.say("somebody cordons %s", m.Name)
	case aForeignUncordon:
		if !m.Cordoned {
			return false
		}
		m.Cordoned, m.foreign = false, false
		m.Excluded = m.Excluded && e.arg%2 == 0
		s.say("somebody uncordons %s", m.Name)
	case aLostLabel:
		if !m.FenceLabel {
			return false
		}
		m.FenceLabel, m.unlabelled = false, true
		s.say("somebody takes the fence label off %s", m.Name)
	case anOptOut:
		m.OptedOut, m.OptOut = !m.OptedOut, "not this one"
		s.say("%s is kept out of the roll: %t", m.Name, m.OptedOut)
	case aBudget:
		m.blocked = !m.blocked
		s.say("a budget keeps the pods of %s: %t", m.Name, m.blocked)
	case aVolume:
		m.volume = !m.volume
		s.say("a volume is attached to %s: %t", m.Name, m.volume)
	case aPod:
		s.made++
		m.pods = append(m.pods, podOn{Pod: Pod{Namespace: "shop", Name: m.Name, UID: types.UID(fmt.Sprintf("%s-late-%d", m.UID, s.made))}})
		s.say("a pod that tolerates the cordon comes to %s", m.Name)
	case aRelease:
		return s.release(m.Name)
	}
	m.version++
	return true
}

// release is a person giving up on the slot of a node.
func (s *simulation) release(name string) bool {
	o := s.objectOf(name)
	if o == nil {
		return false
	}
	next := *o.NodeCutover
	next.Annotations = map[string]string{v1alpha1.AnnotationRelease: "somebody: it takes too long"}
	o.NodeCutover = &next
	if s.laws.released == nil {
		s.laws.released = map[string]bool{}
	}
	s.laws.released[name] = true
	s.say("somebody asks for the slot of %s to be released", name)
	return true
}
