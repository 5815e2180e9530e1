// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package vpc is the lab's stand-in for an Amazon VPC: an address plan (pure) and a router
// that forwards between elastic network interfaces and, as EC2 does, drops a packet whose
// source address does not belong to the interface that sent it or whose destination
// belongs to nobody.
package vpc

import (
	"fmt"
	"net/netip"
)

// MTU is the frame size of a current EC2 instance inside its VPC, in bytes.
const MTU = 9001

// MaxSubnets is how many subnets a plan can hand out: one for every machine that ever joins.
const MaxSubnets = 254

// secondaries is how many secondary addresses an interface owns (an m5.large owns nine).
const secondaries = 10

// CIDR is the whole VPC; every machine's subnet is a /24 of it.
func CIDR() netip.Prefix { return netip.MustParsePrefix("10.0.0.0/16") }

// Instance is what an EC2 instance learns about itself from the metadata service. A lab
// node finds it as JSON in /etc/lab/instance.json.
type Instance struct {
	ID         string         `json:"instanceId"`
	Type       string         `json:"instanceType"`
	Region     string         `json:"region"`
	Zone       string         `json:"zone"`
	VPCCIDRs   []netip.Prefix `json:"vpcCidrs"`
	Interfaces []Interface    `json:"interfaces"`
}

// Interface is one elastic network interface (ENI).
type Interface struct {
	DeviceNumber int          `json:"deviceNumber"`
	Name         string       `json:"name"` // the link inside the machine: eth0, eth1
	MAC          string       `json:"mac"`
	Primary      netip.Addr   `json:"primary"`
	Secondary    []netip.Addr `json:"secondary"`
	Subnet       netip.Prefix `json:"subnet"`
	Gateway      netip.Addr   `json:"gateway"`
}

// Addresses returns the primary address and then the secondary ones.
func (i Interface) Addresses() []netip.Addr {
	return append([]netip.Addr{i.Primary}, i.Secondary...)
}

// NodeInterfaces plans the two interfaces of the machine in the given subnet: the primary
// one with .10 and .20 to .29, the secondary one with .110 and .120 to .129.
// The subnet is a number from 1 to MaxSubnets, the third byte of its addresses.
func NodeInterfaces(subnet int) ([]Interface, error) {
	if subnet < 1 || subnet > MaxSubnets {
		return nil, fmt.Errorf("planning subnet %d: the VPC %s has subnets 1 to %d: stop the lab and start a new one", subnet, CIDR(), MaxSubnets)
	}
	return []Interface{planned(subnet, 0, 10, secondaries), planned(subnet, 1, 110, secondaries)}, nil
}

// HostInterface plans the only interface of a VPC host that runs no pods, in the subnet
// 10.0.0.0/24; host is the last byte of its address.
func HostInterface(host byte) Interface { return planned(0, 0, host, 0) }

func planned(subnet, device int, host byte, extra int) Interface {
	address := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(subnet), last}) }
	eni := Interface{
		DeviceNumber: device,
		Name:         fmt.Sprintf("eth%d", device),
		MAC:          fmt.Sprintf("02:00:0a:00:%02x:%02x", subnet, host),
		Primary:      address(host),
		Secondary:    []netip.Addr{},
		Subnet:       netip.PrefixFrom(address(0), 24),
		Gateway:      address(1),
	}
	for n := range extra {
		eni.Secondary = append(eni.Secondary, address(host+10+byte(n)))
	}
	return eni
}
