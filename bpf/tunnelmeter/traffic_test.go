// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// road is two nodes with a tunnel between them, a meter and witnesses at each end.
type road struct {
	tb         testing.TB
	a, b       *space
	atA, atB   *Meter
	sent, came *witness // egress of a, ingress of b
}

const (
	outerA, outerB = "192.168.0.1", "192.168.0.2"
	innerA, innerB = "10.244.1.1", "10.244.2.1"
)

func newRoad(tb testing.TB, o Options, overlayMTU int) *road {
	tb.Helper()
	r := &road{tb: tb, a: newSpace(tb), b: newSpace(tb)}
	wire(r.a, r.b, "eth0", "eth0", outerA+"/24", outerB+"/24", 1500)
	r.a.tunnel(outerA, outerB, innerA+"/16", overlayMTU)
	r.b.tunnel(outerB, outerA, innerB+"/16", overlayMTU)
	r.a.knows("vxlan0", innerB+"/16", r.b.mac("vxlan0"))
	r.b.knows("vxlan0", innerA+"/16", r.a.mac("vxlan0"))
	r.sent, r.came = r.a.witness("eth0", Egress), r.b.witness("eth0", Ingress)
	o.Devices, o.Peers = []string{"eth0"}, 16
	r.atA, r.atB = r.a.meter(o), r.b.meter(o)
	return r
}

// stream sends bytes by TCP from one namespace to another until the receiver has them all. The send buffer is small,
// so that a wire which queues at most 1,000 packets (netdev_max_backlog) loses none.
func stream(tb testing.TB, from, to *space, address string, bytes int64) {
	tb.Helper()
	var listener net.Listener
	var conn net.Conn
	var err error
	to.do(func() { listener, err = net.Listen("tcp4", net.JoinHostPort(address, "0")) })
	must(tb, err)
	defer listener.Close()
	received := make(chan error, 1)
	go func() {
		c, err := listener.Accept()
		if err == nil {
			defer c.Close()
			_, err = io.CopyN(io.Discard, c, bytes)
		}
		received <- err
	}()
	from.do(func() { conn, err = net.DialTimeout("tcp4", listener.Addr().String(), patience) })
	must(tb, err)
	defer conn.Close()
	must(tb, conn.(*net.TCPConn).SetWriteBuffer(128<<10))
	must(tb, conn.SetDeadline(time.Now().Add(patience)))
	chunk := make([]byte, 256<<10)
	for left := bytes; left > 0; left -= int64(len(chunk)) {
		_, err := conn.Write(chunk[:min(left, int64(len(chunk)))])
		must(tb, err)
	}
	must(tb, <-received)
}

// datagrams sends UDP in bursts that no queue is too short for.
func datagrams(tb testing.TB, from, to *space, address string, n, size int) {
	tb.Helper()
	var server net.PacketConn
	var client net.Conn
	var err error
	to.do(func() { server, err = net.ListenPacket("udp4", net.JoinHostPort(address, "0")) })
	must(tb, err)
	defer server.Close()
	from.do(func() { client, err = net.Dial("udp4", server.LocalAddr().String()) })
	must(tb, err)
	defer client.Close()
	must(tb, server.SetDeadline(time.Now().Add(patience)))
	b := make([]byte, size)
	for i := range n {
		_, err := client.Write(b)
		must(tb, err)
		if i%20 != 19 && i != n-1 {
			continue
		}
		for range i%20 + 1 {
			if got, _, err := server.ReadFrom(b); err != nil || got != size {
				tb.Fatalf("datagram of %d bytes: %d, %v", size, got, err)
			}
		}
	}
}

// arrived waits until both meters have seen the same, one way, and returns it.
func (r *road) arrived(tb testing.TB, from *Meter, fromPeer string, to *Meter, toPeer string) Counters {
	tb.Helper()
	var sent, came Counters
	eventually(tb, func() string {
		sent = from.read(tb).Flows[Flow{netip.MustParseAddr(fromPeer), Egress}]
		came = to.read(tb).Flows[Flow{netip.MustParseAddr(toPeer), Ingress}]
		if sent == came && sent.Packets > 0 {
			return ""
		}
		return fmt.Sprintf("the sender's meter has %+v, the receiver's %+v", sent, came)
	})
	return sent
}

