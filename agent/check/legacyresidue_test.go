// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func TestLegacyResidue(t *testing.T) {
	rule := func(r facts.Rule) func(*facts.Facts) {
		return func(f *facts.Facts) { f.Rules.List = append(f.Rules.List, r) }
	}
	tell(t, v1alpha1.CheckLegacyResidue, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"as it should be":      {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"aws-node runs":        {addPod(facts.Pod{Namespace: "kube-system", Name: "aws-node-x", DaemonSet: "aws-node", HostNetwork: true}), v1alpha1.VerdictFail, v1alpha1.LegacyRunning},
		"a pod on an ENI":      {rule(facts.Rule{Priority: 1536, Src: cidr("10.244.1.20/32"), Table: 2}), v1alpha1.VerdictFail, v1alpha1.LegacyRules},
		"a rule to a pod":      {rule(facts.Rule{Priority: 512, Dst: cidr("10.244.1.20/32"), Table: 254}), v1alpha1.VerdictFail, v1alpha1.LegacyRules},
		"a rule of a lost pod": {rule(facts.Rule{Priority: 512, Dst: cidr("10.0.1.77/32"), Table: 254}), v1alpha1.VerdictWarn, v1alpha1.LegacyRules},
		"the rule for marks":   {rule(facts.Rule{Priority: 1024, Mark: 0x80, Table: 254}), v1alpha1.VerdictWarn, v1alpha1.LegacyRules},
		"somebody's 512":       {rule(facts.Rule{Priority: 512, Dst: cidr("192.168.0.0/16"), Table: 254}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"pods not known":       {func(f *facts.Facts) { f.Pods = facts.Pods{Look: broken} }, v1alpha1.VerdictUnknown, v1alpha1.LegacyUnknown},
		"rules not known":      {func(f *facts.Facts) { f.Rules = facts.Rules{Look: broken} }, v1alpha1.VerdictUnknown, v1alpha1.LegacyUnknown},
	})
	tell(t, v1alpha1.CheckLegacyResidue, v1alpha1.RoleLegacy, legacyNode, map[string]tale{
		"is not asked of a Legacy node": {nil, v1alpha1.VerdictPass, v1alpha1.NotOnThisRole},
	})
	tell(t, v1alpha1.CheckLegacyResidue, v1alpha1.RoleMixed, legacyNode, map[string]tale{
		"is asked of a Mixed node": {nil, v1alpha1.VerdictFail, v1alpha1.LegacyRunning},
	})
}
