// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// shown is one packet, as an interface would show it.
type shown struct {
	direction Direction
	packet    packet
	gso       int // bytes of payload in each segment; 0: not a super-packet
}

func in(p packet) shown             { return shown{direction: Ingress, packet: p} }
func out(p packet) shown            { return shown{direction: Egress, packet: p} }
func (s shown) split(gso int) shown { s.gso = gso; return s }

// bend changes bytes at an offset.
func (p packet) bend(offset int, bytes ...byte) packet {
	copy(p[offset:], bytes)
	return p
}

func innerUDP(payload int) packet {
	return packet{}.ip4(ip4{src: netip.MustParseAddr("10.244.1.5"), dst: netip.MustParseAddr("10.244.2.5"), protocol: 17, payload: 8 + payload}).
		udp(53, payload).zeros(payload)
}

func innerTCP6(payload int) packet { return packet{}.ip6(6, 20+payload).tcp(0).zeros(payload) }

// Offsets into a packet of tunnelled, without options.
const (
	atOuterLength = 14 + 2
	atFlags       = 14 + 20 + 8
	atInnerType   = atFlags + 8 + 12
	atInner       = atInnerType + 2
)

// fragmented is a datagram of the tunnel in two: behind their headers the first has 1,400 bytes, the other the rest.
func fragmented(d Direction, id uint16, rest int) (first, later packet) {
	whole := tunnelled(d, innerTCP(1400+rest-82), ip4{id: id, fragment: 0x2000})
	h := ip4{src: local(), dst: peer(), protocol: 17, id: id, fragment: 1400 / 8, payload: len(whole) - 34 - 1400}
	if d == Ingress {
		h.src, h.dst = h.dst, h.src
	}
	first = append(packet{}, whole[:34+1400]...)
	binary.BigEndian.PutUint16(first[atOuterLength:], 20+1400)
	return first, append(ethernet(0x0800).ip4(h), whole[34+1400:]...)
}

// tooBig is what a router answers to a packet of the tunnel, or of another program if the port is another.
func tooBig(mtu uint16, port uint16, from, to netip.Addr) packet {
	quoted := packet{}.ip4(ip4{src: from, dst: to, protocol: 17, fragment: 0x4000, payload: 1400}).udp(port, 1392)
	p := ethernet(0x0800).ip4(ip4{src: netip.MustParseAddr("192.168.9.9"), dst: local(), protocol: 1, payload: 8 + len(quoted)})
	p = append(p, 3, 4, 0, 0, 0, 0, byte(mtu>>8), byte(mtu))
	return append(p, quoted...)
}

type tale struct {
	shown  []shown
	want   map[Flow]Counters
	strays [2]Strays
}

