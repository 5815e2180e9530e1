// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nic is an interface, and whoever is at the other end of its wire.
type nic struct {
	*space
	far     *space
	toFar   *sender // egress of the NIC
	fromFar *sender // ingress
	ear     int     // hears what came by the wire, after the programs of the NIC
}

func newNIC(tb testing.TB) *nic {
	tb.Helper()
	n := &nic{space: newSpace(tb), far: newSpace(tb)}
	n.plug()
	return n
}

func (n *nic) plug() {
	n.tb.Helper()
	wire(n.space, n.far, "eth0", "eth0", "", "", 1500)
	n.toFar, n.fromFar = n.sender("eth0", 0), n.far.sender("eth0", 0)
	n.do(func() {
		ip := uint16(unix.ETH_P_IP>>8 | unix.ETH_P_IP<<8&0xff00) // a socket for one protocol comes behind the programs
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(ip))
		must(n.tb, err)
		n.tb.Cleanup(func() { must(n.tb, unix.Close(fd)) })
		must(n.tb, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ip, Ifindex: n.index()}))
		must(n.tb, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience.Seconds())}))
		n.ear = fd
	})
}

func (n *nic) index() int { return n.space.link("eth0").Attrs().Index }

// seen sends one packet of the tunnel each way and says how many of the two the meter counts.
func (n *nic) seen(m *Meter) int {
	n.tb.Helper()
	before := m.read(n.tb)
	n.exchange()
	got := m.read(n.tb).Since(before)
	total := 0
	for _, c := range got.Flows {
		total += int(c.Packets)
	}
	return total
}

// exchange sends one packet each way and returns when both have passed the programs of the NIC.
func (n *nic) exchange() {
	n.tb.Helper()
	n.toFar.send(tunnelled(Egress, innerUDP(100), ip4{}))
	n.fromFar.send(tunnelled(Ingress, innerUDP(100), ip4{}))
	if _, _, err := unix.Recvfrom(n.ear, make([]byte, 2048), 0); err != nil {
		n.tb.Fatalf("waiting for the packet to pass the NIC: %v", err)
	}
}

// want holds the meter to seeing that many of two packets.
func (n *nic) want(m *Meter, packets int, why string) {
	n.tb.Helper()
	if got := n.seen(m); got != packets {
		n.tb.Errorf("%s: the meter counts %d of 2 packets, want %d", why, got, packets)
	}
}

func (n *nic) check(m *Meter, want ...Placement) {
	n.tb.Helper()
	n.do(func() {
		got, err := m.Check()
		must(n.tb, err)
		n.compare(got, want)
	})
}

func (n *nic) ensure(m *Meter, want ...Placement) {
	n.tb.Helper()
	n.do(func() {
		got, err := m.Ensure()
		must(n.tb, err)
		n.compare(got, want)
	})
}

