// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/cniconf"
)

func ipnet(t testing.TB, s string) *net.IPNet {
	t.Helper()
	ip, n, err := net.ParseCIDR(s)
	must(t, err)
	n.IP = ip
	return n
}

// add makes an interface, up, and returns its index.
func add(t testing.TB, l netlink.Link, addrs ...string) int {
	t.Helper()
	must(t, netlink.LinkAdd(l))
	got, err := netlink.LinkByName(l.Attrs().Name)
	must(t, err)
	t.Cleanup(func() { _ = netlink.LinkDel(got) })
	must(t, netlink.LinkSetUp(got))
	for _, a := range addrs {
		must(t, netlink.AddrAdd(got, &netlink.Addr{IPNet: ipnet(t, a)}))
	}
	return got.Attrs().Index
}

func classifier(t testing.TB, name string) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}, // TC_ACT_UNSPEC
	})
	must(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// node makes what a node shows: a NIC, Cilium's interfaces, routes, the VPC CNI's rules. It returns indexes by name.
func node(t testing.TB) map[string]int {
	t.Helper()
	needsRoot(t)
	ix := map[string]int{
		"eth0": add(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0", MTU: 9001}, PeerName: "wire"}, "10.0.1.10/24"),
		"cilium_vxlan": add(t, &netlink.Vxlan{
			LinkAttrs: netlink.LinkAttrs{Name: "cilium_vxlan", MTU: 9001}, FlowBased: true, Port: 8472,
		}),
		"cilium_host": add(t, &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "cilium_host", MTU: 9001}, PeerName: "cilium_net",
		}, "10.244.1.1/32"),
	}
	for _, name := range []string{"wire", "cilium_net"} {
		l, err := netlink.LinkByName(name)
		must(t, err)
		must(t, netlink.LinkSetUp(l))
		ix[name] = l.Attrs().Index
	}
	routes := []netlink.Route{
		{LinkIndex: ix["eth0"], Gw: net.IPv4(10, 0, 1, 1), Priority: 512},
		{LinkIndex: ix["cilium_host"], Dst: ipnet(t, "10.244.2.0/24"), Src: net.IPv4(10, 244, 1, 1), MTU: 8951},
		{LinkIndex: ix["eth0"], Dst: ipnet(t, "10.244.3.0/24"), Table: 2},
		{Dst: ipnet(t, "10.244.4.0/24"), Type: unix.RTN_UNREACHABLE},
	}
	for _, r := range routes {
		must(t, netlink.RouteAdd(&r))
		t.Cleanup(func() { _ = netlink.RouteDel(&r) }) // an unreachable route outlives every interface
	}
	for _, r := range []netlink.Rule{
		{Priority: 512, Dst: ipnet(t, "10.0.1.20/32"), Table: unix.RT_TABLE_MAIN},
		{Priority: 1536, Src: ipnet(t, "10.0.1.30/32"), Table: 2},
		{Priority: 1024, Mark: 0x80, Table: unix.RT_TABLE_MAIN},
	} {
		rule := netlink.NewRule()
		rule.Priority, rule.Dst, rule.Src, rule.Table, rule.Mark = r.Priority, r.Dst, r.Src, r.Table, r.Mark
		must(t, netlink.RuleAdd(rule))
		t.Cleanup(func() { _ = netlink.RuleDel(rule) })
	}
	return ix
}

