// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsaccount

import (
	"encoding/xml"
	"net/url"
	"slices"
	"strconv"
)

// Instance is an EC2 instance.
type Instance struct {
	ID         string            `xml:"instanceId"`
	VPC        string            `xml:"vpcId"`
	Address    string            `xml:"privateIpAddress,omitempty"`
	Metadata   *MetadataOptions  `xml:"metadataOptions"`
	Groups     []GroupIdentifier `xml:"groupSet>item"`
	Interfaces []Interface       `xml:"networkInterfaceSet>item"`
	Tags       []Tag             `xml:"tagSet>item"`
}

// InstanceType is what EC2 offers in the region. Hypervisor is nitro, xen, or empty where there is none.
type InstanceType struct {
	Name       string        `xml:"instanceType"`
	Hypervisor string        `xml:"hypervisor,omitempty"`
	BareMetal  bool          `xml:"bareMetal"`
	VCPUs      int           `xml:"vCpuInfo>defaultVCpus"`
	Addresses  int           `xml:"networkInfo>ipv4AddressesPerInterface"`
	Default    int           `xml:"networkInfo>defaultNetworkCardIndex"`
	Cards      []NetworkCard `xml:"networkInfo>networkCards>item"`
}

// NetworkCard is one of an instance type's.
type NetworkCard struct {
	Index      int `xml:"networkCardIndex"`
	Interfaces int `xml:"maximumNetworkInterfaces"`
}

// MetadataOptions are those of an instance or a launch template.
type MetadataOptions struct {
	Endpoint string `xml:"httpEndpoint,omitempty"`
	HopLimit int    `xml:"httpPutResponseHopLimit,omitempty"`
}

// GroupIdentifier names a security group.
type GroupIdentifier struct {
	ID string `xml:"groupId"`
}

// Interface is a network interface of an instance.
type Interface struct {
	Device    int               `xml:"attachment>deviceIndex"`
	Card      int               `xml:"attachment>networkCardIndex"`
	Groups    []GroupIdentifier `xml:"groupSet>item"`
	Addresses []PrivateAddress  `xml:"privateIpAddressesSet>item"`
	Prefixes  []Prefix          `xml:"ipv4PrefixSet>item"`
}

// PrivateAddress is one of an interface's.
type PrivateAddress struct {
	Address string `xml:"privateIpAddress"`
	Primary bool   `xml:"primary"`
}

// Prefix is a /28 of an interface.
type Prefix struct {
	Prefix string `xml:"ipv4Prefix"`
}

// Tag is a tag.
type Tag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

// Template is a version of a launch template.
type Template struct {
	ID      string       `xml:"launchTemplateId"`
	Number  int64        `xml:"versionNumber"`
	Default bool         `xml:"defaultVersion"`
	Data    TemplateData `xml:"launchTemplateData"`
}

// TemplateData is what instances are made by.
type TemplateData struct {
	Metadata   *MetadataOptions    `xml:"metadataOptions"`
	Groups     []string            `xml:"securityGroupIdSet>item"`
	Interfaces []TemplateInterface `xml:"networkInterfaceSet>item"`
	UserData   string              `xml:"userData,omitempty"`
}

// TemplateInterface is a network interface in a launch template.
type TemplateInterface struct {
	Device int      `xml:"deviceIndex"`
	Groups []string `xml:"groupSet>groupId"`
}

// Rule is a rule of a security group. Ports are -1 where the protocol has none.
type Rule struct {
	Group      string           `xml:"groupId"`
	Egress     bool             `xml:"isEgress"`
	Protocol   string           `xml:"ipProtocol"`
	From       int              `xml:"fromPort"`
	To         int              `xml:"toPort"`
	Network    string           `xml:"cidrIpv4,omitempty"`
	Network6   string           `xml:"cidrIpv6,omitempty"`
	PrefixList string           `xml:"prefixListId,omitempty"`
	Referenced *GroupIdentifier `xml:"referencedGroupInfo"`
}

// VPC is a VPC by its networks.
type VPC struct {
	ID       string        `xml:"vpcId"`
	Networks []Association `xml:"cidrBlockAssociationSet>item"`
}

// Association is a network of a VPC. State is associated, associating, disassociating and so on.
type Association struct {
	Network string `xml:"cidrBlock"`
	State   string `xml:"cidrBlockState>state"`
}

// RouteTable is a route table.
type RouteTable struct {
	VPC    string  `xml:"vpcId"`
	Routes []Route `xml:"routeSet>item"`
}

