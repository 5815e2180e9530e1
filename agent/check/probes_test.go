// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/agent/probe"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

var (
	wholePath = facts.Probe{
		Under: probe.Path{There: probe.Found{Size: 9001, How: probe.Whole}, Back: probe.Found{Size: 9001, How: probe.Whole}},
		Over:  probe.Path{There: probe.Found{Size: 8951, How: probe.Whole}, Back: probe.Found{Size: 8951, How: probe.Whole}},
	}
	silentPath = facts.Probe{Under: probe.Path{There: probe.Found{How: probe.Silent}, Back: probe.Found{How: probe.Unclear}}}
	// lonePath is one whose tunnel nobody answers through, as from a host that aws-node masquerades.
	lonePath = facts.Probe{Under: wholePath.Under, Over: silentPath.Under}
)

// narrowPath is one that takes so much on the way there, and back.
func narrowPath(there, back int, how probe.How) facts.Probe {
	found := func(size int) probe.Found {
		if size == 9001 {
			return probe.Found{Size: size, How: probe.Whole}
		}
		return probe.Found{Size: size, How: how}
	}
	return facts.Probe{Under: probe.Path{There: found(there), Back: found(back)}}
}

// asked puts paths into the facts.
func asked(all ...facts.Probe) func(*facts.Facts) {
	return func(f *facts.Facts) {
		f.Probes = facts.Probes{Look: seen, Most: 9001}
		for i, p := range all {
			p.Peer, p.Address = fmt.Sprint("n", i+2), netip.AddrFrom4([4]byte{10, 0, byte(i + 2), 10})
			f.Probes.List = append(f.Probes.List, p)
		}
	}
}

// answered is a whole path with so many answers through the tunnel, of which the meter saw so many.
func answered(answers int, metered uint64) facts.Probe {
	p := wholePath
	p.Over.Answers, p.Metered = answers, facts.Received{Look: seen, Packets: metered}
	return p
}

// took is what the tunnel's interface took in meanwhile.
func took(packets uint64) func(*facts.Facts) {
	return func(f *facts.Facts) { f.Probes.Tunnel = facts.Received{Look: seen, Packets: packets} }
}

