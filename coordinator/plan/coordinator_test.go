// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// coordinator is one process, between any two of whose steps everything else may happen. It works as
// coordinator/{reconcile,gather,moves,moves_node}.go do: the ledger is read live, the rest comes from caches that lag, a
// Decision that is irreversible is taken again on fresh facts, actions follow one another, the ledger comes last.
//
// Nothing here knows of a lease. The real one keeps a second coordinator away for longer than an action may take; here both
// lead all the time, which is more than can happen. What the lease does give is the bound on one action: a step that comes
// later than moveTimeout after the action began finds its context ended. A process that was stopped in the middle of
// sending may still send that one request when it goes on; such a request is in flight, and arrives at any later time.
type coordinator struct {
	id   int
	term int
	name string
	own  string
	// skew is how wrong its clock is.
	skew time.Duration

	// What its informers have shown it.
	nodes   []Node
	objects []object
	legacy  Legacy
	ledger  *v1alpha1.Cutover

	stage stage
	// read is the ledger as this reconcile has read it, w and d what it saw and decided.
	read    *v1alpha1.Cutover
	version *v1alpha1.Cutover // its resourceVersion
	w       World
	d       Decision
	// cached is the World without what was read anew, and basis what was.
	cached World
	basis  Basis
	// due is what coordinator/looks.go remembers.
	due map[types.UID]lookedAt
	// config is the CiliumNodeConfig as it was read last, and when.
	config   NodeConfig
	configAt time.Time
	taken    int // the tick in which w was photographed
	verdict  string

	// shared is the ledger that actions have looked at, and when.
	shared   *v1alpha1.Cutover
	sharedAt time.Time

	next, pod int // of the action in progress
	checked   bool
	prepared  *request
	begun     time.Time
	fate      fate
	refused   map[types.UID]told
	buffer    []Node
	anew      []Node
}

type lookedAt struct {
	step v1alpha1.Step
	at   time.Time
}

type told struct {
	reason  v1alpha1.Reason
	message string
}

// stage is where a coordinator is in its reconcile.
type stage int

const (
	idle stage = iota
	looking
	lookingAgain
	acting
	writing
)

// moveTimeout bounds an action, as in coordinator/moves.go.
const moveTimeout = 5 * time.Second

// begin starts a coordinator anew: another term, synced caches, nothing remembered. What it has sent may still arrive.
func (s *simulation) begin(c *coordinator) {
	if s.bug != bugOldTerm || c.name == "" {
		s.terms++
		c.name = fmt.Sprintf("term%d", s.terms)
	}
	c.term++
	c.own = ""
	if n := len(s.machines); n > 0 {
		c.own = s.machines[(c.id+n-1)%n].Name
	}
	c.stage, c.refused, c.fate, c.due, c.config = idle, nil, arrives, map[types.UID]lookedAt{}, NodeConfig{}
	s.observe(c)
}

// observe brings the caches of a coordinator up to date.
func (s *simulation) observe(c *coordinator) {
	s.observeNodes(c)
	c.objects = append(c.objects[:0], s.objects...)
	c.legacy, c.ledger = s.legacy, s.cutover
}

func (s *simulation) observeNodes(c *coordinator) {
	c.nodes = c.nodes[:0]
	for _, m := range s.machines {
		c.nodes = append(c.nodes, m.Node)
	}
}

// clock is what a coordinator's clock shows.
func (s *simulation) clock(c *coordinator) time.Time { return s.now.Add(c.skew) }

