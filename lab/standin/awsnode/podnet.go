// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// podGateway is an address that exists nowhere; the pod resolves it by a static entry.
var podGateway = netip.AddrFrom4([4]byte{169, 254, 1, 1})

// hostVeth names the host's side of the pod's veth pair: prefix and 11 hex digits of the
// SHA-1 of "namespace.name" (amazon-vpc-cni-k8s, pkg/networkutils/names.go).
func hostVeth(prefix string, pod podName) string {
	sum := sha1.Sum([]byte(pod.Namespace + "." + pod.Name))
	return prefix + hex.EncodeToString(sum[:])[:11]
}

// podNet is what one pod gets.
type podNet struct {
	ip        netip.Addr
	table     int    // the table for what the pod sends
	hostSide  string // interface names
	podSide   string
	netns     string // path
	mtu       int    // bytes
	hostIndex int
}

// setup makes the veth pair inside the pod's namespace, moves the host's end out, and
// routes the pod's address to it.
func (p podNet) setup() error {
	if old, err := netlink.LinkByName(p.hostSide); err == nil {
		// An older sandbox of a pod of the same name, whose DEL has not come yet.
		if err := netlink.LinkDel(old); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("removing the old %s: %w", p.hostSide, err)
		}
	}
	if err := ns.WithNetNSPath(p.netns, p.inside); err != nil {
		return fmt.Errorf("setting up the pod's side: %w", err)
	}
	link, err := netlink.LinkByName(p.hostSide)
	if err != nil {
		return fmt.Errorf("finding %s: %w", p.hostSide, err)
	}
	for key, value := range map[string]string{"accept_ra": "0", "accept_redirects": "1", "forwarding": "0"} {
		// No such file: the kernel or the node has no IPv6.
		if err := setSysctl("net/ipv6/conf/"+p.hostSide+"/"+key, value); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("raising %s: %w", p.hostSide, err)
	}
	p.hostIndex = link.Attrs().Index
	return p.route()
}

func (p podNet) route() error {
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: p.hostIndex, Scope: netlink.SCOPE_LINK, Dst: single(p.ip), Table: mainTable}); err != nil {
		return fmt.Errorf("adding the route to pod %s: %w", p.ip, err)
	}
	for _, rule := range podRules(p.ip, p.table) {
		if err := addRule(rule); err != nil {
			return err
		}
	}
	return nil
}

// podRules are the rule to the pod and, for a pod on a secondary interface, the one from it.
func podRules(ip netip.Addr, table int) []*netlink.Rule {
	to := netlink.NewRule()
	to.Priority, to.Table, to.Dst = toPodPriority, mainTable, single(ip)
	if table == mainTable {
		return []*netlink.Rule{to}
	}
	from := netlink.NewRule()
	from.Priority, from.Table, from.Src = fromPodPriority, table, single(ip)
	return []*netlink.Rule{to, from}
}

// inside runs in the pod's network namespace.
func (p podNet) inside(hostNS ns.NetNS) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.MTU, attributes.Flags = p.podSide, p.mtu, net.FlagUp
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: p.hostSide, PeerMTU: uint32(p.mtu)}); err != nil {
		return fmt.Errorf("adding the veth pair: %w", err)
	}
	outer, err := netlink.LinkByName(p.hostSide)
	if err != nil {
		return fmt.Errorf("finding %s: %w", p.hostSide, err)
	}
	inner, err := netlink.LinkByName(p.podSide)
	if err != nil {
		return fmt.Errorf("finding %s: %w", p.podSide, err)
	}
	for _, link := range []netlink.Link{outer, inner} {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("raising %s: %w", link.Attrs().Name, err)
		}
	}
	index := inner.Attrs().Index
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: single(podGateway)}); err != nil {
		return fmt.Errorf("adding the route to the gateway: %w", err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: podGateway.AsSlice()}); err != nil {
		return fmt.Errorf("adding the default route: %w", err)
	}
	if err := netlink.AddrAdd(inner, &netlink.Addr{IPNet: single(p.ip)}); err != nil {
		return fmt.Errorf("adding address %s: %w", p.ip, err)
	}
	neighbour := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: podGateway.AsSlice(), HardwareAddr: outer.Attrs().HardwareAddr}
	if err := netlink.NeighAdd(neighbour); err != nil {
		return fmt.Errorf("adding the gateway's static ARP entry: %w", err)
	}
	if err := netlink.LinkSetNsFd(outer, int(hostNS.Fd())); err != nil {
		return fmt.Errorf("moving %s to the host: %w", p.hostSide, err)
	}
	return nil
}

// unroutePod removes the pod's rules and route. The veth pair goes with the pod's namespace.
func unroutePod(ip netip.Addr, table int) error {
	for _, rule := range podRules(ip, table) {
		if err := removeRule(rule); err != nil {
			return err
		}
	}
	err := netlink.RouteDel(&netlink.Route{Scope: netlink.SCOPE_LINK, Dst: single(ip), Table: mainTable})
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("removing the route to pod %s: %w", ip, err)
	}
	return nil
}
