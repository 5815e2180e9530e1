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

// request is one write on its way to the API server, with the preconditions that the mover gives it.
type request struct {
	from *coordinator
	term int
	// photo is the tick of the photograph behind it.
	photo int

	action Action
	pod    Pod
	name   string
	uid    types.UID
	// version is the resourceVersion that the object must still have; 0 for any.
	version int
	was     struct{ cordoned, excluded bool }
	on      *v1alpha1.NodeCutover // the NodeCutover that must not have changed
	fenced  bool                  // whether the VPC CNI was bound when the world was photographed

	// A write of the ledger: what it says, the ledger that was read, the object that must still be there, and the law that
	// it breaks if it is accepted.
	status  *v1alpha1.CutoverStatus
	read    *v1alpha1.Cutover
	over    *v1alpha1.Cutover
	verdict string
	notes   []Note
}

// fate is what becomes of the next write of a coordinator.
type fate uint8

const (
	arrives fate = iota
	// lost: it never arrives, and its sender sees an error.
	lost
	// unanswered: it arrives, and its sender sees an error.
	unanswered
	// late: its sender gives up, and it arrives later.
	late
	// twice: it arrives now and, once more, later.
	twice
)

// prepare reads what an action changes, where the mover does, and words the request; nil if there is nothing to do.
func (s *simulation) prepare(c *coordinator, a Action) *request {
	r := &request{from: c, term: c.term, photo: c.taken, action: a, fenced: c.w.Legacy.Fenced}
	read := func(name string, uid types.UID) *request {
		m := s.byName(name)
		if m == nil || uid != "" && m.UID != uid && s.bug != bugAnyNodeOfTheName {
			return nil
		}
		r.name, r.uid, r.version = name, m.UID, m.version
		r.was = m.was
		if m.CordonedBy != m.UID {
			r.was = struct{ cordoned, excluded bool }{m.Cordoned, m.Excluded}
		}
		r.was.cordoned, r.was.excluded = r.was.cordoned && m.Cordoned, r.was.excluded && m.Excluded
		if s.bug == bugForgetsWhatStoodThere {
			r.was.cordoned = false
		}
		return r
	}
	switch a := a.(type) {
	case Evict:
		r.name, r.uid, r.pod = a.Node, a.Slot, a.Pods[c.pod]
	case Cordon:
		return read(a.Node, a.Slot)
	case Uncordon:
		return read(a.Node, "")
	case SetLeaving:
		return read(a.Node, a.UID)
	case WriteNodeConfig:
		if c.w.NodeConfig.Found {
			r.version = s.configVersion
		}
	case Ask:
		for i := range c.w.Nodes {
			if n := &c.w.Nodes[i]; n.Cutover != nil && n.Name == a.Node {
				r.on = n.Cutover
			}
		}
		if r.on == nil {
			return nil
		}
		if original, ok := s.forged[r.on]; ok {
			r.on = original
		}
	case RequestReplacement:
		r.name, r.uid = a.Node, a.Slot
	case RequestSurge:
		r.name, r.uid = a.Node, a.Slot
	case SetFenceLabel:
		r.name, r.uid = a.Node, a.UID
		if a.On && c.w.Legacy.Fenced && s.bug != bugBlindLabel {
			m := s.byName(a.Node)
			if m == nil || !slices.ContainsFunc(c.w.Nodes, func(seen Node) bool { return seen.UID == m.UID && seen.BootID == m.BootID }) {
				return nil
			}
			return read(a.Node, a.UID)
		}
	case SetSafe:
		r.name, r.uid = a.Node, a.UID
	}
	return r
}

