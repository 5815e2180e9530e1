// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"
	"strings"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Priorities of the rules that the VPC CNI writes for the node, all of which stay when aws-node goes (amazon-vpc-cni-k8s
// pkg/networkutils): marked packets, and the CIDRs of AWS_EXTERNAL_SERVICE_CIDRS, by the main table; from an ENI's own address by
// that ENI's table. The last is also what the kernel gives to a rule that somebody adds without one.
const (
	priorityMarked   = 1024
	priorityExternal = 1535
	priorityFromENI  = 32765
)

// mainTable is RT_TABLE_MAIN of linux/rtnetlink.h.
const mainTable = 254

// maxENITable bounds the numbers of ENI tables: the device's number and one; no instance type has more ENIs than this.
const maxENITable = 64

// markedRule recognises the VPC CNI's rule for marked packets.
func markedRule(r facts.Rule) bool { return r.Priority == priorityMarked && r.Mark == facts.PacketMark }

// legacyResidue asks whether an Overlay node carries anything of the VPC CNI: pods, rules, tables, veth pairs, and what it makes in
// netfilter. Nothing of it was ever there on a node that joined behind the fence, so anything at all means that the fence was open.
func legacyResidue(s *scene) v1alpha1.Finding {
	switch s.role {
	case v1alpha1.RoleLegacy:
		return pass(v1alpha1.NotOnThisRole, "a Legacy node is the VPC CNI's")
	case v1alpha1.RoleUnknown:
		return undecided(s)
	}
	if s.f.Pods.Sight != facts.Seen {
		return unknown(v1alpha1.LegacyUnknown, "the pods of this node could not be listed: %s", s.f.Pods.Detail)
	}
	if name := legacyPod(s.f); name != "" {
		return fail(v1alpha1.LegacyRunning, "the VPC CNI's pod %s is on this node: it gives pods VPC addresses or soon will; this node is Mixed whatever its net.d says: check the fence, then replace it", name)
	}
	if s.f.Rules.Sight != facts.Seen {
		return unknown(v1alpha1.LegacyUnknown, "the rules of this host could not be read: %s", s.f.Rules.Detail)
	}
	if r, name := legacyRule(s.f); name != "" {
		return fail(v1alpha1.LegacyRules, "pod %s hangs on the VPC CNI's rule of priority %d: its packets never see the overlay's routes; this node is Mixed: replace it", name, r.Priority)
	}
	if s.f.Routes.Sight != facts.Seen {
		return unknown(v1alpha1.LegacyUnknown, "the routes of this host could not be read: %s", s.f.Routes.Detail)
	}
	if s.f.Links.Sight != facts.Seen {
		return unknown(v1alpha1.LegacyUnknown, "the interfaces of this host could not be read: %s", s.f.Links.Detail)
	}
	rules, tables, veths := s.legacyRules(), s.legacyTables(), s.legacyVeths()
	left := s.f.Netfilter
	evidence := []v1alpha1.Evidence{number("rules", len(rules), "rules"), number("tables", len(tables), "tables"), number("veths", len(veths), "interfaces"),
		number("netfilter", len(left.Found), "tables and chains")}
	const advice = "aws-node ran on this node once; replace it rather than clean it"
	switch {
	case len(rules) > 0:
		return with(warn(v1alpha1.LegacyRules, "%d rules of the VPC CNI's kind are left, of no pod that is here (priorities %s): %s", len(rules), joined(rules), advice), evidence...)
	case len(tables) > 0:
		return with(warn(v1alpha1.LegacyTables, "%d routing tables of ENIs are left (%s), each with the way to its subnet's gateway and nothing else: %s", len(tables), joined(tables), advice), evidence...)
	case len(veths) > 0:
		return with(warn(v1alpha1.LegacyVeths, "%d veth pairs of the VPC CNI's kind are left (%s), of no pod that is here: %s", len(veths), joined(veths), advice), evidence...)
	}
	netfilter := "netfilter holds nothing of it either"
	switch {
	case len(left.Found) > 0:
		return with(warn(v1alpha1.LegacyNetfilter, "netfilter still holds what the VPC CNI makes (%s): %s", joined(left.Found), advice), evidence...)
	case left.Sight == facts.NotLooked:
		netfilter = "netfilter is looked at while the coordinator asks"
	case left.NotAllowed:
		netfilter = "netfilter was not looked at: " + left.Detail
	case left.Sight != facts.Seen:
		return with(unknown(v1alpha1.LegacyUnknown, "no pod, rule, routing table and veth pair of the VPC CNI is here, and netfilter's tables could not be read: %s", left.Detail), evidence...)
	}
	return with(pass(v1alpha1.AsWanted, "no pod, rule, routing table and veth pair of the VPC CNI is here; %s", netfilter), evidence...)
}

// legacyRules are the priorities of the rules of the VPC CNI's kind, in order.
func (s *scene) legacyRules() []int {
	var out []int
	for _, r := range s.f.Rules.List {
		external := r.Priority == priorityExternal && r.Dst.IsValid() && r.Table == mainTable
		if rulePod(r).IsValid() || markedRule(r) || external || fromENI(r) {
			out = append(out, r.Priority)
		}
	}
	slices.Sort(out)
	return out
}

func fromENI(r facts.Rule) bool {
	return r.Priority == priorityFromENI && r.Src.IsSingleIP() && r.Table > 1 && r.Table <= maxENITable
}

// legacyTables are the numbers of the tables that hold what the VPC CNI writes for a secondary ENI, and nothing else: the default
// route by the subnet's gateway, and the way to that gateway.
func (s *scene) legacyTables() []int {
	var out []int
	for number, routes := range s.f.Routes.Tables {
		if number < 2 || number > maxENITable || len(routes) != 2 {
			continue
		}
		def, gateway := routes[0], routes[1]
		if def.Dst.Bits() != 0 {
			def, gateway = gateway, def
		}
		if def.Dst.Bits() == 0 && def.Gateway.IsValid() && gateway.Dst.IsSingleIP() && gateway.Dst.Addr() == def.Gateway && gateway.Link == def.Link {
			out = append(out, number)
		}
	}
	slices.Sort(out)
	return out
}

// legacyVeths are the names of the host's ends of veth pairs as the VPC CNI names them, unless AWS_VPC_K8S_CNI_VETHPREFIX is set:
// eni and 11 hexadecimal digits of a hash (amazon-vpc-cni-k8s pkg/networkutils/names.go).
func (s *scene) legacyVeths() []string {
	var out []string
	for _, l := range s.f.Links.List {
		digits, ok := strings.CutPrefix(l.Name, "eni")
		if ok && l.Kind == "veth" && len(digits) == 11 && strings.Trim(digits, "0123456789abcdef") == "" {
			out = append(out, l.Name)
		}
	}
	return out
}
