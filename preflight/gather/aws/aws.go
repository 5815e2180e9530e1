// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package aws adds to a snapshot of a cluster what stands at AWS: instances and what makes them, security groups, networks,
// add-ons and targets. It only reads, page by page and at a bounded rate. What IAM does not allow is noted in the snapshot, by the
// action's name, and goes on without. Accounts, credentials and user data do not get into the snapshot; of user data what was
// found in it does. InstanceTypes asks EC2 in the same way, for density.
package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	balancing "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/smithy-go"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"

	"github.com/cni-cutover/cni-cutover/preflight"
)

// Limits of a person's command: an account's rate of requests is shared with the controllers of its clusters.
const (
	requestsPerSecond = 10
	requestBurst      = 20
)

// batch is how many names one question holds. EC2 takes 200 values of a filter, and answers with 100 instance types at most;
// autoscaling takes 100 names, load balancing 20.
const (
	filterValues  = 200
	typeNames     = 100
	scalingNames  = 50
	balancerNames = 20
)

// denials are the codes by which AWS' services say that IAM does not allow an action.
func denials() []string {
	return []string{"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"}
}

type gatherer struct {
	ec2       *ec2.Client
	eks       *eks.Client
	scaling   *autoscaling.Client
	balancing *balancing.Client
	into      *preflight.Snapshot
	out       *preflight.AWS
	tell      func(string)
	pace      *rate.Limiter

	// vpc is the cluster's.
	vpc string
	// names are what tags of instances call the cluster.
	names []string
	// addresses of nodes' interfaces, and the prefixes that their pods have addresses of.
	addresses map[netip.Addr]owner
	prefixes  map[netip.Prefix]string
}

// owner is the node on whose interface an address is. Pod: the address is not an interface's first.
type owner struct {
	node string
	pod  bool
}

// Account fills the part of a snapshot of a cluster that AWS knows. The region is that of the nodes, if they have one; name is
// EKS' name of the cluster, and is found by the nodes if it is empty. Only a question that IAM allows and that still has no
// answer is an error, and nodes that are none of the account's.
func Account(ctx context.Context, config sdk.Config, name string, into *preflight.Snapshot, tell func(string)) error {
	var regions []string
	for i := range into.Nodes {
		regions = append(regions, into.Nodes[i].Labels[corev1.LabelTopologyRegion])
	}
	config, err := regional(config, regions)
	if err != nil {
		return err
	}
	g := &gatherer{
		ec2: ec2.NewFromConfig(config), eks: eks.NewFromConfig(config), scaling: autoscaling.NewFromConfig(config), balancing: balancing.NewFromConfig(config),
		into: into, out: &preflight.AWS{Region: config.Region}, tell: tell, pace: rate.NewLimiter(requestsPerSecond, requestBurst),
		addresses: map[netip.Addr]owner{}, prefixes: map[netip.Prefix]string{},
	}
	if err := g.instances(ctx); err != nil {
		return err
	}
	if err := g.called(name); err != nil {
		return err
	}
	for _, read := range []func(context.Context) error{g.cluster, g.addOns, g.nodeGroups, g.scalingGroups, g.templates, g.networks, g.targets, g.securityGroups} {
		if err := read(ctx); err != nil {
			return err
		}
	}
	into.AWS = g.out
	return nil
}

// regional is a configuration for the one region that all nodes with a region are in, or else for its own.
func regional(config sdk.Config, regions []string) (sdk.Config, error) {
	regions = slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(regions))), func(r string) bool { return r == "" })
	config = config.Copy()
	if len(regions) == 1 {
		config.Region = regions[0]
	}
	if config.Region == "" {
		return config, errors.New("finding the region: neither nodes nor AWS_REGION nor the profile name one")
	}
	return config, nil
}

// called decides what EKS calls the cluster.
func (g *gatherer) called(name string) error {
	if name != "" {
		g.out.Cluster = name
		return nil
	}
	names := g.names
	for i := range g.into.Nodes {
		names = append(names, g.into.Nodes[i].Labels["alpha.eksctl.io/cluster-name"])
	}
	names = append(names, g.into.Network.Legacy.Cluster)
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == "" })
	if len(names) != 1 {
		return fmt.Errorf("finding EKS' name of the cluster: aws-node and the nodes' labels and tags name %d (%s); give it with --cluster-name", len(names), strings.Join(names, ", "))
	}
	g.out.Cluster = names[0]
	return nil
}

// ask asks AWS one question, and says whether IAM allows it.
func ask[T any](ctx context.Context, g *gatherer, action, of string, call func() (T, error)) (answer T, allowed bool, err error) {
	g.tell(action)
	var none T
	if err := g.pace.Wait(ctx); err != nil {
		return none, false, fmt.Errorf("waiting to ask AWS for %s: %w", action, err)
	}
	answer, err = call()
	if err == nil {
		return answer, true, nil
	}
	if hasCode(err, denials()...) {
		r := preflight.Refused{Action: action, Of: of}
		if !slices.Contains(g.out.Refused, r) {
			g.out.Refused = append(g.out.Refused, r)
		}
		return none, false, nil
	}
	return none, false, fmt.Errorf("asking AWS for %s in %s: %w", action, g.out.Region, err)
}

