// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// readyGrace is how long a node that has joined may take to be Ready before that is reported: most do within it, and it would
// be a ledger for nothing.
const readyGrace = 20 * time.Second

// lookJoin claims a node, once that is Ready: what the ledger says of one that is not would have to be written again. A
// replacement may have been created from the moment the slot was granted: tools that replace nodes often start the new one
// before they end the old one.
func (d *decider) lookJoin(s *v1alpha1.Slot) progress {
	if s.ReplacementUID == "" {
		r, elsewhere := d.unclaimed(s)
		if r == nil {
			if elsewhere != "" {
				return waitFor(v1alpha1.ReplacementElsewhere, "%s joined, but a replacement for %s must be in zone %q and group %q", elsewhere, s.Node, s.Zone, s.Group)
			}
			return awaitNode(s)
		}
		d.claims = append(d.claims, r.UID)
		if late := r.Created.Add(readyGrace); !r.Ready && d.w.Now.Before(late) {
			d.wakeAt(late)
			return awaitNode(s)
		}
		if !r.Ready {
			return waitFor(v1alpha1.ReplacementNotReady, "%s has joined and is not Ready yet", r.Name)
		}
		s.Replacement, s.ReplacementUID = r.Name, r.UID
		d.note(s.Node, false, v1alpha1.ReplacementNotReady, "Claim", "%s takes the place of %s", r.Name, s.Node)
	}
	if r, _ := d.node(s.ReplacementUID); !r.Ready {
		return waitFor(v1alpha1.ReplacementNotReady, "%s has joined and is not Ready yet", s.Replacement)
	}
	return done()
}

func awaitNode(s *v1alpha1.Slot) progress {
	return waitFor(v1alpha1.AwaitingNode, "no new node has taken the place of %s yet: one that is Ready, in zone %q and group %q", s.Node, s.Zone, s.Group)
}

// unclaimed returns the oldest Ready node that this slot may claim, or the oldest that is not Ready yet; or else the name of
// one that would do but for its place.
func (d *decider) unclaimed(s *v1alpha1.Slot) (match *Node, elsewhere string) {
	granted := s.GrantedAt.Truncate(time.Second) // creationTimestamps have whole seconds
	for _, n := range d.created() {
		if n.Deleting || n.Created.Before(granted) || n.UID == s.NodeUID || d.claimed(n.UID) {
			continue
		}
		// One of the very second of the grant may be older than it, and then the VPC CNI serves it. A replacement takes longer.
		if role := n.Role(); n.Created.Equal(granted) && (role == v1alpha1.RoleLegacy || role == v1alpha1.RoleMixed) {
			continue
		}
		if n.Zone != s.Zone || n.Group != s.Group {
			elsewhere = n.Name
			continue
		}
		if match == nil || n.Ready && !match.Ready || n.Ready == match.Ready && n.Created.Before(match.Created) {
			match = n
		}
	}
	return match, elsewhere
}

// claimed says whether a node is part of any slot, now or before.
func (d *decider) claimed(uid types.UID) bool {
	for _, s := range d.status.Slots {
		if s.NodeUID == uid || s.ReplacementUID == uid {
			return true
		}
	}
	if slices.Contains(d.claims, uid) {
		return true
	}
	for _, f := range d.status.Finished {
		if f.ReplacementUID == uid {
			return true
		}
	}
	return false
}
