// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func TestPrograms(t *testing.T) {
	lose := func(name string) func(*facts.Facts) {
		return func(f *facts.Facts) {
			f.Programs.List = slices.DeleteFunc(f.Programs.List, func(p facts.Program) bool { return p.Name == name })
		}
	}
	tell(t, v1alpha1.CheckPrograms, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"by tcx": {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"by tc": {func(f *facts.Facts) {
			for i := range f.Programs.List {
				f.Programs.List[i].Via = "tc"
			}
		}, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"none yet":        {func(f *facts.Facts) { f.Programs.List = nil }, v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"not on the NIC":  {lose("cil_from_netdev"), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"not to overlay":  {lose("cil_to_overlay"), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"no tunnel":       {func(f *facts.Facts) { without(f, tunnelLink) }, v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"on another NIC":  {func(f *facts.Facts) { f.Programs.List[2].Link = 77 }, v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"wrong direction": {func(f *facts.Facts) { f.Programs.List[0].Egress = true }, v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"missing where one place could not be read": {func(f *facts.Facts) {
			f.Programs.Look = broken
			f.Programs.List = f.Programs.List[:2]
		}, v1alpha1.VerdictUnknown, v1alpha1.HostUnreadable},
		"all found although one place could not be read":      {func(f *facts.Facts) { f.Programs.Look = broken }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"the NIC is told by the default route without a Node": {func(f *facts.Facts) { f.Node = facts.Node{} }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"the NIC is not known": {func(f *facts.Facts) {
			f.Node, f.Routes.List = facts.Node{}, nil
		}, v1alpha1.VerdictUnknown, v1alpha1.UnderlayUnknown},
	})
}

func TestUnderlayIsTheNICOfTheNodesAddress(t *testing.T) {
	f := overlayNode()
	f.Links.List = append(f.Links.List, link(80, "ens6", "device", 1500, "10.0.1.11/24"))
	f.Routes.List = append(f.Routes.List, facts.Route{Dst: cidr("0.0.0.0/0"), Link: 80, Type: unicast, Priority: 0})
	f.Routes.List[0].Priority = 512
	if l, why := newScene(f, v1alpha1.RoleOverlay).underlay(); l.Name != "ens5" || why != "" {
		t.Errorf("%s %s", l.Name, why)
	}
	f.Node.InternalIPs = nil
	if l, why := newScene(f, v1alpha1.RoleOverlay).underlay(); l.Name != "ens6" || why != "" {
		t.Errorf("without a Node: %s %s", l.Name, why)
	}
}
