// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestThePathOfAPodIsTheKernelsAnswer builds what the VPC CNI writes for a pod on the primary and one on a secondary ENI
// (amazon-vpc-cni-k8s pkg/networkutils, as captured from the real thing), and looks at it with and without the rule by which
// AWS_EXTERNAL_SERVICE_CIDRS sends everything for the overlay to the main table.
func TestThePathOfAPodIsTheKernelsAnswer(t *testing.T) {
	ix := node(t)
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
	ix["eth1"] = add(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth1"}, PeerName: "wire1"}, "10.0.1.11/32")
	wire, err := netlink.LinkByName("wire1")
	must(t, err)
	must(t, netlink.LinkSetUp(wire))
	pods := map[string]string{"eni20": "10.0.1.20", "eni30": "10.0.1.30"} // 30 has the rule of priority 1536 to table 2
	for name, addr := range pods {
		ix[name] = add(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "in" + name})
		end, err := netlink.LinkByName("in" + name)
		must(t, err)
		must(t, netlink.LinkSetUp(end))
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: ix[name], Dst: ipnet(t, addr+"/32"), Scope: netlink.SCOPE_LINK}))
	}
	r := netlink.Route{LinkIndex: ix["eth1"], Dst: ipnet(t, "0.0.0.0/0"), Table: 2, Scope: netlink.SCOPE_LINK}
	must(t, netlink.RouteAdd(&r))
	// A pod of Cilium's and its health endpoint have their own programs and are not asked about.
	ix["lxc_health"] = add(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lxc_health"}, PeerName: "health"})
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: ix["lxc_health"], Dst: ipnet(t, "10.244.1.5/32"), Scope: netlink.SCOPE_LINK}))

	look := func() map[netip.Addr]Path {
		t.Helper()
		var got Paths
		withoutCapabilities(t, func() { got = lookPaths(lookLinks(), lookRoutes()) })
		if got.Sight != Seen || len(got.List) != len(pods) {
			t.Fatalf("%+v", got)
		}
		by := map[netip.Addr]Path{}
		for _, p := range got.List {
			by[p.Pod] = p
		}
		return by
	}
	primary, secondary, target := netip.MustParseAddr("10.0.1.20"), netip.MustParseAddr("10.0.1.30"), netip.MustParseAddr("10.244.2.1")

	by := look()
	if p := by[primary]; p.Oif != ix["cilium_host"] || p.Dst != target || p.Iif != ix["eni20"] || p.Table != unix.RT_TABLE_MAIN || p.Refused != "" {
		t.Errorf("on the primary ENI: %+v", p)
	}
	// Table 2 of the node has a route to 10.244.3.0/24 by eth0 as well; what counts is the one to the target.
	want := Path{Pod: secondary, Iif: ix["eni30"], Dst: target, Oif: ix["eth1"], Table: 2,
		Matched: netip.MustParsePrefix("0.0.0.0/0"), MarkedOif: ix["cilium_host"]}
	if p := by[secondary]; p != want {
		t.Errorf("on a secondary ENI: %+v, want %+v", p, want)
	}

	rule := netlink.NewRule()
	rule.Priority, rule.Dst, rule.Table = 1535, ipnet(t, "10.244.0.0/16"), unix.RT_TABLE_MAIN
	must(t, netlink.RuleAdd(rule))
	t.Cleanup(func() { _ = netlink.RuleDel(rule) })
	if p := look()[secondary]; p.Oif != ix["cilium_host"] || p.Table != unix.RT_TABLE_MAIN {
		t.Errorf("with AWS_EXTERNAL_SERVICE_CIDRS: %+v", p)
	}

	must(t, os.WriteFile("/proc/sys/net/ipv4/conf/eni30/forwarding", []byte("0"), 0o644))
	if p := look()[secondary]; p.Oif != 0 || !strings.Contains(p.Refused, "no route to host") {
		t.Errorf("with forwarding off on the pod's interface: %+v", p)
	}
}

