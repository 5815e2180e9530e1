// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// progress is what a look at the world says about one step of a slot.
type progress struct {
	done    bool
	back    v1alpha1.Step // set when the slot has to go back to an earlier step
	fresh   bool          // the agent has only just been asked
	reason  v1alpha1.Reason
	message string
}

func done() progress { return progress{done: true} }

func waitFor(reason v1alpha1.Reason, format string, args ...any) progress {
	return progress{reason: reason, message: Clip(fmt.Sprintf(format, args...))}
}

// slots moves every slot of the ledger as far as the world allows, whatever the phase and whatever the spec says by now:
// a granted slot finishes under the terms it recorded.
func (d *decider) slots() {
	kept := d.status.Slots[:0:0]
	for _, s := range d.status.Slots {
		if outcome := d.slot(&s); outcome != "" {
			d.finish(s, outcome)
			continue
		}
		kept = append(kept, s)
	}
	d.status.Slots = kept
}

// slot moves one slot and returns how it ended, or nothing if it has not.
func (d *decider) slot(s *v1alpha1.Slot) v1alpha1.Outcome {
	if s.HeldSince != nil && d.released(*s) {
		return v1alpha1.OutcomeReleased
	}
	recorded, told := *s, len(d.notes)
	if s.ReplacementUID != "" {
		if r, ok := d.node(s.ReplacementUID); !ok || r.Deleting {
			d.note(s.Node, true, v1alpha1.AwaitingNode, "Join", "replacement %s has disappeared; waiting for another one", s.Replacement)
			s.Replacement, s.ReplacementUID = "", ""
			d.enter(s, v1alpha1.StepJoin)
		}
	}
	// Every pass moves the slot one step on; the table has no circle, so it is as long as the longest way.
	for range len(steps()) + 1 {
		row, known := stepOf(s.Step)
		if !known {
			d.hold(s, v1alpha1.WriteRefused, fmt.Sprintf("step %q is of another release of the coordinator; run that release or release the slot", s.Step))
			return ""
		}
		if _, alive := d.node(s.NodeUID); !alive && row.Vanished != "" {
			if s.Terms.Surge && s.ReplacementUID != "" {
				return v1alpha1.OutcomeReplaced
			}
			d.enter(s, row.Vanished)
			continue
		}
		p := d.look(s, &recorded)
		switch {
		case p.back != "":
			// A relapse is a failure whenever it comes: the deadline starts anew with the step, so it could go on for ever.
			d.enter(s, p.back)
			d.hold(s, p.reason, p.message)
		case p.done:
			next := row.next(s.Terms.Surge)
			if next == "" {
				return v1alpha1.OutcomeReplaced
			}
			d.enter(s, next)
		case p.fresh && d.mayTellLater(&recorded, s):
			*s, d.notes = recorded, d.notes[:told]
			return ""
		default:
			s.Reason, s.Message = p.reason, p.message
			if s.Step != recorded.Step {
				d.note(s.Concerned(), Alarming(s.Reason), s.Reason, string(s.Step), "slot of %s enters %s: %s", s.Node, s.Step, s.Message)
			}
			d.checkDeadline(s)
			return ""
		}
	}
	return ""
}

// mayAct says whether a slot that the ledger has in one step may act in another that it has come to since. A step that only
// asks gives nothing away. What allows an eviction is the slot and the answer, both read live, and an answer must not grow old
// while the ledger is written.
func mayAct(recorded, now v1alpha1.Step) bool {
	switch now {
	case recorded:
		return true
	case v1alpha1.StepConfirm:
		return recorded == v1alpha1.StepDeregister
	case v1alpha1.StepDrain:
		return recorded == v1alpha1.StepConfirm || recorded == v1alpha1.StepDeregister
	case v1alpha1.StepValidate:
		return recorded == v1alpha1.StepJoin
	}
	return false
}

