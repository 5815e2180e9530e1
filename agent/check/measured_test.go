// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/tunnelmeter"
)

// sight is what the meter has counted of one peer, both ways.
type sight struct {
	peer     netip.Addr
	in, out  tunnelmeter.Counters
	longAgo  bool // before the window
	nothing  bool // the peer said nothing
	stranger bool // nobody knows it; for the reader
}

// packets are whole ones of a size outside, 50 bytes less inside.
func packets(n uint64, size uint32) tunnelmeter.Counters {
	return tunnelmeter.Counters{Packets: n, OuterBytes: n * uint64(size), InnerBytes: n * uint64(size-overheadIPv4), OuterMax: size, InnerMax: size - overheadIPv4}
}

// pieces are packets of an inner size that came in two, the larger piece of a size.
func pieces(n uint64, inner, largest uint32) tunnelmeter.Counters {
	return tunnelmeter.Counters{
		Packets: n, OuterBytes: n * uint64(inner+overheadIPv4+20), InnerBytes: n * uint64(inner), FirstFragments: n, LaterFragments: n, OuterMax: largest, InnerMax: inner,
	}
}

func whole(peer string) sight {
	return sight{peer: ip(peer), in: packets(1000, 9001), out: packets(2000, 9001)}
}

// meter is one that has seen all of this in the last two minutes.
func meter(all ...sight) facts.Meter {
	m := facts.Meter{Look: seen, Device: "ens5", Window: 2 * time.Minute}
	m.Total.Flows, m.Recent.Flows = map[tunnelmeter.Flow]tunnelmeter.Counters{}, map[tunnelmeter.Flow]tunnelmeter.Counters{}
	for _, x := range all {
		for d, c := range []tunnelmeter.Counters{x.in, x.out} {
			if x.nothing || c == (tunnelmeter.Counters{}) {
				continue
			}
			flow := tunnelmeter.Flow{Peer: x.peer, Direction: tunnelmeter.Direction(d)}
			m.Total.Flows[flow] = c
			if !x.longAgo {
				m.Recent.Flows[flow] = c
			}
		}
	}
	return m
}

// measures puts a meter with these sights into the facts.
func measures(all ...sight) func(*facts.Facts) {
	return func(f *facts.Facts) { f.Meter = meter(all...) }
}

var (
	n2 = ip("10.0.2.10")
	n3 = ip("10.0.3.10")
)