func TestEveryShapeOfTrafficIsCountedToTheByte(t *testing.T) {
	const volume = 8 << 20 // bytes of payload
	const segments = volume / 1398
	tcp := func(t *testing.T, r *road) { stream(t, r.a, r.b, innerB, volume) }
	shapes := map[string]struct {
		options       Options
		prepare       func(*road)
		traffic       func(*testing.T, *road)
		innerMax      uint32
		packets       uint64 // at least
		sentInSupers  bool   // the sender's interface gets super-packets
		comesInSupers bool   // the receiver's program gets super-packets
		oneWay        bool   // nobody answers
	}{
		"TCP in super-packets all the way": {traffic: tcp, innerMax: 1450, packets: segments, sentInSupers: true, comesInSupers: true},
		"the same by classic tc":           {options: Options{Hook: Classic}, traffic: tcp, innerMax: 1450, packets: segments, sentInSupers: true, comesInSupers: true},
		"the same by the copying program":  {options: Options{Access: Copied}, traffic: tcp, innerMax: 1450, packets: segments, sentInSupers: true, comesInSupers: true},
		"super-packets cut before the wire": {
			prepare: func(r *road) { r.a.offload("eth0", setTSO, 0) },
			traffic: tcp, innerMax: 1450, packets: segments, sentInSupers: true,
		},
		"cut before the wire and merged behind it": {
			prepare: func(r *road) { r.a.offload("eth0", setTSO, 0); r.b.offload("eth0", setGRO, 1) },
			traffic: tcp, innerMax: 1450, packets: segments, sentInSupers: true, comesInSupers: true,
		},
		"TCP in single packets": {
			prepare: func(r *road) { r.a.offload("vxlan0", setTSO, 0); r.a.offload("vxlan0", setGSO, 0) },
			traffic: tcp, innerMax: 1450, packets: segments,
		},
		"UDP of 1,000 bytes": {
			traffic:  func(t *testing.T, r *road) { datagrams(t, r.a, r.b, innerB, 2000, 1000) },
			innerMax: 1028, packets: 2000, oneWay: true,
		},
	}
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			r := newRoad(t, shape.options, 1450)
			if shape.prepare != nil {
				shape.prepare(r)
			}
			nic, tunnel := r.a.statistics("eth0"), r.a.statistics("vxlan0")
			shape.traffic(t, r)
			c := r.arrived(t, r.atA, outerB, r.atB, outerA)
			if c.OuterBytes-c.InnerBytes != 50*c.Packets {
				t.Errorf("overhead of %d bytes over %d packets, want 50.000 a packet", c.OuterBytes-c.InnerBytes, c.Packets)
			}
			if c.Packets < shape.packets || c.InnerMax != shape.innerMax || c.OuterMax != shape.innerMax+50 {
				t.Errorf("%+v, want %d packets or more, the largest of %d bytes inside and %d outside", c, shape.packets, shape.innerMax, shape.innerMax+50)
			}
			if c.FirstFragments+c.LaterFragments+c.DontFragment != 0 {
				t.Errorf("fragments or DF: %+v", c)
			}
			skbs, bytes := r.sent.read()
			super(t, "sent", skbs, bytes, c, shape.sentInSupers)
			skbs, bytes = r.came.read()
			super(t, "came", skbs, bytes, c, shape.comesInSupers)
			if !shape.sentInSupers {
				now, nowTunnel := r.a.statistics("eth0"), r.a.statistics("vxlan0")
				if packets, bytes := now.TxPackets-nic.TxPackets, now.TxBytes-nic.TxBytes; packets != c.Packets || bytes != c.OuterBytes+14*c.Packets {
					t.Errorf("the NIC's own counters say %d packets, %d bytes; the meter %+v", packets, bytes, c)
				}
				if packets, bytes := nowTunnel.TxPackets-tunnel.TxPackets, nowTunnel.TxBytes-tunnel.TxBytes; packets != c.Packets || bytes != c.InnerBytes {
					t.Errorf("the tunnel's own counters say %d packets, %d bytes; the meter %+v", packets, bytes, c)
				}
			}
			if shape.oneWay {
				return
			}
			if c := r.arrived(t, r.atB, outerA, r.atA, outerB); c.OuterBytes-c.InnerBytes != 50*c.Packets {
				t.Errorf("the way back: %+v", c)
			}
		})
	}
}

// super holds a shape to what it claims to be, by what a program that knows nothing of tunnels has seen.
func super(t *testing.T, where string, skbs, bytes uint64, c Counters, supers bool) {
	t.Helper()
	if supers && skbs*2 > c.Packets {
		t.Errorf("%s: %d skbs for %d packets: these are no super-packets", where, skbs, c.Packets)
	}
	if !supers && (skbs != c.Packets || bytes != c.OuterBytes+14*c.Packets) {
		t.Errorf("%s: the witness has %d skbs, %d bytes; the meter %+v", where, skbs, bytes, c)
	}
}

