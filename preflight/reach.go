// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// end is one end of a path in the VPC: its security groups, and where it is. Addresses are known ones; networks are where it may
// be anywhere.
type end struct {
	what      string
	groups    []string
	addresses []netip.Addr
	networks  []netip.Prefix
}

// ports are those of a protocol.
type ports struct {
	protocol string // tcp or udp
	from, to int32
}

func (p ports) String() string {
	if p.from == p.to {
		return fmt.Sprintf("%s %d", upper(p.protocol), p.from)
	}
	return fmt.Sprintf("%s %d-%d", upper(p.protocol), p.from, p.to)
}

func upper(protocol string) string {
	if protocol == "udp" {
		return "UDP"
	}
	return "TCP"
}

// opening is what security groups make of a path.
type opening int

const (
	closed opening = iota
	partly         // by a prefix list, or for a part of the addresses
	open
)

// opens says whether security groups let packets from one end to the other: out of one, and into the other. Answers need no
// rule (EC2 user guide, "Security group connection tracking"). shut is the side that does not let them.
func (a *AWS) opens(from, to end, p ports) (is opening, shut string) {
	egress := a.lets(from.groups, to, p, true)
	ingress := a.lets(to.groups, from, p, false)
	if egress < ingress {
		return egress, "egress"
	}
	return ingress, "ingress"
}

// lets says whether one of some security groups has a rule for the other end. Rules of all groups add up.
func (a *AWS) lets(groups []string, other end, p ports, egress bool) opening {
	var open4 []netip.Prefix
	listed := false
	for _, id := range groups {
		for i := range a.SecurityGroups {
			if a.SecurityGroups[i].ID != id {
				continue
			}
			for _, r := range a.SecurityGroups[i].Rules {
				switch {
				case r.Egress != egress || !r.covers(p):
				case r.Group != "" && slices.Contains(other.groups, r.Group):
					return open
				case r.PrefixList != "":
					listed = true
				case r.Network != "":
					open4 = append(open4, networks([]string{r.Network})...)
				}
			}
		}
	}
	some, all := other.inside(open4)
	switch {
	case all:
		return open
	case listed || some:
		return partly
	}
	return closed
}

// inside says whether networks hold a part of an end, and all of it. Of an end that is nowhere they hold nothing.
func (e end) inside(list []netip.Prefix) (some, all bool) {
	held, known := 0, len(e.addresses)+len(e.networks)
	for _, address := range e.addresses {
		if slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(address) }) {
			held++
		}
	}
	for _, n := range e.networks {
		if within(n, list) {
			held++
		} else if slices.ContainsFunc(list, n.Overlaps) {
			some = true
		}
	}
	return some || held > 0, held == known && known > 0
}

// protocolNumbers are how rules may name them instead (IANA).
func protocolNumber(protocol string) string {
	if protocol == "udp" {
		return "17"
	}
	return "6"
}

// covers says whether a rule is for all of some ports.
func (r *Rule) covers(p ports) bool {
	switch r.Protocol {
	case "-1":
		return true
	case p.protocol, protocolNumber(p.protocol):
		return r.From == -1 || r.From <= p.from && p.to <= r.To
	}
	return false
}

// authorize is the command that opens a path on the side that is shut.
func authorize(from, to end, p ports, shut string) string {
	at, peer := to, from
	if shut == "egress" {
		at, peer = from, to
	}
	group, other := "<group>", "<group>"
	if len(at.groups) > 0 {
		group = at.groups[0]
	}
	if len(peer.groups) > 0 {
		other = peer.groups[0]
	}
	return "aws ec2 authorize-security-group-" + shut + " --group-id " + group + " --ip-permissions 'IpProtocol=" + p.protocol +
		",FromPort=" + strconv.Itoa(int(p.from)) + ",ToPort=" + strconv.Itoa(int(p.to)) + ",UserIdGroupPairs=[{GroupId=" + other + "}]'"
}
