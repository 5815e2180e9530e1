// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/internal/isolated"
)

// patience is how long a test waits for what has to come, on a machine that is busy with other tests.
const patience = 20 * time.Second

// eventually polls: look says what is still missing, or nothing.
func eventually(tb testing.TB, look func() string) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(patience)
	for {
		missing := look()
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			tb.Fatalf("after %s: %s", patience, missing)
		}
		<-tick.C
	}
}

// space is a network namespace without a name: the kernel removes it with the last descriptor, that is, with the test.
type space struct {
	tb testing.TB
	ns netns.NsHandle
	*netlink.Handle
}

func newSpace(tb testing.TB) *space {
	tb.Helper()
	needsRoot(tb)
	ns, handle := isolated.NewNetwork(tb)
	s := &space{tb, ns, handle}
	s.do(func() {
		// No neighbour discovery, and nothing else that nobody in the test sends.
		for _, which := range []string{"all", "default"} {
			must(tb, os.WriteFile("/proc/sys/net/ipv6/conf/"+which+"/disable_ipv6", []byte("1"), 0o644))
		}
		must(tb, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
	})
	return s
}

// do runs f in the namespace: f is the caller's, so it may end the test.
func (s *space) do(f func()) {
	s.tb.Helper()
	runtime.LockOSThread()
	home, err := netns.Get()
	must(s.tb, err)
	defer func() {
		if netns.Set(home) == nil {
			runtime.UnlockOSThread() // else the thread ends with its goroutine
		}
		home.Close()
	}()
	must(s.tb, netns.Set(s.ns))
	f()
}

// wire joins two namespaces by a veth pair that is up at both ends and needs no ARP.
func wire(a, b *space, nameA, nameB string, addrA, addrB string, mtu int) {
	a.tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = nameA, mtu
	must(a.tb, a.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(int(b.ns))}))
	a.up(nameA, addrA)
	b.up(nameB, addrB)
	a.knows(nameA, addrB, b.mac(nameB))
	b.knows(nameB, addrA, a.mac(nameA))
}

func (s *space) link(name string) netlink.Link {
	s.tb.Helper()
	l, err := s.LinkByName(name)
	must(s.tb, err)
	return l
}

func (s *space) mac(name string) net.HardwareAddr { return s.link(name).Attrs().HardwareAddr }

func (s *space) up(name, cidr string) {
	s.tb.Helper()
	l := s.link(name)
	if cidr != "" {
		addr, err := netlink.ParseAddr(cidr)
		must(s.tb, err)
		must(s.tb, s.AddrAdd(l, addr))
	}
	must(s.tb, s.LinkSetUp(l))
}

func (s *space) knows(device, cidr string, mac net.HardwareAddr) {
	s.tb.Helper()
	if cidr == "" {
		return
	}
	must(s.tb, s.NeighAdd(&netlink.Neigh{
		LinkIndex: s.link(device).Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: netip.MustParsePrefix(cidr).Addr().AsSlice(), HardwareAddr: mac,
	}))
}

func (s *space) route(to, via string) {
	s.tb.Helper()
	dst, err := netlink.ParseIPNet(to)
	must(s.tb, err)
	must(s.tb, s.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)}))
}

// tunnel makes a VXLAN device, bound to no interface, as Cilium's: the kernel would lower its MTU to what fits.
func (s *space) tunnel(own, remote, cidr string, mtu int) {
	s.tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "vxlan0", mtu
	must(s.tb, s.LinkAdd(&netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: 6, Port: testPort, SrcAddr: net.ParseIP(own), Group: net.ParseIP(remote),
	}))
	s.up("vxlan0", cidr)
}

// Offloads of an interface (uapi/linux/ethtool.h).
const (
	setTSO = 0x1f
	setGSO = 0x24
	setGRO = 0x2c
)

func (s *space) offload(device string, command, on uint32) {
	s.tb.Helper()
	value := struct{ command, data uint32 }{command, on}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], device)
	s.do(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		must(s.tb, err)
		defer unix.Close(fd)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
			s.tb.Fatalf("setting offload %#x of %s: %v", command, device, errno)
		}
	})
}

// statistics are the interface's own, read from the kernel at another place than the meter's.
func (s *space) statistics(device string) netlink.LinkStatistics {
	s.tb.Helper()
	return *s.link(device).Attrs().Statistics
}

// meter starts one in this namespace; it is closed with the test.
func (s *space) meter(o Options) *Meter {
	s.tb.Helper()
	o.Port = testPort
	var m *Meter
	s.do(func() {
		var err error
		m, err = Start(o)
		must(s.tb, err)
	})
	s.tb.Cleanup(func() {
		s.do(func() { must(s.tb, m.Close()) })
	})
	return m
}

// sender sends frames as they are, at one interface.
type sender struct {
	tb testing.TB
	fd int
	to unix.SockaddrLinklayer
	// linear, if any, is how many bytes of each frame are not in a page.
	linear uint16
}

func (s *space) sender(device string, linear uint16) *sender {
	s.tb.Helper()
	out := &sender{tb: s.tb, linear: linear}
	s.do(func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		must(s.tb, err)
		out.fd = fd
		if linear > 0 {
			must(s.tb, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
		}
	})
	out.to = unix.SockaddrLinklayer{Ifindex: s.link(device).Attrs().Index}
	s.tb.Cleanup(func() { must(s.tb, unix.Close(out.fd)) })
	return out
}

func (s *sender) send(p packet) {
	s.tb.Helper()
	if s.linear > 0 { // struct virtio_net_hdr: hdr_len at 2
		p = append(packet{0, 0, byte(s.linear), byte(s.linear >> 8), 0, 0, 0, 0, 0, 0}, p...)
	}
	must(s.tb, unix.Sendto(s.fd, p, 0, &s.to))
}

// witness counts what passes an interface behind the meter: skbs and their bytes, whatever they are.
type witness struct {
	tb testing.TB
	m  *ebpf.Map
}

func (s *space) witness(device string, d Direction) *witness {
	s.tb.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1})
	must(s.tb, err)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, m.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "out"),
			asm.Mov.Imm(asm.R1, 1), asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
			asm.Add.Imm(asm.R0, 8),
			asm.LoadMem(asm.R1, asm.R6, 0, asm.Word), asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
			asm.Mov.Imm(asm.R0, -1).WithSymbol("out"), asm.Return(),
		},
	})
	must(s.tb, err)
	var l link.Link
	s.do(func() {
		l, err = link.AttachTCX(link.TCXOptions{Interface: s.link(device).Attrs().Index, Program: p, Attach: tcxAttach(d), Anchor: link.Tail()})
	})
	must(s.tb, err)
	s.tb.Cleanup(func() { l.Close(); p.Close(); m.Close() })
	return &witness{s.tb, m}
}

func (w *witness) read() (skbs, bytes uint64) {
	w.tb.Helper()
	var v [2]uint64
	must(w.tb, w.m.Lookup(uint32(0), &v))
	return v[0], v[1]
}
