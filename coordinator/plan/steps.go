// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// reasons are at most ten; those that are not needed are empty.
type reasons [10]v1alpha1.Reason

// step is one row of the table of steps: what a slot does there, what ends it, and how long it may take before the slot
// is held.
type step struct {
	Name v1alpha1.Step
	// Does says what the coordinator does, again and again, until the step is done.
	Does string
	// Done says what has to be seen for the slot to go on.
	Done string
	// Next without and with surge. An empty Next ends the slot.
	Next, NextSurge v1alpha1.Step
	// Vanished is where the slot goes when its node disappears in this step; empty where that does not matter.
	Vanished v1alpha1.Step
	// Deadline gives how long the step may take under the slot's terms; DeadlineIs says so in words.
	Deadline   func(*v1alpha1.Terms) time.Duration
	DeadlineIs string
	// Reasons are what a slot in this step may wait for; one that Writes may also wait for what keeps the API server from
	// taking the write.
	Reasons reasons
	Writes  bool
}

func twoMinutes(*v1alpha1.Terms) time.Duration  { return 2 * time.Minute }
func fiveMinutes(*v1alpha1.Terms) time.Duration { return 5 * time.Minute }
func tenMinutes(*v1alpha1.Terms) time.Duration  { return 10 * time.Minute }