// send hands a request to the network.
func (s *simulation) send(c *coordinator, r *request) {
	s.judgeSending(r)
	how := c.fate
	c.fate = arrives
	if how != arrives {
		s.say("%s: %s", s.speaker(c), how.of(r))
	}
	switch how {
	case late, twice:
		if old := s.flights[c.id]; old != nil {
			s.flights[c.id] = nil
			s.arrive(old)
		}
		s.flights[c.id] = r
	}
	if how == lost || how == late {
		if r.action != nil {
			s.refuse(c, r.action, v1alpha1.WriteRefused, "no answer")
		}
		return
	}
	if how == arrives {
		s.narrate(c, r)
	}
	refusal := s.arrive(r)
	if r.action != nil && refusal != "" {
		s.refuse(c, r.action, refusal, "refused")
	} else if r.action != nil && how == unanswered {
		s.refuse(c, r.action, v1alpha1.WriteRefused, "no answer")
	}
}

// land lets a request that was in flight arrive.
func (s *simulation) land(c *coordinator) bool {
	r := s.flights[c.id]
	if r == nil {
		return false
	}
	s.flights[c.id] = nil
	s.say("what %s had sent earlier arrives: %s", s.speaker(c), r)
	s.arrive(r)
	return true
}

// arrive is the API server: it refuses what does not meet its preconditions, and does the rest. It returns why a sender
// is told that its request was refused; a conflict is no news.
func (s *simulation) arrive(r *request) v1alpha1.Reason {
	if r.status != nil {
		s.writeStatus(r)
		return ""
	}
	s.judgeArrival(r)
	s.seen.action(r.action)
	switch a := r.action.(type) {
	case CreateNodeCutover:
		if s.objectOf(a.Node) == nil && s.byName(a.Node) != nil {
			o := object{NodeCutover: &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: a.Node}, Spec: v1alpha1.NodeCutoverSpec{NodeUID: a.UID, Challenge: a.Challenge}}}
			if a.Challenge != nil {
				o.ask = ask{challenge: a.Challenge, tick: s.tick, term: r.term + r.from.id<<16, at: s.now}
			}
			s.objects = append(s.objects, o)
		}
	case Ask:
		if o := s.objectOf(a.Node); o != nil && o.NodeCutover == r.on {
			next := *o.NodeCutover
			next.Spec.Challenge = &a.Challenge
			o.NodeCutover, o.ask = &next, ask{challenge: &a.Challenge, tick: s.tick, term: r.term + r.from.id<<16, at: s.now}
		}
	case RemoveRelease:
		if o := s.objectOf(a.Node); o != nil {
			next := *o.NodeCutover
			next.Annotations = nil
			o.NodeCutover = &next
		}
	case FenceDaemonSet:
		if s.legacy.Found && s.legacy.UID == a.UID && !s.legacy.Fenced {
			s.legacy.Fenced, s.legacy.Rollout.Current = true, false
		}
	case DeleteLegacy:
		if s.legacy.UID == a.UID {
			s.legacy.Found = false
		}
	case WriteNodeConfig:
		if s.config.Found == (r.version > 0) && (r.version == 0 || r.version == s.configVersion) {
			created := s.config.Created
			if !s.config.Found {
				created = s.now.Truncate(time.Second)
			}
			s.config = NodeConfig{Found: true, Intact: true, Created: created}
			s.configVersion++
		}
	case DeleteCiliumPod:
		for _, m := range s.machines {
			if len(m.CiliumPods) > 0 && m.CiliumPods[0].UID == a.Pod.UID {
				m.CiliumPods, m.configured = nil, false
			}
		}
	case Evict:
		return s.evict(r)
	default:
		s.patch(r)
	}
	return ""
}

// evict is the eviction of one pod, with its UID as the precondition.
func (s *simulation) evict(r *request) v1alpha1.Reason {
	for _, m := range s.machines {
		for i := range m.pods {
			if m.pods[i].UID != r.pod.UID || m.pods[i].going {
				continue
			}
			if m.blocked {
				return v1alpha1.EvictionBlocked
			}
			m.pods[i].going = true
		}
	}
	return ""
}

