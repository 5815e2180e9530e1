// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/internal/isolated"
)

const port = 9794

var there = netip.MustParseAddrPort("10.0.2.10:9794")

// space is a network namespace without a name, which goes with the test.
type space struct {
	tb testing.TB
	ns netns.NsHandle
	*netlink.Handle
}

func newSpace(tb testing.TB) *space {
	tb.Helper()
	ns, h := isolated.NewNetwork(tb)
	s := &space{tb, ns, h}
	s.do(func() {
		for _, rate := range []string{"icmp_ratelimit", "icmp_msgs_per_sec", "ip_forward"} {
			value := map[string]string{"icmp_ratelimit": "0", "icmp_msgs_per_sec": "100000", "ip_forward": "1"}[rate]
			must(tb, os.WriteFile("/proc/sys/net/ipv4/"+rate, []byte(value), 0o644))
		}
	})
	return s
}

// do runs f in the namespace; its thread ends with it.
func (s *space) do(f func()) {
	s.tb.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread() // never unlocked
		if err := netns.Set(s.ns); err != nil {
			s.tb.Error(err)
			return
		}
		f()
	})
	wg.Wait()
}

// wire joins two namespaces; each end has an address, an MTU and, if via is valid, a default route over it.
func wire(a, b *space, nameA, nameB, addrA, addrB string, mtuA, mtuB int, via string) {
	a.tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = nameA, mtuA
	must(a.tb, a.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerMTU: uint32(mtuB), PeerNamespace: netlink.NsFd(int(b.ns))}))
	for _, end := range []struct {
		*space
		name, addr string
	}{{a, nameA, addrA}, {b, nameB, addrB}} {
		l, err := end.LinkByName(end.name)
		must(a.tb, err)
		addr, err := netlink.ParseAddr(end.addr)
		must(a.tb, err)
		must(a.tb, end.AddrAdd(l, addr))
		must(a.tb, end.LinkSetUp(l))
	}
	must(a.tb, a.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: net.ParseIP(via)}))
}

// network is two hosts with NICs of 9001 and a router between them.
type network struct{ here, router, there *space }

// newNetwork makes one whose router takes so much on the far side; the far host's own NIC has another MTU if it is given.
func newNetwork(tb testing.TB, far, farNIC int) network {
	tb.Helper()
	if !isolated.Tests() {
		tb.Skip("needs root: makes network namespaces")
	}
	n := network{newSpace(tb), newSpace(tb), newSpace(tb)}
	wire(n.here, n.router, "eth0", "near", "10.0.1.10/24", "10.0.1.1/24", 9001, 9001, "10.0.1.1")
	wire(n.there, n.router, "eth0", "far", "10.0.2.10/24", "10.0.2.1/24", farNIC, far, "10.0.2.1")
	return n
}

// respond lets an agent answer on the far host until the test ends.
func (n network) respond(keys Keys) {
	ctx, cancel := context.WithCancel(context.Background())
	started := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		n.there.do(func() {
			close(started)
			if err := Respond(ctx, port, func() Keys { return keys }); err != nil {
				n.there.tb.Error(err)
			}
		})
	})
	<-started
	n.there.tb.Cleanup(func() { cancel(); wg.Wait() })
}

// measure asks for the path. If somebody is to answer, it waits until he does.
func (n network) measure(keys Keys, silent bool) (p Path) {
	n.here.tb.Helper()
	n.here.do(func() {
		var err error
		for end := time.Now().Add(20 * time.Second); !silent && p.There.How != Whole && time.Now().Before(end); {
			if p, err = Measure(context.Background(), there, keys, least); err != nil {
				n.here.tb.Error(err)
				return
			}
		}
		if p, err = Measure(context.Background(), there, keys, 9001); err != nil {
			n.here.tb.Error(err)
		}
	})
	return p
}

// narrow gives the router's route to one of the hosts an MTU of its own.
func (n network) narrow(host string, mtu int) {
	tb := n.router.tb
	tb.Helper()
	must(tb, n.router.RouteAdd(&netlink.Route{
		LinkIndex: n.index(host), Dst: &net.IPNet{IP: net.ParseIP(map[string]string{"near": "10.0.1.10", "far": "10.0.2.10"}[host]).To4(), Mask: net.CIDRMask(32, 32)}, MTU: mtu, MTULock: true,
	}))
}

func (n network) index(name string) int {
	l, err := n.router.LinkByName(name)
	must(n.router.tb, err)
	return l.Attrs().Index
}

// hush makes the router drop its own ICMP messages to the near host, as many firewalls do: a black hole.
func (n network) hush(towards string) {
	tb := n.router.tb
	tb.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadAbs(12, asm.Half), // what is in the frame: in ARP, the byte below is of a MAC
		asm.JNE.Imm(asm.R0, unix.ETH_P_IP, "pass"),
		asm.LoadAbs(14+9, asm.Byte), // the protocol of an IPv4 packet
		asm.JEq.Imm(asm.R0, unix.IPPROTO_ICMP, "drop"),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("pass"), asm.Return(), // TCX_NEXT
		asm.Mov.Imm(asm.R0, 2).WithSymbol("drop"), asm.Return(), // TCX_DROP
	}})
	must(tb, err)
	tb.Cleanup(func() { p.Close() })
	n.router.do(func() {
		l, err := link.AttachTCX(link.TCXOptions{Interface: n.index(towards), Program: p, Attach: ebpf.AttachTCXEgress})
		if err != nil {
			tb.Error(err)
			return
		}
		tb.Cleanup(func() { l.Close() })
	})
}

