// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/internal/capability"
)

// What the VPC CNI makes in netfilter, none of which goes with its pod: a table of its own in nftables since 1.23, chains of its own in the
// table nat of iptables, and rules in the chain PREROUTING of mangle, told by their comment (amazon-vpc-cni-k8s pkg/networkutils).
const (
	legacyTable   = "aws-cni"
	snatChain     = "AWS-SNAT-CHAIN-" // of releases before 1.12 there are several, numbered from 0
	connmarkChain = "AWS-CONNMARK-CHAIN-"
	legacyComment = "AWS, primary ENI"
)

// lookNetfilter looks for what the VPC CNI makes, in both places where iptables may keep it: nftables and the older x_tables. Tables, chains
// and rules are asked for by their names, so a node with 50,000 rules of kube-proxy's costs no more than an empty one; x_tables can
// only be read whole, see there. Asking nftables has the kernel load it where nobody has used it yet.
func lookNetfilter() Netfilter {
	if !capability.Held(capability.NetAdmin) {
		return Netfilter{Look: Look{Failed, "netfilter shows its tables only to CAP_NET_ADMIN, which this process has not"}, NotAllowed: true}
	}
	out := Netfilter{Look: Look{Sight: Seen}}
	for _, look := range []func() ([]string, error){lookNFTables, lookXTables} {
		found, err := look()
		out.Found = append(out.Found, found...)
		if err != nil && out.Sight == Seen {
			out.Look = failed(err)
		}
	}
	return out
}

func lookNFTables() ([]string, error) {
	var out []string
	for _, f := range []struct {
		name   string
		family uint8
	}{{"ip", unix.NFPROTO_IPV4}, {"ip6", unix.NFPROTO_IPV6}} {
		there, err := nftHas(f.family, unix.NFT_MSG_GETTABLE, attr{unix.NFTA_TABLE_NAME, legacyTable})
		if errors.Is(err, unix.EINVAL) {
			return nil, nil // this kernel has no nftables
		}
		if err != nil {
			return out, fmt.Errorf("asking nftables for the table %s %s: %w", f.name, legacyTable, err)
		}
		if there {
			out = append(out, fmt.Sprintf("the nftables table %s %s", f.name, legacyTable))
		}
		for _, chain := range []string{snatChain + "0", connmarkChain + "0"} {
			there, err := nftHas(f.family, unix.NFT_MSG_GETCHAIN, attr{unix.NFTA_CHAIN_TABLE, "nat"}, attr{unix.NFTA_CHAIN_NAME, chain})
			if err != nil {
				return out, fmt.Errorf("asking nftables for the chain %s: %w", chain, err)
			}
			if there {
				out = append(out, fmt.Sprintf("the chain %s of %s nat", chain, f.name))
			}
		}
		there, err = nftRuleSays(f.family, "mangle", "PREROUTING", legacyComment)
		if err != nil {
			return out, fmt.Errorf("asking nftables for the rules of %s mangle PREROUTING: %w", f.name, err)
		}
		if there {
			out = append(out, fmt.Sprintf("rules %q in %s mangle", legacyComment, f.name))
		}
	}
	return out, nil
}

// attr is a name in a message of nftables (linux/netfilter/nf_tables.h).
type attr struct {
	kind int
	name string
}

func nftRequest(family uint8, message, flags int, attrs ...attr) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|message, flags)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family})
	for _, a := range attrs {
		req.AddData(nl.NewRtAttr(a.kind, nl.ZeroTerminated(a.name)))
	}
	return req
}

// nftHas asks for one object by its name.
func nftHas(family uint8, message int, attrs ...attr) (bool, error) {
	_, err := nftRequest(family, message, 0, attrs...).Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// nftRuleSays looks through the rules of one chain for a comment, which iptables keeps in a match or in the rule's user data, by
// its version: either way the words lie in the message.
func nftRuleSays(family uint8, table, chain, comment string) (bool, error) {
	said := false
	err := nftRequest(family, unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, attr{unix.NFTA_RULE_TABLE, table}, attr{unix.NFTA_RULE_CHAIN, chain}).
		ExecuteIter(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWRULE, func(rule []byte) bool {
			said = said || bytes.Contains(rule, []byte(comment))
			return !said
		})
	switch {
	case said: // whatever else changed meanwhile
		return true, nil
	case errors.Is(err, unix.ENOENT):
		return false, nil
	}
	return false, err
}