func TestLooksAtLinksRoutesAndRulesWithoutAnyCapability(t *testing.T) {
	ix := node(t)
	var (
		links  Links
		routes Routes
		rules  Rules
	)
	withoutCapabilities(t, func() { links, routes, rules = lookNetwork() })
	for what, look := range map[string]Look{"links": links.Look, "routes": routes.Look, "rules": rules.Look} {
		if look.Sight != Seen {
			t.Fatalf("%s: %+v", what, look)
		}
	}
	byName := map[string]Link{}
	for _, l := range links.List {
		byName[l.Name] = l
	}
	eth0 := byName["eth0"]
	if eth0.Index != ix["eth0"] || eth0.Kind != "veth" || eth0.MTU != 9001 || !eth0.Up ||
		!slices.Contains(eth0.Addrs, netip.MustParsePrefix("10.0.1.10/24")) || eth0.MAC == [6]byte{} {
		t.Errorf("eth0: %+v", eth0)
	}
	if diff := cmp.Diff(&VXLAN{Port: 8472, External: true}, byName["cilium_vxlan"].VXLAN); diff != "" {
		t.Errorf("cilium_vxlan: %s", diff)
	}
	if got := routes.Tables[2]; len(routes.Tables) != 1 || len(got) != 1 || got[0].Dst != netip.MustParsePrefix("10.244.3.0/24") || got[0].Link != ix["eth0"] {
		t.Errorf("tables: %+v", routes.Tables)
	}
	var overlay []Route
	for _, r := range routes.List {
		if r.Dst.Addr().Is4() && (r.Dst.Bits() == 0 || netip.MustParsePrefix("10.244.0.0/16").Contains(r.Dst.Addr())) {
			overlay = append(overlay, r)
		}
	}
	slices.SortFunc(overlay, func(a, b Route) int { return a.Dst.Addr().Compare(b.Dst.Addr()) })
	want := []Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.1.1"), Link: ix["eth0"], Type: unix.RTN_UNICAST, Priority: 512},
		{Dst: netip.MustParsePrefix("10.244.2.0/24"), Link: ix["cilium_host"], Type: unix.RTN_UNICAST, MTU: 8951},
		{Dst: netip.MustParsePrefix("10.244.4.0/24"), Type: unix.RTN_UNREACHABLE},
	}
	for i := range overlay {
		if overlay[i].Type == unix.RTN_UNREACHABLE {
			overlay[i].Link = 0 // older kernels name lo there
		}
	}
	if diff := cmp.Diff(want, overlay, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("routes: %s", diff)
	}
	for _, want := range []Rule{
		{Priority: 0, Table: unix.RT_TABLE_LOCAL},
		{Priority: 512, Dst: netip.MustParsePrefix("10.0.1.20/32"), Table: unix.RT_TABLE_MAIN},
		{Priority: 1024, Mark: 0x80, Table: unix.RT_TABLE_MAIN},
		{Priority: 1536, Src: netip.MustParsePrefix("10.0.1.30/32"), Table: 2},
	} {
		if !slices.Contains(rules.List, want) {
			t.Errorf("rule %+v is not in %+v", want, rules.List)
		}
	}
}

func TestSeesProgramsAttachedByEitherWay(t *testing.T) {
	ix := node(t)
	root := bpffs(t)

	// By tcx link, pinned where Cilium pins it.
	dir := filepath.Join(root, "cilium/devices/cilium_vxlan/links")
	must(t, os.MkdirAll(dir, 0o755))
	attach := func(name string, hook ebpf.AttachType) link.Link {
		l, err := link.AttachTCX(link.TCXOptions{Interface: ix["cilium_vxlan"], Program: classifier(t, name), Attach: hook})
		must(t, err)
		t.Cleanup(func() { l.Close() })
		must(t, l.Pin(filepath.Join(dir, name)))
		return l
	}
	attach("cil_from_overlay", ebpf.AttachTCXIngress)
	attach("cil_to_overlay", ebpf.AttachTCXEgress)
	must(t, attach("cil_gone", ebpf.AttachTCXEgress).Detach())
	ix["lxc_health"] = add(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lxc_health"}, PeerName: "health"})
	pod, err := link.AttachTCX(link.TCXOptions{Interface: ix["lxc_health"], Program: classifier(t, "x"), Attach: ebpf.AttachTCXIngress})
	must(t, err)
	t.Cleanup(func() { pod.Close() })
	pins := filepath.Join(root, "cilium/endpoints/733/links")
	must(t, os.MkdirAll(pins, 0o755))
	must(t, pod.Pin(filepath.Join(pins, "cil_from_container")))

	// By classic filters: only a direct-action filter of Cilium's name counts.
	must(t, netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ix["eth0"], Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}))
	filter := func(name string, prio uint16, direct bool) {
		must(t, netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: ix["eth0"], Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: prio,
			},
			Fd: classifier(t, "x").FD(), Name: name, DirectAction: direct,
		}))
	}
	filter("cil_from_netdev-eth0", 1, true)
	filter("cil_to_netdev-eth0", 2, false)
	filter("somebody_else", 3, true)

	var got Programs
	withoutCapabilities(t, func() { got = lookPrograms(root, lookLinks()) })
	if got.Sight != Seen {
		t.Fatal(got.Look)
	}
	want := []Program{
		{Name: "cil_from_overlay", Link: ix["cilium_vxlan"], Via: "tcx"},
		{Name: "cil_to_overlay", Link: ix["cilium_vxlan"], Egress: true, Via: "tcx"},
		{Name: "cil_from_container", Link: ix["lxc_health"], Via: "tcx"},
		{Name: "cil_from_netdev", Link: ix["eth0"], Via: "tc"},
	}
	for i := range got.List {
		if got.List[i].ID == 0 {
			t.Errorf("%s has no ID", got.List[i].Name)
		}
		got.List[i].ID = 0
	}
	if diff := cmp.Diff(want, got.List); diff != "" {
		t.Error(diff)
	}
	if got.SocketsOnce {
		t.Error("Cilium is said to have translated at sockets, and nothing says so")
	}
	must(t, os.MkdirAll(filepath.Join(root, "cilium/socketlb/links/cgroup"), 0o700))
	withoutCapabilities(t, func() { got = lookPrograms(root, lookLinks()) })
	if got.Sight != Seen || !got.SocketsOnce || len(got.Sockets) > 0 {
		t.Errorf("an empty directory of links on cgroups: %+v", got)
	}
}

