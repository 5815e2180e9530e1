// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

var overlay = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}

func defaults() Settings { return Settings{VethPrefix: "eni", ENIMTU: 9001, PodMTU: 9001} }

func both() Settings {
	s := defaults()
	s.ExcludeSNATCIDRs, s.ExternalServiceCIDRs = overlay, overlay
	return s
}

// picture is what an observer of the node sees, as the usual tools print it.
func picture(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	show := func(text, name string, args ...string) {
		fmt.Fprintf(&b, "$ %s %s\n%s\n", name, strings.Join(args, " "), text)
	}
	for _, command := range [][]string{
		{"ip", "rule"},
		{"ip", "route", "show", "table", "main"},
		{"ip", "route", "show", "table", "2"},
		{"sysctl", "net.ipv4.conf.eth0.rp_filter"},
		{"nft", "-s", "list", "table", "ip", "aws-cni"},
	} {
		show(output(t, command[0], command[1:]...), command[0], command[1:]...)
	}
	for _, table := range []string{"nat", "mangle"} {
		var rules []string
		for line := range strings.Lines(output(t, "iptables-save", "-t", table)) {
			if strings.HasPrefix(line, "-A") || strings.HasPrefix(line, ":AWS") {
				rules = append(rules, line)
			}
		}
		show(strings.Join(rules, ""), "iptables-save", "-t", table)
	}
	return b.String()
}

func TestNodeLooksLikeOneOfTheVPCCNI(t *testing.T) {
	if !isolated(t) {
		return
	}
	n := newTestNode(t)
	n.start(both())
	n.add("first")
	n.add("second")
	got := picture(t)
	golden := filepath.Join("testdata", "node.golden")
	if *update {
		must(t, os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the node differs (-want +got):\n%s", diff)
	}
	n.end()
	n.start(both())
	if diff := cmp.Diff(got, picture(t)); diff != "" {
		t.Errorf("a restart changed the node (-before +after):\n%s", diff)
	}
	for _, name := range []string{"aws-cni", "egress-cni"} {
		info, err := os.Stat(filepath.Join(n.root, BinDir, name))
		if err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("plugin %s: %v, %v", name, info, err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(n.root, NetDir))
	if err != nil || len(entries) != 1 || entries[0].Name() != Conflist {
		t.Errorf("net.d holds %v, %v", entries, err)
	}
}

func TestPodsOnBothInterfacesReachEverybody(t *testing.T) {
	if !isolated(t) {
		return
	}
	n := newTestNode(t)
	n.start(both())
	first, second := n.add("first"), n.add("second")
	serve(t, n.outside)
	serve(t, first.netns)
	serve(t, second.netns)
	node := n.instance.Interfaces[0].Primary.String()
	for _, test := range []struct{ name, netns, to, source string }{
		{"primary pod to secondary pod", first.netns, second.ip, first.ip},
		{"secondary pod to primary pod", second.netns, first.ip, second.ip},
		{"primary pod to VPC", first.netns, vpcHost, first.ip},
		{"secondary pod to VPC", second.netns, vpcHost, second.ip},
		{"primary pod to Internet", first.netns, internet, node},
		{"secondary pod to Internet", second.netns, internet, node},
		{"VPC to primary pod", n.outside, first.ip, vpcHost},
		{"VPC to secondary pod", n.outside, second.ip, vpcHost},
	} {
		if _, source := dial(t, test.netns, test.to); source != test.source {
			t.Errorf("%s: the server saw %s, want %s", test.name, source, test.source)
		}
	}
}

func TestAddressOfTheOverlayIsRoutedAsTheSettingsSay(t *testing.T) {
	if !isolated(t) {
		return
	}
	n := newTestNode(t)
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "cilium_host"
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: "cilium_net"}))
	output(t, "ip", "link", "set", "cilium_net", "up")
	output(t, "ip", "link", "set", "cilium_host", "up")
	output(t, "ip", "route", "add", "10.244.0.0/16", "dev", "cilium_host")
	for _, test := range []struct {
		name     string
		settings Settings
		device   string
	}{
		{"default", defaults(), "eth1"},
		{"both", both(), "cilium_host"},
		{"default again", defaults(), "eth1"},
	} {
		n.start(test.settings)
		pods := []*testPod{n.add("first"), n.add("second")} // a new sandbox of the same name replaces the veth pair
		for i, device := range []string{"cilium_host", test.device} {
			route := output(t, "ip", "route", "get", "10.244.2.10", "from", pods[i].ip, "iif", hostVeth("eni", podName{"default", []string{"first", "second"}[i]}))
			if !strings.Contains(route, " dev "+device) {
				t.Errorf("%s: pod %s goes %swant %s", test.name, pods[i].ip, route, device)
			}
			must(t, n.del(pods[i]))
		}
		n.end()
	}
}