func TestWithoutATunnelThereIsNoPathToAskFor(t *testing.T) {
	links := Links{Look: Look{Sight: Seen}, List: []Link{{Index: 2, Name: "eth0", Kind: "device"}, {Index: 3, Name: "eni0", Kind: "veth"}}}
	routes := Routes{Look: Look{Sight: Seen}, List: []Route{{Dst: netip.MustParsePrefix("10.0.1.20/32"), Link: 3}}}
	if p := lookPaths(links, routes); p.Sight != Absent {
		t.Errorf("%+v", p)
	}
	for _, p := range []Paths{lookPaths(Links{}, routes), lookPaths(links, Routes{Look: Look{Failed, "it broke"}})} {
		if p.Sight == Seen || p.Sight == Absent {
			t.Errorf("what nobody saw gives %+v", p)
		}
	}
}

func TestAFewPodCIDRsStandForAll(t *testing.T) {
	var routes Routes
	for i := range 200 {
		routes.List = append(routes.List, Route{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(199 - i), 0}), 24), Link: 4})
	}
	routes.List = append(routes.List, Route{Dst: netip.MustParsePrefix("10.244.7.1/32"), Link: 4}, Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Link: 2})
	got := targets(Links{}, routes, 4)
	if len(got) != maxTargets || got[0] != netip.MustParseAddr("10.244.0.1") || got[maxTargets-1] != netip.MustParseAddr("10.244.199.1") {
		t.Errorf("%v", got)
	}
}

// TestAnAddressOfThisNodeStandsForNoPodCIDR: Cilium's router may have the first address of the node's pod CIDR, which one node in
// 254 has. The table of local addresses takes a packet to it, which says nothing of where packets to the CIDR go.
func TestAnAddressOfThisNodeStandsForNoPodCIDR(t *testing.T) {
	ix := node(t)
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
	host, err := netlink.LinkByName("cilium_host")
	must(t, err)
	must(t, netlink.AddrAdd(host, &netlink.Addr{IPNet: ipnet(t, "10.244.9.1/32")}))
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: ix["cilium_host"], Dst: ipnet(t, "10.244.9.0/24"), Scope: netlink.SCOPE_LINK}))
	for name, addr := range map[string]string{"eni20": "10.0.1.20", "lxc2": "10.244.9.2"} { // the second by a route of its own: endpointRoutes
		ix[name] = add(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "in" + name})
		end, err := netlink.LinkByName("in" + name)
		must(t, err)
		must(t, netlink.LinkSetUp(end))
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: ix[name], Dst: ipnet(t, addr+"/32"), Scope: netlink.SCOPE_LINK}))
	}
	got := lookPaths(lookLinks(), lookRoutes())
	var asked []netip.Addr
	for _, p := range got.List {
		if asked = append(asked, p.Dst); p.Oif != ix["cilium_host"] {
			t.Errorf("a packet to %s does not go to cilium_host: %+v", p.Dst, p)
		}
	}
	if want := netip.MustParseAddr("10.244.9.3"); got.Sight != Seen || !slices.Contains(asked, want) {
		t.Errorf("%s: asked for %v, without %s", got.Detail, asked, want)
	}
}

func TestAPodCIDRWithoutAFreeAddressIsNotAskedFor(t *testing.T) {
	cidr := netip.MustParsePrefix("10.244.9.0/30")
	taken := map[netip.Addr]bool{}
	for addr := cidr.Addr(); cidr.Contains(addr); addr = addr.Next() {
		taken[addr] = true
	}
	if addr := firstFree(cidr, taken); addr.IsValid() {
		t.Error(addr)
	}
}

func TestLooksAtForwardingOfTheHostsNetwork(t *testing.T) {
	node(t)
	set := func(file, value string) {
		t.Helper()
		must(t, os.WriteFile("/proc/sys/net/ipv4/"+file, []byte(value), 0o644))
	}
	set("ip_forward", "1")
	set("conf/all/rp_filter", "0")
	set("conf/cilium_vxlan/rp_filter", "1")
	set("conf/cilium_host/rp_filter", "0")
	var got Forwarding
	withoutCapabilities(t, func() { got = lookForwarding() })
	if got.Sight != Seen || !got.On || got.RPFilter["cilium_vxlan"] != 1 || got.RPFilter["cilium_host"] != 0 {
		t.Errorf("%+v", got)
	}
	set("ip_forward", "0")
	set("conf/all/rp_filter", "2")
	withoutCapabilities(t, func() { got = lookForwarding() })
	if got.On || got.RPFilter["cilium_vxlan"] != 2 || got.RPFilter["cilium_host"] != 2 {
		t.Errorf("with loose checks everywhere: %+v", got)
	}
}