func tales() map[string]tale {
	received, sent := Flow{peer(), Ingress}, Flow{peer(), Egress}
	one := func(f Flow, c Counters) map[Flow]Counters { return map[Flow]Counters{f: c} }
	whole := Counters{Packets: 1, OuterBytes: 202, InnerBytes: 152, OuterMax: 202, InnerMax: 152}
	badOnce := [2]Strays{Ingress: {Malformed: 1}}
	first, later := fragmented(Ingress, 7, 100)
	_, othersLater := fragmented(Ingress, 8, 100)
	firstOfTwo, oneByte := fragmented(Ingress, 9, 1)
	sentWhole := out(tunnelled(Egress, innerTCP(100), ip4{}))
	heard := func(n uint64, mtu uint32) map[Flow]Counters {
		c := whole
		c.TooBig, c.TooBigMTU = n, mtu
		return one(sent, c)
	}
	return map[string]tale{
		"received from the peer":    {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{}))}, want: one(received, whole)},
		"sent to the peer":          {shown: []shown{sentWhole}, want: one(sent, whole)},
		"bytes add, maxima do not":  {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{})), in(tunnelled(Ingress, innerTCP(20), ip4{}))}, want: one(received, Counters{Packets: 2, OuterBytes: 324, InnerBytes: 224, OuterMax: 202, InnerMax: 152})},
		"DF":                        {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{fragment: 0x4000}))}, want: one(received, Counters{Packets: 1, OuterBytes: 202, InnerBytes: 152, DontFragment: 1, OuterMax: 202, InnerMax: 152})},
		"outer options":             {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{options: 8}))}, want: one(received, Counters{Packets: 1, OuterBytes: 210, InnerBytes: 152, OuterMax: 210, InnerMax: 152})},
		"inner IPv6":                {shown: []shown{in(tunnelled(Ingress, innerTCP6(100), ip4{}))}, want: one(received, Counters{Packets: 1, OuterBytes: 210, InnerBytes: 160, OuterMax: 210, InnerMax: 160})},
		"inner ARP":                 {shown: []shown{in(tunnelled(Ingress, make(packet, 28), ip4{}).bend(atInnerType, 8, 6))}, want: one(received, Counters{Packets: 1, OuterBytes: 78, InnerBytes: 28, OuterMax: 78, InnerMax: 28})},
		"padding is not inner":      {shown: []shown{in(tunnelled(Ingress, innerTCP(100).zeros(6), ip4{}))}, want: one(received, Counters{Packets: 1, OuterBytes: 208, InnerBytes: 152, OuterMax: 208, InnerMax: 152})},
		"padding is not outer":      {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{}).zeros(6))}, want: one(received, whole)},
		"another port":              {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{}).bend(36, 0x21, 0x18))}},
		"the port, but TCP":         {shown: []shown{in(ethernet(0x0800).ip4(ip4{src: peer(), dst: local(), protocol: 6, payload: 20}).udp(testPort, 12).zeros(12))}},
		"the port as source":        {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{}).bend(34, testPort>>8, testPort&0xff, 0x9c, 0x40))}},
		"IPv6 underlay":             {shown: []shown{in(ethernet(0x86dd).ip6(17, 108).udp(testPort, 100).zeros(100))}, strays: [2]Strays{Ingress: {IPv6SKBs: 1, IPv6Bytes: 148}}},
		"IPv6 on another port":      {shown: []shown{in(ethernet(0x86dd).ip6(17, 108).udp(53, 100).zeros(100))}},
		"no VNI":                    {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{}).bend(atFlags, 0))}, strays: badOnce},
		"outer shorter than itself": {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{}).bend(atOuterLength, 0, 60))}, strays: badOnce},
		"outer longer than frame":   {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{}).bend(atOuterLength, 4, 0))}, strays: badOnce},
		"inner longer than outer":   {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{}).bend(atInner+2, 4, 0))}, strays: badOnce},
		"inner of length 0":         {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{}).bend(atInner+2, 0, 0))}, strays: badOnce},
		"inner header of 16 bytes":  {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{}).bend(atInner, 0x44))}, strays: badOnce},
		// 2,500 bytes of payload in segments of 1,000: 1052, 1052, 552 inner, each with 50 around it.
		"super-packet received":             {shown: []shown{in(tunnelled(Ingress, innerTCP(2500), ip4{})).split(1000)}, want: one(received, Counters{Packets: 3, OuterBytes: 2806, InnerBytes: 2656, OuterMax: 1102, InnerMax: 1052})},
		"super-packet sent":                 {shown: []shown{out(tunnelled(Egress, innerTCP(2500), ip4{fragment: 0x4000})).split(1000)}, want: one(sent, Counters{Packets: 3, OuterBytes: 2806, InnerBytes: 2656, DontFragment: 3, OuterMax: 1102, InnerMax: 1052})},
		"super-packet of whole segments":    {shown: []shown{in(tunnelled(Ingress, innerTCP(3000), ip4{})).split(1000)}, want: one(received, Counters{Packets: 3, OuterBytes: 3306, InnerBytes: 3156, OuterMax: 1102, InnerMax: 1052})},
		"super-packet of one segment":       {shown: []shown{in(tunnelled(Ingress, innerTCP(100), ip4{})).split(1000)}, want: one(received, whole)},
		"super-packet of UDP":               {shown: []shown{in(tunnelled(Ingress, innerUDP(2500), ip4{})).split(1000)}, want: one(received, Counters{Packets: 3, OuterBytes: 2734, InnerBytes: 2584, OuterMax: 1078, InnerMax: 1028})},
		"super-packet of IPv6":              {shown: []shown{in(tunnelled(Ingress, innerTCP6(2500), ip4{})).split(1000)}, want: one(received, Counters{Packets: 3, OuterBytes: 2830, InnerBytes: 2680, OuterMax: 1110, InnerMax: 1060})},
		"super-packet with options":         {shown: []shown{in(tunnelled(Ingress, innerTCP(2500), ip4{options: 8})).split(1000)}, want: one(received, Counters{Packets: 3, OuterBytes: 2830, InnerBytes: 2656, OuterMax: 1110, InnerMax: 1052})},
		"super-packet that says length 0":   {shown: []shown{in(tunnelled(Ingress, innerTCP(2500), ip4{}).bend(atOuterLength, 0, 0).bend(atInner+2, 0, 0)).split(1000)}, want: one(received, Counters{Packets: 3, OuterBytes: 2806, InnerBytes: 2656, OuterMax: 1102, InnerMax: 1052})},
		"super-packet cut by its fragments": {shown: []shown{in(tunnelled(Ingress, innerTCP(2500), ip4{})).split(0xffff)}, want: one(received, Counters{Packets: 1, OuterBytes: 2602, InnerBytes: 2552, OuterMax: 2602, InnerMax: 2552})},
		"both fragments":                    {shown: []shown{in(first), in(later)}, want: one(received, Counters{Packets: 1, OuterBytes: 1540, InnerBytes: 1470, FirstFragments: 1, LaterFragments: 1, OuterMax: 1420, InnerMax: 1470})},
		"a later fragment of others":        {shown: []shown{in(first), in(othersLater)}, want: one(received, Counters{Packets: 1, OuterBytes: 1420, InnerBytes: 1470, FirstFragments: 1, OuterMax: 1420, InnerMax: 1470})},
		"a later fragment the other way":    {shown: []shown{in(first), out(later)}, want: one(received, Counters{Packets: 1, OuterBytes: 1420, InnerBytes: 1470, FirstFragments: 1, OuterMax: 1420, InnerMax: 1470})},
		"a last fragment of one byte":       {shown: []shown{in(firstOfTwo), in(oneByte)}, want: one(received, Counters{Packets: 1, OuterBytes: 1441, InnerBytes: 1371, FirstFragments: 1, LaterFragments: 1, OuterMax: 1420, InnerMax: 1371})},
		"a later fragment alone":            {shown: []shown{in(later)}},
		"too big":                           {shown: []shown{sentWhole, in(tooBig(1400, testPort, local(), peer()))}, want: heard(1, 1400)},
		"too big, the smallest MTU":         {shown: []shown{sentWhole, in(tooBig(1400, testPort, local(), peer())), in(tooBig(1300, testPort, local(), peer())), in(tooBig(1350, testPort, local(), peer()))}, want: heard(3, 1300)},
		"too big without an MTU":            {shown: []shown{sentWhole, in(tooBig(0, testPort, local(), peer()))}, want: heard(1, 0)},
		"too big about another port":        {shown: []shown{sentWhole, in(tooBig(1400, 53, local(), peer()))}, want: heard(0, 0)},
		"too big about another's packet":    {shown: []shown{sentWhole, in(tooBig(1400, testPort, netip.MustParseAddr("192.168.0.7"), peer()))}, want: heard(0, 0)},
		"too big about a stranger":          {shown: []shown{sentWhole, in(tooBig(1400, testPort, local(), netip.MustParseAddr("192.168.0.7")))}, want: heard(0, 0)},
		"too big that we pass on":           {shown: []shown{sentWhole, out(tooBig(1400, testPort, local(), peer()))}, want: heard(0, 0)},
		"port unreachable":                  {shown: []shown{sentWhole, in(tooBig(1400, testPort, local(), peer()).bend(35, 3))}, want: heard(0, 0)},
	}
}

