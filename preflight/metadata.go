// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"slices"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// hopsOfPods is the hop limit at which pods reach the instance's metadata: they are one hop further away than the host.
const hopsOfPods = 2

// reach says whether pods reach the metadata.
func (m IMDS) reach() bool { return !m.NoIMDS && m.HopLimit >= hopsOfPods }

func (m IMDS) String() string {
	switch {
	case m.NoIMDS:
		return "switched off"
	case m.HopLimit == 0:
		return "hop limit not said"
	}
	return fmt.Sprintf("hop limit %d", m.HopLimit)
}

// metadata: pods that reach the instance's metadata now, and with it their credentials and region, do so on a node that comes if
// its hop limit is 2. Where they do not reach it now nothing is lost.
func metadata(s *Snapshot) []Finding {
	out := s.nodeClassMetadata()
	if s.AWS == nil {
		return append(out, Finding{Verdict: v1alpha1.VerdictNotAsked, Message: notAskedText})
	}
	a := s.AWS
	if missing := a.unasked("the hop limit of instances was", "ec2:DescribeInstances"); missing != nil {
		return append(out, missing...)
	}
	out = append(out, a.unasked("the hop limit of nodes that come was", "autoscaling:DescribeAutoScalingGroups", "ec2:DescribeLaunchTemplateVersions")...)
	reach := len(a.instancesOf(func(n *Instance) bool { return n.reach() }))
	for i := range a.ScalingGroups {
		out = append(out, s.templateMetadata(&a.ScalingGroups[i])...)
	}
	if len(out) > 0 {
		return out
	}
	return []Finding{pass("pods reach the instance's metadata on %d of %d nodes, and nothing that makes nodes takes it from them", reach, len(a.Instances))}
}

func (s *Snapshot) nodeClassMetadata() []Finding {
	if s.unseen("ec2nodeclasses.karpenter.k8s.aws") {
		return []Finding{unknown("Karpenter's EC2NodeClasses were not seen, so neither was the hop limit of their next nodes")}
	}
	var found []string
	var first *NodeClass
	for i := range s.NodeClasses {
		c := &s.NodeClasses[i]
		if c.reach() || s.AWS != nil && s.AWS.refused("ec2:DescribeInstances") == "" && !s.reachNow(func(n *Instance) bool { return n.NodeClass == c.Name }) {
			continue
		}
		if found = append(found, c.Name); first == nil {
			first = c
		}
	}
	if first == nil {
		return nil
	}
	f := warn("nodes that Karpenter makes by %s have the instance's metadata for the host network alone (%s: %s), so pods that ask it for credentials or their region lose them there", count(len(found), "EC2NodeClass", "EC2NodeClasses"), first.Name, first.IMDS)
	if s.AWS == nil {
		f.Message += "; whether they reach it now is known with --aws"
	}
	f.Objects = each("EC2NodeClass/", found)
	f.Mend = fmt.Sprintf(`kubectl patch ec2nodeclass %s --type merge -p '{"spec":{"metadataOptions":{"httpEndpoint":"enabled","httpPutResponseHopLimit":2}}}' (its nodes drift by that: budgets of 0 first)`, first.Name)
	return []Finding{f}
}

// reachNow says whether pods reach the metadata on one of some instances, or if there are none such on any.
func (s *Snapshot) reachNow(such func(*Instance) bool) bool {
	some := s.AWS.instancesOf(such)
	if len(some) == 0 {
		some = s.AWS.instancesOf(func(*Instance) bool { return true })
	}
	return slices.ContainsFunc(some, func(n *Instance) bool { return n.reach() })
}

// templateMetadata judges what one scaling group makes.
func (s *Snapshot) templateMetadata(g *ScalingGroup) []Finding {
	a := s.AWS
	if !s.reachNow(func(n *Instance) bool { return n.ScalingGroup == g.Name }) || a.refused("ec2:DescribeLaunchTemplateVersions") != "" {
		return nil
	}
	const data = `{"MetadataOptions":{"HttpEndpoint":"enabled","HttpPutResponseHopLimit":2}}`
	templates := a.templatesOf(g)
	if !g.whole(templates) {
		return []Finding{a.unread(g, "the hop limit of its next nodes")}
	}
	var lost, unsaid []string
	var at *Template
	for _, t := range templates {
		line := fmt.Sprintf("launch template %s: %s", t.Ref, t.IMDS)
		switch {
		case t.reach():
		case t.NoIMDS || t.HopLimit > 0:
			lost, at = append(lost, line), t
		default:
			unsaid = append(unsaid, line)
			if at == nil {
				at = t
			}
		}
	}
	var f Finding
	switch {
	case len(lost) > 0:
		f = warn("pods reach the instance's metadata on its nodes now, and on those that come they do not: those that ask it for credentials or their region lose them")
	case len(unsaid) > 0:
		f = unknown("pods reach the instance's metadata on its nodes now, and whether they do on those that come depends on image and account: the launch template does not say")
	default:
		return nil
	}
	f.Objects, f.Evidence, f.Mend = []string{a.object(g)}, append(lost, unsaid...), a.changeTemplate(g, at, data)
	return []Finding{f}
}

// unread is what is said of a group whose launch template is not known.
func (a *AWS) unread(g *ScalingGroup, what string) Finding {
	why := "a launch template of it is no longer there"
	if g.LaunchConfiguration != "" {
		why = "it has a launch configuration (" + g.LaunchConfiguration + "), and those are not read"
	}
	f := unknown("%s is not known: %s", what, why)
	f.Objects = []string{a.object(g)}
	f.Mend = fmt.Sprintf("aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names %s; give it a launch template", g.Name)
	return f
}
