// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab"
)

// hand does something to a node.
type hand func(ctx context.Context, s *scene, host lab.Host) error

// trouble is something that can be done to a node and undone.
type trouble struct{ plant, cure hand }

// said is what one check answers.
type said struct {
	check   v1alpha1.CheckName
	verdict v1alpha1.Verdict
	reason  v1alpha1.Reason
}

func fails(c v1alpha1.CheckName, r v1alpha1.Reason) said { return said{c, v1alpha1.VerdictFail, r} }
func warns(c v1alpha1.CheckName, r v1alpha1.Reason) said { return said{c, v1alpha1.VerdictWarn, r} }
func doubts(c v1alpha1.CheckName, r v1alpha1.Reason) said {
	return said{c, v1alpha1.VerdictUnknown, r}
}

// fault is something wrong with one node, and the check that names it. Others may follow from it; every check that is not in the
// row must answer as it does on a node that is well.
type fault struct {
	name string
	trouble
	said
	follows []said
}

// faults are those that a roll must not survive unnoticed. None of them shows in a pod's or in the node's readiness. They keep nothing between plant
// and cure: what one list planted, another may cure.
func faults() []fault {
	return []fault{
		{"a stranger's conflist sorts first", conflist("00-stranger.conflist", strangerConf), fails(v1alpha1.CheckConflist, v1alpha1.ConflistForeignFirst), nil},
		{
			"cilium_vxlan has a larger MTU than the NIC", commands("ip link set cilium_vxlan mtu 9101", "ip link set cilium_vxlan mtu 9001"),
			fails(v1alpha1.CheckTunnelDevice, v1alpha1.TunnelWrongMTU), []said{fails(v1alpha1.CheckMTU, v1alpha1.MTUNoRoom)},
		},
		{"cilium_vxlan is down", commands("ip link set cilium_vxlan down", "ip link set cilium_vxlan up"), fails(v1alpha1.CheckTunnelDevice, v1alpha1.TunnelDown), nil},
		{"a peer is missing from the map", peerEntry(nil), fails(v1alpha1.CheckOverlayMaps, v1alpha1.PeerMissing), nil},
	}
}

// TestFaultsAreNamed plants each fault on a node, asks that node's agent, and cures it again: one challenge each, no roll. Two
// nodes suffer: an old one, and one that joined behind the fence.
func TestFaultsAreNamed(t *testing.T) {
	s := standing(t)
	s.harms(t)
	old := s.hosts(t)[0]
	fresh := s.join(t)

	s.suffer(t, old, v1alpha1.RoleLegacy, slices.Concat(netdFaults(), deviceFaults(), programFaults(), ownerFaults(), mapFaults(), serviceFaults(), legacyPodFaults(), dropFaults()))
	s.peersOfAge(t, fresh.Name)
	s.suffer(t, old, v1alpha1.RoleLegacy, slices.Concat(faults(), peerFaults(), routeFaults()))
	s.suffer(t, fresh, v1alpha1.RoleOverlay, slices.Concat(joiningFaults(), overlayNetdFaults()))
	s.must(t, newPod(resident)(t.Context(), s, fresh))
	s.suffer(t, fresh, v1alpha1.RoleOverlay, slices.Concat(podFaults(), residueFaults()))
	s.mixed(t, fresh)
}

// suffer plants one fault after the other on a node.
func (s *scene) suffer(t *testing.T, host lab.Host, role v1alpha1.Role, all []fault) {
	t.Helper()
	for _, f := range all {
		sick := false
		t.Run(fmt.Sprintf("%s/%s", role, f.name), func(t *testing.T) {
			sick = true
			s.must(t, f.plant(t.Context(), s, host))
			answer, err := s.answer(t.Context(), host.Name, role)
			s.must(t, f.cure(t.Context(), s, host))
			s.must(t, err)
			want := well(role)
			for _, x := range append([]said{f.said}, f.follows...) {
				want[x.check] = x
			}
			if wrong := differs(want, answer); wrong != "" {
				t.Error(wrong)
			}
			s.recovers(t, host, role)
			sick = false
		})
		if sick {
			t.Fatalf("%s is not cured of %q, so what it says of other faults tells nothing", host.Name, f.name)
		}
	}
}

// recovers waits until a node passes again; what a restart of Cilium cures takes a few seconds.
func (s *scene) recovers(t *testing.T, host lab.Host, role v1alpha1.Role) {
	t.Helper()
	s.eventually(t, 30*time.Second, func() string {
		answer, err := s.answer(t.Context(), host.Name, role)
		s.must(t, err)
		return differs(well(role), answer)
	})
}

// well is what a node without any fault answers. What the tunnel meter has seen by then is chance: TestTheTunnelIsMeasured has it.
func well(role v1alpha1.Role) map[v1alpha1.CheckName]said {
	out := map[v1alpha1.CheckName]said{}
	for _, c := range check.Names() {
		out[c] = said{c, v1alpha1.VerdictPass, v1alpha1.AsWanted}
	}
	if role == v1alpha1.RoleLegacy {
		out[v1alpha1.CheckLegacyResidue] = said{v1alpha1.CheckLegacyResidue, v1alpha1.VerdictPass, v1alpha1.NotOnThisRole}
	}
	return out
}

// differs says which findings of an answer are not the ones that are wanted, "" if none.
func differs(want map[v1alpha1.CheckName]said, answer v1alpha1.NodeCutoverStatus) string {
	want = maps.Clone(want)
	var wrong []string
	for _, f := range answer.Findings {
		// An agent that has just started has nothing to compare with, and peers that have not spoken nothing to be measured by; how far
		// Cilium's own probes got since a fault was planted or cured is chance.
		if f.Reason == v1alpha1.DropsUnmeasured || f.Reason == v1alpha1.NothingMeasured || f.Reason == v1alpha1.CiliumProbesFail && want[f.Check].verdict == v1alpha1.VerdictPass {
			delete(want, f.Check)
			continue
		}
		if x := want[f.Check]; f.Verdict != x.verdict || f.Reason != x.reason || f.Message == "" {
			wrong = append(wrong, fmt.Sprintf("%s = %s %s (%s), want %s %s", f.Check, f.Verdict, f.Reason, f.Message, x.verdict, x.reason))
		}
		delete(want, f.Check)
	}
	for c := range want {
		wrong = append(wrong, fmt.Sprintf("the answer holds no finding of %s", c))
	}
	slices.Sort(wrong)
	return strings.Join(wrong, "\n")
}
