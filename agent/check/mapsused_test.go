// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strings"
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// mapsAsked gives every program an ID and the maps that are pinned: those of addresses to programs at interfaces, those of Services to
// programs at sockets.
func mapsAsked(f *facts.Facts) {
	f.MapUses = facts.MapUses{Look: seen, By: map[uint32]ciliummap.Uses{}}
	for i := range f.Programs.List {
		f.Programs.List[i].ID = uint32(100 + i)
		f.MapUses.By[f.Programs.List[i].ID] = ciliummap.Uses{Now: []string{ciliummap.IPCachePin, ciliummap.EndpointsPin, ciliummap.CountersPin}}
	}
	for i := range f.Programs.Sockets {
		f.Programs.Sockets[i].ID = uint32(500 + i)
		f.MapUses.By[f.Programs.Sockets[i].ID] = ciliummap.Uses{Now: []string{ciliummap.ServicesPin, ciliummap.BackendsPin}}
	}
}

// held changes what the programs of a name use.
func held(f *facts.Facts, name string, uses ciliummap.Uses) {
	for _, p := range f.Programs.List {
		if p.Name == name {
			f.MapUses.By[p.ID] = uses
		}
	}
	for _, p := range f.Programs.Sockets {
		if p.Name == name {
			f.MapUses.By[p.ID] = uses
		}
	}
}

func TestMapsThatProgramsUse(t *testing.T) {
	hold := func(name string, uses ciliummap.Uses) func(*facts.Facts) {
		return func(f *facts.Facts) { held(f, name, uses) }
	}
	everywhere := func(uses ciliummap.Uses) func(*facts.Facts) {
		return func(f *facts.Facts) {
			for _, p := range f.Programs.List {
				f.MapUses.By[p.ID] = uses
			}
		}
	}
	old := ciliummap.Uses{Now: []string{ciliummap.EndpointsPin}, Old: []string{ciliummap.IPCachePin}}
	gone := func(name string) func(*facts.Facts) {
		return func(f *facts.Facts) {
			for _, p := range f.Programs.List {
				if p.Name == name {
					delete(f.MapUses.By, p.ID)
				}
			}
		}
	}
	sockets := func(f *facts.Facts) {
		f.Programs.Sockets, f.Programs.SocketsOnce = onCgroups(socketPrograms()...), true
	}
	services := ciliummap.Uses{Old: []string{ciliummap.ServicesPin}}
	tell(t, v1alpha1.CheckPrograms, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"nobody is to ask":              {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"the pinned ones":               {mapsAsked, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"of a program that uses none":   {all(mapsAsked, hold("cil_to_host", ciliummap.Uses{})), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"one program's are old":         {all(mapsAsked, hold("cil_from_netdev", old)), v1alpha1.VerdictFail, v1alpha1.ProgramUsesOldMap},
		"every program's are old":       {all(mapsAsked, everywhere(old)), v1alpha1.VerdictFail, v1alpha1.ProgramUsesOldMap},
		"half of a program is replaced": {all(mapsAsked, hold("cil_from_overlay", ciliummap.Uses{Now: []string{ciliummap.IPCachePin}, Old: []string{ciliummap.IPCachePin}})), v1alpha1.VerdictFail, v1alpha1.ProgramUsesOldMap},
		"old ones of a pod that ends": {all(mapsAsked, func(f *facts.Facts) {
			f.MapUses.By[f.Programs.List[len(f.Programs.List)-1].ID], f.Pods.List[1].Terminating = old, true
		}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a program is replaced just now": {all(mapsAsked, gone("cil_from_container")), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"all are replaced just now":      {all(mapsAsked, func(f *facts.Facts) { clear(f.MapUses.By) }), v1alpha1.VerdictUnknown, v1alpha1.MapUsesUnknown},
		"nobody uses the ipcache":        {all(mapsAsked, everywhere(ciliummap.Uses{Now: []string{ciliummap.EndpointsPin}})), v1alpha1.VerdictUnknown, v1alpha1.MapUsesUnknown},
		"nobody uses the endpoint map":   {all(mapsAsked, everywhere(ciliummap.Uses{Now: []string{ciliummap.IPCachePin}})), v1alpha1.VerdictUnknown, v1alpha1.MapUsesUnknown},
		"the capability is missing":      {func(f *facts.Facts) { f.MapUses = facts.MapUses{Look: broken, NotAllowed: true} }, v1alpha1.VerdictUnknown, v1alpha1.MapUsesUnknown},
		"a program is missing as well":   {all(mapsAsked, hold("cil_to_host", old), func(f *facts.Facts) { f.Programs.List = f.Programs.List[1:] }), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"sockets with the pinned ones":   {all(sockets, mapsAsked), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"sockets with old ones":          {all(sockets, mapsAsked, hold("cil_sock4_connect", services)), v1alpha1.VerdictFail, v1alpha1.ProgramUsesOldMap},
		"sockets without Services": {all(sockets, mapsAsked, func(f *facts.Facts) {
			for _, p := range f.Programs.Sockets {
				f.MapUses.By[p.ID] = ciliummap.Uses{}
			}
		}), v1alpha1.VerdictUnknown, v1alpha1.MapUsesUnknown},
	})
}

// What is not asked is never said to be proved, and the finding says what stands in its place.
func TestMapsThatNobodyAskedForAreNotProved(t *testing.T) {
	for want, change := range map[string]func(*facts.Facts){
		"is not proved, and rests on the paths that MTU proves": func(*facts.Facts) {},
		"they use the maps pinned now, 9 of them":               mapsAsked,
		"look again": func(f *facts.Facts) {
			mapsAsked(f)
			held(f, "cil_from_overlay", ciliummap.Uses{Old: []string{ciliummap.IPCachePin}})
		},
		"is not alive, so nobody will load them anew": func(f *facts.Facts) {
			mapsAsked(f)
			held(f, "cil_from_overlay", ciliummap.Uses{Old: []string{ciliummap.IPCachePin}})
			f.Liveness.Now += facts.MaxSilence
		},
	} {
		f := overlayNode()
		change(f)
		if x := find(t, Judge(f, v1alpha1.RoleOverlay, nil), v1alpha1.CheckPrograms); !strings.Contains(x.Message, want) {
			t.Errorf("%s %s does not say %q: %s", x.Verdict, x.Reason, want, x.Message)
		}
	}
}
