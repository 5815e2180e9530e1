// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// dumpTries bounds how often a dump is repeated that the kernel calls interrupted: something changed while it was read, so
// entries may be missing from it.
const dumpTries = 5

// dump repeats a list until it is whole.
func dump[T any](what string, list func() ([]T, error)) ([]T, Look) {
	var (
		out []T
		err error
	)
	for range dumpTries {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, failed(fmt.Errorf("listing %s by rtnetlink: %w", what, err))
	}
	return out, Look{Sight: Seen}
}

func lookNetwork() (Links, Routes, Rules) {
	return lookLinks(), lookRoutes(), lookRules()
}

func lookLinks() Links {
	var out Links
	found, look := dump("interfaces", netlink.LinkList)
	addrs, addrLook := dump("addresses", func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if addrLook.Sight != Seen && look.Sight == Seen {
		look = addrLook
	}
	out.Look = look
	byLink := make(map[int][]netip.Prefix)
	for _, a := range addrs {
		if p := prefix(a.IPNet); p.IsValid() {
			byLink[a.LinkIndex] = append(byLink[a.LinkIndex], p)
		}
	}
	for _, l := range found {
		attrs := l.Attrs()
		link := Link{
			Index: attrs.Index,
			Name:  attrs.Name,
			Kind:  l.Type(),
			MTU:   attrs.MTU,
			Up:    attrs.Flags&net.FlagUp != 0,
			Addrs: byLink[attrs.Index],
		}
		if len(attrs.HardwareAddr) == len(link.MAC) {
			link.MAC = ciliummap.MAC(attrs.HardwareAddr)
		}
		if v, ok := l.(*netlink.Vxlan); ok {
			link.VXLAN = &VXLAN{Port: v.Port, VNI: v.VxlanId, External: v.FlowBased}
		}
		out.List = append(out.List, link)
	}
	return out
}

// ReceivedBy is how many packets an interface has taken in since it was made. What the kernel has merged before it got there counts as
// one, which it does not do with UDP unless somebody switches that on.
func ReceivedBy(name string) (uint64, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("asking for the counters of %s by rtnetlink: %w", name, err)
	}
	if l.Attrs().Statistics == nil {
		return 0, fmt.Errorf("asking for the counters of %s by rtnetlink: there are none", name)
	}
	return l.Attrs().Statistics.RxPackets, nil
}

func lookRoutes() Routes {
	var out Routes
	found, look := dump("routes", func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	out.Look, out.Tables = look, map[int][]Route{}
	for _, r := range found {
		route := Route{Link: r.LinkIndex, Type: r.Type, Priority: r.Priority, MTU: r.MTU, Dst: prefix(r.Dst)}
		if r.Dst == nil { // how some answers say "default"
			route.Dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if r.Family == netlink.FAMILY_V6 {
				route.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
		}
		if gw, ok := netip.AddrFromSlice(r.Gw); ok {
			route.Gateway = gw.Unmap()
		}
		switch r.Table {
		case unix.RT_TABLE_MAIN:
			out.List = append(out.List, route)
		case unix.RT_TABLE_LOCAL, unix.RT_TABLE_DEFAULT: // the kernel's own
		default:
			out.Tables[r.Table] = append(out.Tables[r.Table], route)
		}
	}
	return out
}

func lookRules() Rules {
	var out Rules
	found, look := dump("rules", func() ([]netlink.Rule, error) { return netlink.RuleList(netlink.FAMILY_V4) })
	out.Look = look
	for _, r := range found {
		out.List = append(out.List, Rule{
			// A rule of priority 0 carries no attribute for it, which the library reports as -1.
			Priority: max(r.Priority, 0), Src: prefix(r.Src), Dst: prefix(r.Dst), Table: r.Table, Mark: r.Mark,
		})
	}
	return out
}

// prefix returns the zero Prefix for nil.
func prefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones)
}