// step lets a coordinator do the next smallest thing.
func (s *simulation) step(c *coordinator) {
	s.tick++
	s.now = s.now.Add(pace)
	switch c.stage {
	case idle:
		c.read, c.version = s.cutover, s.cutover
		if s.bug == bugLedgerFromCache {
			c.read = c.ledger
		}
		c.stage, c.shared = looking, nil
	case looking, lookingAgain:
		if c.stage == looking {
			s.photograph(c, false)
			c.cached, c.basis = c.w, Basis{}
		} else {
			s.lookAnew(c)
		}
		c.d = Decide(&c.w)
		if lacks := c.w.Lacks(c.d); s.bug != bugStaleGrant && !lacks.None() {
			c.basis = c.basis.With(lacks)
			c.stage = lookingAgain
			s.lookAtLedger(c) // beside what is read anew, and as early as that may be
			return
		}
		if s.bug == bugActsFirst {
			s.actFirst(c)
		}
		c.verdict = s.judgeDecision(c)
		c.stage, c.next, c.pod, c.checked, c.prepared = acting, 0, 0, false, nil
		clear(c.refused)
		if len(c.d.Actions) == 0 {
			c.stage = writing
		}
	case acting:
		s.act(c)
	case writing:
		s.writeLedger(c)
	}
}

// reconcile lets a coordinator go on to the end of its reconcile.
func (s *simulation) reconcile(c *coordinator) {
	s.step(c)
	for c.stage != idle && s.broken == "" {
		s.step(c)
	}
}

// lookAnew gathers what gatherer.anew does.
func (s *simulation) lookAnew(c *coordinator) {
	if c.basis.Everything {
		s.photograph(c, true)
		c.w.Live.Everything = true
		return
	}
	c.w = c.cached
	c.w.Live = Live{Nodes: c.basis.Nodes, Answers: make(map[types.UID]bool, len(c.basis.Answers))}
	nodes := append(c.anew[:0], c.cached.Nodes...)
	if c.basis.Nodes {
		nodes = nodes[:0]
		for _, m := range s.machines {
			n := m.Node
			n.NameTaken, n.Cutover, n.LegacyPod, n.CiliumPods = true, nil, false, nil
			for i := range c.cached.Nodes {
				if k := &c.cached.Nodes[i]; k.UID == n.UID {
					n.NameTaken, n.Cutover, n.LegacyPod, n.CiliumPods = k.NameTaken, k.Cutover, k.LegacyPod, k.CiliumPods
				}
			}
			nodes = append(nodes, n)
		}
		c.w.Legacy, c.w.NodeConfig = s.legacy, s.lookAtConfig(c, 0)
	}
	for _, ref := range c.basis.Answers {
		c.w.Live.Answers[ref.UID] = true
		for i := range nodes {
			if n := &nodes[i]; n.UID == ref.UID {
				n.Cutover, n.NameTaken = nil, false
				s.attach(n, s.objects)
			}
		}
	}
	c.anew, c.w.Nodes, c.w.Now = nodes, nodes, s.clock(c)
	if len(c.basis.Drains) == 0 {
		return
	}
	c.w.Drains, c.w.Volumes = maps.Clone(c.w.Drains), maps.Clone(c.w.Volumes)
	for i := range c.basis.Drains {
		sl := &c.basis.Drains[i]
		c.due[sl.NodeUID] = lookedAt{sl.Step, c.w.Now}
		s.lookAtSlot(&c.w, sl)
	}
}

// attach gives a node its NodeCutover, as coordinator's attach does.
func (s *simulation) attach(n *Node, objects []object) {
	for _, o := range objects {
		if o.Name != n.Name || n.NameTaken {
			continue
		}
		n.NameTaken = true
		if o.Spec.NodeUID == n.UID {
			n.Cutover, n.NameTaken = s.forge(o.NodeCutover, n), false
		}
	}
}

