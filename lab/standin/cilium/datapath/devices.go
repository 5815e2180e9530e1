// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/lab/standin/rtnetlink"
)

const (
	hostName  = "cilium_host"
	netName   = "cilium_net"
	vxlanName = "cilium_vxlan"
)

// protoKernel marks everything that the agent installs, as in the original (RTProto).
const protoKernel = unix.RTPROT_KERNEL

// nativeDevices finds the devices that carry the node's own traffic: those matching the patterns
// (a trailing + stands for any rest), or, without patterns, those with an IPv4 default route.
func nativeDevices(patterns []string) ([]netlink.Link, error) {
	links, err := rtnetlink.Whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	defaults := map[int]bool{}
	routes, err := rtnetlink.Whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("listing routes: %w", err)
	}
	for _, route := range routes {
		if route.Dst == nil || route.Dst.IP.IsUnspecified() {
			defaults[route.LinkIndex] = true
		}
	}
	return slices.DeleteFunc(links, func(l netlink.Link) bool {
		if len(patterns) == 0 {
			return !defaults[l.Attrs().Index]
		}
		return !slices.ContainsFunc(patterns, func(p string) bool { return matches(p, l.Attrs().Name) })
	}), nil
}

func matches(pattern, name string) bool {
	if prefix, wild := strings.CutSuffix(pattern, "+"); wild {
		return strings.HasPrefix(name, prefix)
	}
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

// baseMTU is the smallest MTU of the native devices, in bytes: the tunnel device gets it whole.
func baseMTU(native []netlink.Link) (int, error) {
	if len(native) == 0 {
		return 0, errors.New("looking for native devices: none matches and no default route exists; set `devices` in cilium-config")
	}
	mtu := native[0].Attrs().MTU
	for _, l := range native[1:] {
		mtu = min(mtu, l.Attrs().MTU)
	}
	return mtu, nil
}

// ensureHostPair makes cilium_host and cilium_net, up and without ARP.
func (d *Datapath) ensureHostPair() error {
	host, err := ensureLink(&netlink.Veth{LinkAttrs: attrs(hostName, d.mtu), PeerName: netName, PeerMTU: uint32(d.mtu)})
	if err != nil {
		return err
	}
	peer, err := netlink.LinkByName(netName)
	if err != nil {
		return fmt.Errorf("looking for %s, the other end of %s (delete %s to have both made anew): %w", netName, hostName, hostName, err)
	}
	for _, l := range []netlink.Link{host, peer} {
		if err := netlink.LinkSetARPOff(l); err != nil {
			return fmt.Errorf("turning ARP off on %s: %w", l.Attrs().Name, err)
		}
		if err := d.bringUp(l); err != nil {
			return err
		}
	}
	d.hostIndex, d.netIndex = host.Attrs().Index, peer.Attrs().Index
	return nil
}

// ensureTunnel makes cilium_vxlan: metadata mode, no fixed VNI.
func (d *Datapath) ensureTunnel() error {
	wanted := &netlink.Vxlan{LinkAttrs: attrs(vxlanName, d.mtu), FlowBased: true, Port: d.tunnelPort, UDPCSum: true}
	if existing, err := netlink.LinkByName(vxlanName); err == nil {
		if v, ok := existing.(*netlink.Vxlan); !ok || !v.FlowBased || v.Port != d.tunnelPort {
			if err := netlink.LinkDel(existing); err != nil {
				return fmt.Errorf("deleting the %s of another shape: %w", vxlanName, err)
			}
		}
	}
	l, err := ensureLink(wanted)
	if err != nil {
		return fmt.Errorf("setting up the tunnel device (another vxlan device on UDP port %d blocks it): %w", d.tunnelPort, err)
	}
	d.vxlanIndex = l.Attrs().Index
	return d.bringUp(l)
}

func (d *Datapath) bringUp(l netlink.Link) error {
	name := l.Attrs().Name
	if l.Attrs().MTU != d.mtu {
		if err := netlink.LinkSetMTU(l, d.mtu); err != nil {
			return fmt.Errorf("setting the MTU of %s to %d: %w", name, d.mtu, err)
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("setting %s up: %w", name, err)
	}
	return deviceSysctls(name)
}

func attrs(name string, mtu int) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU = name, mtu
	return a
}

func ensureLink(wanted netlink.Link) (netlink.Link, error) {
	name := wanted.Attrs().Name
	if err := netlink.LinkAdd(wanted); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("creating device %s: %w", name, err)
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("looking for device %s just made: %w", name, err)
	}
	return l, nil
}

// setRouterAddress makes router the only IPv4 address of cilium_host.
func (d *Datapath) setRouterAddress(router netip.Addr) error {
	host, err := netlink.LinkByIndex(d.hostIndex)
	if err != nil {
		return fmt.Errorf("looking for %s: %w", hostName, err)
	}
	existing, err := rtnetlink.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(host, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("listing addresses of %s: %w", hostName, err)
	}
	wanted := &netlink.Addr{IPNet: ipNet(single(router))}
	for _, addr := range existing {
		if !addr.IP.Equal(wanted.IP) {
			if err := netlink.AddrDel(host, &addr); err != nil {
				return fmt.Errorf("removing the old address %s of %s: %w", addr.IPNet, hostName, err)
			}
		}
	}
	if err := netlink.AddrReplace(host, wanted); err != nil {
		return fmt.Errorf("giving %s the address %s: %w", hostName, router, err)
	}
	return nil
}