func TestWhatIsMeasuredIsPartOfTheMTU(t *testing.T) {
	tooBig := func(n uint64, c tunnelmeter.Counters) tunnelmeter.Counters {
		c.TooBig, c.TooBigMTU = n, 1500
		return c
	}
	withDF := packets(100, 9001)
	withDF.DontFragment = 100
	wide := packets(100, 1504)
	wide.InnerBytes -= 4 * 100
	narrowRoutes := all(setRoute("10.244.2.0/24", func(r *facts.Route) { r.MTU = 1400 }), setRoute("10.244.3.0/24", func(r *facts.Route) { r.MTU = 1400 }))
	tell(t, v1alpha1.CheckMTU, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"whole packets, as large as can be": {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"small packets only":                {measures(sight{peer: n2, in: packets(9, 100), out: packets(9, 100)}), v1alpha1.VerdictPass, v1alpha1.AsWanted},

		// Nothing measured claims nothing, either way.
		"no packet at all":              {measures(), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a meter that does not work":    {func(f *facts.Facts) { f.Meter = facts.Meter{Look: broken} }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a meter at rest":               {func(f *facts.Facts) { f.Meter = facts.Meter{} }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"whole packets heal no route":   {setRoute("10.244.2.0/24", func(r *facts.Route) { r.MTU = 0 }), v1alpha1.VerdictFail, v1alpha1.MTUNoRoom},
		"whole packets prove no device": {func(f *facts.Facts) { without(f, tunnelLink) }, v1alpha1.VerdictUnknown, v1alpha1.MTUUnknown},

		"packets larger than the NIC takes are sent in pieces": {measures(sight{peer: n2, out: pieces(500, 9001, 9001)}), v1alpha1.VerdictFail, v1alpha1.FragmentsSent},
		"ten of them":                               {measures(sight{peer: n2, out: pieces(10, 9001, 9001)}), v1alpha1.VerdictFail, v1alpha1.FragmentsSent},
		"a handful of them":                         {measures(sight{peer: n2, out: pieces(9, 9001, 9001)}), v1alpha1.VerdictWarn, v1alpha1.FragmentsSent},
		"five each to two peers are ten":            {measures(sight{peer: n2, out: pieces(5, 9001, 9001)}, sight{peer: n3, out: pieces(5, 9001, 9001)}), v1alpha1.VerdictFail, v1alpha1.FragmentsSent},
		"those of an hour ago":                      {measures(sight{peer: n2, out: pieces(500, 9001, 9001), longAgo: true}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"packets that fit are sent in pieces":       {measures(sight{peer: n2, out: pieces(500, 8000, 1500)}), v1alpha1.VerdictFail, v1alpha1.FragmentsSent},
		"pieces are worse than routes that waste":   {all(narrowRoutes, measures(sight{peer: n2, out: pieces(500, 9001, 9001)})), v1alpha1.VerdictFail, v1alpha1.FragmentsSent},
		"a few are worse than routes that waste":    {all(narrowRoutes, measures(sight{peer: n2, out: pieces(1, 9001, 9001)})), v1alpha1.VerdictWarn, v1alpha1.FragmentsSent},
		"pieces are told where no route is":         {all(loseRoute("10.244.2.0/24"), loseRoute("10.244.3.0/24"), measures(sight{peer: n2, out: pieces(500, 9001, 9001)})), v1alpha1.VerdictFail, v1alpha1.FragmentsSent},
		"a few do not settle what is not known":     {all(func(f *facts.Facts) { without(f, tunnelLink) }, measures(sight{peer: n2, out: pieces(2, 9001, 9001)})), v1alpha1.VerdictUnknown, v1alpha1.MTUUnknown},
		"the cause is named rather than the pieces": {all(setRoute("10.244.2.0/24", func(r *facts.Route) { r.MTU = 9001 }), measures(sight{peer: n2, out: pieces(500, 9001, 9001)})), v1alpha1.VerdictFail, v1alpha1.MTUNoRoom},

		// Another node's packets are that node's, unless this one is what they have in common.
		"pieces from one peer":                     {measures(sight{peer: n2, in: pieces(500, 9001, 9001)}, whole("10.0.3.10")), v1alpha1.VerdictWarn, v1alpha1.FragmentsReceived},
		"pieces from the only peer that spoke":     {measures(sight{peer: n2, in: pieces(500, 8951, 1500)}), v1alpha1.VerdictWarn, v1alpha1.FragmentsReceived},
		"pieces from every peer":                   {measures(sight{peer: n2, in: pieces(500, 8951, 1500)}, sight{peer: n3, in: pieces(500, 8951, 1500)}), v1alpha1.VerdictFail, v1alpha1.FragmentsReceived},
		"a few pieces from every peer":             {measures(sight{peer: n2, in: pieces(9, 8951, 1500)}, sight{peer: n3, in: pieces(9, 8951, 1500)}), v1alpha1.VerdictWarn, v1alpha1.FragmentsReceived},
		"a third peer's small packets say nothing": {all(knows("10.0.4.10"), measures(sight{peer: n2, in: pieces(500, 8951, 1500)}, sight{peer: n3, in: pieces(500, 8951, 1500)}, sight{peer: ip("10.0.4.10"), in: packets(50, 100)})), v1alpha1.VerdictFail, v1alpha1.FragmentsReceived},
		"a third peer's large packets come whole":  {all(knows("10.0.4.10"), measures(sight{peer: n2, in: pieces(500, 8951, 1500)}, sight{peer: n3, in: pieces(500, 8951, 1500)}, sight{peer: ip("10.0.4.10"), in: packets(50, 9001)})), v1alpha1.VerdictWarn, v1alpha1.FragmentsReceived},
		"a stranger's pieces":                      {measures(whole("10.0.2.10"), sight{peer: ip("192.0.2.1"), in: pieces(9000, 9001, 9001), stranger: true}, sight{peer: ip("192.0.2.2"), in: pieces(9000, 9001, 9001), stranger: true}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"own pieces come before others'":           {measures(sight{peer: n2, in: pieces(500, 8951, 1500), out: pieces(500, 9001, 9001)}), v1alpha1.VerdictFail, v1alpha1.FragmentsSent},

		"routers report packets that had DF":          {measures(sight{peer: n2, out: tooBig(10, withDF)}), v1alpha1.VerdictFail, v1alpha1.TooBigReported},
		"routers report a few":                        {measures(sight{peer: n2, out: tooBig(9, withDF)}), v1alpha1.VerdictWarn, v1alpha1.TooBigReported},
		"reports about packets without DF are forged": {measures(sight{peer: n2, out: tooBig(500, packets(100, 9001))}), v1alpha1.VerdictWarn, v1alpha1.TooBigReported},
		"a stranger's reports":                        {measures(whole("10.0.2.10"), sight{peer: ip("192.0.2.1"), out: tooBig(500, withDF), stranger: true}), v1alpha1.VerdictPass, v1alpha1.AsWanted},

		"four bytes too many on each": {measures(sight{peer: n2, out: wide}), v1alpha1.VerdictWarn, v1alpha1.OverheadUnexpected},
		"pieces explain their bytes":  {measures(sight{peer: n2, out: pieces(5, 100, 100), longAgo: true}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
	})
}

// knows makes an address that of a peer that Cilium sends to.
func knows(peer string) func(*facts.Facts) {
	return func(f *facts.Facts) {
		e, _ := f.IPCache.Entries.Get(cidr("10.244.2.0/24"))
		e.Tunnel = ip(peer)
		setRemote(f, "10.244.4.0/24", e)
	}
}

// TestTheMTUSaysWhatItRestsOn: a Pass by the configuration alone must not read like one that was measured.
func TestTheMTUSaysWhatItRestsOn(t *testing.T) {
	for want, change := range map[string]func(*facts.Facts){
		"measured: 6000 packets lately, none cut, 50.000 bytes added to each, the largest 9001": nil,
		"not measured, because no packet of a peer has passed the tunnel meter yet":             measures(sight{peer: ip("192.0.2.1"), in: packets(50, 100)}),
		"not measured, because the tunnel meter does not work":                                  func(f *facts.Facts) { f.Meter = facts.Meter{Look: broken} },
		"not measured, because the tunnel meter is at rest":                                     func(f *facts.Facts) { f.Meter = facts.Meter{} },
		"the overlay's MTU is too large":                                                        measures(sight{peer: n2, out: pieces(500, 9001, 9001)}),
		"the kernel has heard of a narrower path to 10.0.2.10":                                  measures(sight{peer: n2, out: pieces(500, 8000, 1500)}),
		"a hop before this node is too narrow":                                                  measures(sight{peer: n2, in: pieces(500, 8951, 1500)}, sight{peer: n3, in: pieces(500, 8951, 1500)}),
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

// TestANodeWhosePeersAreSilentIsNotInDoubt: the finding says Unknown, and the verdict that people see is that of the others.
func TestANodeWhosePeersAreSilentIsNotInDoubt(t *testing.T) {
	f := overlayNode()
	measures()(f)
	if w := Worst(Judge(f, v1alpha1.RoleOverlay, nil)); w != v1alpha1.VerdictPass {
		t.Errorf("the worst is %s", w)
	}
}

func TestTunnelMeter(t *testing.T) {
	stranger := sight{peer: ip("192.0.2.1"), in: packets(50, 100), stranger: true}
	tell(t, v1alpha1.CheckTunnelMeter, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"packets both ways":        {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"packets a while ago":      {measures(sight{peer: n2, in: packets(1, 100), longAgo: true}), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"no packet":                {measures(), v1alpha1.VerdictUnknown, v1alpha1.NothingMeasured},
		"only a stranger's":        {measures(stranger), v1alpha1.VerdictUnknown, v1alpha1.NothingMeasured},
		"nobody's peers are known": {all(func(f *facts.Facts) { f.IPCache, f.Peers = facts.IPCache{Look: broken}, facts.Peers{Look: broken} }), v1alpha1.VerdictUnknown, v1alpha1.NothingMeasured},
		"at rest":                  {func(f *facts.Facts) { f.Meter = facts.Meter{} }, v1alpha1.VerdictNotAsked, v1alpha1.MeterAtRest},
		"without the capability":   {func(f *facts.Facts) { f.Meter = facts.Meter{Look: broken, NotAllowed: true} }, v1alpha1.VerdictUnknown, v1alpha1.MeterNotAllowed},
		"broken":                   {func(f *facts.Facts) { f.Meter = facts.Meter{Look: broken} }, v1alpha1.VerdictUnknown, v1alpha1.MeterFailed},
	})
}