// TestWhichMapsProgramsUseIsAskedOnlyIfSomebodySaysSo, and takes CAP_SYS_ADMIN, which is named where it is missing.
func TestWhichMapsProgramsUseIsAskedOnlyIfSomebodySaysSo(t *testing.T) {
	ix := node(t)
	root := bpffs(t)
	must(t, os.MkdirAll(filepath.Join(root, "tc/globals"), 0o755))
	shape := ebpf.MapSpec{Name: "cilium_lxc", Type: ebpf.Hash, KeySize: 20, ValueSize: 48, MaxEntries: 8, Flags: unix.BPF_F_NO_PREALLOC}
	before, err := ebpf.NewMap(&shape)
	must(t, err)
	t.Cleanup(func() { before.Close() })
	now, err := ebpf.NewMap(&shape)
	must(t, err)
	t.Cleanup(func() { now.Close() })
	must(t, now.Pin(filepath.Join(root, "tc/globals/cilium_lxc")))
	attach := func(name string, used *ebpf.Map, hook ebpf.AttachType) {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.SchedCLS, License: "Apache-2.0",
			Instructions: asm.Instructions{asm.LoadMapPtr(asm.R1, used.FD()), asm.Mov.Imm(asm.R0, -1), asm.Return()},
		})
		must(t, err)
		t.Cleanup(func() { p.Close() })
		l, err := link.AttachTCX(link.TCXOptions{Interface: ix["cilium_vxlan"], Program: p, Attach: hook})
		must(t, err)
		t.Cleanup(func() { l.Close() })
		dir := filepath.Join(root, "cilium/devices/cilium_vxlan/links")
		must(t, os.MkdirAll(dir, 0o755))
		must(t, l.Pin(filepath.Join(dir, name)))
	}
	attach("cil_from_overlay", before, ebpf.AttachTCXIngress)
	attach("cil_to_overlay", now, ebpf.AttachTCXEgress)

	var f Facts
	f.Programs = lookPrograms(root, lookLinks())
	Host{BPFFS: root}.LookAsked(&f)
	if f.MapUses.Sight != NotLooked {
		t.Errorf("nobody said so: %+v", f.MapUses)
	}
	withoutCapabilities(t, func() { Host{BPFFS: root, MapUses: true}.LookAsked(&f) })
	if f.MapUses.Sight != Failed || !f.MapUses.NotAllowed || !strings.Contains(f.MapUses.Detail, "CAP_SYS_ADMIN") {
		t.Errorf("without the capability: %+v", f.MapUses)
	}
	Host{BPFFS: root, MapUses: true}.LookAsked(&f)
	if f.MapUses.Sight != Seen || f.MapUses.NotAllowed || len(f.MapUses.By) != 2 {
		t.Fatalf("%+v", f.MapUses)
	}
	want := map[string]ciliummap.Uses{"cil_from_overlay": {Old: []string{"cilium_lxc"}}, "cil_to_overlay": {Now: []string{"cilium_lxc"}}}
	for _, p := range f.Programs.List {
		if diff := cmp.Diff(want[p.Name], f.MapUses.By[p.ID]); diff != "" {
			t.Errorf("%s: %s", p.Name, diff)
		}
	}
}

