// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// priorityMarked is the rule by which the VPC CNI sends marked packets to the main table (amazon-vpc-cni-k8s
// pkg/networkutils); it stays when aws-node goes.
const priorityMarked = 1024

// markedRule recognises the VPC CNI's rule for marked packets.
func markedRule(r facts.Rule) bool { return r.Priority == priorityMarked && r.Mark == facts.PacketMark }

// legacyResidue asks whether an Overlay node carries anything of the VPC CNI. Nothing of it was ever there on a node that
// joined behind the fence, so anything at all means that the fence was open.
func legacyResidue(s *scene) v1alpha1.Finding {
	switch s.role {
	case v1alpha1.RoleLegacy:
		return pass(v1alpha1.NotOnThisRole, "a Legacy node is the VPC CNI's")
	case v1alpha1.RoleUnknown:
		return undecided(s)
	}
	if s.f.Pods.Sight != facts.Seen {
		return unknown(v1alpha1.LegacyUnknown, "the pods of this node could not be listed: %s", s.f.Pods.Detail)
	}
	if name := legacyPod(s.f); name != "" {
		return fail(v1alpha1.LegacyRunning, "the VPC CNI's pod %s is on this node: it gives pods VPC addresses or soon will; this node is Mixed whatever its net.d says: check the fence, then replace it", name)
	}
	if s.f.Rules.Sight != facts.Seen {
		return unknown(v1alpha1.LegacyUnknown, "the rules of this host could not be read: %s", s.f.Rules.Detail)
	}
	if r, name := legacyRule(s.f); name != "" {
		return fail(v1alpha1.LegacyRules, "pod %s hangs on the VPC CNI's rule of priority %d: its packets never see the overlay's routes; this node is Mixed: replace it", name, r.Priority)
	}
	left := 0
	for _, r := range s.f.Rules.List {
		if rulePod(r).IsValid() || markedRule(r) {
			left++
		}
	}
	evidence := number("rules", left, "rules")
	if left > 0 {
		return with(warn(v1alpha1.LegacyRules, "%d rules of the VPC CNI's kind are left, of no pod that is here: aws-node ran on this node once; replace it rather than clean it", left), evidence)
	}
	return with(pass(v1alpha1.AsWanted, "no pod and no rule of the VPC CNI is here"), evidence)
}