// Route is a route of it, through one of its last.
type Route struct {
	Network    string `xml:"destinationCidrBlock,omitempty"`
	PrefixList string `xml:"destinationPrefixListId,omitempty"`
	Gateway    string `xml:"gatewayId,omitempty"`
	NAT        string `xml:"natGatewayId,omitempty"`
	Transit    string `xml:"transitGatewayId,omitempty"`
	Peering    string `xml:"vpcPeeringConnectionId,omitempty"`
}

func (a *Account) describeInstances(form url.Values) (any, *problem) {
	f, wrong := filters(form, "instance-id", "vpc-id")
	if wrong != nil {
		return nil, wrong
	}
	found := such(a.Instances, f["instance-id"], f["instance-id"] != nil, func(i Instance) string { return i.ID })
	found = such(found, f["vpc-id"], f["vpc-id"] != nil, func(i Instance) string { return i.VPC })
	found, next := page(a, found, form.Get("NextToken"))
	type reservation struct {
		Instances []Instance `xml:"instancesSet>item"`
	}
	out := struct {
		XMLName xml.Name      `xml:"DescribeInstancesResponse"`
		All     []reservation `xml:"reservationSet>item"`
		Next    string        `xml:"nextToken,omitempty"`
	}{Next: next}
	for _, i := range found {
		out.All = append(out.All, reservation{[]Instance{i}})
	}
	return out, nil
}

func (a *Account) describeInstanceTypes(form url.Values) (any, *problem) {
	found, next, wrong := filtered(a, form, a.InstanceTypes, "instance-type", func(t InstanceType) string { return t.Name })
	if wrong != nil {
		return nil, wrong
	}
	return struct {
		XMLName xml.Name       `xml:"DescribeInstanceTypesResponse"`
		All     []InstanceType `xml:"instanceTypeSet>item"`
		Next    string         `xml:"nextToken,omitempty"`
	}{All: found, Next: next}, nil
}

func (a *Account) describeLaunchTemplateVersions(form url.Values) (any, *problem) {
	id := form.Get("LaunchTemplateId")
	var all, found []Template
	for _, t := range a.Templates {
		if t.ID == id {
			all = append(all, t)
		}
	}
	if len(all) == 0 {
		return nil, &problem{"InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID " + id + ", does not exist."}
	}
	latest := slices.MaxFunc(all, func(a, b Template) int { return int(a.Number - b.Number) }).Number
	for _, version := range list(form, "LaunchTemplateVersion") {
		at := slices.IndexFunc(all, func(t Template) bool {
			return version == strconv.FormatInt(t.Number, 10) || version == "$Latest" && t.Number == latest || version == "$Default" && t.Default
		})
		if at < 0 {
			return nil, &problem{"InvalidLaunchTemplateId.VersionNotFound", "Could not find the specified version " + version + " for the launch template with ID " + id + "."}
		}
		found = append(found, all[at])
	}
	return struct {
		XMLName xml.Name   `xml:"DescribeLaunchTemplateVersionsResponse"`
		All     []Template `xml:"launchTemplateVersionSet>item"`
	}{All: found}, nil
}

func (a *Account) describeSecurityGroupRules(form url.Values) (any, *problem) {
	found, next, wrong := filtered(a, form, a.Rules, "group-id", func(r Rule) string { return r.Group })
	if wrong != nil {
		return nil, wrong
	}
	return struct {
		XMLName xml.Name `xml:"DescribeSecurityGroupRulesResponse"`
		All     []Rule   `xml:"securityGroupRuleSet>item"`
		Next    string   `xml:"nextToken,omitempty"`
	}{All: found, Next: next}, nil
}

func (a *Account) describeVPCs(form url.Values) (any, *problem) {
	found, next, wrong := filtered(a, form, a.VPCs, "vpc-id", func(v VPC) string { return v.ID })
	if wrong != nil {
		return nil, wrong
	}
	return struct {
		XMLName xml.Name `xml:"DescribeVpcsResponse"`
		All     []VPC    `xml:"vpcSet>item"`
		Next    string   `xml:"nextToken,omitempty"`
	}{All: found, Next: next}, nil
}

func (a *Account) describeRouteTables(form url.Values) (any, *problem) {
	found, next, wrong := filtered(a, form, a.RouteTables, "vpc-id", func(t RouteTable) string { return t.VPC })
	if wrong != nil {
		return nil, wrong
	}
	return struct {
		XMLName xml.Name     `xml:"DescribeRouteTablesResponse"`
		All     []RouteTable `xml:"routeTableSet>item"`
		Next    string       `xml:"nextToken,omitempty"`
	}{All: found, Next: next}, nil
}
