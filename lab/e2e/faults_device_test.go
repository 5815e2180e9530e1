// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/lab"
)

// deviceFaults are about the tunnel's device. Cilium looks at it when it starts: what is done to it while it runs stays, and with
// a device that goes, the programs on it go.
func deviceFaults() []fault {
	const (
		c      = v1alpha1.CheckTunnelDevice
		remove = "ip link del cilium_vxlan"
		// flannel as it makes its device; two of one port cannot be up at once (drivers/net/vxlan: vxlan_sock_add).
		flannel   = "ip link add flannel.1 type vxlan id 1 dstport 8472 nolearning"
		noFlannel = "ip link del flannel.1"
	)
	noPrograms := fails(v1alpha1.CheckPrograms, v1alpha1.ProgramMissing)
	gone := []said{noPrograms, doubts(v1alpha1.CheckMTU, v1alpha1.MTUUnknown)}
	return []fault{
		{"cilium_vxlan is missing", trouble{run(remove), restartCilium}, fails(c, v1alpha1.TunnelMissing), gone},
		{
			"cilium_vxlan has another port",
			trouble{run(remove, "ip link add cilium_vxlan mtu 9001 type vxlan external dstport 8473", "ip link set cilium_vxlan up"), restartCilium},
			fails(c, v1alpha1.TunnelWrongPort), []said{noPrograms},
		},
		{
			"a stranger's collect-metadata device in place of cilium_vxlan",
			trouble{run(remove, "ip link add stranger type vxlan external dstport 8472", "ip link set stranger up"), inOrder(run("ip link del stranger"), restartCilium)},
			fails(c, v1alpha1.TunnelPortTaken), gone,
		},
		{
			"a stranger's device took the port while cilium_vxlan was down",
			trouble{run("ip link set cilium_vxlan down", flannel, "ip link set flannel.1 up"), run(noFlannel, "ip link set cilium_vxlan up")},
			fails(c, v1alpha1.TunnelPortTaken), nil,
		},
		{"a stranger's device has the port and is down", commands(flannel, noFlannel), warns(c, v1alpha1.TunnelPortTaken), nil},
		{"cilium_vxlan has a smaller MTU than the NIC", commands("ip link set cilium_vxlan mtu 1500", "ip link set cilium_vxlan mtu 9001"), warns(c, v1alpha1.TunnelWrongMTU), nil},
	}
}

// programFaults take one program from its interface. Cilium attaches programs when it starts, and does not look after them.
func programFaults() []fault {
	missing := fails(v1alpha1.CheckPrograms, v1alpha1.ProgramMissing)
	return []fault{
		{"nothing takes packets out of the tunnel", detached("cilium_vxlan", "cil_from_overlay"), missing, nil},
		{"nothing sees packets into the tunnel", detached("cilium_vxlan", "cil_to_overlay"), missing, nil},
		{"nothing sees what the NIC receives", detached("eth0", "cil_from_netdev"), missing, nil},
		{"nothing sees what the host sends to pods", detached("cilium_host", "cil_from_host"), missing, nil},
		{"nothing sees what a pod sends", detachedPin("/sys/fs/bpf/cilium/endpoints/*/links/cil_from_container"), missing, nil},
		{"Cilium masquerades in BPF and nothing does it at the NIC", pinned(ciliummap.NATPin, ebpf.Hash, 14, 40), missing, nil},
		{"Cilium masquerades in BPF on an old node", both(pinned(ciliummap.NATPin, ebpf.Hash, 14, 40), toNetdev()), fails(v1alpha1.CheckPrograms, v1alpha1.ModeTooEarly), nil},
	}
}

// both plants one trouble after the other.
func both(a, b trouble) trouble { return trouble{inOrder(a.plant, b.plant), inOrder(b.cure, a.cure)} }

// toNetdev hangs a program of Cilium's name on the NIC's egress, which lets every packet pass on.
func toNetdev() trouble {
	const dir = "/sys/fs/bpf/cilium/devices/eth0/links"
	return trouble{
		plant: func(_ context.Context, _ *scene, host lab.Host) error {
			program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
				Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}, // TCX_NEXT
			})
			if err != nil {
				return err
			}
			defer program.Close()
			return inNetwork(host, func() error {
				nic, err := net.InterfaceByName("eth0")
				if err != nil {
					return err
				}
				l, err := link.AttachTCX(link.TCXOptions{Interface: nic.Index, Program: program, Attach: ebpf.AttachTCXEgress})
				if err != nil {
					return err
				}
				defer l.Close()
				return l.Pin(inNode(host, filepath.Join(dir, "cil_to_netdev")))
			})
		},
		cure: func(_ context.Context, _ *scene, host lab.Host) error {
			return os.Remove(inNode(host, filepath.Join(dir, "cil_to_netdev")))
		},
	}
}

// detached takes a program from an interface and later puts the same one back. Its link stays pinned and leads nowhere, as after
// the interface went.
func detached(device, program string) trouble {
	return detachedPin(filepath.Join("/sys/fs/bpf/cilium/devices", device, "links", program))
}

// detachedPin is detached for the first pin that a pattern matches.
func detachedPin(pattern string) trouble {
	var (
		pin   string // as this machine sees it
		kept  *ebpf.Program
		place link.TCXOptions
	)
	return trouble{
		plant: func(_ context.Context, _ *scene, host lab.Host) error {
			found, err := filepath.Glob(inNode(host, pattern))
			if err != nil || len(found) == 0 {
				return fmt.Errorf("looking for %s on %s: %d found: %w", pattern, host.Name, len(found), err)
			}
			pin = found[0]
			l, err := link.LoadPinnedLink(pin, nil)
			if err != nil {
				return err
			}
			defer l.Close()
			info, err := l.Info()
			if err != nil {
				return err
			}
			tcx := info.TCX()
			if tcx == nil {
				return fmt.Errorf("looking at the link of %s: it is a %v and no tcx link", pin, info.Type)
			}
			if kept, err = ebpf.NewProgramFromID(info.Program); err != nil {
				return err
			}
			place = link.TCXOptions{Interface: int(tcx.Ifindex), Program: kept, Attach: ebpf.AttachType(tcx.AttachType)}
			return l.Detach()
		},
		cure: func(_ context.Context, _ *scene, host lab.Host) error {
			defer kept.Close()
			old, err := link.LoadPinnedLink(pin, nil)
			if err != nil {
				return err
			}
			defer old.Close()
			if err := old.Unpin(); err != nil {
				return err
			}
			return inNetwork(host, func() error {
				l, err := link.AttachTCX(place)
				if err != nil {
					return err
				}
				defer l.Close()
				return l.Pin(pin)
			})
		},
	}
}
