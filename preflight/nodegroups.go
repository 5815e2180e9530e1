// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"slices"
	"strings"
)

// nodeGroups: do the groups that make nodes let replacements come, and does EKS leave their nodes to the roll.
func nodeGroups(s *Snapshot) []Finding {
	a := s.AWS
	if out := a.unasked("autoscaling groups were", "autoscaling:DescribeAutoScalingGroups"); out != nil {
		return out
	}
	// Without instances or node groups some autoscaling groups are not known by name.
	out := a.unasked("all autoscaling groups, and what EKS does with their nodes, were", "ec2:DescribeInstances", "eks:ListNodegroups", "eks:DescribeNodegroup")
	rolled, err := s.rolled()
	if err != nil {
		return append(out, unknown("which nodes the roll takes is not known: %v", err))
	}
	judged := 0
	var spread []*ScalingGroup
	for i := range a.ScalingGroups {
		g := &a.ScalingGroups[i]
		n := len(a.instancesOf(func(n *Instance) bool { return n.ScalingGroup == g.Name && rolled[n.Node] }))
		if n == 0 {
			continue
		}
		judged++
		out = append(out, s.suspended(g)...)
		out = append(out, s.tooSmall(g, n)...)
		if len(g.Zones) > 1 && !slices.Contains(g.Suspended, "AZRebalance") {
			spread = append(spread, g)
		}
	}
	out = append(out, s.rebalanced(spread)...)
	out = append(out, s.tended()...)
	if len(out) > 0 {
		return out
	}
	return []Finding{pass("replacements can come in %s whose nodes the roll takes", count(judged, "autoscaling group"))}
}

// suspended: a group in which processes are suspended does not do what the roll counts on (Auto Scaling user guide, "Suspend and
// resume processes").
func (s *Snapshot) suspended(g *ScalingGroup) []Finding {
	var out []Finding
	resume := "aws autoscaling resume-processes --auto-scaling-group-name " + g.Name + " --scaling-processes "
	if slices.Contains(g.Suspended, "Launch") {
		f := fail("process Launch is suspended in it, so no replacement comes for a node that ends")
		f.Objects, f.Mend = []string{s.AWS.object(g)}, resume+"Launch"
		out = append(out, f)
	}
	var others []string
	for _, p := range []string{"Terminate", "HealthCheck", "ReplaceUnhealthy", "AddToLoadBalancer"} {
		if slices.Contains(g.Suspended, p) {
			others = append(others, p)
		}
	}
	if len(others) > 0 {
		f := warn("processes are suspended in it (%s): an instance that ends otherwise than through the group, or that is broken, may not be replaced", strings.Join(others, ", "))
		f.Objects, f.Mend = []string{s.AWS.object(g)}, resume+strings.Join(others, " ")
		out = append(out, f)
	}
	return out
}

// tooSmall: with surge a node joins before an old one leaves, as many as there are slots, and a group makes no more than its
// maximum.
func (s *Snapshot) tooSmall(g *ScalingGroup, nodes int) []Finding {
	need := g.Desired + int32(min(nodes, max(s.Joining, 1)))
	if !s.Rollout.Surge || need <= g.Max {
		return nil
	}
	f := fail("it has at most %d nodes and wants %d now: with surge a roll needs %d of them at once", g.Max, g.Desired, need)
	f.Objects = []string{s.AWS.object(g)}
	f.Mend = fmt.Sprintf("aws autoscaling update-auto-scaling-group --auto-scaling-group-name %s --max-size %d", g.Name, need)
	if n := s.AWS.nodeGroupOf(g); n != nil {
		f.Mend = fmt.Sprintf("aws eks update-nodegroup-config --cluster-name %s --nodegroup-name %s --scaling-config maxSize=%d", s.AWS.Cluster, n.Name, need)
	}
	return []Finding{f}
}

// rebalanced: a group that evens out its zones ends nodes of its own will, and EKS' drain then goes on without budgets after 15
// minutes (EKS user guide, "Managed node groups").
func (s *Snapshot) rebalanced(found []*ScalingGroup) []Finding {
	if len(found) == 0 {
		return nil
	}
	f := warn("%s over several zones and may even them out by ending nodes during the roll, without a slot; a replacement may also come up in another zone", count(len(found), "autoscaling group is spread", "autoscaling groups are spread"))
	for _, g := range found {
		f.Objects = append(f.Objects, s.AWS.object(g))
	}
	f.Mend = fmt.Sprintf("aws autoscaling suspend-processes --auto-scaling-group-name %s --scaling-processes AZRebalance, so for each of them, and resume-processes after the roll", found[0].Name)
	return []Finding{f}
}

// tended are node groups whose nodes EKS replaces by itself, or is about to change.
func (s *Snapshot) tended() []Finding {
	var out []Finding
	var repaired []string
	for i := range s.AWS.NodeGroups {
		n := &s.AWS.NodeGroups[i]
		if n.Repair {
			repaired = append(repaired, n.Name)
		}
		if n.Status != "ACTIVE" {
			f := warn("its status is %s: EKS may replace its nodes, or does not manage to make any", n.Status)
			f.Objects = []string{"NodeGroup/" + n.Name}
			f.Mend = fmt.Sprintf("aws eks describe-nodegroup --cluster-name %s --nodegroup-name %s --query nodegroup.health, and wait until it is ACTIVE", s.AWS.Cluster, n.Name)
			out = append(out, f)
		}
	}
	if len(repaired) > 0 {
		f := warn("auto-repair is on in %s: EKS replaces nodes that it takes for broken, as those on which aws-node is gone, without a slot", count(len(repaired), "node group"))
		f.Objects = each("NodeGroup/", repaired)
		f.Mend = fmt.Sprintf("aws eks update-nodegroup-config --cluster-name %s --nodegroup-name %s --node-repair-config enabled=false, and back after the roll", s.AWS.Cluster, repaired[0])
		out = append(out, f)
	}
	return out
}