// hasCode says whether a service answered with one of these codes.
func hasCode(err error, codes ...string) bool {
	var said smithy.APIError
	return errors.As(err, &said) && slices.Contains(codes, said.ErrorCode())
}

// pager is a paginator of the SDK's.
type pager[T, O any] interface {
	HasMorePages() bool
	NextPage(ctx context.Context, options ...func(*O)) (T, error)
}

// pages asks for all pages of an answer.
func pages[T, O any](ctx context.Context, g *gatherer, action string, p pager[T, O], see func(T)) error {
	for p.HasMorePages() {
		page, allowed, err := ask(ctx, g, action, "", func() (T, error) { return p.NextPage(ctx) })
		if err != nil || !allowed {
			return err
		}
		see(page)
	}
	return nil
}

// cluster reads EKS' own view of the cluster. A kubeconfig that asks another endpoint of EKS is for another cluster.
func (g *gatherer) cluster(ctx context.Context) error {
	name := g.out.Cluster
	answer, allowed, err := ask(ctx, g, "eks:DescribeCluster", "", func() (*eks.DescribeClusterOutput, error) {
		return g.eks.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: &name})
	})
	if err != nil || !allowed {
		return err
	}
	c := answer.Cluster
	asked, here := host(g.into.Server), host(sdk.ToString(c.Endpoint))
	if asked != here && strings.HasSuffix(asked, ".eks.amazonaws.com") {
		return fmt.Errorf("reading cluster %s in %s: its endpoint is %s, and the kubeconfig's is %s: name the cluster with --cluster-name, and its region and account with AWS_REGION and AWS_PROFILE", name, g.out.Region, here, asked)
	}
	if v := c.ResourcesVpcConfig; v != nil {
		g.vpc = cmp.Or(g.vpc, sdk.ToString(v.VpcId)) // that of the nodes, if there are any
		g.out.ControlPlane = slices.Clone(v.SecurityGroupIds)
		if id := sdk.ToString(v.ClusterSecurityGroupId); id != "" {
			g.out.ControlPlane = append(g.out.ControlPlane, id)
		}
		slices.Sort(g.out.ControlPlane)
	}
	return nil
}

// host is that of a URL, in small letters; empty: it is no URL.
func host(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// addOns reads who owns the VPC CNI and kube-proxy.
func (g *gatherer) addOns(ctx context.Context) error {
	for _, name := range []string{"vpc-cni", "kube-proxy"} {
		answer, allowed, err := ask(ctx, g, "eks:DescribeAddon", name, func() (*eks.DescribeAddonOutput, error) {
			answer, err := g.eks.DescribeAddon(ctx, &eks.DescribeAddonInput{ClusterName: &g.out.Cluster, AddonName: &name})
			if hasCode(err, "ResourceNotFoundException") {
				return nil, nil
			}
			return answer, err
		})
		if err != nil {
			return err
		}
		if !allowed {
			continue
		}
		out := preflight.AddOn{Name: name, Managed: answer != nil}
		if answer != nil {
			a := answer.Addon
			out.Version, out.Status = sdk.ToString(a.AddonVersion), string(a.Status)
			if a.Health != nil {
				for _, issue := range a.Health.Issues {
					out.Issues = append(out.Issues, string(issue.Code)+": "+sdk.ToString(issue.Message))
				}
			}
			if name == "vpc-cni" {
				out.Configuration = sdk.ToString(a.ConfigurationValues)
			}
		}
		g.out.AddOns = append(g.out.AddOns, out)
	}
	return nil
}

// nodeGroups reads the managed node groups.
func (g *gatherer) nodeGroups(ctx context.Context) error {
	var names []string
	err := pages(ctx, g, "eks:ListNodegroups", eks.NewListNodegroupsPaginator(g.eks, &eks.ListNodegroupsInput{ClusterName: &g.out.Cluster}), func(p *eks.ListNodegroupsOutput) {
		names = append(names, p.Nodegroups...)
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		answer, allowed, err := ask(ctx, g, "eks:DescribeNodegroup", name, func() (*eks.DescribeNodegroupOutput, error) {
			answer, err := g.eks.DescribeNodegroup(ctx, &eks.DescribeNodegroupInput{ClusterName: &g.out.Cluster, NodegroupName: &name})
			if hasCode(err, "ResourceNotFoundException") { // it has gone meanwhile
				return nil, nil
			}
			return answer, err
		})
		if err != nil {
			return err
		}
		if !allowed || answer == nil {
			continue
		}
		n := answer.Nodegroup
		out := preflight.NodeGroup{Name: name, Status: string(n.Status), Labels: n.Labels, Repair: n.NodeRepairConfig != nil && sdk.ToBool(n.NodeRepairConfig.Enabled)}
		if n.LaunchTemplate != nil {
			out.Template = sdk.ToString(n.LaunchTemplate.Id)
		}
		if n.Resources != nil {
			for _, a := range n.Resources.AutoScalingGroups {
				out.ScalingGroups = append(out.ScalingGroups, sdk.ToString(a.Name))
			}
		}
		for _, t := range n.Taints {
			out.Taints = append(out.Taints, sdk.ToString(t.Key))
		}
		g.out.NodeGroups = append(g.out.NodeGroups, out)
	}
	return nil
}
