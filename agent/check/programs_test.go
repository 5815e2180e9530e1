// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

func onCgroups(names ...string) (out []facts.SocketProgram) {
	for _, name := range names {
		out = append(out, facts.SocketProgram{Name: name})
	}
	return out
}

func TestPrograms(t *testing.T) {
	lose := func(name string) func(*facts.Facts) {
		return func(f *facts.Facts) {
			f.Programs.List = slices.DeleteFunc(f.Programs.List, func(p facts.Program) bool { return p.Name == name })
		}
	}
	pinned := func(names ...string) func(*facts.Facts) {
		return func(f *facts.Facts) { f.Pins.Names = append(f.Pins.Names, names...) }
	}
	toNetdev := func(f *facts.Facts) {
		f.Programs.List = append(f.Programs.List, facts.Program{Name: "cil_to_netdev", Link: ixNIC, Egress: true, Via: "tcx"})
	}
	sockets := func(names ...string) func(*facts.Facts) {
		return func(f *facts.Facts) { f.Programs.Sockets = onCgroups(names...) }
	}
	socketsOnce := func(f *facts.Facts) { f.Programs.SocketsOnce = true }
	socketLB := func(on bool) func(*facts.Facts) { return func(f *facts.Facts) { f.Status.SocketLB = &on } }
	nodePorts := all(pinned(ciliummap.NATPin, ciliummap.NeighborsPin), toNetdev)
	replacing := all(nodePorts, socketsOnce, sockets(socketPrograms()...))
	tell(t, v1alpha1.CheckPrograms, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"by tcx": {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"by tc": {func(f *facts.Facts) {
			for i := range f.Programs.List {
				f.Programs.List[i].Via = "tc"
			}
		}, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"none yet":         {func(f *facts.Facts) { f.Programs.List = nil }, v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"not on the NIC":   {lose("cil_from_netdev"), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"not to overlay":   {lose("cil_to_overlay"), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"not from host":    {lose("cil_from_host"), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"not to host":      {lose("cil_to_host"), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"no pod has one":   {lose("cil_from_container"), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"one pod has none": {func(f *facts.Facts) { f.Programs.List = f.Programs.List[:len(f.Programs.List)-1] }, v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"a pod that ends has none": {func(f *facts.Facts) {
			f.Programs.List, f.Pods.List[1].Terminating = f.Programs.List[:len(f.Programs.List)-1], true
		}, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a pod on netkit has its program elsewhere": {func(f *facts.Facts) {
			f.Programs.List = f.Programs.List[:len(f.Programs.List)-1]
			edit(f, "lxcbbbbbbbbbbbb", func(l *facts.Link) { l.Kind = "netkit" })
		}, v1alpha1.VerdictPass, v1alpha1.AsWanted},
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
		"nothing is pinned": {func(f *facts.Facts) {
			f.Pins = facts.Pins{Look: facts.Look{Sight: facts.Absent}}
		}, v1alpha1.VerdictUnknown, v1alpha1.HostUnreadable},

		"kube-proxy replacement":                          {replacing, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"replacement without the NIC's egress":            {all(replacing, lose("cil_to_netdev")), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"replacement with no sockets":                     {all(replacing, sockets()), v1alpha1.VerdictUnknown, v1alpha1.ModeUnclear},
		"replacement without UDP":                         {all(replacing, sockets("cil_sock4_connect", "cil_sock6_connect")), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"node ports of 1.18 beside kube-proxy":            {nodePorts, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"node ports of 1.18 without the program":          {pinned(ciliummap.NATPin, ciliummap.NeighborsPin), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"node ports of 1.18 after replacement":            {all(nodePorts, socketsOnce), v1alpha1.VerdictUnknown, v1alpha1.ModeUnclear},
		"node ports of 1.18 and sockets":                  {all(nodePorts, socketsOnce, sockets(socketPrograms()...)), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"node ports where the sockets could not be read":  {all(nodePorts, func(f *facts.Facts) { f.Programs.Look = broken }), v1alpha1.VerdictUnknown, v1alpha1.HostUnreadable},
		"replacement with no sockets, as Cilium says":     {all(replacing, sockets(), socketLB(true)), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"node ports after replacement, as Cilium says":    {all(nodePorts, socketsOnce, socketLB(false)), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"sockets alone, none yet, as Cilium says":         {socketLB(true), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"what an agent said that is not to be seen":       {all(nodePorts, socketsOnce, socketLB(false), func(f *facts.Facts) { f.Status.Sight = facts.Failed }), v1alpha1.VerdictUnknown, v1alpha1.ModeUnclear},
		"BPF masquerade of 1.19 beside kube-proxy":        {all(pinned(ciliummap.NATPin), toNetdev), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"BPF masquerade of 1.19 without the program":      {pinned(ciliummap.NATPin), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"BPF masquerade of 1.20 after replacement":        {nodePorts, v1alpha1.VerdictPass, v1alpha1.AsWanted}, // which removes the sockets' directory
		"kube-proxy after replacement":                    {all(pinned(ciliummap.NeighborsPin), socketsOnce), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a pin that an earlier replacement left":          {pinned(ciliummap.NeighborsPin), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"the NIC's egress for another feature":            {toNetdev, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"sockets alone":                                   {all(socketsOnce, sockets(socketPrograms()...)), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"sockets alone, half of them":                     {all(socketsOnce, sockets("cil_sock4_connect")), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
		"a missing program beside sockets that are there": {all(replacing, lose("cil_to_overlay")), v1alpha1.VerdictFail, v1alpha1.ProgramMissing},
	})
}

// The VPC CNI's pods lose paths as soon as Cilium translates at the NIC of their node (measured with Cilium 1.18.11).
func TestAnOldNodeMustKeepKubeProxy(t *testing.T) {
	replacing := func(f *facts.Facts) {
		f.Pins.Names = append(f.Pins.Names, ciliummap.NATPin)
		f.Programs.List = append(f.Programs.List, facts.Program{Name: "cil_to_netdev", Link: ixNIC, Egress: true, Via: "tcx"})
	}
	tell(t, v1alpha1.CheckPrograms, v1alpha1.RoleLegacy, legacyNode, map[string]tale{
		"kube-proxy":     {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"BPF masquerade": {replacing, v1alpha1.VerdictFail, v1alpha1.ModeTooEarly},
	})
	tell(t, v1alpha1.CheckPrograms, v1alpha1.RoleMixed, legacyNode, map[string]tale{
		"is to be replaced whatever its mode": {replacing, v1alpha1.VerdictPass, v1alpha1.AsWanted},
	})
}

// A missing program means different things to whoever has to mend it.
func TestWhyAProgramIsMissingIsTold(t *testing.T) {
	for want, change := range map[string]func(*facts.Facts){
		"look again":   func(*facts.Facts) {},
		"is not alive": func(f *facts.Facts) { f.Liveness.Now += time.Hour },
		"holds the tunnel's UDP": func(f *facts.Facts) {
			l := link(77, "flannel.1", "vxlan", 1450)
			l.VXLAN = &facts.VXLAN{Port: 8472, VNI: 1}
			f.Links.List = append(f.Links.List, l)
		},
		"see the log of Cilium's": func(f *facts.Facts) { f.Liveness = facts.Liveness{Look: broken} },
	} {
		f := overlayNode()
		f.Programs.List = nil
		change(f)
		if x := find(t, Judge(f, v1alpha1.RoleOverlay, nil), v1alpha1.CheckPrograms); x.Reason != v1alpha1.ProgramMissing || !strings.Contains(x.Message, want) {
			t.Errorf("%s (%s) does not say %q", x.Reason, x.Message, want)
		}
	}
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