func TestNewSettingsAndDeadDaemonDisturbNoPod(t *testing.T) {
	if !isolated(t) {
		return
	}
	n := newTestNode(t)
	n.start(both())
	first, second, third := n.add("first"), n.add("second"), n.add("third")
	serve(t, n.outside)
	conn, _ := dial(t, second.netns, internet)
	n.end()

	if _, err := n.tryAdd("late"); err == nil || !strings.Contains(err.Error(), "is aws-node running") {
		t.Errorf("a pod got an address from nobody: %v", err)
	}
	must(t, n.del(third))
	if rules := output(t, "ip", "rule"); strings.Contains(rules, third.ip) {
		t.Errorf("rules of a deleted pod are left:\n%s", rules)
	}
	// The runtime removes the namespace, and with it the veth pair, after DEL.
	output(t, "ip", "link", "del", hostVeth("eni", podName{"default", "third"}))

	external := defaults()
	external.ExternalSNAT = true
	n.start(external)
	if rules := output(t, "ip", "rule"); strings.Contains(rules, "1535:") {
		t.Errorf("rule 1535 is left:\n%s", rules)
	}
	if rules := output(t, "iptables-save", "-t", "nat"); strings.Contains(rules, "-A") {
		t.Errorf("external SNAT leaves rules in table nat:\n%s", rules)
	}
	if tables := output(t, "nft", "list", "tables"); strings.Contains(tables, "aws-cni") {
		t.Errorf("external SNAT leaves the connmark table:\n%s", tables)
	}
	list, err := readCheckpoint(filepath.Join(RunDir, CheckpointFile))
	if err != nil || len(list) != 2 || list[0].IPv4.String() != first.ip || list[1].IPv4.String() != second.ip {
		t.Errorf("allocations after the restart: %v, %v", list, err)
	}

	// A connection that was translated stays so: its conntrack entry says how, and mark
	// 0x80 keeps it on the primary interface.
	_, err = io.WriteString(conn, "still there?")
	must(t, err)
	answer := make([]byte, len("still there?"))
	if _, err := io.ReadFull(conn, answer); err != nil {
		t.Errorf("the connection of a running pod broke: %v", err)
	}
	if _, source := dial(t, second.netns, vpcHost); source != second.ip {
		t.Errorf("the VPC sees %s, want %s", source, second.ip)
	}
}

func TestDeletingIsIdempotentAndFreesTheAddress(t *testing.T) {
	if !isolated(t) {
		return
	}
	n := newTestNode(t)
	n.start(defaults())
	before := output(t, "ip", "rule")
	capacity := 2 * len(n.instance.Interfaces[0].Secondary)
	var pods []*testPod
	for i := range capacity {
		pods = append(pods, n.add(fmt.Sprint("pod-", i)))
	}
	if _, err := n.tryAdd("one-too-many"); err == nil || !strings.Contains(err.Error(), "no address available") {
		t.Errorf("a full instance took another pod: %v", err)
	}
	for _, pod := range pods {
		must(t, n.del(pod))
		must(t, n.del(pod))
	}
	if diff := cmp.Diff(before, output(t, "ip", "rule")); diff != "" {
		t.Errorf("rules are left (-before +after):\n%s", diff)
	}
	n.add("next")
}

func TestInitContainerOnlySetsSysctls(t *testing.T) {
	if !isolated(t) {
		return
	}
	n := newTestNode(t)
	must(t, setSysctl("net/ipv4/conf/eth0/rp_filter", "1"))
	must(t, Agent(t.Context(), []string{"init", "--host-root", n.root}))
	if got := output(t, "sysctl", "-n", "net.ipv4.conf.eth0.rp_filter"); strings.TrimSpace(got) != "2" {
		t.Errorf("rp_filter of eth0 is %s, want 2", got)
	}
	if rules := output(t, "ip", "rule"); strings.Contains(rules, "1024:") {
		t.Errorf("init added rules:\n%s", rules)
	}
}
