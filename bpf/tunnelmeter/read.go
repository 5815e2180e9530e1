// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Direction of a packet as this node sees it.
type Direction uint8

// As in meter.h.
const (
	Ingress Direction = iota
	Egress
)

func (d Direction) String() string {
	if d == Ingress {
		return "ingress"
	}
	return "egress"
}

// Flow is the traffic of the tunnel with one peer, one way.
type Flow struct {
	Peer      netip.Addr // outer address of the other side
	Direction Direction
}

// Counters of a flow. Packets and bytes are those of the wire, also where the kernel hands them over as one
// super-packet. Outer bytes count from the outer IP header on, inner bytes from the inner IP header on; the Ethernet
// header of the wire is in neither. So a whole packet over IPv4 is 50 bytes larger outside than inside (IP 20, UDP 8,
// VXLAN 8, inner Ethernet 14), and each fragment after the first adds 20.
type Counters struct {
	Packets        uint64 // a packet that was cut into fragments is one
	OuterBytes     uint64
	InnerBytes     uint64
	DontFragment   uint64 // packets whose outer header says DF
	FirstFragments uint64 // packets that left, or came, in fragments
	LaterFragments uint64 // the fragments after the first; at their own bytes they are in OuterBytes
	TooBig         uint64 // ICMP "fragmentation needed" about packets sent to the peer; in its Egress flow
	OuterMax       uint32 // bytes of the largest outer IP packet or fragment
	InnerMax       uint32 // bytes of the largest inner IP packet
	TooBigMTU      uint32 // the smallest MTU that such an ICMP message named, in bytes; 0: none, or none named
	_              uint32
}

// Strays was on the tunnel's port and is in no flow.
type Strays struct {
	IPv6SKBs  uint64 // super-packets count once
	IPv6Bytes uint64 // from the outer IP header on
	Malformed uint64 // cut off, not VXLAN, or with lengths that contradict each other
}

// Reading is what a meter has counted since it started.
type Reading struct {
	Flows  map[Flow]Counters
	Strays [2]Strays // by Direction
}

// Overhead is what the tunnel adds to a packet, in bytes: 50 where none was cut into fragments. False: no packets.
func (c Counters) Overhead() (float64, bool) {
	if c.Packets == 0 {
		return 0, false
	}
	return (float64(c.OuterBytes) - float64(c.InnerBytes)) / float64(c.Packets), true
}

// Plus adds what another CPU, or another flow, counted.
func (c Counters) Plus(o Counters) Counters {
	c.Packets += o.Packets
	c.OuterBytes += o.OuterBytes
	c.InnerBytes += o.InnerBytes
	c.DontFragment += o.DontFragment
	c.FirstFragments += o.FirstFragments
	c.LaterFragments += o.LaterFragments
	c.TooBig += o.TooBig
	c.OuterMax = max(c.OuterMax, o.OuterMax)
	c.InnerMax = max(c.InnerMax, o.InnerMax)
	if c.TooBigMTU == 0 || o.TooBigMTU != 0 && o.TooBigMTU < c.TooBigMTU {
		c.TooBigMTU = o.TooBigMTU
	}
	return c
}

// since is false where c cannot be a later state of before: the flow was evicted between the two, and begun again.
func (c Counters) since(before Counters) (Counters, bool) {
	now := []*uint64{&c.Packets, &c.OuterBytes, &c.InnerBytes, &c.DontFragment, &c.FirstFragments, &c.LaterFragments, &c.TooBig}
	then := []uint64{before.Packets, before.OuterBytes, before.InnerBytes, before.DontFragment, before.FirstFragments, before.LaterFragments, before.TooBig}
	for i := range now {
		if *now[i] < then[i] {
			return Counters{}, false
		}
		*now[i] -= then[i]
	}
	return c, true
}

// Since returns what was counted between an earlier reading of the same meter and r; flows in which nothing moved are
// left out. Maxima and the MTU have no difference: they stay those since the start. A flow that was evicted meanwhile,
// because more peers spoke than the meter holds, counts from when it was entered again.
func (r Reading) Since(before Reading) Reading {
	out := Reading{Flows: make(map[Flow]Counters, len(r.Flows))}
	for flow, c := range r.Flows {
		d, ok := c.since(before.Flows[flow])
		if !ok {
			d = c
		}
		if d.Packets|d.LaterFragments|d.TooBig != 0 {
			out.Flows[flow] = d
		}
	}
	for d := range out.Strays {
		now, then := r.Strays[d], before.Strays[d]
		out.Strays[d] = Strays{now.IPv6SKBs - then.IPv6SKBs, now.IPv6Bytes - then.IPv6Bytes, now.Malformed - then.Malformed}
	}
	return out
}

// rawFlow is struct flow of meter.h.
type rawFlow struct {
	Peer      [4]byte
	Direction uint32
}

// batch is how many flows one call into the kernel returns: at 64 CPUs a buffer of 1.2 MB.
const batch = 256

// Read sums over the CPUs. It is no snapshot: packets are counted while it reads. The counters of one flow come from
// each CPU at one moment.
func (m *Meter) Read() (Reading, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := Reading{Flows: map[Flow]Counters{}}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return Reading{}, fmt.Errorf("counting the CPUs: %w", err)
	}
	keys, values := make([]rawFlow, batch), make([]Counters, batch*cpus)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.kernel.flows.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return Reading{}, fmt.Errorf("reading the flows of the tunnel meter: %w", explain(err))
		}
		for i, key := range keys[:n] {
			var sum Counters
			for _, c := range values[i*cpus : (i+1)*cpus] {
				sum = sum.Plus(c)
			}
			out.Flows[Flow{netip.AddrFrom4(key.Peer), Direction(key.Direction)}] = sum
		}
		if err != nil {
			break
		}
	}
	for d := range out.Strays {
		var each []Strays
		if err := m.kernel.strays.Lookup(uint32(d), &each); err != nil {
			return Reading{}, fmt.Errorf("reading the strays of the tunnel meter: %w", explain(err))
		}
		for _, s := range each {
			out.Strays[d].IPv6SKBs += s.IPv6SKBs
			out.Strays[d].IPv6Bytes += s.IPv6Bytes
			out.Strays[d].Malformed += s.Malformed
		}
	}
	return out, nil
}