// patch is a patch of a Node, with its UID and, where the mover has read it, its resourceVersion as preconditions.
func (s *simulation) patch(r *request) {
	m := s.byName(r.name)
	if m == nil || m.UID != r.uid && s.bug != bugAnyNodeOfTheName || r.version > 0 && m.version != r.version && s.bug != bugBlindPatch {
		return
	}
	m.version++
	switch a := r.action.(type) {
	case Cordon:
		if !m.Cordoned {
			m.foreign = false
		}
		m.Cordoned, m.Excluded, m.CordonedBy, m.was = true, true, a.Slot, r.was
	case Uncordon:
		if m.SurgeAsked == a.Slot {
			m.SurgeAsked = ""
		}
		if m.ReplaceAsked == a.Slot {
			m.ReplaceAsked = ""
		}
		if m.CordonedBy == a.Slot {
			m.CordonedBy = ""
			m.Excluded = m.Excluded && m.was.excluded
			m.Cordoned = m.Cordoned && m.was.cordoned
		}
	case SetLeaving:
		m.Leaving = a.On
	case SetFenceLabel:
		m.FenceLabel = a.On
		m.unlabelled = m.unlabelled && !a.On
	case SetSafe:
		m.SafeShown = a.Safe
	case RequestReplacement:
		m.ReplaceAsked = a.Slot
	case RequestSurge:
		m.SurgeAsked = a.Slot
	default:
		panic(fmt.Sprintf("action %T is not known to the simulation", a))
	}
}

// writeStatus is an update of the ledger, refused if anybody has written the Cutover since it was read.
func (s *simulation) writeStatus(r *request) {
	if r.over != s.cutover && s.bug != bugNoCompare {
		return
	}
	s.judgeLedger(r)
	next := *s.cutover
	next.Status = *r.status
	s.cutover = &next
	for _, n := range r.notes {
		s.say("  %s", n.Message)
	}
	s.seen.ledger(&r.read.Status, r.status)
}

// sameStatus compares two statuses as apiequality.Semantic.DeepEqual does, in a hundredth of the time.
// TestSameStatusComparesEverything holds the two together.
func sameStatus(a, b *v1alpha1.CutoverStatus) bool {
	if a.ObservedGeneration != b.ObservedGeneration || a.Phase != b.Phase || a.Nodes != b.Nodes || a.Rolled != b.Rolled ||
		len(a.Phases) != len(b.Phases) || len(a.Conditions) != len(b.Conditions) || len(a.Slots) != len(b.Slots) ||
		len(a.Waiting) != len(b.Waiting) || len(a.Finished) != len(b.Finished) {
		return false
	}
	for i := range a.Waiting {
		if a.Waiting[i] != b.Waiting[i] {
			return false
		}
	}
	for i := range a.Phases {
		x, y := &a.Phases[i], &b.Phases[i]
		if x.Phase != y.Phase || !x.StartedAt.Equal(&y.StartedAt) || !x.FinishedAt.Equal(&y.FinishedAt) {
			return false
		}
	}
	for i := range a.Conditions {
		x, y := &a.Conditions[i], &b.Conditions[i]
		if x.Type != y.Type || x.Status != y.Status || x.Reason != y.Reason || x.Message != y.Message ||
			x.ObservedGeneration != y.ObservedGeneration || !x.LastTransitionTime.Equal(&y.LastTransitionTime) {
			return false
		}
	}
	for i := range a.Slots {
		if !sameSlot(&a.Slots[i], &b.Slots[i]) {
			return false
		}
	}
	for i := range a.Finished {
		x, y := &a.Finished[i], &b.Finished[i]
		if x.Node != y.Node || x.ReplacementUID != y.ReplacementUID || !x.FinishedAt.Equal(&y.FinishedAt) {
			return false
		}
	}
	return true
}

// sameSlot compares two slots; their terms never change.
func sameSlot(x, y *v1alpha1.Slot) bool {
	return x.NodeUID == y.NodeUID && x.Step == y.Step && x.ReplacementUID == y.ReplacementUID && x.Reason == y.Reason && x.Message == y.Message &&
		(x.HeldSince == nil) == (y.HeldSince == nil) && (x.HeldSince == nil || x.HeldSince.Equal(y.HeldSince)) &&
		x.Since.Equal(&y.Since) && x.GrantedAt.Equal(&y.GrantedAt)
}