func eachAccess(t *testing.T, f func(*testing.T, Access)) {
	for _, access := range []Access{Direct, Copied} {
		t.Run(string(access), func(t *testing.T) { f(t, access) })
	}
}

func TestAPacketIsCountedAsItIsOnTheWire(t *testing.T) {
	eachAccess(t, func(t *testing.T, access Access) {
		for name, tale := range tales() {
			t.Run(name, func(t *testing.T) {
				m := program(t, variant{access: access})
				var before Reading
				for range 2 { // of a stranger, and of a peer that is known
					for _, s := range tale.shown {
						m.show(t, s.direction, append(packet{}, s.packet...), s.gso)
					}
					after := m.read(t)
					diff(t, Reading{tale.want, tale.strays}, after.Since(before))
					before = after
				}
			})
		}
	})
}

func diff(tb testing.TB, want, got Reading) {
	tb.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.IgnoreFields(Counters{}, "_")); d != "" {
		tb.Errorf("counted (-want +got):\n%s", d)
	}
}

// shortest is what a test run takes of a packet, in bytes: an Ethernet header, and a whole IP header if that says one.
func shortest(p packet) int {
	switch binary.BigEndian.Uint16(p[12:]) {
	case 0x0800:
		return 14 + 20
	case 0x86dd:
		return 14 + 40
	}
	return 14
}

// A packet that ends anywhere before its end has no length that could be believed.
func TestATruncatedPacketEntersNoFlow(t *testing.T) {
	eachAccess(t, func(t *testing.T, access Access) {
		m := program(t, variant{access: access})
		whole := tunnelled(Ingress, innerTCP(30), ip4{})
		for n := shortest(whole); n < len(whole); n++ {
			m.show(t, Ingress, whole[:n:n], 0)
		}
		r := m.read(t)
		if len(r.Flows) != 0 {
			t.Errorf("flows: %v", r.Flows)
		}
		if behindThePort := uint64(len(whole) - 38); r.Strays[Ingress].Malformed != behindThePort {
			t.Errorf("%d malformed, want the %d that show their port", r.Strays[Ingress].Malformed, behindThePort)
		}
	})
}

