// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsaccount

import (
	"encoding/xml"
	"net/url"
	"slices"
)

// ScalingGroup is an autoscaling group.
type ScalingGroup struct {
	Name      string             `xml:"AutoScalingGroupName"`
	Min       int                `xml:"MinSize"`
	Max       int                `xml:"MaxSize"`
	Desired   int                `xml:"DesiredCapacity"`
	Zones     []string           `xml:"AvailabilityZones>member"`
	Suspended []SuspendedProcess `xml:"SuspendedProcesses>member"`
	// One of these three says what its instances are made by.
	Template            *TemplateSpec `xml:"LaunchTemplate"`
	Mixed               *Mixed        `xml:"MixedInstancesPolicy>LaunchTemplate"`
	LaunchConfiguration string        `xml:"LaunchConfigurationName,omitempty"`
}

// SuspendedProcess is one that a group does not carry out.
type SuspendedProcess struct {
	Name string `xml:"ProcessName"`
}

// TemplateSpec names a version of a launch template.
type TemplateSpec struct {
	ID      string `xml:"LaunchTemplateId"`
	Version string `xml:"Version,omitempty"`
}

// Mixed is a mixed instances policy.
type Mixed struct {
	Template  TemplateSpec `xml:"LaunchTemplateSpecification"`
	Overrides []Override   `xml:"Overrides>member"`
}

// Override is for some instance types.
type Override struct {
	Type     string        `xml:"InstanceType"`
	Template *TemplateSpec `xml:"LaunchTemplateSpecification"`
}

// TargetGroup is a target group.
type TargetGroup struct {
	ARN           string         `xml:"TargetGroupArn"`
	Type          string         `xml:"TargetType"`
	Protocol      string         `xml:"Protocol"`
	VPC           string         `xml:"VpcId"`
	LoadBalancers []string       `xml:"LoadBalancerArns>member"`
	Targets       []TargetHealth `xml:"-"`
}

// TargetHealth is a target as its health checks see it. States come one after the other, each time that it is asked for; the
// last one stays.
type TargetHealth struct {
	ID          string
	Port        int
	States      []string
	Description string
}

// LoadBalancer is an application or network load balancer.
type LoadBalancer struct {
	ARN    string   `xml:"LoadBalancerArn"`
	Name   string   `xml:"LoadBalancerName"`
	Type   string   `xml:"Type"`
	Groups []string `xml:"SecurityGroups>member"`
}

func (a *Account) describeAutoScalingGroups(form url.Values) (any, *problem) {
	names := list(form, "AutoScalingGroupNames.member")
	found, next := page(a, such(a.ScalingGroups, names, len(names) > 0, func(g ScalingGroup) string { return g.Name }), form.Get("NextToken"))
	return struct {
		XMLName xml.Name       `xml:"DescribeAutoScalingGroupsResult"`
		All     []ScalingGroup `xml:"AutoScalingGroups>member"`
		Next    string         `xml:"NextToken,omitempty"`
	}{All: found, Next: next}, nil
}

func (a *Account) describeTargetGroups(form url.Values) (any, *problem) {
	found, next := page(a, a.TargetGroups, form.Get("Marker"))
	return struct {
		XMLName xml.Name      `xml:"DescribeTargetGroupsResult"`
		All     []TargetGroup `xml:"TargetGroups>member"`
		Next    string        `xml:"NextMarker,omitempty"`
	}{All: found, Next: next}, nil
}

func (a *Account) describeTargetHealth(form url.Values) (any, *problem) {
	arn := form.Get("TargetGroupArn")
	at := slices.IndexFunc(a.TargetGroups, func(t TargetGroup) bool { return t.ARN == arn })
	if at < 0 {
		return nil, &problem{"TargetGroupNotFound", "Target groups '" + arn + "' not found"}
	}
	type description struct {
		ID          string `xml:"Target>Id"`
		Port        int    `xml:"Target>Port"`
		State       string `xml:"TargetHealth>State"`
		Description string `xml:"TargetHealth>Description,omitempty"`
	}
	out := struct {
		XMLName xml.Name      `xml:"DescribeTargetHealthResult"`
		All     []description `xml:"TargetHealthDescriptions>member"`
	}{}
	targets := a.TargetGroups[at].Targets
	for i := range targets {
		t := &targets[i]
		out.All = append(out.All, description{t.ID, t.Port, t.States[0], t.Description})
		if len(t.States) > 1 {
			t.States = t.States[1:]
		}
	}
	return out, nil
}

func (a *Account) describeLoadBalancers(form url.Values) (any, *problem) {
	arns := list(form, "LoadBalancerArns.member")
	if len(arns) > 20 {
		return nil, &problem{"ValidationError", "at most 20 load balancers can be named"}
	}
	for _, arn := range arns {
		if !slices.ContainsFunc(a.LoadBalancers, func(l LoadBalancer) bool { return l.ARN == arn }) {
			return nil, &problem{"LoadBalancerNotFound", "Load balancers '" + arn + "' not found"}
		}
	}
	found, next := page(a, such(a.LoadBalancers, arns, len(arns) > 0, func(l LoadBalancer) string { return l.ARN }), form.Get("Marker"))
	return struct {
		XMLName xml.Name       `xml:"DescribeLoadBalancersResult"`
		All     []LoadBalancer `xml:"LoadBalancers>member"`
		Next    string         `xml:"NextMarker,omitempty"`
	}{All: found, Next: next}, nil
}