// steps returns the table of steps, in the order of a slot without surge. docs/phases.md is rendered from it. It is an array
// of constants, so that looking at it costs a copy and no more.
func steps() [10]step {
	return [...]step{
		{
			Name: v1alpha1.StepSurge, Does: "asks for one more node like this one (annotation and Event)",
			Done: "the request is on the node", NextSurge: v1alpha1.StepJoin, Vanished: v1alpha1.StepJoin,
			Deadline: twoMinutes, DeadlineIs: "2m",
			Reasons: reasons{v1alpha1.AwaitingReplacement}, Writes: true,
		},
		{
			Name: v1alpha1.StepCordon, Does: "cordons the node and takes it out of load balancers, in one patch that names the slot",
			Done: "the node shows all three", Next: v1alpha1.StepDeregister, NextSurge: v1alpha1.StepDeregister, Vanished: v1alpha1.StepJoin,
			Deadline: twoMinutes, DeadlineIs: "2m",
			Reasons: reasons{v1alpha1.Cordoning}, Writes: true,
		},
		{
			Name: v1alpha1.StepDeregister, Does: "waits for load balancers to finish with the node",
			Done: "drain.deregistrationDelay has passed", Next: v1alpha1.StepConfirm, NextSurge: v1alpha1.StepConfirm, Vanished: v1alpha1.StepJoin,
			Deadline:   func(t *v1alpha1.Terms) time.Duration { return t.Drain.DeregistrationDelay.Duration + 2*time.Minute },
			DeadlineIs: "drain.deregistrationDelay + 2m",
			Reasons:    reasons{v1alpha1.Deregistering, v1alpha1.CordonChanged}, Writes: true,
		},
		{
			Name: v1alpha1.StepConfirm, Does: "asks the agent again, with a new challenge; shown only if the answer is late or does not pass",
			Done: "its answer passes and the fence is intact", Next: v1alpha1.StepDrain, NextSurge: v1alpha1.StepDrain, Vanished: v1alpha1.StepJoin,
			Deadline: fiveMinutes, DeadlineIs: "5m",
			Reasons: reasons{v1alpha1.NoAnswer, v1alpha1.AnswerRefused, v1alpha1.NodeNotSafe, v1alpha1.FenceOpen, v1alpha1.CordonChanged}, Writes: true,
		},
		{
			Name: v1alpha1.StepDrain, Does: "posts one eviction per pod and look, as long as the agent's answer passes; asks again when it expires",
			Done: "no pod is left that a drain would remove", Next: v1alpha1.StepDetach, NextSurge: v1alpha1.StepDetach, Vanished: v1alpha1.StepJoin,
			Deadline: func(t *v1alpha1.Terms) time.Duration { return t.Drain.Timeout.Duration }, DeadlineIs: "drain.timeout",
			Reasons: reasons{
				v1alpha1.Evicting, v1alpha1.EvictionBlocked, v1alpha1.EvictionRefused, v1alpha1.BudgetsOverlap, v1alpha1.DrainImpossible, v1alpha1.PodStuck, v1alpha1.CordonChanged,
				v1alpha1.NoAnswer, v1alpha1.AnswerRefused, v1alpha1.NodeNotSafe,
			},
			Writes: true,
		},
		{
			Name: v1alpha1.StepDetach, Does: "waits for volumes to leave the node",
			Done: "no VolumeAttachment names the node", Next: v1alpha1.StepReplace, NextSurge: v1alpha1.StepReplace, Vanished: v1alpha1.StepJoin,
			Deadline: tenMinutes, DeadlineIs: "10m",
			Reasons: reasons{v1alpha1.VolumesAttached}, Writes: true,
		},
		{
			Name: v1alpha1.StepReplace, Does: "asks for the node to be replaced (annotation and Event); with surge, to be removed",
			Done: "the node is gone", Next: v1alpha1.StepJoin, Vanished: v1alpha1.StepJoin,
			Deadline: func(t *v1alpha1.Terms) time.Duration { return t.Replacement.Timeout.Duration }, DeadlineIs: "replacement.timeout",
			Reasons: reasons{v1alpha1.AwaitingReplacement}, Writes: true,
		},
		{
			Name: v1alpha1.StepJoin, Does: "claims one unclaimed node of the same zone and group, created after the slot",
			Done: "the claimed node is Ready", Next: v1alpha1.StepValidate, NextSurge: v1alpha1.StepValidate,
			Deadline: func(t *v1alpha1.Terms) time.Duration { return t.Replacement.JoinTimeout.Duration }, DeadlineIs: "replacement.joinTimeout",
			Reasons: reasons{v1alpha1.AwaitingNode, v1alpha1.ReplacementElsewhere, v1alpha1.ReplacementNotReady},
		},
		{
			Name: v1alpha1.StepValidate, Does: "asks the agent on the replacement; shown only if the answer is late or does not pass",
			Done: "its answer passes", Next: v1alpha1.StepSoak, NextSurge: v1alpha1.StepSoak,
			Deadline: tenMinutes, DeadlineIs: "10m",
			Reasons: reasons{v1alpha1.NoAnswer, v1alpha1.AnswerRefused, v1alpha1.ReplacementUnhealthy, v1alpha1.ReplacementNotReady}, Writes: true,
		},
		{
			Name: v1alpha1.StepSoak, Does: "watches the replacement and asks once more at the end",
			Done: "it stayed healthy for the soak time, and its last answer passes", Next: "", NextSurge: v1alpha1.StepCordon,
			Deadline:   func(t *v1alpha1.Terms) time.Duration { return t.Soak.Duration + 5*time.Minute },
			DeadlineIs: "soak + 5m",
			Reasons:    reasons{v1alpha1.Soaking, v1alpha1.NoAnswer, v1alpha1.AnswerRefused, v1alpha1.ReplacementUnhealthy}, Writes: true,
		},
	}
}

// firstStep is where a slot begins.
func firstStep(surge bool) v1alpha1.Step {
	if surge {
		return v1alpha1.StepSurge
	}
	return v1alpha1.StepCordon
}

// stepOf returns the row of a step, and false for a step that this release does not know: a ledger written by another
// release is held, never guessed at.
func stepOf(name v1alpha1.Step) (step, bool) {
	rows := steps()
	for i := range rows {
		if rows[i].Name == name {
			return rows[i], true
		}
	}
	return step{}, false
}

// mayWaitFor are all reasons for which a slot in this step may wait.
func (s step) mayWaitFor() []v1alpha1.Reason {
	all := slices.DeleteFunc(s.Reasons[:], func(r v1alpha1.Reason) bool { return r == "" })
	if s.Writes {
		all = append(slices.Clip(all), refused()...)
	}
	return all
}

// ends is when a slot has been in this step for too long.
func (s step) ends(slot *v1alpha1.Slot) time.Time {
	return slot.Since.Add(s.Deadline(&slot.Terms))
}

// next is where a slot goes from this step when it is done.
func (s step) next(surge bool) v1alpha1.Step {
	if surge {
		return s.NextSurge
	}
	return s.Next
}