func TestADirectoryThatIsNoBPFFSProvesNothing(t *testing.T) {
	needsRoot(t)
	dir := t.TempDir()
	if p := lookPrograms(dir, lookLinks()); p.Sight != Failed {
		t.Errorf("programs: %+v", p.Look)
	}
	if e, c := lookMaps(dir); e.Sight != Failed || c.Sight != Failed {
		t.Errorf("maps: %+v, %+v", e.Look, c.Look)
	}
	if p := lookPins(dir); p.Sight != Failed {
		t.Errorf("pins: %+v", p.Look)
	}
	if l := lookLiveness(dir); l.Sight != Failed {
		t.Errorf("liveness: %+v", l.Look)
	}
}

func TestTellsMapsThatAreMissingFromMapsOfAnotherShape(t *testing.T) {
	needsRoot(t)
	root := bpffs(t)
	globals := filepath.Join(root, "tc/globals")
	must(t, os.MkdirAll(globals, 0o755))
	pin := func(name string, spec ebpf.MapSpec) *ebpf.Map {
		m, err := ebpf.NewMap(&spec)
		must(t, err)
		t.Cleanup(func() { m.Close() })
		must(t, m.Pin(filepath.Join(globals, name)))
		return m
	}
	pin("cilium_ipcache_v2", ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: 24, ValueSize: 28, MaxEntries: 8, Flags: unix.BPF_F_NO_PREALLOC})
	if p := lookPins(root); p.Sight != Seen || !slices.Equal(p.Names, []string{"cilium_ipcache_v2"}) {
		t.Errorf("pins: %+v", p)
	}
	e, c := lookMaps(root)
	if e.Sight != Absent || c.Sight != Alien {
		t.Errorf("endpoints %+v, ipcache %+v", e.Look, c.Look)
	}

	config := pin("cilium_runtime_config", ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 256})
	stamp := make([]byte, 8)
	binary.NativeEndian.PutUint64(stamp, 1_000_000_000)
	must(t, config.Put(uint32(1), stamp))
	var l Liveness
	withoutCapabilities(t, func() { l = lookLiveness(root) })
	if l.Sight != Seen || l.Stamp.Seconds() != 1 || l.Now <= l.Stamp {
		t.Errorf("liveness: %+v", l)
	}
}

func TestSeesTheHostThroughItsMountedRoot(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(root, path)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o600))
	}
	write("etc/cni/net.d/05-cilium.conflist", `{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni"}]}`)
	write("etc/cni/net.d/10-aws.conflist", `{"cniVersion":"0.4.0","name":"aws-cni","plugins":[{"type":"aws-cni"}]}`)
	write("proc/sys/kernel/random/boot_id", "8256b124-ae7e-4206-8054-6a9867bb1546\n")

	f := Host{Root: root, BPFFS: filepath.Join(root, "bpf"), ConfDir: "/etc/cni/net.d"}.Look()
	if o := f.ConfDir.Judge(); o.State != cniconf.Ready || o.Winner.Kind != cniconf.Cilium || len(o.Ignored) != 1 {
		t.Errorf("net.d: %+v", o)
	}
	if f.Boot.Sight != Seen || f.Boot.ID != "8256b124-ae7e-4206-8054-6a9867bb1546" {
		t.Errorf("boot: %+v", f.Boot)
	}
	if f.Kernel.Sight != Seen || !strings.Contains(f.Kernel.Release, ".") {
		t.Errorf("kernel: %+v", f.Kernel)
	}

	own := Host{Root: t.TempDir()}.lookBoot()
	real, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	must(t, err)
	if own.ID != strings.TrimSpace(string(real)) {
		t.Errorf("without a host root: %+v, want %s", own, real)
	}
}

func TestReceivedByCountsWhatAnInterfaceTakesIn(t *testing.T) {
	const other = 50 // packets that the kernel sends by itself when an interface comes up
	ix := node(t)
	before, err := ReceivedBy("wire")
	must(t, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	sent, after := uint64(0), before
	for deadline := time.Now().Add(10 * time.Second); after == before && time.Now().Before(deadline); { // the kernel drops them until it has seen the carrier
		must(t, unix.Sendto(fd, make([]byte, 60), 0, &unix.SockaddrLinklayer{Ifindex: ix["eth0"]}))
		sent++
		after, err = ReceivedBy("wire")
		must(t, err)
	}
	if after == before || after > before+sent+other {
		t.Errorf("%d packets, %d before %d were sent", after, before, sent)
	}
	if _, err := ReceivedBy("nothing"); err == nil {
		t.Error("an interface that is not there: no error")
	}
}
