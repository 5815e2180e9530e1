// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
)

// Of the packets that tests show to the program; port is not the default, so that one that ignores its constant fails.
const testPort = 4789

func local() netip.Addr { return netip.MustParseAddr("192.168.0.1") }
func peer() netip.Addr  { return netip.MustParseAddr("192.168.0.2") }

// packet grows from the outside in; each method returns a longer one, and lengths are right unless a test bends them.
type packet []byte

func ethernet(kind uint16) packet { return binary.BigEndian.AppendUint16(make(packet, 12), kind) }

type ip4 struct {
	src, dst netip.Addr
	protocol byte
	fragment uint16 // flags and offset in units of 8 bytes
	id       uint16
	options  int // bytes, a multiple of 4
	payload  int // bytes
}

func (p packet) ip4(h ip4) packet {
	length := 20 + h.options
	b := make([]byte, length)
	b[0], b[8], b[9] = 0x40|byte(length/4), 64, h.protocol
	binary.BigEndian.PutUint16(b[2:], uint16(length+h.payload))
	binary.BigEndian.PutUint16(b[4:], h.id)
	binary.BigEndian.PutUint16(b[6:], h.fragment)
	copy(b[12:], h.src.AsSlice())
	copy(b[16:], h.dst.AsSlice())
	for i := 20; i < length; i++ {
		b[i] = 1 // no operation
	}
	return append(p, b...)
}

func (p packet) ip6(next byte, payload int) packet {
	b := make([]byte, 40)
	b[0], b[6] = 0x60, next
	binary.BigEndian.PutUint16(b[4:], uint16(payload))
	return append(p, b...)
}

func (p packet) udp(port uint16, payload int) packet {
	p = binary.BigEndian.AppendUint16(p, 40000)
	p = binary.BigEndian.AppendUint16(p, port)
	p = binary.BigEndian.AppendUint16(p, uint16(8+payload))
	return append(p, 0, 0)
}

func (p packet) vxlan() packet { return append(p, 8, 0, 0, 0, 0, 0, 6, 0) }

func (p packet) tcp(options int) packet {
	b := make([]byte, 20+options)
	b[12] = byte(len(b)/4) << 4
	return append(p, b...)
}

func (p packet) zeros(n int) packet { return append(p, make([]byte, n)...) }

// tunnelled is what the peer sends (Ingress) or gets (Egress): inner is an IP packet.
func tunnelled(d Direction, inner packet, outer ip4) packet {
	outer.protocol, outer.payload = 17, 30+len(inner)
	outer.src, outer.dst = local(), peer()
	if d == Ingress {
		outer.src, outer.dst = outer.dst, outer.src
	}
	p := ethernet(0x0800).ip4(outer).udp(testPort, 22+len(inner)).vxlan()
	kind := uint16(0x0800)
	if len(inner) > 0 && inner[0]>>4 == 6 {
		kind = 0x86dd
	}
	return append(append(p, ethernet(kind)...), inner...)
}

// innerTCP is an IPv4 packet with TCP timestamps (12 bytes of options), as Linux sends them.
func innerTCP(payload int) packet {
	return packet{}.ip4(ip4{src: netip.MustParseAddr("10.244.1.5"), dst: netip.MustParseAddr("10.244.2.5"), protocol: 6, payload: 32 + payload}).
		tcp(12).zeros(payload)
}

// skbuff is the part of struct __sk_buff that a test run takes (uapi/linux/bpf.h).
type skbuff struct {
	Len, PktType, Mark, QueueMapping, Protocol, VLANPresent, VLANTCI, VLANProto, Priority, IngressIfindex, Ifindex, TCIndex uint32
	CB                                                                                                                      [5]uint32
	Hash, TCClassID, Data, DataEnd, NAPIID, Family, RemoteIP4, LocalIP4                                                     uint32
	RemoteIP6, LocalIP6                                                                                                     [4]uint32
	RemotePort, LocalPort, DataMeta                                                                                         uint32
	FlowKeys, Tstamp                                                                                                        uint64
	WireLen, GSOSegs                                                                                                        uint32
	SK                                                                                                                      uint64
	GSOSize                                                                                                                 uint32
	TstampType                                                                                                              uint32
	HWTstamp                                                                                                                uint64
}

// program loads one variant without attaching it. The caller sees its maps through the Meter.
func program(tb testing.TB, v variant) *Meter {
	tb.Helper()
	return programFor(tb, 64, v)
}

func programFor(tb testing.TB, peers int, v variant) *Meter {
	tb.Helper()
	needsRoot(tb)
	n, err := entries(peers)
	must(tb, err)
	v.port, v.entries = testPort, n
	l, err := load(v)
	must(tb, err)
	m := &Meter{kernel: l, access: v.access}
	tb.Cleanup(func() { must(tb, m.Close()) })
	return m
}

// show runs the program once on a packet and holds it to passing the packet on.
func (m *Meter) show(tb testing.TB, d Direction, p packet, gsoSize int) {
	tb.Helper()
	verdict, err := m.kernel.programs[d].Run(&ebpf.RunOptions{Data: p, Context: skbuff{GSOSize: uint32(gsoSize)}})
	must(tb, err)
	if int32(verdict) != -1 {
		tb.Fatalf("verdict %d, want -1 (TC_ACT_UNSPEC, TCX_NEXT)", int32(verdict))
	}
}

func (m *Meter) read(tb testing.TB) Reading {
	tb.Helper()
	r, err := m.Read()
	must(tb, err)
	return r
}