// sane holds for any packet whatever: nothing that was counted contradicts what a packet can be.
func sane(tb testing.TB, s shown, r Reading) {
	tb.Helper()
	for flow, c := range r.Flows {
		switch {
		case c.FirstFragments == 0 && c.Packets > 0 && c.OuterBytes-c.InnerBytes < 50*c.Packets,
			c.OuterBytes > 1<<32, c.InnerBytes > 1<<32, // an underflow
			c.Packets > 0 && (c.InnerMax < 20 || c.OuterMax < 20),
			uint64(c.OuterMax) > c.OuterBytes || c.OuterMax > uint32(len(s.packet)),
			c.InnerMax > 65535+40,
			c.TooBigMTU > 0 && c.TooBig == 0:
			tb.Fatalf("%v: %+v of %x (gso %d)", flow, c, s.packet, s.gso)
		}
	}
}

// forget empties the flows.
func (m *Meter) forget(tb testing.TB, r Reading) {
	tb.Helper()
	for flow := range r.Flows {
		must(tb, m.kernel.flows.Delete(rawFlow{flow.Peer.As4(), uint32(flow.Direction)}))
	}
}

// judge shows a packet to both programs, of a stranger and then of a peer they know, to which the direct one has
// another way: they agree, and what they counted could be.
func judge(tb testing.TB, direct, copied *Meter, s shown) {
	tb.Helper()
	before, beforeCopied := direct.read(tb), copied.read(tb)
	for range 2 {
		direct.show(tb, s.direction, append(packet{}, s.packet...), s.gso)
		copied.show(tb, s.direction, append(packet{}, s.packet...), s.gso)
	}
	r, other := direct.read(tb), copied.read(tb)
	if d := cmp.Diff(r.Since(before), other.Since(beforeCopied), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.IgnoreFields(Counters{}, "_")); d != "" {
		tb.Fatalf("of %x (gso %d) the two programs count (-direct +copied):\n%s", s.packet, s.gso, d)
	}
	sane(tb, s, r)
	direct.forget(tb, r)
	copied.forget(tb, other)
}

// The tales' packets with bytes changed, cut off, and gso sizes that no kernel would set.
func TestNoBytesMakeAProgramCountNonsense(t *testing.T) {
	direct, copied := program(t, variant{access: Direct}), program(t, variant{access: Copied})
	rng := rand.New(rand.NewPCG(4, 1))
	var all []shown
	for _, tale := range tales() {
		all = append(all, tale.shown...)
	}
	for range 4000 {
		s := all[rng.IntN(len(all))]
		s.packet = append(packet{}, s.packet...)
		for range rng.IntN(4) {
			s.packet[rng.IntN(min(len(s.packet), 110))] = byte(rng.Uint32())
		}
		if rng.IntN(3) == 0 {
			s.packet = s.packet[:min(len(s.packet), shortest(s.packet)+rng.IntN(len(s.packet)))]
		}
		if rng.IntN(2) == 0 {
			s.gso = rng.IntN(1 << 16 >> rng.IntN(16))
		}
		judge(t, direct, copied, s)
	}
}

func FuzzProgram(f *testing.F) {
	for _, tale := range tales() {
		for _, s := range tale.shown {
			f.Add(uint8(s.direction), uint16(s.gso), []byte(s.packet))
		}
	}
	direct, copied := program(f, variant{access: Direct}), program(f, variant{access: Copied})
	f.Fuzz(func(t *testing.T, d uint8, gso uint16, bytes []byte) {
		if len(bytes) < 14 || len(bytes) < shortest(bytes) || len(bytes) > 3000 {
			return // no test run takes them
		}
		judge(t, direct, copied, shown{Direction(d % 2), bytes, int(gso)})
	})
}

func TestALeasedProgramCountsOnlyUntilItsLeaseEnds(t *testing.T) {
	for _, v := range []variant{{access: Direct}, {access: Copied}, {access: Direct, coarse: true}, {access: Copied, coarse: true}} {
		v.leased = true
		t.Run(fmt.Sprintf("%s, coarse clock %t", v.access, v.coarse), func(t *testing.T) {
			m := program(t, v)
			each := []shown{
				out(tunnelled(Egress, innerTCP(100), ip4{})),
				in(tooBig(1400, testPort, local(), peer())),
				in(ethernet(0x86dd).ip6(17, 108).udp(testPort, 100).zeros(100)),
			}
			showAll := func() Reading {
				for _, s := range each {
					m.show(t, s.direction, s.packet, 0)
				}
				return m.read(t)
			}
			diff(t, Reading{}, showAll())
			l := &lease{until: m.kernel.leaseEnd, length: DefaultLease}
			must(t, l.renew())
			held := showAll()
			if c := held.Flows[Flow{peer(), Egress}]; c.Packets != 1 || c.TooBig != 1 || held.Strays[Ingress].IPv6SKBs != 1 {
				t.Errorf("with a lease: %+v", held)
			}
			must(t, m.kernel.leaseEnd.Set(uint64(1)))
			diff(t, held, showAll())
		})
	}
}
