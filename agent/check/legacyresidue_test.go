// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func TestLegacyResidue(t *testing.T) {
	rule := func(r facts.Rule) func(*facts.Facts) {
		return func(f *facts.Facts) { f.Rules.List = append(f.Rules.List, r) }
	}
	table := func(routes ...facts.Route) func(*facts.Facts) {
		return func(f *facts.Facts) { f.Routes.Tables = map[int][]facts.Route{2: routes} }
	}
	gateway := facts.Route{Dst: cidr("10.0.1.1/32"), Link: 80, Type: unicast}
	byGateway := facts.Route{Dst: cidr("0.0.0.0/0"), Gateway: ip("10.0.1.1"), Link: 80, Type: unicast}
	veth := func(name, kind string) func(*facts.Facts) {
		return func(f *facts.Facts) { f.Links.List = append(f.Links.List, link(80, name, kind, 9001)) }
	}
	netfilter := func(l facts.Look, found ...string) func(*facts.Facts) {
		return func(f *facts.Facts) { f.Netfilter = facts.Netfilter{Look: l, Found: found} }
	}
	tell(t, v1alpha1.CheckLegacyResidue, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"as it should be":                {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"aws-node runs":                  {addPod(facts.Pod{Namespace: "kube-system", Name: "aws-node-x", DaemonSet: "aws-node", HostNetwork: true}), v1alpha1.VerdictFail, v1alpha1.LegacyRunning},
		"a pod on an ENI":                {rule(facts.Rule{Priority: 1536, Src: cidr("10.244.1.20/32"), Table: 2}), v1alpha1.VerdictFail, v1alpha1.LegacyRules},
		"a rule to a pod":                {rule(facts.Rule{Priority: 512, Dst: cidr("10.244.1.20/32"), Table: 254}), v1alpha1.VerdictFail, v1alpha1.LegacyRules},
		"a rule of a lost pod":           {rule(facts.Rule{Priority: 512, Dst: cidr("10.0.1.77/32"), Table: 254}), v1alpha1.VerdictWarn, v1alpha1.LegacyRules},
		"the rule for marks":             {rule(facts.Rule{Priority: 1024, Mark: 0x80, Table: 254}), v1alpha1.VerdictWarn, v1alpha1.LegacyRules},
		"somebody's 512":                 {rule(facts.Rule{Priority: 512, Dst: cidr("192.168.0.0/16"), Table: 254}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"the rule for external services": {rule(facts.Rule{Priority: 1535, Dst: cidr("10.244.0.0/16"), Table: 254}), v1alpha1.VerdictWarn, v1alpha1.LegacyRules},
		"the rule of an ENI":             {rule(facts.Rule{Priority: 32765, Src: cidr("10.0.1.11/32"), Table: 2}), v1alpha1.VerdictWarn, v1alpha1.LegacyRules},
		"somebody's last rule":           {rule(facts.Rule{Priority: 32765, Src: cidr("10.0.1.11/32"), Table: 10001}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a table of an ENI":              {table(gateway, byGateway), v1alpha1.VerdictWarn, v1alpha1.LegacyTables},
		"the same the other way round":   {table(byGateway, gateway), v1alpha1.VerdictWarn, v1alpha1.LegacyTables},
		"somebody's table":               {table(byGateway, gateway, facts.Route{Dst: cidr("192.168.0.0/16"), Link: 80, Type: unicast}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a table by another interface":   {table(byGateway, facts.Route{Dst: cidr("10.0.1.1/32"), Link: 81, Type: unicast}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"Cilium's table for its proxy":   {table(facts.Route{Dst: cidr("0.0.0.0/0"), Link: 1, Type: 2}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a veth pair":                    {veth("eni0123456789a", "veth"), v1alpha1.VerdictWarn, v1alpha1.LegacyVeths},
		"an interface of another kind":   {veth("eni0123456789a", "device"), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a veth pair of another name":    {veth("enigma", "veth"), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a table of nftables":            {netfilter(seen, "the nftables table ip aws-cni"), v1alpha1.VerdictWarn, v1alpha1.LegacyNetfilter},
		"nothing in netfilter":           {netfilter(seen), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"netfilter half read":            {netfilter(broken, "the chain AWS-SNAT-CHAIN-0 of ip nat"), v1alpha1.VerdictWarn, v1alpha1.LegacyNetfilter},
		"netfilter not known":            {netfilter(broken), v1alpha1.VerdictUnknown, v1alpha1.LegacyUnknown},
		"nobody may look at netfilter":   {func(f *facts.Facts) { f.Netfilter = facts.Netfilter{Look: broken, NotAllowed: true} }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"interfaces not known":           {func(f *facts.Facts) { f.Links = facts.Links{Look: broken} }, v1alpha1.VerdictUnknown, v1alpha1.LegacyUnknown},
		"routes not known":               {func(f *facts.Facts) { f.Routes = facts.Routes{Look: broken} }, v1alpha1.VerdictUnknown, v1alpha1.LegacyUnknown},
		"pods not known":                 {func(f *facts.Facts) { f.Pods = facts.Pods{Look: broken} }, v1alpha1.VerdictUnknown, v1alpha1.LegacyUnknown},
		"rules not known":                {func(f *facts.Facts) { f.Rules = facts.Rules{Look: broken} }, v1alpha1.VerdictUnknown, v1alpha1.LegacyUnknown},
	})
	tell(t, v1alpha1.CheckLegacyResidue, v1alpha1.RoleLegacy, legacyNode, map[string]tale{
		"is not asked of a Legacy node": {nil, v1alpha1.VerdictPass, v1alpha1.NotOnThisRole},
	})
	tell(t, v1alpha1.CheckLegacyResidue, v1alpha1.RoleMixed, legacyNode, map[string]tale{
		"is asked of a Mixed node": {nil, v1alpha1.VerdictFail, v1alpha1.LegacyRunning},
	})
}
