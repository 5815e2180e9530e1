// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// plenty is how many pods of a node the move need not raise: EKS' own cap for nodes of less than 30 vCPUs.
const plenty = 110

// birth: what nodes of scaling groups register with. Karpenter's stand among Nodes.
func birth(s *Snapshot) []Finding {
	a := s.AWS
	if out := a.unasked("what nodes that come register with was", "ec2:DescribeInstances", "eks:ListNodegroups", "eks:DescribeNodegroup", "autoscaling:DescribeAutoScalingGroups", "ec2:DescribeLaunchTemplateVersions"); out != nil {
		return out
	}
	var out []Finding
	var bare, full []*ScalingGroup
	fence := cmp.Or(s.Network.Legacy.FenceLabel, v1alpha1.FenceLabel)
	for i := range a.ScalingGroups {
		g := &a.ScalingGroups[i]
		fenced, tainted := a.fenced(g, fence), a.tainted(g)
		templates := a.templatesOf(g)
		if fenced {
			f := fail("nodes of it are born with the fence label %s=%s, so replacements run the VPC CNI again: label Node objects alone", fence, v1alpha1.FenceValue)
			f.Objects = []string{a.object(g)}
			f.Mend = "take the label out of the node group (aws eks update-nodegroup-config --labels removeLabels=" + fence + ") and of the launch template's user data"
			out = append(out, f)
		}
		if !g.whole(templates) {
			out = append(out, a.unread(g, "what its next nodes register with"))
			continue
		}
		if doubt := troubles(templates); len(doubt) > 0 {
			if !tainted {
				f := unknown("whether its next nodes are born with startup taint %s, and with how many pods, is not known: user data was not understood", startupTaint)
				f.Objects, f.Evidence = []string{a.object(g)}, doubt
				f.Mend = fmt.Sprintf("aws ec2 describe-launch-template-versions --launch-template-id %s --versions '%s' --query 'LaunchTemplateVersions[0].LaunchTemplateData.UserData' --output text | base64 -d, and look for %s", templates[0].id(), templates[0].version(), startupTaint)
				out = append(out, f)
			}
			continue
		}
		if !tainted {
			bare = append(bare, g)
		}
		if s.asFullAsNow(g, templates) {
			full = append(full, g)
		}
	}
	out = append(out, s.bornBare(bare)...)
	out = append(out, s.bornFull(full)...)
	if len(out) > 0 {
		return out
	}
	return []Finding{pass("nodes of %s are born with startup taint %s, and with room for the overlay's pods", count(len(a.ScalingGroups), "autoscaling group"), startupTaint)}
}

// troubles are why user data was not understood.
func troubles(templates []*Template) []string {
	var out []string
	for _, t := range templates {
		if t.UserData.Trouble != "" {
			out = append(out, fmt.Sprintf("launch template %s: %s", t.Ref, t.UserData.Trouble))
		}
	}
	return out
}

// fenced says whether nodes of a group are born with the fence label.
func (a *AWS) fenced(g *ScalingGroup, label string) bool {
	n := a.nodeGroupOf(g)
	return n != nil && n.Labels[label] == v1alpha1.FenceValue ||
		slices.ContainsFunc(a.templatesOf(g), func(t *Template) bool { return t.UserData.Labels[label] == v1alpha1.FenceValue })
}

// tainted says whether all nodes of a group are surely born with the startup taint.
func (a *AWS) tainted(g *ScalingGroup) bool {
	if n := a.nodeGroupOf(g); n != nil && slices.Contains(n.Taints, startupTaint) {
		return true
	}
	templates := a.templatesOf(g)
	return g.whole(templates) && !slices.ContainsFunc(templates, func(t *Template) bool { return !slices.Contains(t.UserData.Taints, startupTaint) })
}

func (s *Snapshot) bornBare(bare []*ScalingGroup) []Finding {
	if len(bare) == 0 {
		return nil
	}
	a := s.AWS
	f := warn("nodes of %s are born without startup taint %s: pods come to them before Cilium runs there", count(len(bare), "autoscaling group"), startupTaint)
	for _, g := range bare {
		f.Objects = append(f.Objects, a.object(g))
	}
	if n := a.nodeGroupOf(bare[0]); n != nil {
		f.Mend = fmt.Sprintf("aws eks update-nodegroup-config --cluster-name %s --nodegroup-name %s --taints addOrUpdateTaints='[{key=%s,value=true,effect=NO_EXECUTE}]', once Cilium's operator runs: it takes the taint off, and until then nothing starts on nodes that join", a.Cluster, n.Name, startupTaint)
	} else {
		f.Mend = fmt.Sprintf("add --register-with-taints=%s=true:NoExecute to the kubelet's flags in the launch template's user data, once Cilium's operator runs: it takes the taint off", startupTaint)
	}
	return []Finding{f}
}

// asFullAsNow says whether nodes that come hold no more pods than those that are there: maxPods stays the figure of the network
// interfaces until user data says another.
func (s *Snapshot) asFullAsNow(g *ScalingGroup, templates []*Template) bool {
	now := s.podsOf(g)
	if now == 0 || now >= plenty {
		return false
	}
	return slices.ContainsFunc(templates, func(t *Template) bool {
		if t.UserData.MaxPods == "" {
			return true
		}
		next, err := strconv.ParseInt(t.UserData.MaxPods, 10, 64)
		return err == nil && next <= now
	})
}

// podsOf is how many pods a node of a group holds now, the most of them.
func (s *Snapshot) podsOf(g *ScalingGroup) int64 {
	in := map[string]bool{}
	for _, n := range s.AWS.instancesOf(func(n *Instance) bool { return n.ScalingGroup == g.Name }) {
		in[n.Node] = true
	}
	var most int64
	for i := range s.Nodes {
		if in[s.Nodes[i].Name] {
			most = max(most, s.Nodes[i].Pods)
		}
	}
	return most
}

func (s *Snapshot) bornFull(full []*ScalingGroup) []Finding {
	if len(full) == 0 {
		return nil
	}
	a := s.AWS
	f := warn("nodes of %s will hold no more pods than now, so the move makes no room, and the nodes would have to be replaced once more for it", count(len(full), "autoscaling group"))
	seen := map[string]bool{}
	for _, g := range full {
		f.Objects = append(f.Objects, a.object(g))
		for _, t := range a.templatesOf(g) {
			seen[fmt.Sprintf("launch template %s: maxPods %s; its nodes hold %d", t.Ref, cmp.Or(t.UserData.MaxPods, "not said"), s.podsOf(g))] = true
		}
	}
	f.Evidence = slices.Sorted(maps.Keys(seen))
	f.Mend = "kubectl cutover density says what to change in user data"
	return []Finding{f}
}
