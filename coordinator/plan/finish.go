// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// How many finished slots the ledger keeps: the last few for people, and those whose replacements could still be claimed, but
// no more than could be while as many slots as there may be are held. Each makes every write of the ledger a hundredth longer.
const (
	minFinished  = 16
	maxFinished  = 64
	clocksDiffer = time.Minute
)

// released says whether a person gave the slot back: on the NodeCutover of either node, or, if both are gone, by the
// node's name on the Cutover.
func (d *decider) released(s v1alpha1.Slot) bool {
	gone := true
	for _, uid := range []types.UID{s.NodeUID, s.ReplacementUID} {
		n, ok := d.node(uid)
		if ok && releaseAsked(n) {
			return true
		}
		gone = gone && !ok
	}
	return gone && d.w.Cutover.Annotations[v1alpha1.AnnotationRelease] == s.Node
}

func releaseAsked(n *Node) bool {
	if n.Cutover == nil {
		return false
	}
	_, ok := n.Cutover.Annotations[v1alpha1.AnnotationRelease]
	return ok
}

// finish takes a slot off the ledger and keeps what the report needs of it.
func (d *decider) finish(s v1alpha1.Slot, outcome v1alpha1.Outcome) {
	if outcome == v1alpha1.OutcomeReplaced {
		d.status.Rolled++
		d.note(s.Node, false, v1alpha1.AsWanted, "Finish", "%s has been replaced by %s", s.Node, s.Replacement)
	} else {
		d.note(s.Node, true, s.Reason, "Release", "the held slot of %s was released in %s", s.Node, s.Step)
	}
	d.status.Finished = append(d.status.Finished, v1alpha1.FinishedSlot{
		Node: s.Node, Replacement: s.Replacement, ReplacementUID: s.ReplacementUID, Zone: s.Zone, Outcome: outcome,
		GrantedAt: s.GrantedAt, FinishedAt: metav1.NewMicroTime(d.w.Now),
	})
	for len(d.status.Finished) > maxFinished || len(d.status.Finished) > minFinished && !d.claimable(&d.status.Finished[0]) {
		d.status.Finished = d.status.Finished[1:]
	}
}

// claimable says whether the replacement of a slot that has ended could be claimed by another: by one that was granted before
// that end, or by one that is granted now. The clocks of two coordinators may differ by clocksDiffer.
func (d *decider) claimable(f *v1alpha1.FinishedSlot) bool {
	ended := f.FinishedAt.Add(clocksDiffer)
	return d.w.Now.Before(ended) || slices.ContainsFunc(d.w.Cutover.Status.Slots, func(s v1alpha1.Slot) bool { return s.GrantedAt.Time.Before(ended) })
}
