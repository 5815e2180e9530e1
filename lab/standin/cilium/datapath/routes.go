// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/lab/standin/rtnetlink"
)

// Rules of Cilium with its L7 proxy on, the default (pkg/proxy/routes.go).
const (
	localRulePriority = 100
	proxyRulePriority = 9
	proxyTable        = 2004
	proxyMark         = 0x200
	proxyMarkMask     = 0xf00
)

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (d *Datapath) netlinkRoute(r Route) *netlink.Route {
	router := net.IP(d.self.Router.AsSlice())
	return &netlink.Route{
		Dst: ipNet(r.Dst), Gw: router, Src: router, MTU: r.MTU,
		LinkIndex: d.hostIndex, Protocol: protoKernel, Table: unix.RT_TABLE_MAIN,
	}
}

// ensureRouterRoute makes the address of cilium_host reachable over cilium_host: every other route
// here has it as its next hop.
func (d *Datapath) ensureRouterRoute() error {
	err := netlink.RouteReplace(&netlink.Route{
		Dst: ipNet(single(d.self.Router)), LinkIndex: d.hostIndex,
		Protocol: protoKernel, Scope: netlink.SCOPE_LINK, Table: unix.RT_TABLE_MAIN,
	})
	if err != nil {
		return fmt.Errorf("routing %s over %s: %w", d.self.Router, hostName, err)
	}
	return nil
}

// dropForeignRoutes removes what an earlier agent left on cilium_host and nobody wants now.
func (d *Datapath) dropForeignRoutes(wanted map[Route]bool) error {
	keep := map[netip.Prefix]bool{single(d.self.Router): true}
	for route := range wanted {
		keep[route.Dst] = true
	}
	existing, err := rtnetlink.Whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4,
			&netlink.Route{LinkIndex: d.hostIndex, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("listing the routes over %s: %w", hostName, err)
	}
	for _, route := range existing {
		if route.Dst == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(route.Dst.IP.To4())
		ones, _ := route.Dst.Mask.Size()
		if !ok || keep[netip.PrefixFrom(ip, ones)] {
			continue
		}
		if err := netlink.RouteDel(&route); err != nil {
			return fmt.Errorf("removing the old route to %s: %w", route.Dst, err)
		}
	}
	return nil
}

// ensureRules moves the rule of the local table from priority 0 to 100 and adds the proxy's rule
// and table. The new local rule comes first: without any the node is off the network.
func ensureRules() error {
	local := netlink.NewRule()
	local.Family, local.Table, local.Priority = netlink.FAMILY_V4, unix.RT_TABLE_LOCAL, localRulePriority
	mask := uint32(proxyMarkMask)
	proxy := netlink.NewRule()
	proxy.Family, proxy.Table, proxy.Priority, proxy.Mark, proxy.Mask = netlink.FAMILY_V4, proxyTable, proxyRulePriority, proxyMark, &mask
	for _, rule := range []*netlink.Rule{local, proxy} {
		if err := netlink.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("adding rule %v: %w", rule, err)
		}
	}
	first := netlink.NewRule()
	first.Family, first.Table, first.Priority = netlink.FAMILY_V4, unix.RT_TABLE_LOCAL, 0
	if err := netlink.RuleDel(first); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("removing the local rule at priority 0: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("looking for lo: %w", err)
	}
	err = netlink.RouteReplace(&netlink.Route{
		Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), LinkIndex: lo.Attrs().Index,
		Table: proxyTable, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Protocol: protoKernel,
	})
	if err != nil {
		return fmt.Errorf("adding the local default of table %d: %w", proxyTable, err)
	}
	return nil
}