// mayTellLater says whether the ledger need not say yet that a slot has come to another step: one in which its agent has only
// just been asked. The answer will be here in milliseconds, and the ledger can then say what came of it.
func (d *decider) mayTellLater(recorded, s *v1alpha1.Slot) bool {
	row, known := stepOf(recorded.Step)
	return known && s.Step != recorded.Step && mayAct(recorded.Step, s.Step) && d.w.Now.Before(row.ends(recorded))
}

// look derives a step's progress from the world. It asks for something to be done only as far as the slot as the ledger has it may;
// of one that is granted only now that is the zero Slot.
func (d *decider) look(s, recorded *v1alpha1.Slot) progress {
	n, _ := d.node(s.NodeUID)
	act := mayAct(recorded.Step, s.Step)
	switch s.Step {
	case v1alpha1.StepSurge:
		return d.lookSurge(s, n, act)
	case v1alpha1.StepCordon:
		return d.lookCordon(s, n, act, v1alpha1.Cordoning)
	case v1alpha1.StepDeregister:
		return d.lookDeregister(s, n, act)
	case v1alpha1.StepConfirm:
		return d.lookConfirm(s, recorded, n, act)
	case v1alpha1.StepDrain:
		return d.lookDrain(s, n, act)
	case v1alpha1.StepDetach:
		return d.lookDetach(s)
	case v1alpha1.StepReplace:
		if act && n.ReplaceAsked != s.NodeUID {
			d.act(RequestReplacement{Slot: s.NodeUID, Node: s.Node})
		}
		return waitFor(v1alpha1.AwaitingReplacement, "%s (%s) is empty and waits to be replaced; its annotation %s asks for that", s.Node, s.ProviderID, v1alpha1.AnnotationReplace)
	case v1alpha1.StepJoin:
		return d.lookJoin(s)
	case v1alpha1.StepValidate:
		return d.lookValidate(s, recorded, act)
	case v1alpha1.StepSoak:
		return d.lookSoak(s, act)
	}
	return waitFor(v1alpha1.WriteRefused, "step %q has no eyes", s.Step)
}

func (d *decider) lookSurge(s *v1alpha1.Slot, n *Node, act bool) progress {
	if n.SurgeAsked == s.NodeUID {
		return done()
	}
	if act {
		d.act(RequestSurge{Slot: s.NodeUID, Node: s.Node})
	}
	return waitFor(v1alpha1.AwaitingReplacement, "asking for one more node beside %s", s.Node)
}

// lookCordon is done when the cordon, the exclusion from load balancers and the record of both are on the node.
func (d *decider) lookCordon(s *v1alpha1.Slot, n *Node, act bool, reason v1alpha1.Reason) progress {
	if n.Cordoned && n.Excluded && n.CordonedBy == s.NodeUID {
		return done()
	}
	if act {
		d.act(Cordon{Slot: s.NodeUID, Node: s.Node})
	}
	return waitFor(reason, "cordoning %s and taking it out of load balancers", s.Node)
}

func (d *decider) lookDeregister(s *v1alpha1.Slot, n *Node, act bool) progress {
	if p := d.lookCordon(s, n, act, v1alpha1.CordonChanged); !p.done {
		return p
	}
	end := deregistered(s)
	if d.w.Now.Before(end) {
		d.wakeAt(end)
		return waitFor(v1alpha1.Deregistering, "load balancers finish with %s until %s", s.Node, end.UTC().Format(time.RFC3339))
	}
	return done()
}

// deregistered is when load balancers have finished with the node of a slot in Deregister.
func deregistered(s *v1alpha1.Slot) time.Time {
	return s.Since.Add(s.Terms.Drain.DeregistrationDelay.Duration)
}

func (d *decider) lookConfirm(s, recorded *v1alpha1.Slot, n *Node, act bool) progress {
	if p := d.lookCordon(s, n, act, v1alpha1.CordonChanged); !p.done {
		return p
	}
	if !d.fence.intact {
		return waitFor(v1alpha1.FenceOpen, "no drain begins while the fence is open: %s", d.fence.message)
	}
	role := n.Role()
	if role != v1alpha1.RoleLegacy && role != v1alpha1.RoleMixed {
		return waitFor(v1alpha1.AnswerRefused, "the host of %s shows role %s; only Legacy and Mixed nodes are drained", s.Node, role)
	}
	q := question{Purpose: v1alpha1.PurposeDrain, Role: role, After: s.Since.Time}
	if recorded.Step == v1alpha1.StepDeregister {
		q.After = deregistered(recorded)
	}
	return heard(s, d.ask(n, q, act))
}

