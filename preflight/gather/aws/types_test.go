// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/cni-cutover/cni-cutover/density"
	"github.com/cni-cutover/cni-cutover/internal/awsaccount"
)

// nitro is an instance type with one network card.
func nitro(name string, vcpus, interfaces, addresses int) awsaccount.InstanceType {
	return awsaccount.InstanceType{Name: name, Hypervisor: "nitro", VCPUs: vcpus, Addresses: addresses, Cards: []awsaccount.NetworkCard{{Interfaces: interfaces}}}
}

// offered are instance types as EC2 describes them; moto has the same (TestOurInstanceTypesAreMotos).
func offered() []awsaccount.InstanceType {
	return []awsaccount.InstanceType{
		nitro("t3.small", 2, 3, 4), nitro("t3.medium", 2, 3, 6), nitro("t3.large", 2, 3, 12), nitro("m5.4xlarge", 16, 8, 30),
		{Name: "t2.micro", Hypervisor: "xen", VCPUs: 1, Addresses: 2, Cards: []awsaccount.NetworkCard{{Interfaces: 2}}},
		{Name: "m5.metal", BareMetal: true, VCPUs: 96, Addresses: 50, Cards: []awsaccount.NetworkCard{{Interfaces: 15}}},
		{Name: "p4d.24xlarge", Hypervisor: "nitro", VCPUs: 96, Addresses: 50, Cards: []awsaccount.NetworkCard{{Index: 0, Interfaces: 15}, {Index: 1, Interfaces: 15}, {Index: 2, Interfaces: 15}, {Index: 3, Interfaces: 15}}},
	}
}

// asked are their names, and those of types that do not exist.
func asked() []string {
	return []string{"t3.small", "t3.medium", "t3.large", "m5.4xlarge", "t2.micro", "m5.metal", "p4d.24xlarge", "m99.large", "t3.*"}
}

