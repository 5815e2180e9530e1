// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// lookJoin claims a node. A replacement may have been created from the moment the slot was granted: tools that replace
// nodes often start the new one before they end the old one.
func (d *decider) lookJoin(s *v1alpha1.Slot) progress {
	if s.ReplacementUID == "" {
		r, elsewhere := d.unclaimed(s)
		if r == nil {
			if elsewhere != "" {
				return waitFor(v1alpha1.ReplacementElsewhere, "%s joined, but a replacement for %s must be in zone %q and group %q", elsewhere, s.Node, s.Zone, s.Group)
			}
			return waitFor(v1alpha1.AwaitingNode, "no new node has joined in zone %q and group %q for %s", s.Zone, s.Group, s.Node)
		}
		s.Replacement, s.ReplacementUID = r.Name, r.UID
		d.claims = append(d.claims, r.UID)
		d.note(s.Node, false, v1alpha1.ReplacementNotReady, "Claim", "%s takes the place of %s", r.Name, s.Node)
	}
	r, _ := d.node(s.ReplacementUID)
	if !r.Ready {
		return waitFor(v1alpha1.ReplacementNotReady, "%s has joined and is not Ready yet", s.Replacement)
	}
	return done()
}

// unclaimed returns the oldest node that this slot may claim; or else the name of one that would do but for its place.
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
		if match == nil || n.Created.Before(match.Created) {
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