func TestMeasure(t *testing.T) {
	mine := Keys{keyA}
	for name, c := range map[string]struct {
		far, farNIC int
		change      func(network)
		theirs      Keys // nil: nobody listens
		want        Path
	}{
		"everything passes both ways": {9001, 9001, nil, mine, Path{There: Found{9001, Whole}, Back: Found{9001, Whole}}},
		// What passes there comes back: the narrow hop is on both ways.
		"a low middle hop that tells":        {1400, 1400, nil, mine, Path{There: Found{1400, Told}, Back: Found{1400, Whole}}},
		"a low middle hop that is silent":    {1400, 1400, func(n network) { n.hush("near") }, mine, Path{There: Found{1400, Tried}, Back: Found{1400, Whole}}},
		"only the way there is narrow":       {9001, 9001, func(n network) { n.narrow("far", 1400) }, mine, Path{There: Found{1400, Told}, Back: Found{1400, Whole}}},
		"only the way back is narrow":        {9001, 9001, func(n network) { n.narrow("near", 1400) }, mine, Path{There: Found{9001, Whole}, Back: Found{1400, Tried}}},
		"the way back is a black hole":       {9001, 9001, func(n network) { n.narrow("near", 1400); n.hush("far") }, mine, Path{There: Found{9001, Whole}, Back: Found{1400, Tried}}},
		"both ways are narrow, each its own": {9001, 9001, func(n network) { n.narrow("near", 1400); n.narrow("far", 8000) }, mine, Path{There: Found{8000, Told}, Back: Found{1400, Tried}}},
		// A NIC that believes in 9001 and a port that takes 1400: veth lets four bytes more through, for a VLAN tag.
		"frames vanish behind the router":        {9001, 1400, nil, mine, Path{There: Found{1404, Tried}, Back: Found{1400, Tried}}},
		"nobody listens":                         {9001, 9001, nil, nil, Path{There: Found{0, Silent}, Back: Found{0, Unclear}}},
		"an agent of another cluster":            {9001, 9001, nil, Keys{keyB}, Path{There: Found{0, Silent}, Back: Found{0, Unclear}}},
		"an agent that has the next key already": {9001, 9001, nil, Keys{keyB, keyA}, Path{There: Found{0, Silent}, Back: Found{0, Unclear}}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, c.far, c.farNIC)
			if c.change != nil {
				c.change(n)
			}
			if c.theirs != nil {
				n.respond(c.theirs)
			}
			var got Path
			for range 5 { // on a machine that is busy, what is late for one try looks lost
				got = n.measure(mine, c.want.There.How == Silent)
				if (got.Answers > 0) != (got.There.Size > 0) && got.There.How != Unclear {
					t.Errorf("%d answers: %+v", got.Answers, got)
				}
				if got.Answers = 0; got == c.want {
					return
				}
			}
			t.Errorf("%+v, want %+v", got, c.want)
		})
	}
}

// TestKeysCanBeChangedOneAgentAtATime: both know both, and sign with different ones.
func TestKeysCanBeChangedOneAgentAtATime(t *testing.T) {
	n := newNetwork(t, 9001, 9001)
	n.respond(Keys{keyB, keyA})
	var got Path
	for range 5 {
		if got = n.measure(Keys{keyA, keyB}, false); got.There.How == Whole && got.Back.How == Whole {
			return
		}
	}
	t.Errorf("%+v", got)
}

func TestMeasuringEndsWithItsContext(t *testing.T) {
	n := newNetwork(t, 9001, 9001)
	n.here.do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if p, err := Measure(ctx, there, Keys{keyA}, 9001); err != nil || p.There != (Found{How: Unclear}) {
			t.Errorf("%+v, %v", p, err)
		}
		if _, err := Measure(ctx, there, nil, 9001); err == nil {
			t.Error("without a key: no error")
		}
	})
}

// BenchmarkMeasure is what asking one peer costs, both ways.
func BenchmarkMeasure(b *testing.B) {
	for name, change := range map[string]func(network){
		"whole": func(network) {}, "told": func(n network) { n.narrow("far", 1400) }, "black-hole": func(n network) { n.narrow("far", 1400); n.hush("near") },
	} {
		b.Run(name, func(b *testing.B) {
			n := newNetwork(b, 9001, 9001)
			change(n)
			n.respond(Keys{keyA})
			n.measure(Keys{keyA}, false)
			n.here.do(func() {
				for b.Loop() {
					if p, err := Measure(context.Background(), there, Keys{keyA}, 9001); err != nil || p.There.Size == 0 {
						b.Errorf("%+v, %v", p, err)
					}
				}
			})
		})
	}
}
