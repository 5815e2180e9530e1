// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package density says how many pods nodes hold now and would hold after the move to an overlay, and how many addresses the
// VPC gets back. It is arithmetic over facts that are handed in: no clock, no file, no network.
//
// Before, a node is bound by the addresses of its network interfaces; after, by the kubelet's maxPods, by its slice of the
// overlay and by the requests of its pods, whichever is least. The kubelet's maxPods does not change by itself.
package density

import (
	_ "embed"
	"strconv"
	"strings"
)

// instances has a line for each EC2 instance type: name, interfaces, IPv4 addresses of each.
//
//go:embed instances.csv
var instances string

// Limits are an instance type's network interfaces, those of its default network card, and the IPv4 addresses of each.
type Limits struct {
	Interfaces int `json:"interfaces"`
	Addresses  int `json:"addressesPerInterface"`
}

// LimitsOf returns the limits of an EC2 instance type, as m5.large, and whether the type is known: newer ones are not.
func LimitsOf(instanceType string) (Limits, bool) {
	_, after, found := strings.Cut(instances, "\n"+instanceType+",")
	line, _, _ := strings.Cut(after, "\n")
	interfaces, addresses, _ := strings.Cut(line, ",")
	if !found || strings.ContainsAny(instanceType, ",\n") {
		return Limits{}, false
	}
	var l Limits
	var err error
	if l.Interfaces, err = strconv.Atoi(interfaces); err != nil {
		return Limits{}, false
	}
	if l.Addresses, err = strconv.Atoi(addresses); err != nil {
		return Limits{}, false
	}
	return l, true
}

// VPCCNI is what the VPC CNI was told about addresses: the environment of its DaemonSet (amazon-vpc-cni-k8s, README.md). Its
// zero value has no warm pool; Defaults has that of the published manifest.
type VPCCNI struct {
	// PrefixDelegation: an interface gets prefixes of 16 addresses in place of single ones (ENABLE_PREFIX_DELEGATION).
	PrefixDelegation bool `json:"prefixDelegation"`
	// CustomNetworking: the primary interface serves no pods (AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG).
	CustomNetworking bool `json:"customNetworking"`
	// What is kept in stock beyond the pods of a node: whole interfaces (WARM_ENI_TARGET), prefixes (WARM_PREFIX_TARGET),
	// addresses (WARM_IP_TARGET), and how many addresses in all at least (MINIMUM_IP_TARGET).
	WarmInterfaces int `json:"warmInterfaces"`
	WarmPrefixes   int `json:"warmPrefixes"`
	WarmAddresses  int `json:"warmAddresses"`
	MinAddresses   int `json:"minAddresses"`
}

// Defaults are the settings of the VPC CNI's published manifest (config/master/aws-k8s-cni.yaml, v1.23).
func Defaults() VPCCNI { return VPCCNI{WarmInterfaces: 1, WarmPrefixes: 1} }

const (
	prefixAddresses = 16 // of a delegated /28
	// hostPods are the two pods on the host network that AWS's formula allows for, aws-node and kube-proxy.
	hostPods = 2
	// Caps of AWS's calculator for nodes with prefixes: less than 30 vCPUs, and all others (EKS user guide, "Choosing an
	// optimal Amazon EC2 node instance type"; managed node groups apply them to every node).
	capSmall, capLarge, capVCPUs = 110, 250, 30
)

// Pods returns AWS's figure for a node: interfaces × (addresses - 1) + 2, where each interface keeps one address for itself.
// With custom networking one interface less counts; with prefix delegation each address is one of 16, and a cap by the
// number of vCPUs applies (0 vCPUs: not known, the lower cap).
func (c VPCCNI) Pods(l Limits, vcpus int) int {
	n := c.slots(l)
	if !c.PrefixDelegation {
		return n + hostPods
	}
	return min(n*prefixAddresses+hostPods, Cap(vcpus))
}

// Cap returns the most pods that AWS recommends for a node of so many vCPUs.
func Cap(vcpus int) int {
	if vcpus >= capVCPUs {
		return capLarge
	}
	return capSmall
}

// slots returns how many addresses, or prefixes, the interfaces that serve pods may have.
func (c VPCCNI) slots(l Limits) int {
	n := l.Interfaces
	if c.CustomNetworking {
		n--
	}
	return max(n, 0) * max(l.Addresses-1, 0)
}

// Held returns about how many addresses of the VPC a node with so many pods of the VPC CNI takes besides its own one: those
// of its pods, of further interfaces, and the warm pool. It is what ipamd strives for, not what EC2 was asked.
func (c VPCCNI) Held(l Limits, pods int) int {
	per, all := max(l.Addresses-1, 1), c.slots(l)
	if all == 0 {
		return pods
	}
	target := c.WarmAddresses > 0 || c.MinAddresses > 0
	var filled, interfaces int // slots in use, and on how many interfaces
	switch {
	case c.PrefixDelegation && target:
		filled = up(max(pods+c.WarmAddresses, c.MinAddresses), prefixAddresses)
	case c.PrefixDelegation:
		filled = up(pods, prefixAddresses) + c.WarmPrefixes
	case target:
		filled = max(pods+c.WarmAddresses, c.MinAddresses)
	default:
		filled = up(pods+c.WarmInterfaces*per, per) * per // interfaces come with all their addresses
	}
	filled = min(max(filled, 1), all)
	interfaces = up(filled, per)
	if c.CustomNetworking {
		interfaces++ // the primary one, which has its own address and no other
	}
	if c.PrefixDelegation {
		filled *= prefixAddresses
	}
	return filled + interfaces - 1
}

// up divides and rounds up.
func up(n, by int) int { return (n + by - 1) / by }
