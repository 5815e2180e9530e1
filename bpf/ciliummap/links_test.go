// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// newVeth makes a device in the tests' own network namespace and returns its index.
func newVeth(tb testing.TB, name string) int {
	tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "p"}); err != nil {
		tb.Fatal("making a veth:", err)
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = netlink.LinkDel(l) }) // gone already where the test removes it
	return l.Attrs().Index
}

// attachTCX pins a do-nothing program as Cilium pins its own, and returns what ReadLinks should say of it.
func attachTCX(tb testing.TB, root string, ifindex int, attach ebpf.AttachType, program string) PinnedLink {
	tb.Helper()
	dev, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		tb.Fatal(err)
	}
	prog := passAll(tb, ebpf.SchedCLS, -1) // TCX_NEXT
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: prog, Attach: attach})
	if err != nil {
		tb.Fatal("attaching tcx:", err)
	}
	return pinLink(tb, root, DeviceDir(dev.Attrs().Name), program, l, PinnedLink{
		Type: link.TCXType, IfIndex: uint32(ifindex), Attach: attach,
	})
}

func passAll(tb testing.TB, typ ebpf.ProgramType, verdict int32) *ebpf.Program {
	tb.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         typ,
		License:      "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	})
	if err != nil {
		tb.Fatal("loading a program:", err)
	}
	tb.Cleanup(func() { prog.Close() })
	return prog
}

func pinLink(tb testing.TB, root, device, program string, l link.Link, want PinnedLink) PinnedLink {
	tb.Helper()
	want.Device = device
	return pinLinkIn(tb, filepath.Join(root, devicesDir, device, "links"), program, l, want)
}

func pinLinkIn(tb testing.TB, dir, program string, l link.Link, want PinnedLink) PinnedLink {
	tb.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	want.Path, want.Program = filepath.Join(dir, program), program
	if err := l.Pin(want.Path); err != nil {
		tb.Fatal(err)
	}
	info, err := l.Info()
	if err != nil {
		tb.Fatal(err)
	}
	want.ID, want.ProgramID = info.ID, info.Program
	if err := l.Close(); err != nil { // the pin holds it, as after an agent has gone
		tb.Fatal(err)
	}
	return want
}

func TestReadLinksReportsDeviceProgramAndHook(t *testing.T) {
	root := bpffs(t)
	vxlan, nic := newVeth(t, "cilium_vxlan"), newVeth(t, "eth0.100")
	from := attachTCX(t, root, vxlan, ebpf.AttachTCXIngress, "cil_from_overlay")
	to := attachTCX(t, root, vxlan, ebpf.AttachTCXEgress, "cil_to_overlay")
	netdev := attachTCX(t, root, nic, ebpf.AttachTCXIngress, "cil_from_netdev")
	x, err := link.AttachXDP(link.XDPOptions{Program: passAll(t, ebpf.XDP, 2), Interface: nic, Flags: link.XDPGenericMode})
	if err != nil {
		t.Fatal("attaching XDP:", err)
	}
	xdp := pinLink(t, root, "eth0-100", "cil_xdp_entry", x,
		PinnedLink{Type: link.XDPType, IfIndex: uint32(nic), Attach: ebpf.AttachXDP})
	// What else the agent leaves there: a device whose links are gone, and one without a links directory.
	for _, d := range []string{"cilium_net/links", "eth7"} {
		if err := os.MkdirAll(filepath.Join(root, devicesDir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadLinks(root)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]PinnedLink{from, to, netdev, xdp}, got); d != "" {
		t.Errorf("ReadLinks (-want +got):\n%s", d)
	}
}

func TestReadLinksReportsDetachedAfterTheDeviceWasRemoved(t *testing.T) {
	root := bpffs(t)
	ifindex := newVeth(t, "cilium_vxlan")
	want := attachTCX(t, root, ifindex, ebpf.AttachTCXIngress, "cil_from_overlay")
	dev, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(dev); err != nil {
		t.Fatal(err)
	}
	again := newVeth(t, "cilium_vxlan") // same name, and the link does not follow
	if again == ifindex {
		t.Fatalf("the new device has the old index %d", again)
	}
	want.IfIndex = 0
	got, err := ReadLinks(root)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]PinnedLink{want}, got); d != "" {
		t.Errorf("ReadLinks (-want +got):\n%s", d)
	}
	if !got[0].Detached() {
		t.Error("Detached() = false")
	}
}

func TestReadEndpointLinksReportsThePodsPrograms(t *testing.T) {
	root := bpffs(t)
	pod := newVeth(t, "lxc0123456789")
	l, err := link.AttachTCX(link.TCXOptions{Interface: pod, Program: passAll(t, ebpf.SchedCLS, -1), Attach: ebpf.AttachTCXIngress})
	if err != nil {
		t.Fatal("attaching tcx:", err)
	}
	want := pinLinkIn(t, filepath.Join(root, endpointsDir, "733/links"), "cil_from_container", l,
		PinnedLink{Device: "733", Type: link.TCXType, IfIndex: uint32(pod), Attach: ebpf.AttachTCXIngress})
	got, err := ReadEndpointLinks(root)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]PinnedLink{want}, got); d != "" {
		t.Errorf("ReadEndpointLinks (-want +got):\n%s", d)
	}
}

// The program lets everything through, and its link goes with the tests' bpffs.
func TestReadSocketLinksReportsWhatIsOnACgroup(t *testing.T) {
	root := bpffs(t)
	cgroups := t.TempDir()
	if err := unix.Mount("none", cgroups, "cgroup2", 0, ""); err != nil {
		t.Fatal("mounting the cgroup2 hierarchy:", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(cgroups, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal("loading a program:", err)
	}
	defer prog.Close()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroups, Attach: ebpf.AttachCGroupInet4Connect, Program: prog})
	if err != nil {
		t.Fatal("attaching to the cgroup:", err)
	}
	info, err := l.Info()
	if err != nil {
		t.Fatal(err)
	}
	want := pinLinkIn(t, filepath.Join(root, socketsDir), "cil_sock4_connect", l,
		PinnedLink{Type: link.CgroupType, Cgroup: info.Cgroup().CgroupId, Attach: ebpf.AttachCGroupInet4Connect})
	got, err := ReadSocketLinks(root)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]PinnedLink{want}, got); d != "" {
		t.Errorf("ReadSocketLinks (-want +got):\n%s", d)
	}
	if len(got) == 1 && got[0].Detached() {
		t.Error("Detached() = true")
	}
}

func TestReadSocketLinksSaysThatThereAreNone(t *testing.T) {
	if _, err := ReadSocketLinks(bpffs(t)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want one that is fs.ErrNotExist", err)
	}
}

func TestReadLinksReturnsTheOthersBesideAnUnreadablePin(t *testing.T) {
	root := bpffs(t)
	want := attachTCX(t, root, newVeth(t, "cilium_vxlan"), ebpf.AttachTCXIngress, "cil_from_overlay")
	pin(t, filepath.Dir(want.Path), "a_map", endpointsLayout(), 16)
	got, err := ReadLinks(root)
	if err == nil || !strings.Contains(err.Error(), "a_map") || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v, want one that names the pin that is no link", err)
	}
	if d := cmp.Diff([]PinnedLink{want}, got); d != "" {
		t.Errorf("ReadLinks (-want +got):\n%s", d)
	}
}

func TestDeviceDirReplacesDots(t *testing.T) {
	if got := DeviceDir("eth0.100"); got != "eth0-100" {
		t.Errorf("DeviceDir = %q", got)
	}
}
