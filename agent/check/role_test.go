// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/cniconf"
)

func TestRoleIsWhatTheHostShows(t *testing.T) {
	shared := func(f *facts.Facts) { f.Settings.Install = v1alpha1.InstallShared }
	awsNode := facts.Pod{Namespace: "kube-system", Name: "aws-node-x", HostNetwork: true, DaemonSet: "aws-node"}
	noPods := func(f *facts.Facts) { f.Pods.List = nil }
	for name, x := range map[string]struct {
		start  func() *facts.Facts
		change []func(*facts.Facts)
		want   v1alpha1.Role
	}{
		"overlay pods behind Cilium's conflist": {overlayNode, nil, v1alpha1.RoleOverlay},
		"VPC pods behind the VPC CNI's":         {legacyNode, nil, v1alpha1.RoleLegacy},
		"an overlay node on which aws-node runs": {overlayNode, []func(*facts.Facts){func(f *facts.Facts) {
			f.Pods.List = append(f.Pods.List, awsNode)
		}}, v1alpha1.RoleMixed},
		"aws-node known by its label alone": {overlayNode, []func(*facts.Facts){func(f *facts.Facts) {
			f.Pods.List = append(f.Pods.List, facts.Pod{Namespace: "kube-system", Name: "aws-node-x", App: "aws-node", HostNetwork: true})
		}}, v1alpha1.RoleMixed},
		"an aws-node pod that has ended": {overlayNode, []func(*facts.Facts){func(f *facts.Facts) {
			ended := awsNode
			ended.Finished = true
			f.Pods.List = append(f.Pods.List, ended)
		}}, v1alpha1.RoleOverlay},
		"a pod of the same name in another namespace": {overlayNode, []func(*facts.Facts){func(f *facts.Facts) {
			f.Pods.List = append(f.Pods.List, facts.Pod{Namespace: "shop", Name: "aws-node", App: "aws-node", HostNetwork: true})
		}}, v1alpha1.RoleOverlay},
		"an overlay node with one VPC pod": {overlayNode, []func(*facts.Facts){func(f *facts.Facts) {
			f.Pods.List = append(f.Pods.List, pod("c", "10.0.1.40"))
		}}, v1alpha1.RoleMixed},
		"an overlay node with a finished VPC pod": {overlayNode, []func(*facts.Facts){func(f *facts.Facts) {
			p := pod("c", "10.0.1.40")
			p.Finished = true
			f.Pods.List = append(f.Pods.List, p)
		}}, v1alpha1.RoleOverlay},
		"a legacy node with one overlay pod": {legacyNode, []func(*facts.Facts){func(f *facts.Facts) {
			f.Pods.List = append(f.Pods.List, pod("c", "10.244.1.9"))
		}}, v1alpha1.RoleMixed},
		"a legacy node on which Cilium's conflist appeared": {legacyNode, []func(*facts.Facts){func(f *facts.Facts) {
			f.ConfDir = dir("05-cilium.conflist", ciliumConf, "10-aws.conflist", awsConf)
		}}, v1alpha1.RoleMixed},
		"a legacy node that has lost aws-node": {legacyNode, []func(*facts.Facts){func(f *facts.Facts) {
			f.Pods.List = f.Pods.List[:2]
		}}, v1alpha1.RoleLegacy},
		"a legacy node whose net.d cannot be read": {legacyNode, []func(*facts.Facts){func(f *facts.Facts) {
			f.ConfDir = cniconf.Directory{Detail: "permission denied"}
		}}, v1alpha1.RoleUnknown},
		"an overlay node whose net.d cannot be read": {overlayNode, []func(*facts.Facts){func(f *facts.Facts) {
			f.ConfDir = cniconf.Directory{Detail: "permission denied"}
		}}, v1alpha1.RoleOverlay},
		"a brand-new node where Cilium wins": {overlayNode, []func(*facts.Facts){noPods}, v1alpha1.RoleOverlay},
		"a brand-new node without any conflist": {overlayNode, []func(*facts.Facts){noPods, func(f *facts.Facts) {
			f.ConfDir = dir()
		}}, v1alpha1.RoleUnknown},
		"a brand-new node with only the VPC CNI's conflist": {overlayNode, []func(*facts.Facts){noPods, func(f *facts.Facts) {
			f.ConfDir = dir("10-aws.conflist", awsConf)
		}}, v1alpha1.RoleUnknown},
		"shared: a legacy node with pods of both": {legacyNode, []func(*facts.Facts){shared, func(f *facts.Facts) {
			f.ConfDir = dir("05-cilium.conflist", ciliumConf, "10-aws.conflist", awsConf)
			f.Pods.List = append(f.Pods.List, pod("c", "10.244.1.9"))
		}}, v1alpha1.RoleLegacy},
		"shared: an overlay node":                    {overlayNode, []func(*facts.Facts){shared}, v1alpha1.RoleOverlay},
		"shared: a brand-new node where Cilium wins": {overlayNode, []func(*facts.Facts){shared, noPods}, v1alpha1.RoleOverlay},
		"shared: an old node without pods whose aws-node is restarting": {overlayNode, []func(*facts.Facts){shared, noPods, func(f *facts.Facts) {
			f.ConfDir = dir("05-cilium.conflist", ciliumConf, "10-aws.conflist", awsConf)
		}}, v1alpha1.RoleLegacy},
		"shared: an old node with overlay pods only, whose aws-node is restarting": {overlayNode, []func(*facts.Facts){shared, func(f *facts.Facts) {
			f.Rules.List = append(f.Rules.List, facts.Rule{Priority: priorityMarked, Mark: facts.PacketMark})
		}}, v1alpha1.RoleLegacy},
		"shared: a node whose VPC CNI file was put aside": {overlayNode, []func(*facts.Facts){shared, noPods, func(f *facts.Facts) {
			f.ConfDir = dir("05-cilium.conflist", ciliumConf, "10-aws.conflist.cilium_bak", awsConf)
		}}, v1alpha1.RoleLegacy},
		"a node whose pods are not known":             {overlayNode, []func(*facts.Facts){func(f *facts.Facts) { f.Pods = facts.Pods{Look: broken} }}, v1alpha1.RoleUnknown},
		"a node whose rules are not known":            {overlayNode, []func(*facts.Facts){func(f *facts.Facts) { f.Rules = facts.Rules{Look: broken} }}, v1alpha1.RoleUnknown},
		"a node of a cluster without a Cutover":       {overlayNode, []func(*facts.Facts){func(f *facts.Facts) { f.Settings = facts.Settings{} }}, v1alpha1.RoleUnknown},
		"rules of pods that are gone are not a trace": {overlayNode, []func(*facts.Facts){func(f *facts.Facts) { f.Rules.List = legacyNode().Rules.List }}, v1alpha1.RoleOverlay},
		"an ENI rule for a pod inside the overlay": {overlayNode, []func(*facts.Facts){func(f *facts.Facts) {
			f.Rules.List = append(f.Rules.List, facts.Rule{Priority: 1536, Src: cidr("10.244.1.20/32"), Table: 2})
		}}, v1alpha1.RoleMixed},
	} {
		t.Run(name, func(t *testing.T) {
			f := x.start()
			for _, change := range x.change {
				change(f)
			}
			got, why := Role(f)
			if got != x.want || why == "" {
				t.Errorf("%s because %q, want %s", got, why, x.want)
			}
		})
	}
}

func TestOnlyAKnownRoleIsJudgedByRole(t *testing.T) {
	for _, x := range Judge(overlayNode(), v1alpha1.RoleUnknown, nil) {
		byRole := slices.Contains([]v1alpha1.CheckName{v1alpha1.CheckConflist, v1alpha1.CheckPodAddresses, v1alpha1.CheckLegacyResidue}, x.Check)
		if byRole != (x.Verdict == v1alpha1.VerdictUnknown && x.Reason == v1alpha1.RoleUndecided) {
			t.Errorf("%s: %s %s", x.Check, x.Verdict, x.Reason)
		}
	}
}