// photograph gathers what gatherer.world does.
func (s *simulation) photograph(c *coordinator, fresh bool) {
	nodes, objects, legacy := c.nodes, c.objects, c.legacy
	if fresh {
		nodes, objects, legacy = c.buffer[:0], s.objects, s.legacy
		for _, m := range s.machines {
			nodes = append(nodes, m.Node)
		}
	} else {
		nodes = append(c.buffer[:0], nodes...)
	}
	for i := range c.read.Status.Slots {
		if s.bug != bugBelievesInAbsence {
			nodes = s.missing(nodes, &c.read.Status.Slots[i])
		}
	}
	c.buffer = nodes
	age := PollEvery
	if fresh {
		age = 0
	}
	for i := range nodes {
		s.attach(&nodes[i], objects)
	}
	c.taken = s.tick
	c.w = World{
		Now: s.clock(c), Term: c.name, Holder: "coordinator", OwnNode: c.own, Cutover: c.read, Nodes: nodes, Legacy: legacy,
		NodeConfig: s.lookAtConfig(c, age), Cilium: Cilium{Found: true, Rollout: Rollout{Current: true}},
	}
	if s.bug == bugForgetsClaims {
		forgetful := *c.read
		forgetful.Status.Finished = nil
		c.w.Cutover = &forgetful
	}
	for i := range c.read.Status.Slots {
		sl := &c.read.Status.Slots[i]
		if (sl.Step == v1alpha1.StepDrain || sl.Step == v1alpha1.StepDetach) && c.isDue(sl) {
			s.lookAtSlot(&c.w, sl)
		}
	}
}

// isDue says whether a slot's node is to be looked at, as coordinator's due does.
func (c *coordinator) isDue(sl *v1alpha1.Slot) bool {
	now := c.w.Now
	if last, ok := c.due[sl.NodeUID]; ok && last.step == sl.Step && now.Sub(last.at) < PollEvery && !now.Before(last.at) {
		return false
	}
	c.due[sl.NodeUID] = lookedAt{sl.Step, now}
	return true
}

// missing looks live for the nodes of a slot that a cache does not show, as gatherer.missing does.
func (s *simulation) missing(nodes []Node, sl *v1alpha1.Slot) []Node {
	absent := func(uid types.UID) bool {
		for i := range nodes {
			if nodes[i].UID == uid {
				return false
			}
		}
		return true
	}
	if !absent(sl.NodeUID) && (sl.ReplacementUID == "" || !absent(sl.ReplacementUID)) {
		return nodes
	}
	for _, ref := range Depends([]v1alpha1.Slot{*sl}) {
		if m := s.byUID(ref.UID); m != nil && absent(ref.UID) {
			nodes = append(nodes, m.Node)
			nodes[len(nodes)-1].NameTaken = true
		}
	}
	return nodes
}

// lookAtSlot looks at the pods and volumes of a slot's node, live.
func (s *simulation) lookAtSlot(w *World, sl *v1alpha1.Slot) {
	m := s.byName(sl.Node)
	if m == nil || m.UID != sl.NodeUID {
		return
	}
	if w.Drains == nil {
		w.Drains, w.Volumes = map[types.UID]Drain{}, map[types.UID][]string{}
	}
	var left Drain
	for _, p := range m.pods {
		if p.going {
			left.Going++
		} else {
			left.Evict = append(left.Evict, p.Pod)
		}
	}
	w.Drains[m.UID] = left
	if !left.Empty() {
		return
	}
	w.Volumes[m.UID] = nil
	if m.volume {
		w.Volumes[m.UID] = []string{"vol"}
	}
}

// slotOf returns the slot that an action belongs to, as coordinator/moves.go does.
func slotOf(a Action) types.UID {
	switch a := a.(type) {
	case RequestSurge:
		return a.Slot
	case Cordon:
		return a.Slot
	case Evict:
		return a.Slot
	case RequestReplacement:
		return a.Slot
	}
	return ""
}

