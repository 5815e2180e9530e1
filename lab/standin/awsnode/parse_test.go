// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

func TestSettingsFromEnvironment(t *testing.T) {
	overlay := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	for name, test := range map[string]struct {
		env   map[string]string
		want  Settings
		wrong string // part of the error
	}{
		"defaults are the original's": {
			want: Settings{VethPrefix: "eni", ENIMTU: 9001, PodMTU: 9001},
		},
		"CIDRs are masked and kept once": {
			env:  map[string]string{envExcludeSNATCIDRs: "10.244.3.0/16, 10.244.0.0/16,", envExternalServiceCIDRs: "10.244.0.0/16"},
			want: Settings{ExcludeSNATCIDRs: overlay, ExternalServiceCIDRs: overlay, VethPrefix: "eni", ENIMTU: 9001, PodMTU: 9001},
		},
		"pods follow the interface's MTU": {
			env:  map[string]string{envENIMTU: "1500", envExternalSNAT: "true"},
			want: Settings{ExternalSNAT: true, VethPrefix: "eni", ENIMTU: 1500, PodMTU: 1500},
		},
		"no CIDR":              {env: map[string]string{envExternalServiceCIDRs: "10.244.0.0"}, wrong: envExternalServiceCIDRs},
		"IPv6 CIDR":            {env: map[string]string{envExcludeSNATCIDRs: "fd00::/8"}, wrong: "not an IPv4 CIDR"},
		"no boolean":           {env: map[string]string{envExternalSNAT: "maybe"}, wrong: "true or false"},
		"MTU out of range":     {env: map[string]string{envPodMTU: "64"}, wrong: envPodMTU},
		"veth prefix too long": {env: map[string]string{envVethPrefix: "veth0"}, wrong: "at most 4"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := SettingsFrom(func(key string) string { return test.env[key] })
			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Fatalf("error %v, want one that says %q", err, test.wrong)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, test.want)
			}
		})
	}
}

func TestInstanceThatCannotBeConfiguredIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*vpc.Instance){
		"no VPC CIDR":               func(i *vpc.Instance) { i.VPCCIDRs = nil },
		"no primary interface":      func(i *vpc.Instance) { i.Interfaces = i.Interfaces[1:] },
		"number used twice":         func(i *vpc.Instance) { i.Interfaces[1].DeviceNumber = 0 },
		"address outside subnet":    func(i *vpc.Instance) { i.Interfaces[1].Secondary[3] = netip.MustParseAddr("10.9.9.9") },
		"no gateway":                func(i *vpc.Instance) { i.Interfaces[0].Gateway = netip.Addr{} },
		"no hardware address":       func(i *vpc.Instance) { i.Interfaces[0].MAC = "" },
		"an IPv6 VPC":               func(i *vpc.Instance) { i.VPCCIDRs = []netip.Prefix{netip.MustParsePrefix("fd00::/56")} },
		"number beyond the tables'": func(i *vpc.Instance) { i.Interfaces[1].DeviceNumber = 253 },
	} {
		t.Run(name, func(t *testing.T) {
			instance := vpc.Instance{VPCCIDRs: []netip.Prefix{vpc.CIDR()}, Interfaces: planned(t)}
			data, err := json.Marshal(instance)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parseInstance(data); err != nil {
				t.Fatalf("the instance is refused before it is spoilt: %v", err)
			}
			spoil(&instance)
			if data, err = json.Marshal(instance); err != nil {
				t.Fatal(err)
			}
			if _, err := parseInstance(data); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func FuzzInstance(f *testing.F) {
	f.Add([]byte(`{"vpcCidrs":["10.0.0.0/16"],"interfaces":[{"deviceNumber":0,"mac":"02:00:0a:00:01:0a","primary":"10.0.1.10","secondary":["10.0.1.20"],"subnet":"10.0.1.0/24","gateway":"10.0.1.1"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		instance, err := parseInstance(data)
		if err != nil {
			return
		}
		if first := primary(instance); !first.Primary.Is4() || !first.Subnet.Contains(first.Gateway) {
			t.Errorf("accepted a primary interface without address or gateway: %+v", first)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	f.Add([]byte(`{"version":"vpc-cni-ipam/1","allocations":[{"networkName":"aws-cni","containerID":"a","ifName":"eth0","ipv4":"10.0.1.20","allocationTimestamp":1,"metadata":{"k8sPodNamespace":"default","k8sPodName":"a"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		allocations, err := parseCheckpoint(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(checkpoint{checkpointVersion, allocations})
		if err != nil {
			t.Fatal(err)
		}
		same, err := parseCheckpoint(again)
		if err != nil || !slices.Equal(allocations, same) {
			t.Errorf("read back %v, %v; want %v", same, err, allocations)
		}
	})
}