func (n *nic) compare(got, want []Placement) {
	n.tb.Helper()
	for i := range got {
		if i < len(want) && len(want[i].Ahead) == 0 && want[i].State == Behind {
			got[i].Ahead = nil // the test does not say
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		n.tb.Errorf("placements (-want +got):\n%s", d)
	}
}

func both(s State, restored bool) []Placement {
	return []Placement{{Device: "eth0", Direction: Ingress, State: s, Restored: restored}, {Device: "eth0", Direction: Egress, State: s, Restored: restored}}
}

// final is a program as Cilium's: its verdict TC_ACT_OK ends the chain.
func final(tb testing.TB) *ebpf.Program {
	tb.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	must(tb, err)
	tb.Cleanup(func() { p.Close() })
	return p
}

// ciliumTCX attaches as Cilium does, both ways, at the head or the tail.
func (n *nic) ciliumTCX(anchor link.Anchor) {
	n.tb.Helper()
	n.do(func() {
		for _, d := range []Direction{Ingress, Egress} {
			l, err := link.AttachTCX(link.TCXOptions{Interface: n.index(), Program: final(n.tb), Attach: tcxAttach(d), Anchor: anchor})
			must(n.tb, err)
			n.tb.Cleanup(func() { l.Close() })
		}
	})
}

func (n *nic) ciliumFilter(d Direction) *netlink.BpfFilter {
	n.tb.Helper()
	return &netlink.BpfFilter{
		FilterAttrs:  netlink.FilterAttrs{LinkIndex: n.index(), Parent: parent(d), Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
		Fd:           final(n.tb).FD(),
		Name:         []string{"cil_from_netdev-eth0", "cil_to_netdev-eth0"}[d],
		DirectAction: true,
	}
}

// ciliumClassic does what Cilium does at each start: qdisc replace, filter replace.
func (n *nic) ciliumClassic() {
	n.tb.Helper()
	must(n.tb, n.QdiscReplace(clsact(n.index())))
	for _, d := range []Direction{Ingress, Egress} {
		must(n.tb, n.FilterReplace(n.ciliumFilter(d)))
	}
}

// filters tells all that hangs on the NIC, as "direction handle name".
func (n *nic) filters() []string {
	n.tb.Helper()
	var out []string
	for _, d := range []Direction{Ingress, Egress} {
		list, err := n.FilterList(n.space.link("eth0"), parent(d))
		if err != nil {
			continue // no clsact
		}
		for _, f := range list {
			out = append(out, fmt.Sprintf("%s %d %s", d, f.Attrs().Handle, describe(f)))
		}
	}
	return out
}

func (n *nic) hasClsact() bool {
	n.tb.Helper()
	list, err := n.QdiscList(n.space.link("eth0"))
	must(n.tb, err)
	return slices.ContainsFunc(list, func(q netlink.Qdisc) bool { return q.Type() == "clsact" })
}

// tcxPrograms counts what is attached to the NIC by tcx.
func (n *nic) tcxPrograms() int {
	n.tb.Helper()
	total := 0
	n.do(func() {
		for _, d := range []Direction{Ingress, Egress} {
			r, err := link.QueryPrograms(link.QueryOptions{Target: n.index(), Attach: tcxAttach(d)})
			must(n.tb, err)
			total += len(r.Programs)
		}
	})
	return total
}

func on(hook Hook) Options { return Options{Devices: []string{"eth0"}, Peers: 16, Hook: hook} }

func TestTheMeterChoosesTCXAndInPlaceReadingWhereItCan(t *testing.T) {
	n := newNIC(t)
	m := n.meter(on(""))
	access, why := m.Access()
	if m.Hook() != TCX || access != Direct || why != "" {
		t.Errorf("hook %s, access %s (%s)", m.Hook(), access, why)
	}
	n.check(m, both(First, false)...)
	n.want(m, 2, "alone")
}

func TestWithTCXTheMeterSeesWhatCiliumEnds(t *testing.T) {
	n := newNIC(t)
	n.ciliumTCX(link.Tail())
	m := n.meter(on(TCX))
	n.check(m, both(First, false)...)
	n.want(m, 2, "Cilium was there before")
	n.ciliumTCX(link.Head())
	n.check(m, both(Behind, false)...)
	n.want(m, 0, "Cilium came to the head")
	n.ensure(m, both(Behind, true)...)
	n.ensure(m, both(First, false)...)
	n.want(m, 2, "after Ensure")
	if got := n.tcxPrograms(); got != 6 {
		t.Errorf("%d programs, want Cilium's four and the meter's two", got)
	}
	n.do(func() { must(t, m.Close()) })
	if got := n.tcxPrograms(); got != 4 {
		t.Errorf("%d programs are left, want Cilium's four", got)
	}
}

func TestWithTCXTheMeterSeesWhatCiliumEndsInClassicTC(t *testing.T) {
	n := newNIC(t)
	n.ciliumClassic()
	m := n.meter(on(TCX))
	n.want(m, 2, "Cilium's filters come later")
}

func TestWithClassicTCTheMeterSeesWhatCiliumEnds(t *testing.T) {
	n := newNIC(t)
	n.ciliumClassic()
	before := n.filters()
	m := n.meter(on(Classic))
	if want := []string{"ingress 2 " + filterName + "ingress", "ingress 1 cil_from_netdev-eth0", "egress 2 " + filterName + "egress", "egress 1 cil_to_netdev-eth0"}; !slices.Equal(n.filters(), want) {
		t.Errorf("filters %q, want %q", n.filters(), want)
	}
	n.want(m, 2, "Cilium was there before")
	n.ciliumClassic()
	n.check(m, both(First, false)...)
	n.want(m, 2, "Cilium replaced its filters")

	for _, d := range []Direction{Ingress, Egress} {
		must(t, n.FilterDel(n.ciliumFilter(d)))
		must(t, n.FilterAdd(n.ciliumFilter(d)))
	}
	ahead := both(Behind, false)
	ahead[Ingress].Ahead, ahead[Egress].Ahead = []string{"cil_from_netdev-eth0"}, []string{"cil_to_netdev-eth0"}
	n.check(m, ahead...)
	n.want(m, 0, "Cilium deleted its filters and added them again")
	ahead[Ingress].Restored, ahead[Egress].Restored = true, true
	n.ensure(m, ahead...)
	n.want(m, 2, "after Ensure")

	n.do(func() { must(t, m.Close()) })
	if after := n.filters(); !slices.Equal(before, after) {
		t.Errorf("filters after Close %q, before Start %q", after, before)
	}
	if !n.hasClsact() {
		t.Error("Close deleted the qdisc, which was Cilium's")
	}
}

// Cilium does both when it changes to tcx, and when it is uninstalled.
func TestWithClassicTCTheMeterComesBackAfterOthersDeletedItsFilters(t *testing.T) {
	n := newNIC(t)
	n.ciliumClassic()
	m := n.meter(on(Classic))
	for _, d := range []Direction{Ingress, Egress} {
		list, err := n.FilterList(n.space.link("eth0"), parent(d))
		must(t, err)
		for _, f := range list {
			must(t, n.FilterDel(f))
		}
	}
	n.check(m, both(Missing, false)...)
	n.ensure(m, both(Missing, true)...)
	n.want(m, 2, "all filters had been deleted")
	must(t, n.QdiscDel(clsact(n.index())))
	n.ensure(m, both(Missing, true)...)
	n.want(m, 2, "the qdisc had been deleted")
}

func TestAQdiscThatTheMeterMadeGoesWithItUnlessOthersUseIt(t *testing.T) {
	n := newNIC(t)
	m := n.meter(on(Classic))
	n.do(func() { must(t, m.Close()) })
	if n.hasClsact() {
		t.Error("the meter's own clsact is left")
	}
	must(t, n.QdiscAdd(clsact(n.index())))
	m = n.meter(on(Classic))
	n.do(func() { must(t, m.Close()) })
	if !n.hasClsact() {
		t.Error("a clsact that was there before is gone")
	}
	must(t, n.QdiscDel(clsact(n.index())))
	m = n.meter(on(Classic))
	n.ciliumClassic()
	n.do(func() { must(t, m.Close()) })
	if want := []string{"ingress 1 cil_from_netdev-eth0", "egress 1 cil_to_netdev-eth0"}; !slices.Equal(n.filters(), want) {
		t.Errorf("filters %q, want %q", n.filters(), want)
	}
}

func TestAFilterOfOthersUnderTheMetersHandleStays(t *testing.T) {
	n := newNIC(t)
	must(t, n.QdiscReplace(clsact(n.index())))
	others := n.ciliumFilter(Ingress)
	others.Handle, others.Name = handle, "others"
	must(t, n.FilterAdd(others))
	m := n.meter(on(Classic))
	n.want(m, 2, "another handle is taken")
	n.do(func() { must(t, m.Close()) })
	if want := []string{"ingress 2 others"}; !slices.Equal(n.filters(), want) {
		t.Errorf("filters %q, want %q", n.filters(), want)
	}
}

func TestAFilterThatShutsTheMeterOutIsNamedAndStays(t *testing.T) {
	n := newNIC(t)
	must(t, n.QdiscReplace(clsact(n.index())))
	others := n.ciliumFilter(Egress)
	others.Protocol = unix.ETH_P_IP // filters of one priority are of one protocol
	must(t, n.FilterAdd(others))
	n.do(func() {
		_, err := Start(on(Classic))
		if err == nil || !strings.Contains(err.Error(), "egress of eth0") || !strings.Contains(err.Error(), "(priority 1, handle 2)") {
			t.Errorf("err = %v", err)
		}
	})
	if want := []string{"egress 1 cil_to_netdev-eth0"}; !slices.Equal(n.filters(), want) {
		t.Errorf("filters %q, want %q", n.filters(), want)
	}
}

func TestADeviceThatIsMadeAnewIsAttachedToAgain(t *testing.T) {
	for _, hook := range []Hook{TCX, Classic} {
		t.Run(string(hook), func(t *testing.T) {
			n := newNIC(t)
			m := n.meter(on(hook))
			n.want(m, 2, "at first")
			must(t, n.LinkDel(n.space.link("eth0")))
			n.check(m, both(NoDevice, false)...)
			n.ensure(m, both(NoDevice, false)...)
			n.plug()
			n.check(m, both(Missing, false)...)
			n.ensure(m, both(Missing, true)...)
			n.want(m, 2, "made anew")
			if c := m.read(t).Flows[Flow{peer(), Egress}]; c.Packets != 2 {
				t.Errorf("%+v, want what was counted before and after", c)
			}
		})
	}
}

func TestADeviceThatCarriesNoTunnelIsRefused(t *testing.T) {
	n := newNIC(t)
	for device, says := range map[string]string{"lo": "begin with no Ethernet header", "eth9": "looking for device eth9"} {
		n.do(func() {
			_, err := Start(Options{Devices: []string{"eth0", device}, Peers: 16})
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: err = %v, want %q", device, err, says)
			}
		})
		if n.tcxPrograms() != 0 {
			t.Errorf("%s: a refused meter left programs on the other device", device)
		}
	}
	for _, o := range []Options{{}, {Devices: []string{"eth0"}, Peers: -1}, {Devices: []string{"eth0"}, Peers: 1 << 30}, {Devices: []string{"eth0"}, Lease: -1}} {
		if _, err := Start(o); err == nil || !strings.Contains(err.Error(), "want 1 to") && !strings.Contains(err.Error(), "no device") {
			t.Errorf("%+v: err = %v", o, err)
		}
	}
}
