// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strings"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// PollEvery is how often pods and volumes of a node that is being emptied are looked at: nothing watches all pods of a
// cluster for the sake of a few nodes. In between, what the last look said stands.
const PollEvery = time.Second

const (
	// leavingSlack is how long after its grace period a pod may still be there: a kubelet kills at its end, and then has to
	// unmount volumes and to tell.
	leavingSlack = 10 * time.Second
	// leavingLong is a grace period that people should hear of while it runs; 30 s is the default.
	leavingLong = time.Minute
)

// lookDrain evicts as long as the agent's answer is good. A drain may take longer than an answer lasts, and the node may
// stop being safe meanwhile: then the pods that are left stay where they are.
func (d *decider) lookDrain(s *v1alpha1.Slot, n *Node, act bool) progress {
	if p := d.lookCordon(s, n, act, v1alpha1.CordonChanged); !p.done {
		return p
	}
	left, looked := d.w.Drains[s.NodeUID]
	switch {
	case !looked:
		d.wakeAt(d.w.Now.Add(PollEvery))
		return stays(s, v1alpha1.Evicting, "pods are leaving %s", s.Node)
	case len(left.Impossible) > 0:
		return waitFor(v1alpha1.DrainImpossible, "%s cannot be drained: %s", s.Node, strings.Join(left.Impossible, "; "))
	case left.Empty():
		return done()
	}
	d.wakeAt(d.w.Now.Add(PollEvery))
	role := n.Role()
	if role == v1alpha1.RoleUnknown {
		return waitFor(v1alpha1.AnswerRefused, "no more pods are evicted from %s for now: its agent has not reported in this boot which CNI owns its pods", s.Node)
	}
	a := d.ask(n, question{Purpose: v1alpha1.PurposeDrain, Role: role}, act)
	switch {
	case a.safe && act && len(left.Evict) > 0:
		d.act(Evict{Slot: s.NodeUID, Node: s.Node, Pods: left.Evict, Until: n.Cutover.Spec.Challenge.ExpiresAt.Time})
	case !a.safe && !a.fresh:
		return waitFor(a.reason, "no more pods are evicted from %s for now: %s", s.Node, a.message)
	}
	if left.Going == 0 && slices.Contains(notEvicted(), s.Reason) {
		return progress{reason: s.Reason, message: s.Message} // what the last attempt was told, until the next is told otherwise
	}
	if len(left.Evict) == 0 {
		return d.lookLeaving(s, left.Leaving)
	}
	return waitFor(v1alpha1.Evicting, "pods are leaving %s", s.Node)
}

// notEvicted are the reasons for which the API server did not evict a pod.
func notEvicted() []v1alpha1.Reason {
	return append(refused(), v1alpha1.EvictionBlocked, v1alpha1.EvictionRefused, v1alpha1.BudgetsOverlap)
}

// refused are the reasons for which the API server did not do what it was asked for.
func refused() []v1alpha1.Reason {
	return []v1alpha1.Reason{v1alpha1.WriteRefused, v1alpha1.PermissionMissing, v1alpha1.AdmissionRefused}
}

// lookLeaving is about pods that have all been told to go: one should be gone by now, or one may take long.
func (d *decider) lookLeaving(s *v1alpha1.Slot, pods []Leaving) progress {
	var last Leaving
	for _, p := range pods {
		if d.w.Now.After(p.Due.Add(leavingSlack)) {
			why := "its kubelet has not ended it: look at the node"
			if len(p.Finalizers) > 0 {
				why = "finalizers keep it, and whoever owns them has to remove them: " + strings.Join(p.Finalizers, ", ")
			}
			return waitFor(v1alpha1.PodStuck, "pod %s on %s should have been gone at %s; %s", p.Pod, s.Node, p.Due.UTC().Format(time.RFC3339), why)
		}
		if p.Due.After(last.Due) {
			last = p
		}
	}
	if last.Due.Sub(d.w.Now) > leavingLong {
		return waitFor(v1alpha1.Evicting, "pods are leaving %s; the grace period of %s ends at %s", s.Node, last.Pod, last.Due.UTC().Format(time.RFC3339))
	}
	return waitFor(v1alpha1.Evicting, "pods are leaving %s", s.Node)
}

func (d *decider) lookDetach(s *v1alpha1.Slot) progress {
	left, looked := d.w.Drains[s.NodeUID]
	if !looked {
		d.wakeAt(d.w.Now.Add(PollEvery))
		return stays(s, v1alpha1.VolumesAttached, "volumes of %s are looked at", s.Node)
	}
	if !left.Empty() {
		return progress{back: v1alpha1.StepDrain, reason: v1alpha1.Evicting, message: "a pod that tolerates the cordon came to " + s.Node + " after it was drained"}
	}
	volumes, looked := d.w.Volumes[s.NodeUID]
	if looked && len(volumes) == 0 {
		return done()
	}
	d.wakeAt(d.w.Now.Add(PollEvery))
	return waitFor(v1alpha1.VolumesAttached, "volumes are attached to %s: %s", s.Node, strings.Join(volumes, ", "))
}

// stays is the progress of a slot at whose node nobody has looked this time: what it waited for, if that is of its step.
func stays(s *v1alpha1.Slot, reason v1alpha1.Reason, format string, args ...any) progress {
	if row, known := stepOf(s.Step); known && slices.Contains(row.mayWaitFor(), s.Reason) {
		return progress{reason: s.Reason, message: s.Message}
	}
	return waitFor(reason, format, args...)
}
