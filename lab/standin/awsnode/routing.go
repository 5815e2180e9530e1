// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/lab/standin/rtnetlink"
	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

// Priorities of the ip rules (amazon-vpc-cni-k8s, pkg/networkutils/network.go).
const (
	toPodPriority           = 512
	connmarkPriority        = 1024
	externalServicePriority = 1535
	fromPodPriority         = 1536
	fromENIPriority         = 32765
)

const mainTable = unix.RT_TABLE_MAIN

// setSysctl writes a value below /proc/sys; for net/... that of the caller's own network namespace.
func setSysctl(key, value string) error {
	if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0o644); err != nil {
		return fmt.Errorf("setting sysctl %s to %s: %w", key, value, err)
	}
	return nil
}

// setupSysctls is the work of the init container. Loose source checks on the primary
// interface are needed because answers to NodePort connections are routed by mark.
func setupSysctls(instance vpc.Instance) error {
	link, err := linkByMAC(primary(instance).MAC)
	if err != nil {
		return err
	}
	if err := setSysctl("net/ipv4/conf/"+link.Attrs().Name+"/rp_filter", "2"); err != nil {
		return err
	}
	return setSysctl("net/ipv4/tcp_early_demux", "1")
}

// setupPrimary prepares the primary interface and returns its name.
func setupPrimary(eni vpc.Interface, mtu int) (string, error) {
	link, err := linkByMAC(eni.MAC)
	if err != nil {
		return "", err
	}
	if err := setMTU(link, mtu); err != nil {
		return "", err
	}
	mask := uint32(0x80)
	rule := netlink.NewRule()
	rule.Priority, rule.Table, rule.Mark, rule.Mask = connmarkPriority, mainTable, 0x80, &mask
	return link.Attrs().Name, addRule(rule)
}

// setupSecondary gives a further interface its address, a table of its own with nothing but
// the way to the subnet's gateway, and takes its subnet out of the main table.
func setupSecondary(eni vpc.Interface, mtu int) error {
	link, err := linkByMAC(eni.MAC)
	if err != nil {
		return err
	}
	name := link.Attrs().Name
	if err := setMTU(link, mtu); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("raising %s: %w", name, err)
	}
	if err := onlyAddress(link, netip.PrefixFrom(eni.Primary, eni.Subnet.Bits())); err != nil {
		return err
	}
	gateway, table := net.IP(eni.Gateway.AsSlice()), routingTable(eni.DeviceNumber)
	for _, route := range []netlink.Route{
		{LinkIndex: link.Attrs().Index, Dst: single(eni.Gateway), Scope: netlink.SCOPE_LINK, Table: table},
		{LinkIndex: link.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: gateway, Table: table},
	} {
		if err := netlink.RouteReplace(&route); err != nil {
			return fmt.Errorf("adding route %s to table %d through %s: %w", route.Dst, table, name, err)
		}
	}
	subnet := &net.IPNet{IP: eni.Subnet.Masked().Addr().AsSlice(), Mask: net.CIDRMask(eni.Subnet.Bits(), 32)}
	err = netlink.RouteDel(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: subnet, Src: eni.Primary.AsSlice(), Scope: netlink.SCOPE_LINK, Table: mainTable})
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("removing route %s of %s from the main table: %w", subnet, name, err)
	}
	rule := netlink.NewRule()
	rule.Priority, rule.Table, rule.Src = fromENIPriority, table, single(eni.Primary)
	return addRule(rule)
}

// setupExternalServices makes the 1535 rules exactly those of the settings; a rule that stays is not touched.
func setupExternalServices(cidrs []netip.Prefix) error {
	rules, err := rtnetlink.Whole(func() ([]netlink.Rule, error) { return netlink.RuleList(netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("listing ip rules: %w", err)
	}
	wanted := map[string]bool{}
	for _, cidr := range cidrs {
		wanted[cidr.String()] = true
		rule := netlink.NewRule()
		rule.Priority, rule.Table = externalServicePriority, mainTable
		rule.Dst = &net.IPNet{IP: cidr.Addr().AsSlice(), Mask: net.CIDRMask(cidr.Bits(), 32)}
		if err := addRule(rule); err != nil {
			return err
		}
	}
	for _, rule := range rules {
		if rule.Priority != externalServicePriority || rule.Table != mainTable || rule.Dst != nil && wanted[rule.Dst.String()] {
			continue
		}
		if err := removeRule(&rule); err != nil {
			return err
		}
	}
	return nil
}

func linkByMAC(mac string) (netlink.Link, error) {
	links, err := rtnetlink.Whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	for _, link := range links {
		if link.Attrs().HardwareAddr.String() == mac {
			return link, nil
		}
	}
	return nil, fmt.Errorf("looking for the interface with MAC %s: not there: compare %s with `ip link`", mac, InstanceFile)
}

func setMTU(link netlink.Link, mtu int) error {
	if link.Attrs().MTU == mtu {
		return nil
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("setting MTU of %s to %d: %w", link.Attrs().Name, mtu, err)
	}
	return nil
}

// onlyAddress leaves the wanted address alone if it is there, because deleting and adding
// it again, as the original does, would take its routes away under running pods.
func onlyAddress(link netlink.Link, wanted netip.Prefix) error {
	addresses, err := rtnetlink.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("listing addresses of %s: %w", link.Attrs().Name, err)
	}
	for _, address := range addresses {
		if address.IPNet.String() == wanted.String() {
			continue
		}
		if err := netlink.AddrDel(link, &address); err != nil {
			return fmt.Errorf("removing address %s of %s: %w", address.IPNet, link.Attrs().Name, err)
		}
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: wanted.Addr().AsSlice(), Mask: net.CIDRMask(wanted.Bits(), 32)}}
	if err := netlink.AddrAdd(link, address); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding address %s to %s: %w", wanted, link.Attrs().Name, err)
	}
	return nil
}

func addRule(rule *netlink.Rule) error {
	if err := netlink.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding %s: %w", rule, err)
	}
	return nil
}

// removeRule removes every copy of the rule.
func removeRule(rule *netlink.Rule) error {
	for {
		err := netlink.RuleDel(rule)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("removing %s: %w", rule, err)
		}
	}
}

// single is the network that holds one address only.
func single(address netip.Addr) *net.IPNet {
	return &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(32, 32)}
}
