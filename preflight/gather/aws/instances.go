// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	scalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/cni-cutover/cni-cutover/preflight"
)

// The tags by which AWS and controllers say what an instance is of.
const (
	tagScalingGroup = "aws:autoscaling:groupName"
	tagNodeClass    = "karpenter.k8s.aws/ec2nodeclass"
	tagOwned        = "kubernetes.io/cluster/"
)

func clusterTags() []string {
	return []string{"aws:eks:cluster-name", "eks:cluster-name", "eks:eks-cluster-name"}
}

// instances reads the nodes' instances. They are asked for by a filter: an instance that has gone meanwhile is left out, where
// a list of ids would be refused as a whole.
func (g *gatherer) instances(ctx context.Context) error {
	nodes := map[string]string{} // by instance
	var ids []string
	for i := range g.into.Nodes {
		if id := path.Base(g.into.Nodes[i].ProviderID); strings.HasPrefix(g.into.Nodes[i].ProviderID, "aws:") && strings.HasPrefix(id, "i-") {
			nodes[id], ids = g.into.Nodes[i].Name, append(ids, id)
		}
	}
	for some := range slices.Chunk(ids, filterValues) {
		in := &ec2.DescribeInstancesInput{Filters: []ec2types.Filter{{Name: sdk.String("instance-id"), Values: some}}}
		err := pages(ctx, g, "ec2:DescribeInstances", ec2.NewDescribeInstancesPaginator(g.ec2, in), func(p *ec2.DescribeInstancesOutput) {
			for _, r := range p.Reservations {
				for i := range r.Instances {
					g.instance(&r.Instances[i], nodes[sdk.ToString(r.Instances[i].InstanceId)])
				}
			}
		})
		if err != nil {
			return err
		}
	}
	if len(ids) > 0 && len(g.out.Instances)+len(g.out.Refused) == 0 {
		return fmt.Errorf("reading the nodes' instances: none of the %d, as %s, is in %s of this account: name another account with AWS_PROFILE, or another region with AWS_REGION", len(ids), ids[0], g.out.Region)
	}
	return nil
}

func (g *gatherer) instance(from *ec2types.Instance, node string) {
	out := preflight.Instance{ID: sdk.ToString(from.InstanceId), Node: node, Address: sdk.ToString(from.PrivateIpAddress)}
	if m := from.MetadataOptions; m != nil {
		out.HopLimit = sdk.ToInt32(m.HttpPutResponseHopLimit)
		out.NoIMDS = m.HttpEndpoint == ec2types.InstanceMetadataEndpointStateDisabled
	}
	for _, t := range from.Tags {
		switch key, value := sdk.ToString(t.Key), sdk.ToString(t.Value); {
		case key == tagScalingGroup:
			out.ScalingGroup = value
		case key == tagNodeClass:
			out.NodeClass = value
		case slices.Contains(clusterTags(), key):
			g.names = append(g.names, value)
		case strings.HasPrefix(key, tagOwned):
			g.names = append(g.names, strings.TrimPrefix(key, tagOwned))
		}
	}
	groups := from.SecurityGroups
	for i := range from.NetworkInterfaces {
		n := &from.NetworkInterfaces[i]
		if n.Attachment != nil && sdk.ToInt32(n.Attachment.DeviceIndex) == 0 && sdk.ToInt32(n.Attachment.NetworkCardIndex) == 0 {
			groups = n.Groups
		}
		g.owns(node, n)
	}
	for _, s := range groups {
		out.SecurityGroups = append(out.SecurityGroups, sdk.ToString(s.GroupId))
	}
	slices.Sort(out.SecurityGroups)
	if g.vpc == "" {
		g.vpc = sdk.ToString(from.VpcId)
	}
	g.out.Instances = append(g.out.Instances, out)
}

// owns notes the addresses of a node's interface. All but the first are pods' (EKS Best Practices, "Amazon VPC CNI").
func (g *gatherer) owns(node string, n *ec2types.InstanceNetworkInterface) {
	for _, a := range n.PrivateIpAddresses {
		if address, err := netip.ParseAddr(sdk.ToString(a.PrivateIpAddress)); err == nil {
			g.addresses[address] = owner{node, !sdk.ToBool(a.Primary)}
		}
	}
	for _, p := range n.Ipv4Prefixes {
		if prefix, err := netip.ParsePrefix(sdk.ToString(p.Ipv4Prefix)); err == nil {
			g.prefixes[prefix] = node
		}
	}
}

// prefixBits is the length of the prefixes that interfaces get (EC2 user guide, "Prefix delegation").
const prefixBits = 28

