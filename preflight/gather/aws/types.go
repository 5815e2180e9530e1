// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"context"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/time/rate"

	"github.com/cni-cutover/cni-cutover/density"
	"github.com/cni-cutover/cni-cutover/preflight"
)

// InstanceTypes asks EC2 about instance types, in the region of the nodes as their labels name it, or else in the
// configuration's. They are asked for by a filter: a type that EC2 does not know is left out, where a list of names would be
// refused as a whole. Only a question that IAM allows and that still has no answer is an error.
func InstanceTypes(ctx context.Context, config sdk.Config, regions, names []string) (density.EC2, error) {
	config, err := regional(config, regions)
	if err != nil {
		return density.EC2{}, err
	}
	g := &gatherer{
		ec2: ec2.NewFromConfig(config), out: &preflight.AWS{Region: config.Region}, tell: func(string) {},
		pace: rate.NewLimiter(requestsPerSecond, requestBurst),
	}
	out := density.EC2{Region: config.Region, Types: map[string]density.InstanceType{}}
	for some := range slices.Chunk(names, typeNames) {
		question := &ec2.DescribeInstanceTypesInput{Filters: []ec2types.Filter{{Name: sdk.String("instance-type"), Values: some}}}
		err := pages(ctx, g, "ec2:DescribeInstanceTypes", ec2.NewDescribeInstanceTypesPaginator(g.ec2, question), func(p *ec2.DescribeInstanceTypesOutput) {
			for i := range p.InstanceTypes {
				name := string(p.InstanceTypes[i].InstanceType)
				// A name with a * in it is a pattern to the filter.
				if t, whole := instanceType(&p.InstanceTypes[i]); whole && slices.Contains(some, name) {
					out.Types[name] = t
				}
			}
		})
		if err != nil {
			return density.EC2{}, err
		}
	}
	if len(g.out.Refused) > 0 {
		out.Refused = g.out.Refused[0].Action
	}
	return out, nil
}

// instanceType reads the limits of the default network card, on which pods' interfaces are, and says whether they are there
// (amazon-vpc-cni-k8s, pkg/vpc).
func instanceType(from *ec2types.InstanceTypeInfo) (density.InstanceType, bool) {
	out := density.InstanceType{Prefixes: from.Hypervisor == ec2types.InstanceTypeHypervisorNitro || sdk.ToBool(from.BareMetal)}
	if from.VCpuInfo != nil {
		out.VCPUs = int(sdk.ToInt32(from.VCpuInfo.DefaultVCpus))
	}
	n := from.NetworkInfo
	if n == nil {
		return out, false
	}
	out.Addresses = int(sdk.ToInt32(n.Ipv4AddressesPerInterface))
	for i := range n.NetworkCards {
		if sdk.ToInt32(n.NetworkCards[i].NetworkCardIndex) == sdk.ToInt32(n.DefaultNetworkCardIndex) {
			out.Interfaces = int(sdk.ToInt32(n.NetworkCards[i].MaximumNetworkInterfaces))
		}
	}
	return out, out.Interfaces > 0 && out.Addresses > 0
}
