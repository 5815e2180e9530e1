// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"testing"
)

func TestSinceIsWhatWasCountedInBetween(t *testing.T) {
	flow := Flow{peer(), Ingress}
	full := func(n uint64) Counters {
		return Counters{Packets: n, OuterBytes: 100 * n, InnerBytes: 50 * n, DontFragment: n, FirstFragments: n, LaterFragments: n, TooBig: n, OuterMax: uint32(n), InnerMax: uint32(n), TooBigMTU: 1400}
	}
	delta := full(4)
	delta.OuterMax, delta.InnerMax = 7, 7 // since the start
	some := Strays{IPv6SKBs: 1, IPv6Bytes: 2, Malformed: 3}
	cases := map[string]struct{ before, now, want Reading }{
		"moved":     {Reading{Flows: map[Flow]Counters{flow: full(3)}}, Reading{Flows: map[Flow]Counters{flow: full(7)}}, Reading{Flows: map[Flow]Counters{flow: delta}}},
		"still":     {Reading{Flows: map[Flow]Counters{flow: full(3)}}, Reading{Flows: map[Flow]Counters{flow: full(3)}}, Reading{}},
		"new":       {Reading{}, Reading{Flows: map[Flow]Counters{flow: full(3)}}, Reading{Flows: map[Flow]Counters{flow: full(3)}}},
		"evicted":   {Reading{Flows: map[Flow]Counters{flow: full(3)}}, Reading{}, Reading{}},
		"began new": {Reading{Flows: map[Flow]Counters{flow: full(9)}}, Reading{Flows: map[Flow]Counters{flow: full(3)}}, Reading{Flows: map[Flow]Counters{flow: full(3)}}},
		"strays":    {Reading{}, Reading{Strays: [2]Strays{Egress: some}}, Reading{Strays: [2]Strays{Egress: some}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { diff(t, c.want, c.now.Since(c.before)) })
	}
}

func TestCPUsAddUp(t *testing.T) {
	a := Counters{1, 2, 3, 4, 5, 6, 7, 1500, 1450, 1400, 0}
	b := Counters{10, 20, 30, 40, 50, 60, 70, 1400, 1460, 1300, 0}
	if got, want := a.Plus(b).Plus(Counters{}), (Counters{11, 22, 33, 44, 55, 66, 77, 1500, 1460, 1300, 0}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestOverheadOfNothingIsUnknown(t *testing.T) {
	if _, ok := (Counters{TooBig: 1}).Overhead(); ok {
		t.Error("no packet, and yet an overhead")
	}
	if v, ok := (Counters{Packets: 4, OuterBytes: 1000, InnerBytes: 800}).Overhead(); !ok || v != 50 {
		t.Errorf("%v, %v", v, ok)
	}
}
