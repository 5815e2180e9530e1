// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"context"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	balancing "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	balancingtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/cni-cutover/cni-cutover/preflight"
)

// networks reads what addresses the VPC has, and where its routes lead.
func (g *gatherer) networks(ctx context.Context) error {
	if g.vpc == "" {
		return nil // neither the cluster nor an instance could be read, which is noted
	}
	vpcs := ec2.NewDescribeVpcsPaginator(g.ec2, &ec2.DescribeVpcsInput{Filters: []ec2types.Filter{{Name: sdk.String("vpc-id"), Values: []string{g.vpc}}}})
	err := pages(ctx, g, "ec2:DescribeVpcs", vpcs, func(p *ec2.DescribeVpcsOutput) {
		for _, v := range p.Vpcs {
			for _, a := range v.CidrBlockAssociationSet {
				if a.CidrBlockState == nil || a.CidrBlockState.State == ec2types.VpcCidrBlockStateCodeAssociated || a.CidrBlockState.State == ec2types.VpcCidrBlockStateCodeAssociating {
					g.out.Networks = append(g.out.Networks, sdk.ToString(a.CidrBlock))
				}
			}
		}
	})
	if err != nil {
		return err
	}
	tables := ec2.NewDescribeRouteTablesPaginator(g.ec2, &ec2.DescribeRouteTablesInput{Filters: []ec2types.Filter{{Name: sdk.String("vpc-id"), Values: []string{g.vpc}}}})
	return pages(ctx, g, "ec2:DescribeRouteTables", tables, func(p *ec2.DescribeRouteTablesOutput) {
		for _, t := range p.RouteTables {
			for i := range t.Routes {
				if r, leads := route(&t.Routes[i]); leads && !slices.Contains(g.out.Routes, r) {
					g.out.Routes = append(g.out.Routes, r)
				}
			}
		}
	})
}

// route is where a route for IPv4 leads, if that is out of the VPC. An endpoint of a service (S3, DynamoDB) is not: its
// addresses are public.
func route(r *ec2types.Route) (preflight.Route, bool) {
	out := preflight.Route{Network: sdk.ToString(r.DestinationCidrBlock)}
	if out.Network == "" {
		out.Network = sdk.ToString(r.DestinationPrefixListId)
	}
	for _, via := range []*string{r.GatewayId, r.NatGatewayId, r.TransitGatewayId, r.VpcPeeringConnectionId, r.NetworkInterfaceId, r.InstanceId, r.LocalGatewayId, r.CarrierGatewayId, r.CoreNetworkArn} {
		if out.Via == "" {
			out.Via = sdk.ToString(via)
		}
	}
	if strings.HasPrefix(out.Via, "arn:") { // of a core network; an ARN names the account
		out.Via = "core-network"
	}
	return out, out.Network != "" && out.Via != "" && out.Via != "local" && !strings.HasPrefix(out.Via, "vpce-")
}

