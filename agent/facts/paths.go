// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HostLink is the interface by which the host's own packets, and those of the VPC CNI's pods, get into the overlay (Cilium
// pkg/defaults/node.go).
const HostLink = "cilium_host"

// TunnelLink is the tunnel's interface.
const TunnelLink = "cilium_vxlan"

// PacketMark is the mark with which the VPC CNI lets a packet of a pod on a secondary ENI use the main table
// (amazon-vpc-cni-k8s pkg/networkutils).
const PacketMark = 0x80

const (
	// maxTargets is how many pod CIDRs stand for all: the first, the last and two in between. The kernel answers in 8 us, and a node
	// of the VPC CNI's has up to 737 pods.
	maxTargets = 4
	// maxWhys is how many of the paths that go astray are asked for their route and for what a mark would change.
	maxWhys = 16
)

// lookPaths asks the kernel where packets of the VPC CNI's pods to the overlay would go: each pod that has a route to a veth pair
// which is not Cilium's, with its address as the source and the veth pair as the interface that the packet comes in by. Without
// that interface the kernel takes the question for one about its own packets and refuses. It needs no capability.
func lookPaths(links Links, routes Routes) Paths {
	switch {
	case links.Sight != Seen:
		return Paths{Look: links.Look}
	case routes.Sight != Seen:
		return Paths{Look: routes.Look}
	}
	host, veths := 0, map[int]bool{}
	for _, l := range links.List {
		switch {
		case l.Name == HostLink:
			host = l.Index
		case l.Kind == "veth" && !strings.HasPrefix(l.Name, "cilium_") && !strings.HasPrefix(l.Name, PodLinkPrefix):
			veths[l.Index] = true
		}
	}
	targets := targets(links, routes, host)
	if len(targets) == 0 {
		return Paths{Look: Look{Absent, "no route leads into the tunnel"}}
	}
	kernel, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return Paths{Look: failed(fmt.Errorf("opening rtnetlink: %w", err))}
	}
	defer kernel.Close()
	out := Paths{Look: Look{Sight: Seen}}
	astray := 0
	for _, r := range routes.List {
		if !r.Dst.IsSingleIP() || !r.Dst.Addr().Is4() || !veths[r.Link] {
			continue
		}
		for _, dst := range targets {
			p := Path{Pod: r.Dst.Addr(), Iif: r.Link, Dst: dst}
			ask(kernel, &p)
			if p.Oif != host {
				if astray++; astray <= maxWhys {
					askWhy(kernel, &p)
				}
			}
			out.List = append(out.List, p)
		}
	}
	return out
}

// targets returns an address of some of the pod CIDRs that are routed into the tunnel, this node's own among them, evenly spread.
func targets(links Links, routes Routes, host int) []netip.Addr {
	own := ownAddrs(links, routes)
	var all []netip.Addr
	for _, r := range routes.List {
		if r.Link != host || host == 0 || !r.Dst.Addr().Is4() || r.Dst.Bits() == 0 || r.Dst.Bits() > 30 {
			continue
		}
		if addr := firstFree(r.Dst, own); addr.IsValid() {
			all = append(all, addr)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	all = slices.Compact(all)
	if len(all) <= maxTargets {
		return all
	}
	var out []netip.Addr
	for i := range maxTargets {
		out = append(out, all[i*(len(all)-1)/(maxTargets-1)])
	}
	return out
}

// ownAddrs are the addresses that have a route of their own: the host's, which the table of local addresses keeps, and those of
// pods here. A question about one of them says nothing of its pod CIDR. Cilium gives its router any address of the node's CIDR, the
// first as likely as the others (pkg/ipam/service/ipallocator allocates at random).
func ownAddrs(links Links, routes Routes) map[netip.Addr]bool {
	own := map[netip.Addr]bool{}
	for _, l := range links.List {
		for _, a := range l.Addrs {
			own[a.Addr()] = true
		}
	}
	for _, r := range routes.List {
		if r.Dst.IsSingleIP() {
			own[r.Dst.Addr()] = true
		}
	}
	return own
}

// firstFree returns the first address after the network's own that is not taken, the zero Addr if there is none.
func firstFree(cidr netip.Prefix, taken map[netip.Addr]bool) netip.Addr {
	for addr := cidr.Masked().Addr().Next(); cidr.Contains(addr); addr = addr.Next() {
		if !taken[addr] {
			return addr
		}
	}
	return netip.Addr{}
}

// ask fills in what the kernel would do with a packet that carries no mark.
func ask(kernel *netlink.Handle, p *Path) {
	r, err := routeGet(kernel, p, netlink.RouteGetOptions{})
	if err != nil {
		p.Refused = err.Error()
		return
	}
	p.Oif, p.Table = r.LinkIndex, r.Table
}

// askWhy fills in which route the packet matches, and where it would go with the VPC CNI's mark.
func askWhy(kernel *netlink.Handle, p *Path) {
	if r, err := routeGet(kernel, p, netlink.RouteGetOptions{FIBMatch: true}); err == nil {
		if p.Matched = prefix(r.Dst); !p.Matched.IsValid() { // how some answers say "default"
			p.Matched = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
	}
	if r, err := routeGet(kernel, p, netlink.RouteGetOptions{Mark: PacketMark}); err == nil {
		p.MarkedOif = r.LinkIndex
	}
}

func routeGet(kernel *netlink.Handle, p *Path, o netlink.RouteGetOptions) (netlink.Route, error) {
	o.IifIndex, o.SrcAddr = p.Iif, p.Pod.AsSlice()
	found, err := kernel.RouteGetWithOptions(p.Dst.AsSlice(), &o)
	switch {
	case err != nil:
		return netlink.Route{}, err
	case len(found) != 1:
		return netlink.Route{}, fmt.Errorf("the kernel answers with %d routes", len(found))
	}
	return found[0], nil
}

const ipv4Sysctls = "/proc/sys/net/ipv4"

// lookForwarding reads the settings of this process's own network namespace, which is the host's. The kernel uses the larger of an
// interface's rp_filter and that of all (Documentation/networking/ip-sysctl.rst).
func lookForwarding() Forwarding {
	out := Forwarding{Look: Look{Sight: Seen}, RPFilter: map[string]int{}}
	read := func(file string) int {
		b, err := os.ReadFile(filepath.Join(ipv4Sysctls, file))
		n, bad := strconv.Atoi(strings.TrimSpace(string(b)))
		if err == nil {
			err = bad
		}
		if err != nil {
			out.Look = failed(fmt.Errorf("reading a setting of the host's network: %w", err))
		}
		return n
	}
	out.On = read("ip_forward") != 0
	all := read("conf/all/rp_filter")
	interfaces, err := filepath.Glob(filepath.Join(ipv4Sysctls, "conf/cilium_*"))
	if err != nil {
		out.Look = failed(err)
	}
	for _, dir := range interfaces {
		name := filepath.Base(dir)
		out.RPFilter[name] = max(all, read(filepath.Join("conf", name, "rp_filter")))
	}
	return out
}