// A pod behind the node, because the kernel tells only its own senders that the tunnel's MTU is too large.
func TestATunnelWithTooLargeAnMTUShowsInFragmentsAndOverhead(t *testing.T) {
	r := newRoad(t, Options{}, 1500)
	pod := newSpace(t)
	wire(r.a, pod, "lxc0", "eth0", "10.245.0.1/24", "10.245.0.2/24", 1500)
	pod.route("10.244.0.0/16", "10.245.0.1")
	r.b.route("10.245.0.0/24", innerA)
	stream(t, pod, r.b, innerB, 4<<20)
	c := r.arrived(t, r.atA, outerB, r.atB, outerA)
	overhead, ok := c.Overhead()
	if !ok || overhead < 65 || overhead > 70 { // 70, were every packet a full one
		t.Errorf("overhead %.3f of %+v, want nearly 70", overhead, c)
	}
	if c.FirstFragments < 2000 || c.FirstFragments != c.LaterFragments {
		t.Errorf("%d first and %d later fragments, want the same number of each", c.FirstFragments, c.LaterFragments)
	}
	if want := 50*c.Packets + 20*c.LaterFragments; c.OuterBytes-c.InnerBytes != want {
		t.Errorf("overhead of %d bytes, want %d: 50 a packet and 20 for each further fragment", c.OuterBytes-c.InnerBytes, want)
	}
	skbs, bytes := r.came.read()
	if skbs != c.Packets+c.LaterFragments || bytes != c.OuterBytes+14*skbs {
		t.Errorf("the witness has %d skbs, %d bytes; the meter %+v", skbs, bytes, c)
	}
	if c.InnerMax != 1500 || c.OuterMax != 1500 {
		t.Errorf("largest inner packet %d, largest outer %d, want 1500 and 1500", c.InnerMax, c.OuterMax)
	}
}

func TestOtherTrafficOfThePeerIsNotCounted(t *testing.T) {
	r := newRoad(t, Options{}, 1450)
	datagrams(t, r.a, r.b, innerB, 10, 1000)
	before := r.arrived(t, r.atA, outerB, r.atB, outerA)
	stream(t, r.a, r.b, outerB, 1<<20)
	datagrams(t, r.a, r.b, outerB, 100, 1000)
	datagrams(t, r.a, r.b, outerB, 100, 4000) // in three fragments each
	if skbs, _ := r.came.read(); skbs < 10+100+300+1 {
		t.Fatalf("only %d skbs came", skbs)
	}
	if after := r.arrived(t, r.atA, outerB, r.atB, outerA); after != before {
		t.Errorf("counted %+v, before it %+v", after, before)
	}
}

// A real router says the MTU of its far side, to a sender that forbids fragments.
func TestARouterThatFindsThePacketTooBigIsHeard(t *testing.T) {
	a, router, b := newSpace(t), newSpace(t), newSpace(t)
	wire(a, router, "eth0", "left", "192.168.0.1/24", "192.168.0.254/24", 1500)
	wire(router, b, "right", "eth0", "192.168.9.254/24", "192.168.9.2/24", 1400)
	a.route("192.168.9.0/24", "192.168.0.254")
	b.route("192.168.0.0/24", "192.168.9.254")
	m := a.meter(Options{Devices: []string{"eth0"}, Peers: 16})
	say := func(port int, size int) {
		a.do(func() {
			conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.ParseIP("192.168.9.2"), Port: port})
			must(t, err)
			defer conn.Close()
			raw, err := conn.SyscallConn()
			must(t, err)
			must(t, raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
			}))
			must(t, err)
			whole := tunnelled(Egress, innerUDP(size), ip4{})
			_, err = conn.Write(whole[42:])
			must(t, err)
		})
	}
	flow := Flow{netip.MustParseAddr("192.168.9.2"), Egress}
	say(testPort+1, 1400) // heard by the node, and not about the tunnel
	say(testPort, 1300)
	say(testPort, 1400)
	eventually(t, func() string {
		if c := m.read(t).Flows[flow]; c.TooBig == 0 || c.Packets < 2 {
			return fmt.Sprintf("nobody said that it was too big: %+v", c)
		}
		return ""
	})
	if c := m.read(t).Flows[flow]; c.TooBig != 1 || c.TooBigMTU != 1400 || c.DontFragment != 2 || c.Packets != 2 || c.OuterMax != 1478 {
		t.Errorf("%+v, want one message that names 1400, about two packets with DF, the largest of 1478 bytes", c)
	}
}

// A NIC may leave any part of the headers in a page; a packet socket can be told to.
func TestHeadersThatAreNotLinearAreCountedAllTheSame(t *testing.T) {
	eachAccess(t, func(t *testing.T, access Access) {
		a, b := newSpace(t), newSpace(t)
		wire(a, b, "eth0", "eth0", "", "", 9000)
		m := b.meter(Options{Devices: []string{"eth0"}, Peers: 16, Access: access})
		came := b.witness("eth0", Ingress)
		p := tunnelled(Ingress, innerUDP(5000), ip4{}) // below a page the kernel makes all of it linear
		broadcast := append(append(packet{}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), p[6:]...)
		linear := []uint16{14, 20, 34, 38, 42, 50, 64, 80, 84, 92, 200}
		for i, n := range linear {
			a.sender("eth0", n).send(broadcast)
			want := Counters{Packets: uint64(i + 1), OuterBytes: 5078 * uint64(i+1), InnerBytes: 5028 * uint64(i+1), OuterMax: 5078, InnerMax: 5028}
			eventually(t, func() string {
				if skbs, _ := came.read(); skbs != uint64(i+1) {
					return "the packet has not come"
				}
				return ""
			})
			if c := m.read(t).Flows[Flow{peer(), Ingress}]; c != want {
				t.Fatalf("with %d linear bytes: %+v, want %+v", n, c, want)
			}
		}
	})
}