// TestAnswersPastTheTunnelProveNothingOfIt: a path was measured, and it was another one.
func TestAnswersPastTheTunnelProveNothingOfIt(t *testing.T) {
	unmetered := wholePath
	unmetered.Over.Answers = 6
	noMeter := func(f *facts.Facts) { f.Meter = facts.Meter{} }
	silent := func(f *facts.Facts) { f.Meter = meter() }
	tell(t, v1alpha1.CheckMTU, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"each came out of it":                             {all(asked(answered(6, 6), answered(6, 9)), took(12)), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"beside the packets of others":                    {all(asked(answered(6, 900), answered(6, 6)), took(5000)), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"nothing came out of it":                          {all(asked(answered(6, 0), answered(6, 0)), took(0)), v1alpha1.VerdictFail, v1alpha1.OverlayPastTunnel},
		"one too few came out of it":                      {all(asked(answered(6, 6), answered(6, 6)), took(11)), v1alpha1.VerdictFail, v1alpha1.OverlayPastTunnel},
		"nothing came out of it, and there is no meter":   {all(asked(unmetered), took(0), noMeter), v1alpha1.VerdictFail, v1alpha1.OverlayPastTunnel},
		"enough came out of it, and there is no meter":    {all(asked(unmetered), took(6), noMeter), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"other packets hide it from the interface":        {all(asked(answered(6, 1), answered(6, 6)), took(5000)), v1alpha1.VerdictFail, v1alpha1.OverlayPastTunnel},
		"one of three peers' past it":                     {all(asked(answered(6, 0), answered(6, 6), answered(6, 6)), took(5000)), v1alpha1.VerdictWarn, v1alpha1.OverlayPastTunnel},
		"encrypted below, which the meter cannot read":    {all(asked(answered(6, 0), answered(6, 0)), took(12), silent), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"nobody answered":                                 {all(asked(silentPath, lonePath), took(0)), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"the interface's counters are not known":          {asked(unmetered), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"nor are they, and the meter knows":               {asked(answered(6, 2)), v1alpha1.VerdictFail, v1alpha1.OverlayPastTunnel},
		"a narrow path is named only where the tunnel is": {all(asked(answered(6, 0), narrowPath(1400, 1400, probe.Tried)), took(0)), v1alpha1.VerdictFail, v1alpha1.OverlayPastTunnel},
	})
}

func TestPathsArePartOfTheMTU(t *testing.T) {
	there, back := narrowPath(1500, 1500, probe.Told), narrowPath(9001, 1500, probe.Tried)
	hole := narrowPath(1400, 1400, probe.Tried)
	overlay := wholePath
	overlay.Over.There = probe.Found{Size: 1350, How: probe.Tried}
	unclear := facts.Probe{Under: probe.Path{There: probe.Found{Size: 9001, How: probe.Whole}, Back: probe.Found{How: probe.Unclear}}}
	tell(t, v1alpha1.CheckMTU, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"every path is whole":                             {asked(wholePath, wholePath, wholePath), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"nobody answers":                                  {asked(silentPath, silentPath), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"nobody is there":                                 {asked(), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"an answer that is unclear":                       {asked(unclear, unclear), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"probing failed":                                  {func(f *facts.Facts) { f.Probes = facts.Probes{Look: broken} }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"nobody answers through the tunnel":               {asked(lonePath, lonePath), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a low hop on every path":                         {asked(there, there), v1alpha1.VerdictFail, v1alpha1.PathTooNarrow},
		"a black hole on the only path":                   {asked(hole, silentPath, silentPath), v1alpha1.VerdictFail, v1alpha1.PathTooNarrow},
		"the ways back are narrow":                        {asked(back, back), v1alpha1.VerdictFail, v1alpha1.PathTooNarrow},
		"half of the paths":                               {asked(there, wholePath), v1alpha1.VerdictFail, v1alpha1.PathTooNarrow},
		"one of three paths":                              {asked(there, wholePath, wholePath), v1alpha1.VerdictWarn, v1alpha1.PathTooNarrow},
		"the tunnel is narrow and nothing below":          {asked(overlay, overlay, wholePath), v1alpha1.VerdictFail, v1alpha1.OverlayTooNarrow},
		"the tunnel to one peer is":                       {asked(overlay, wholePath, wholePath), v1alpha1.VerdictWarn, v1alpha1.OverlayTooNarrow},
		"whole paths heal no route":                       {all(asked(wholePath), setRoute("10.244.2.0/24", func(r *facts.Route) { r.MTU = 0 })), v1alpha1.VerdictFail, v1alpha1.MTUNoRoom},
		"whole paths heal no pieces":                      {all(asked(wholePath), measures(sight{peer: n2, out: pieces(500, 9001, 9001)})), v1alpha1.VerdictFail, v1alpha1.FragmentsSent},
		"a path is nearer to the cause than what arrives": {all(asked(there), measures(sight{peer: n2, in: pieces(500, 8951, 1500)})), v1alpha1.VerdictFail, v1alpha1.PathTooNarrow},
	})
}

func TestAPathSaysWhichWayAndHowItIsNarrow(t *testing.T) {
	for want, change := range map[string]func(*facts.Facts){
		"of 2 peers asked 1 proved that 9001 bytes pass both ways, and 1 that 8951 do in the tunnel": asked(wholePath, silentPath),
		"no path was asked for": nil,
		"on the way to n2 (10.0.2.10) a hop takes 1500 bytes and says so, where 9001 are needed":                  asked(narrowPath(1500, 1500, probe.Told)),
		"on the way to n2 (10.0.2.10) the tunnel's packets of more than 1400 bytes vanish and nobody says so":     asked(narrowPath(1400, 1400, probe.Tried)),
		"on the way back from n2 (10.0.2.10) the tunnel's packets of more than 1500 bytes vanish":                 asked(narrowPath(9001, 1500, probe.Tried)),
		"so for 1 of 2 peers that answered. Compare the MTU of both nodes' NICs and of the network between their": asked(narrowPath(1500, 1500, probe.Told), wholePath),
	} {
		f := overlayNode()
		if change != nil {
			change(f)
		}
		if x := find(t, Judge(f, v1alpha1.RoleOverlay, nil), v1alpha1.CheckMTU); !strings.Contains(x.Message, want) {
			t.Errorf("%q does not say %q", x.Message, want)
		}
	}
}

func TestLargestPackets(t *testing.T) {
	for name, c := range map[string]struct {
		change       func(*facts.Facts)
		outer, inner int
	}{
		"as large as the NIC takes":        {nil, 9001, 8951},
		"smaller, if the routes say so":    {all(setRoute("10.244.2.0/24", func(r *facts.Route) { r.MTU = 1450 }), setRoute("10.244.3.0/24", func(r *facts.Route) { r.MTU = 1450 })), 1500, 1450},
		"never more than the NIC":          {setRoute("10.244.2.0/24", func(r *facts.Route) { r.MTU = 9001 }), 9001, 8951},
		"unknown without any tunnel route": {all(loseRoute("10.244.2.0/24"), loseRoute("10.244.3.0/24")), 0, 0},
	} {
		f := overlayNode()
		if c.change != nil {
			c.change(f)
		}
		if outer, inner := LargestPackets(f); outer != c.outer || inner != c.inner {
			t.Errorf("%s: %d and %d, want %d and %d", name, outer, inner, c.outer, c.inner)
		}
	}
}
