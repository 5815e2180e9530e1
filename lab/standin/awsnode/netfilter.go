// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// connmark marks connections that must leave through the primary interface.
const connmark = "0x80"

const snatChain = "AWS-SNAT-CHAIN-0"

// chainRule is one rule of a chain that is not ours, so it is added and removed singly.
type chainRule struct {
	table, chain string
	spec         []string
}

// snatRestore renders our own chain as input for `iptables-restore --noflush`, which
// replaces a chain it names in one transaction. The list of destinations stands in
// reverse, as the original's inserts leave it.
func snatRestore(vpcCIDRs []netip.Prefix, s Settings, nodeIP netip.Addr) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*nat\n:%s - [0:0]\n", snatChain)
	if !s.ExternalSNAT {
		for _, cidr := range slices.Backward(s.ExcludeSNATCIDRs) {
			fmt.Fprintf(&b, "-A %s -d %s -m comment --comment \"AWS SNAT CHAIN EXCLUSION\" -j RETURN\n", snatChain, cidr)
		}
		for _, cidr := range slices.Backward(vpcCIDRs) {
			fmt.Fprintf(&b, "-A %s -d %s -m comment --comment \"AWS SNAT CHAIN\" -j RETURN\n", snatChain, cidr)
		}
		fmt.Fprintf(&b, "-A %s ! -o vlan+ -m comment --comment \"AWS, SNAT\" -m addrtype ! --dst-type LOCAL -j SNAT --to-source %s --random-fully\n", snatChain, nodeIP)
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// snatJump sends packets that leave the node through our chain.
func snatJump() chainRule {
	return chainRule{"nat", "POSTROUTING", []string{"-m", "comment", "--comment", "AWS SNAT CHAIN", "-j", snatChain}}
}

// connmarkRules keep answers to NodePort connections on the primary interface, where the
// connections came in, whichever interface the pod's address belongs to.
func connmarkRules(primaryInterface, vethPrefix string) []chainRule {
	comment := []string{"-m", "comment", "--comment", "AWS, primary ENI"}
	restore := []string{"-j", "CONNMARK", "--restore-mark", "--mask", connmark}
	return []chainRule{
		{"mangle", "PREROUTING", slices.Concat([]string{"-i", primaryInterface}, comment,
			[]string{"-m", "addrtype", "--dst-type", "LOCAL", "--limit-iface-in", "-j", "CONNMARK", "--set-mark", connmark + "/" + connmark})},
		{"mangle", "PREROUTING", slices.Concat([]string{"-i", vethPrefix + "+"}, comment, restore)},
		{"mangle", "PREROUTING", slices.Concat([]string{"-i", "vlan+"}, comment, restore)},
	}
}

// nftScript renders the table that marks connections from pods to destinations that will be
// translated, since 1.23 a native nftables table: one transaction replaces the whole of it.
// Its priority, -90, lies after the DNAT of kube-proxy (-100); a packet that was translated
// there never gets here, which is why Services with overlay backends need
// AWS_EXTERNAL_SERVICE_CIDRS.
func nftScript(vpcCIDRs []netip.Prefix, s Settings) string {
	var b strings.Builder
	// Adding before deleting makes deleting succeed whether or not the table was there.
	b.WriteString("add table ip aws-cni\ndelete table ip aws-cni\n")
	if s.ExternalSNAT {
		return b.String()
	}
	b.WriteString("add table ip aws-cni\n")
	b.WriteString("add chain ip aws-cni nat-prerouting { type nat hook prerouting priority -90; policy accept; }\n")
	b.WriteString("add chain ip aws-cni snat-mark\n")
	for _, cidr := range slices.Backward(slices.Concat(vpcCIDRs, s.ExcludeSNATCIDRs)) {
		fmt.Fprintf(&b, "add rule ip aws-cni snat-mark counter ip daddr %s return\n", cidr)
	}
	fmt.Fprintf(&b, "add rule ip aws-cni snat-mark counter ct mark set ct mark or %s\n", connmark)
	b.WriteString("add rule ip aws-cni nat-prerouting fib daddr type local return\n")
	fmt.Fprintf(&b, "add rule ip aws-cni nat-prerouting iifname \"%s*\" counter jump snat-mark\n", s.VethPrefix)
	fmt.Fprintf(&b, "add rule ip aws-cni nat-prerouting counter meta mark set ct mark and %s\n", connmark)
	return b.String()
}