func (d *decider) lookValidate(s, recorded *v1alpha1.Slot, act bool) progress {
	r, _ := d.node(s.ReplacementUID)
	if !r.Ready {
		return waitFor(v1alpha1.ReplacementNotReady, "%s is not Ready", s.Replacement)
	}
	q := question{Purpose: v1alpha1.PurposeValidate, Role: v1alpha1.RoleOverlay, After: s.Since.Time}
	if recorded.Step == v1alpha1.StepJoin {
		q.After = r.Created // whichever of the slots that wait for nodes claims this one
	}
	a := d.ask(r, q, act)
	if !a.safe && a.reason == v1alpha1.NodeNotSafe {
		a.reason = v1alpha1.ReplacementUnhealthy
	}
	return heard(s, a)
}

func (d *decider) lookSoak(s *v1alpha1.Slot, act bool) progress {
	r, _ := d.node(s.ReplacementUID)
	q := question{Purpose: v1alpha1.PurposeValidate, Role: v1alpha1.RoleOverlay}
	if !r.Ready || sick(r, requiredChecks(q, d.spec.Waivers, d.w.Now)) {
		return progress{back: v1alpha1.StepValidate, reason: v1alpha1.ReplacementUnhealthy, message: s.Replacement + " became unhealthy while it soaked"}
	}
	end := s.Since.Add(s.Terms.Soak.Duration)
	if d.w.Now.Before(end) {
		d.wakeAt(end)
		return waitFor(v1alpha1.Soaking, "%s must stay healthy until %s", s.Replacement, end.UTC().Format(time.RFC3339))
	}
	q.After = end
	a := d.ask(r, q, act)
	if !a.safe && a.reason == v1alpha1.NodeNotSafe {
		return progress{back: v1alpha1.StepValidate, reason: v1alpha1.ReplacementUnhealthy, message: a.message}
	}
	return heard(s, a)
}

// sick says whether the newest report of a node, asked for or not, holds a Fail of a check that validates it. What Validate
// does not ask must not send a slot back there: it would pass, and go round in circles.
func sick(n *Node, required []v1alpha1.CheckName) bool {
	r := n.report()
	if r == nil {
		return false
	}
	for _, f := range r.Findings {
		if f.Verdict == v1alpha1.VerdictFail && slices.Contains(required, f.Check) {
			return true
		}
	}
	return false
}

// enter moves a slot to a step.
func (d *decider) enter(s *v1alpha1.Slot, to v1alpha1.Step) {
	if s.HeldSince != nil {
		d.note(s.Node, false, s.Reason, "Resume", "slot of %s goes on to %s", s.Node, to)
	}
	s.Step, s.Since, s.HeldSince = to, metav1.NewMicroTime(d.w.Now), nil
	s.Reason, s.Message = "", ""
}

// checkDeadline holds a slot whose step has taken too long; a step that this release does not know has no end.
func (d *decider) checkDeadline(s *v1alpha1.Slot) {
	row, known := stepOf(s.Step)
	if !known {
		return
	}
	if end := row.ends(s); d.w.Now.Before(end) {
		d.wakeAt(end)
		return
	}
	d.hold(s, s.Reason, s.Message)
}

func (d *decider) hold(s *v1alpha1.Slot, reason v1alpha1.Reason, message string) {
	s.Reason, s.Message = reason, Clip(message)
	if s.HeldSince != nil {
		return
	}
	now := metav1.NewMicroTime(d.w.Now)
	s.HeldSince = &now
	d.note(s.Node, true, reason, "Hold", "slot of %s is held in %s: %s", s.Node, s.Step, message)
}