// ownerOf is on whose interface an address is.
func (g *gatherer) ownerOf(text string) owner {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return owner{}
	}
	if o, known := g.addresses[address]; known {
		return o
	}
	if prefix, err := address.Prefix(prefixBits); err == nil && g.prefixes[prefix] != "" {
		return owner{g.prefixes[prefix], true}
	}
	return owner{}
}

// scalingGroups reads those that made nodes, and those of node groups without any.
func (g *gatherer) scalingGroups(ctx context.Context) error {
	var names []string
	for i := range g.out.Instances {
		names = append(names, g.out.Instances[i].ScalingGroup)
	}
	for i := range g.out.NodeGroups {
		names = append(names, g.out.NodeGroups[i].ScalingGroups...)
	}
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == "" })
	for some := range slices.Chunk(names, scalingNames) {
		in := &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: some}
		err := pages(ctx, g, "autoscaling:DescribeAutoScalingGroups", autoscaling.NewDescribeAutoScalingGroupsPaginator(g.scaling, in), func(p *autoscaling.DescribeAutoScalingGroupsOutput) {
			for i := range p.AutoScalingGroups {
				g.out.ScalingGroups = append(g.out.ScalingGroups, scalingGroup(&p.AutoScalingGroups[i]))
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func scalingGroup(from *scalingtypes.AutoScalingGroup) preflight.ScalingGroup {
	out := preflight.ScalingGroup{
		Name: sdk.ToString(from.AutoScalingGroupName), Max: sdk.ToInt32(from.MaxSize), Desired: sdk.ToInt32(from.DesiredCapacity),
		Zones: from.AvailabilityZones, LaunchConfiguration: sdk.ToString(from.LaunchConfigurationName),
	}
	for _, s := range from.SuspendedProcesses {
		out.Suspended = append(out.Suspended, sdk.ToString(s.ProcessName))
	}
	slices.Sort(out.Suspended)
	add := func(t *scalingtypes.LaunchTemplateSpecification) {
		if t == nil {
			return
		}
		version := sdk.ToString(t.Version)
		if version == "" {
			version = "$Default"
		}
		if ref := sdk.ToString(t.LaunchTemplateId) + ":" + version; !slices.Contains(out.Templates, ref) {
			out.Templates = append(out.Templates, ref)
		}
	}
	add(from.LaunchTemplate)
	if m := from.MixedInstancesPolicy; m != nil && m.LaunchTemplate != nil {
		add(m.LaunchTemplate.LaunchTemplateSpecification)
		for i := range m.LaunchTemplate.Overrides {
			add(m.LaunchTemplate.Overrides[i].LaunchTemplateSpecification)
		}
	}
	return out
}

// templates reads the versions of launch templates that scaling groups make nodes by. One that is gone is left out.
func (g *gatherer) templates(ctx context.Context) error {
	var refs []string
	for i := range g.out.ScalingGroups {
		refs = append(refs, g.out.ScalingGroups[i].Templates...)
	}
	slices.Sort(refs)
	for _, ref := range slices.Compact(refs) {
		id, version, _ := strings.Cut(ref, ":")
		in := &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &id, Versions: []string{version}}
		answer, allowed, err := ask(ctx, g, "ec2:DescribeLaunchTemplateVersions", ref, func() (*ec2.DescribeLaunchTemplateVersionsOutput, error) {
			answer, err := g.ec2.DescribeLaunchTemplateVersions(ctx, in)
			if hasCode(err, "InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateId.VersionNotFound") {
				return &ec2.DescribeLaunchTemplateVersionsOutput{}, nil
			}
			return answer, err
		})
		if err != nil {
			return err
		}
		if !allowed {
			continue
		}
		for i := range answer.LaunchTemplateVersions {
			g.out.Templates = append(g.out.Templates, template(ref, &answer.LaunchTemplateVersions[i]))
		}
	}
	return nil
}

func template(ref string, from *ec2types.LaunchTemplateVersion) preflight.Template {
	out := preflight.Template{Ref: ref, Number: sdk.ToInt64(from.VersionNumber)}
	data := from.LaunchTemplateData
	if data == nil {
		out.UserData = readUserData("")
		return out
	}
	if m := data.MetadataOptions; m != nil {
		out.HopLimit = sdk.ToInt32(m.HttpPutResponseHopLimit)
		out.NoIMDS = m.HttpEndpoint == ec2types.LaunchTemplateInstanceMetadataEndpointStateDisabled
	}
	out.SecurityGroups = slices.Clone(data.SecurityGroupIds)
	for _, n := range data.NetworkInterfaces {
		if sdk.ToInt32(n.DeviceIndex) == 0 && sdk.ToInt32(n.NetworkCardIndex) == 0 {
			out.SecurityGroups = append(out.SecurityGroups, n.Groups...)
		}
	}
	slices.Sort(out.SecurityGroups)
	out.UserData = readUserData(sdk.ToString(data.UserData))
	return out
}