// act does the next smallest thing of the action in progress: read its slot live, read what it changes, send.
func (s *simulation) act(c *coordinator) {
	if c.next >= len(c.d.Actions) {
		c.stage = writing
		s.writeLedger(c)
		return
	}
	a := c.d.Actions[c.next]
	if !c.checked {
		c.begun = s.now
		c.checked = true
		if s.bug != bugUnchecked && !s.mayAct(c, a) {
			s.nextAction(c)
			return
		}
		switch a.(type) {
		case Uncordon, Cordon, RequestReplacement, RequestSurge, Evict:
			return
		}
	}
	if s.now.Sub(c.begun) > moveTimeout {
		s.refuse(c, a, v1alpha1.WriteRefused, "context deadline exceeded")
		s.nextAction(c)
		return
	}
	if c.prepared == nil {
		c.prepared = s.prepare(c, a)
		if c.prepared == nil {
			s.nextAction(c)
			return
		}
		if c.prepared.version > 0 {
			return
		}
	}
	r := c.prepared
	c.prepared = nil
	e, evicts := a.(Evict)
	if evicts && !s.clock(c).Before(e.Until) {
		s.nextAction(c)
		return
	}
	s.send(c, r)
	if evicts && c.pod+1 < len(e.Pods) {
		c.pod++
		return
	}
	s.nextAction(c)
}

func (s *simulation) nextAction(c *coordinator) {
	c.next++
	c.pod, c.checked, c.prepared = 0, false, nil
}

// ledgerShared is how long actions share one look at the ledger, as in coordinator/ledger.go.
const ledgerShared = 200 * time.Millisecond

// mayAct reads the ledger live, as sharedLedger.check does.
func (s *simulation) mayAct(c *coordinator, a Action) bool {
	undo, undoes := a.(Uncordon)
	slot := slotOf(a)
	if slot == "" && !undoes {
		return true
	}
	s.lookAtLedger(c)
	if undoes {
		return !hasSlot(c.shared.Status.Slots, undo.Slot) || s.bug == bugBlindUncordon
	}
	now := find(c.shared.Status.Slots, slot)
	for i := range c.w.Cutover.Status.Slots {
		if before := &c.w.Cutover.Status.Slots[i]; before.NodeUID == slot {
			return now != nil && now.Step == before.Step
		}
	}
	return false
}

// lookAtLedger reads the ledger live unless it was a moment ago, as sharedLedger.get does.
func (s *simulation) lookAtLedger(c *coordinator) {
	if c.shared == nil || s.now.Sub(c.sharedAt) >= ledgerShared {
		c.shared, c.sharedAt = s.cutover, s.now
	}
}

// lookAtConfig reads the CiliumNodeConfig unless it was intact less than an age ago, as gatherer.nodeConfig does.
func (s *simulation) lookAtConfig(c *coordinator, age time.Duration) NodeConfig {
	now := s.clock(c)
	if since := now.Sub(c.configAt); !c.config.Intact || since < 0 || since >= age {
		c.config, c.configAt = s.config, now
	}
	return c.config
}

func (s *simulation) refuse(c *coordinator, a Action, reason v1alpha1.Reason, message string) {
	if slot := slotOf(a); slot != "" {
		if c.refused == nil {
			c.refused = map[types.UID]told{}
		}
		c.refused[slot] = told{reason, message}
	}
}

// writeLedger ends a reconcile: what was refused is said of the slots, and the ledger is written if that says anything new.
func (s *simulation) writeLedger(c *coordinator) {
	c.stage = idle
	for i := range c.d.Status.Slots {
		sl := &c.d.Status.Slots[i]
		for j := range c.read.Status.Slots {
			if before := &c.read.Status.Slots[j]; before.NodeUID == sl.NodeUID && before.Step == sl.Step {
				if r, ok := c.refused[sl.NodeUID]; ok {
					sl.Reason, sl.Message = r.reason, r.message
				}
			}
		}
	}
	if s.same(&c.read.Status, &c.d.Status) {
		return
	}
	status := c.d.Status
	s.send(c, &request{from: c, term: c.term, photo: c.taken, status: &status, read: c.read, over: c.version, verdict: c.verdict, notes: c.d.Notes})
}