// targets reads the target groups of the VPC that hold nodes or pods of the cluster, and the load balancers that send to them.
func (g *gatherer) targets(ctx context.Context) error {
	if g.vpc == "" {
		return nil
	}
	var groups []balancingtypes.TargetGroup
	err := pages(ctx, g, "elasticloadbalancing:DescribeTargetGroups", balancing.NewDescribeTargetGroupsPaginator(g.balancing, &balancing.DescribeTargetGroupsInput{}), func(p *balancing.DescribeTargetGroupsOutput) {
		for i := range p.TargetGroups {
			if t := &p.TargetGroups[i]; sdk.ToString(t.VpcId) == g.vpc && (t.TargetType == balancingtypes.TargetTypeEnumIp || t.TargetType == balancingtypes.TargetTypeEnumInstance) {
				groups = append(groups, *t)
			}
		}
	})
	if err != nil {
		return err
	}
	nodes := map[string]string{}
	for i := range g.out.Instances {
		nodes[g.out.Instances[i].ID] = g.out.Instances[i].Node
	}
	var balancers []string
	for i := range groups {
		of, err := g.targetGroup(ctx, &groups[i], nodes)
		if err != nil {
			return err
		}
		balancers = append(balancers, of...)
	}
	slices.Sort(balancers)
	for some := range slices.Chunk(slices.Compact(balancers), balancerNames) {
		p := balancing.NewDescribeLoadBalancersPaginator(g.balancing, &balancing.DescribeLoadBalancersInput{LoadBalancerArns: some})
		err := pages(ctx, g, "elasticloadbalancing:DescribeLoadBalancers", p, func(p *balancing.DescribeLoadBalancersOutput) {
			for i := range p.LoadBalancers {
				l := &p.LoadBalancers[i]
				out := preflight.LoadBalancer{Name: sdk.ToString(l.LoadBalancerName), Type: string(l.Type), SecurityGroups: slices.Sorted(slices.Values(l.SecurityGroups))}
				g.out.LoadBalancers = append(g.out.LoadBalancers, out)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// targetGroup keeps a target group if one of its targets is of the cluster, and names the load balancers before it.
func (g *gatherer) targetGroup(ctx context.Context, t *balancingtypes.TargetGroup, nodes map[string]string) ([]string, error) {
	_, name, _ := strings.Cut(sdk.ToString(t.TargetGroupArn), ":targetgroup/")
	answer, allowed, err := ask(ctx, g, "elasticloadbalancing:DescribeTargetHealth", name, func() (*balancing.DescribeTargetHealthOutput, error) {
		answer, err := g.balancing.DescribeTargetHealth(ctx, &balancing.DescribeTargetHealthInput{TargetGroupArn: t.TargetGroupArn})
		if hasCode(err, "TargetGroupNotFound") { // it has gone meanwhile
			return &balancing.DescribeTargetHealthOutput{}, nil
		}
		return answer, err
	})
	if err != nil || !allowed {
		return nil, err
	}
	out := preflight.TargetGroup{Name: name, Type: string(t.TargetType), Protocol: string(t.Protocol)}
	ours := false
	for _, d := range answer.TargetHealthDescriptions {
		target := preflight.Target{ID: sdk.ToString(d.Target.Id), Port: sdk.ToInt32(d.Target.Port)}
		if h := d.TargetHealth; h != nil {
			target.State, target.Reason = string(h.State), sdk.ToString(h.Description)
		}
		if target.Node = nodes[target.ID]; target.Node == "" {
			o := g.ownerOf(target.ID)
			target.Node, target.Pod = o.node, o.pod
		}
		ours = ours || target.Node != ""
		out.Targets = append(out.Targets, target)
	}
	if !ours {
		return nil, nil
	}
	for _, arn := range t.LoadBalancerArns {
		out.LoadBalancers = append(out.LoadBalancers, balancerName(arn))
	}
	g.out.TargetGroups = append(g.out.TargetGroups, out)
	return t.LoadBalancerArns, nil
}

// balancerName is the name in a load balancer's ARN, ...:loadbalancer/app/<name>/<id>.
func balancerName(arn string) string {
	if parts := strings.Split(arn, "/"); len(parts) > 2 {
		return parts[len(parts)-2]
	}
	return "a load balancer"
}

// securityGroups reads the rules of all groups that came up: of nodes, of next nodes, of the control plane, of load balancers.
func (g *gatherer) securityGroups(ctx context.Context) error {
	ids := slices.Clone(g.out.ControlPlane)
	for i := range g.out.Instances {
		ids = append(ids, g.out.Instances[i].SecurityGroups...)
	}
	for i := range g.out.Templates {
		ids = append(ids, g.out.Templates[i].SecurityGroups...)
	}
	for i := range g.out.LoadBalancers {
		ids = append(ids, g.out.LoadBalancers[i].SecurityGroups...)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	rules := map[string][]preflight.Rule{}
	for some := range slices.Chunk(ids, filterValues) {
		in := &ec2.DescribeSecurityGroupRulesInput{Filters: []ec2types.Filter{{Name: sdk.String("group-id"), Values: some}}}
		err := pages(ctx, g, "ec2:DescribeSecurityGroupRules", ec2.NewDescribeSecurityGroupRulesPaginator(g.ec2, in), func(p *ec2.DescribeSecurityGroupRulesOutput) {
			for i := range p.SecurityGroupRules {
				id := sdk.ToString(p.SecurityGroupRules[i].GroupId)
				if r, is4 := rule(&p.SecurityGroupRules[i]); is4 {
					rules[id] = append(rules[id], r)
				}
			}
		})
		if err != nil {
			return err
		}
	}
	for _, id := range ids {
		g.out.SecurityGroups = append(g.out.SecurityGroups, preflight.SecurityGroup{ID: id, Rules: rules[id]})
	}
	return nil
}

// rule keeps of a rule what decides for IPv4.
func rule(from *ec2types.SecurityGroupRule) (preflight.Rule, bool) {
	out := preflight.Rule{
		Egress: sdk.ToBool(from.IsEgress), Protocol: sdk.ToString(from.IpProtocol), From: sdk.ToInt32(from.FromPort), To: sdk.ToInt32(from.ToPort),
		Network: sdk.ToString(from.CidrIpv4), PrefixList: sdk.ToString(from.PrefixListId),
	}
	if from.ReferencedGroupInfo != nil {
		out.Group = sdk.ToString(from.ReferencedGroupInfo.GroupId)
	}
	return out, out.Network != "" || out.PrefixList != "" || out.Group != ""
}