func typesOf(t *testing.T, config sdk.Config, names ...string) density.EC2 {
	t.Helper()
	e, err := InstanceTypes(t.Context(), config, nil, names)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestEC2KnowsInstanceTypes, whether answers come whole, in pages or after they were throttled.
func TestEC2KnowsInstanceTypes(t *testing.T) {
	want := density.EC2{Region: awsaccount.Region, Types: map[string]density.InstanceType{
		"t3.small":     {Limits: density.Limits{Interfaces: 3, Addresses: 4}, VCPUs: 2, Prefixes: true},
		"t3.medium":    {Limits: density.Limits{Interfaces: 3, Addresses: 6}, VCPUs: 2, Prefixes: true},
		"t3.large":     {Limits: density.Limits{Interfaces: 3, Addresses: 12}, VCPUs: 2, Prefixes: true},
		"m5.4xlarge":   {Limits: density.Limits{Interfaces: 8, Addresses: 30}, VCPUs: 16, Prefixes: true},
		"t2.micro":     {Limits: density.Limits{Interfaces: 2, Addresses: 2}, VCPUs: 1},
		"m5.metal":     {Limits: density.Limits{Interfaces: 15, Addresses: 50}, VCPUs: 96, Prefixes: true},
		"p4d.24xlarge": {Limits: density.Limits{Interfaces: 15, Addresses: 50}, VCPUs: 96, Prefixes: true},
	}}
	for name, change := range map[string]func(*awsaccount.Account){
		"whole":    func(*awsaccount.Account) {},
		"in pages": func(a *awsaccount.Account) { a.PageSize = 1 },
		"throttled once": func(a *awsaccount.Account) {
			a.Meddle(func(r awsaccount.Request) awsaccount.Fate {
				if r.Count == 0 {
					return awsaccount.Throttled(r.Action)
				}
				return awsaccount.Fate{}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &awsaccount.Account{InstanceTypes: offered()}
			change(a)
			if diff := cmp.Diff(want, typesOf(t, a.Start(t), asked()...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheDefaultNetworkCardCounts(t *testing.T) {
	two := []awsaccount.NetworkCard{{Index: 0, Interfaces: 2}, {Index: 1, Interfaces: 5}}
	a := &awsaccount.Account{InstanceTypes: []awsaccount.InstanceType{
		{Name: "first", Addresses: 50, Cards: two}, {Name: "second", Addresses: 50, Default: 1, Cards: two},
		{Name: "none", Addresses: 50, Default: 2, Cards: two}, {Name: "cardless", Addresses: 50}, {Name: "addressless", Cards: two},
	}}
	got := map[string]int{}
	for name, is := range typesOf(t, a.Start(t), "first", "second", "none", "cardless", "addressless").Types {
		got[name] = is.Interfaces
	}
	if diff := cmp.Diff(map[string]int{"first": 2, "second": 5}, got); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
}

func TestManyInstanceTypesAreAskedInBatches(t *testing.T) {
	a, names := &awsaccount.Account{}, []string(nil)
	for i := range 450 {
		names = append(names, fmt.Sprintf("m%d.large", i))
		a.InstanceTypes = append(a.InstanceTypes, nitro(names[i], 2, 3, 10))
	}
	if e := typesOf(t, a.Start(t), names...); len(e.Types) != 450 || len(a.Asked()) < 5 { // more: the SDK asks again if a connection ends
		t.Errorf("%d types in %d requests, want 450 in 5", len(e.Types), len(a.Asked()))
	}
}

// TestInstanceTypesThatAreNotTold: a denial is noted, and all else that goes wrong is told.
func TestInstanceTypesThatAreNotTold(t *testing.T) {
	a := &awsaccount.Account{InstanceTypes: offered()}
	a.Meddle(func(r awsaccount.Request) awsaccount.Fate { return awsaccount.Denied(r.Action) })
	want := density.EC2{Region: awsaccount.Region, Types: map[string]density.InstanceType{}, Refused: "ec2:DescribeInstanceTypes"}
	if diff := cmp.Diff(want, typesOf(t, a.Start(t), asked()...)); diff != "" {
		t.Errorf("denied (-want +got):\n%s", diff)
	}
	config := a.Start(t)
	for name, c := range map[string]struct {
		fate    awsaccount.Fate
		region  string
		regions []string
		want    string
	}{
		"credentials that have ended":       {awsaccount.Fate{Code: "ExpiredToken"}, awsaccount.Region, nil, "asking AWS for ec2:DescribeInstanceTypes in eu-central-1"},
		"an answer that ends in its middle": {awsaccount.Fate{Cut: true}, awsaccount.Region, nil, "asking AWS for ec2:DescribeInstanceTypes"},
		"the nodes' region":                 {awsaccount.Fate{}, "", []string{"eu-west-1", "", "eu-west-1"}, "in eu-west-1"}, // where this account is not
		"nodes of two regions":              {awsaccount.Fate{}, "", []string{"eu-west-1", "eu-west-2"}, "finding the region"},
	} {
		t.Run(name, func(t *testing.T) {
			a.Meddle(func(awsaccount.Request) awsaccount.Fate { return c.fate })
			config.Region = c.region
			if _, err := InstanceTypes(t.Context(), config, c.regions, asked()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestOurInstanceTypesAreMotos: both say the same, of types that exist and of those that do not; and by moto's answer, which is
// one of EC2's, known instance types hold what AWS says they do.
func TestOurInstanceTypesAreMotos(t *testing.T) {
	theirs := typesOf(t, awsaccount.Config(moto(t).String()), asked()...)
	ours := &awsaccount.Account{InstanceTypes: offered()}
	if diff := cmp.Diff(theirs, typesOf(t, ours.Start(t), asked()...)); diff != "" {
		t.Errorf("(-moto +ours):\n%s", diff)
	}
	for name, pods := range map[string]int{"t3.small": 11, "t3.medium": 17, "t3.large": 35, "m5.4xlarge": 234} {
		if got := density.Defaults().Pods(theirs.Types[name].Limits, 0); got != pods {
			t.Errorf("%s: %d pods, want %d", name, got, pods)
		}
	}
}
