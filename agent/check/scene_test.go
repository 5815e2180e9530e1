// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/cniconf"
)

// Indexes of the interfaces of the node that the tests begin with.
const (
	ixNIC = 2 + iota
	ixNet
	ixHost
	ixTunnel
	ixHealth
	ixPodA
	ixPodB
	ixENIPodA
	ixENIPodB
	ixENI
)

var (
	seen    = facts.Look{Sight: facts.Seen}
	broken  = facts.Look{Sight: facts.Failed, Detail: "it broke"}
	now     = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	longAgo = now.Add(-time.Hour)
)

func ip(s string) netip.Addr      { return netip.MustParseAddr(s) }
func cidr(s string) netip.Prefix  { return netip.MustParsePrefix(s) }
func mac(last byte) ciliummap.MAC { return ciliummap.MAC{2, 0, 0, 0, 0, last} }

// dir makes a net.d that two looks agreed on.
func dir(files ...string) cniconf.Directory {
	d := cniconf.Directory{Path: "/etc/cni/net.d", Listing: cniconf.Listed, Looks: 2}
	for i := 0; i < len(files); i += 2 {
		d.Entries = append(d.Entries, cniconf.Entry{Name: files[i], Bytes: []byte(files[i+1])})
	}
	return d
}

const (
	ciliumConf  = `{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni"}]}`
	awsConf     = `{"cniVersion":"0.4.0","name":"aws-cni","disableCheck":true,"plugins":[{"type":"aws-cni"},{"type":"portmap"}]}`
	chainedConf = `{"cniVersion":"0.3.1","name":"aws-cni","plugins":[{"type":"aws-cni"},{"type":"cilium-cni"}]}`
	calicoConf  = `{"cniVersion":"0.3.1","name":"k8s","plugins":[{"type":"calico"}]}`
)

func link(index int, name, kind string, mtu int, addrs ...string) facts.Link {
	l := facts.Link{Index: index, Name: name, Kind: kind, MTU: mtu, Up: true, MAC: mac(byte(index))}
	for _, a := range addrs {
		l.Addrs = append(l.Addrs, cidr(a))
	}
	return l
}

func endpoint(ix int) ciliummap.Endpoint {
	return ciliummap.Endpoint{IfIndex: uint32(ix), ID: uint16(100 + ix), NodeMAC: mac(byte(ix)), PodMAC: mac(byte(200 + ix)), SecID: 4711}
}

func peer(name, nodeIP, podCIDR string) facts.Peer {
	return facts.Peer{
		CiliumNode: facts.CiliumNode{Name: name, Created: longAgo, InternalIPs: []netip.Addr{ip(nodeIP)}, PodCIDRs: []netip.Prefix{cidr(podCIDR)}},
		Node:       facts.PeerNode{Look: seen, Created: longAgo, Ready: true},
	}
}

func pod(name string, ips ...string) facts.Pod {
	p := facts.Pod{Namespace: "default", Name: name}
	for _, a := range ips {
		p.IPs = append(p.IPs, ip(a))
	}
	return p
}

// overlayNode is a node as it should be after the migration, with two pods and two peers, asked about its peers.
func overlayNode() *facts.Facts {
	tunnel := link(ixTunnel, tunnelLink, "vxlan", 9001)
	tunnel.VXLAN = &facts.VXLAN{Port: 8472, External: true}
	host := link(ixHost, hostLink, "veth", 9001, "10.244.1.1/32")
	return &facts.Facts{
		At: now,
		Settings: facts.Settings{
			Look: seen, Overlay: []netip.Prefix{cidr("10.244.0.0/16")}, TunnelPort: 8472, Install: v1alpha1.InstallSecondary,
			Legacy: v1alpha1.ObjectRef{Namespace: "kube-system", Name: "aws-node"},
		},
		Node:    facts.Node{Look: seen, Name: "n1", UID: "uid-1", InternalIPs: []netip.Addr{ip("10.0.1.10")}},
		ConfDir: dir("05-cilium.conflist", ciliumConf),
		Links: facts.Links{Look: seen, List: []facts.Link{
			link(1, "lo", "device", 65536, "127.0.0.1/8"), link(ixNIC, "ens5", "device", 9001, "10.0.1.10/24"),
			link(ixNet, netLink, "veth", 9001), host, tunnel, link(ixHealth, healthLink, "veth", 9001),
			link(ixPodA, "lxcaaaaaaaaaaaa", "veth", 9001), link(ixPodB, "lxcbbbbbbbbbbbb", "veth", 9001),
		}},
		Routes: facts.Routes{Look: seen, List: []facts.Route{
			{Dst: cidr("0.0.0.0/0"), Gateway: ip("10.0.1.1"), Link: ixNIC, Type: unicast},
			{Dst: cidr("10.0.1.0/24"), Link: ixNIC, Type: unicast},
			{Dst: cidr("10.244.1.1/32"), Link: ixHost, Type: unicast},
			{Dst: cidr("10.244.1.0/24"), Link: ixHost, Type: unicast},
			{Dst: cidr("10.244.2.0/24"), Link: ixHost, Type: unicast, MTU: 8951},
			{Dst: cidr("10.244.3.0/24"), Link: ixHost, Type: unicast, MTU: 8951},
		}},
		Rules:      facts.Rules{Look: seen, List: []facts.Rule{{Priority: 9, Mark: 0x200, Table: 2004}, {Priority: 100, Table: 255}, {Priority: 32766, Table: 254}}},
		Paths:      facts.Paths{Look: seen},
		Forwarding: facts.Forwarding{Look: seen, On: true, RPFilter: map[string]int{tunnelLink: 0, hostLink: 0, netLink: 0}},
		Programs: facts.Programs{Look: seen, List: []facts.Program{
			{Name: "cil_from_overlay", Link: ixTunnel, Via: "tcx"}, {Name: "cil_to_overlay", Link: ixTunnel, Egress: true, Via: "tcx"},
			{Name: "cil_from_netdev", Link: ixNIC, Via: "tcx"}, {Name: "cil_to_host", Link: ixNet, Via: "tcx"},
			{Name: "cil_to_host", Link: ixHost, Via: "tcx"}, {Name: "cil_from_host", Link: ixHost, Egress: true, Via: "tcx"},
			{Name: "cil_from_container", Link: ixHealth, Via: "tcx"},
			{Name: "cil_from_container", Link: ixPodA, Via: "tcx"}, {Name: "cil_from_container", Link: ixPodB, Via: "tcx"},
		}},
		Pins: facts.Pins{Look: seen, Names: []string{ciliummap.IPCachePin, "cilium_lb4_services_v2", ciliummap.EndpointsPin, ciliummap.RuntimeConfigPin}},
		Endpoints: facts.Endpoints{Look: seen, Stats: ciliummap.Stats{Pin: ciliummap.EndpointsPin}, ByIP: map[netip.Addr]ciliummap.Endpoint{
			ip("10.0.1.10"): {Flags: ciliummap.EndpointHost}, ip("10.244.1.1"): {Flags: ciliummap.EndpointHost},
			ip("10.244.1.5"): endpoint(ixHealth), ip("10.244.1.20"): endpoint(ixPodA), ip("10.244.1.21"): endpoint(ixPodB),
		}},
		IPCache: facts.IPCache{Look: seen, Stats: ciliummap.Stats{Pin: ciliummap.IPCachePin}, Entries: ciliummap.NewIPCache(map[netip.Prefix]ciliummap.RemoteEndpoint{
			cidr("0.0.0.0/0"):     {Identity: ciliummap.IdentityWorld},
			cidr("10.244.1.1/32"): {Identity: ciliummap.IdentityHost},
			cidr("10.244.2.0/24"): {Identity: ciliummap.IdentityWorld, Tunnel: ip("10.0.2.10"), Flags: ciliummap.RemoteHasTunnel},
			cidr("10.244.3.0/24"): {Identity: ciliummap.IdentityWorld, Tunnel: ip("10.0.3.10"), Flags: ciliummap.RemoteHasTunnel},
		})},
		Layouts:  facts.Layouts{Look: seen},
		Liveness: facts.Liveness{Look: seen, Stamp: time.Hour, Now: time.Hour + 400*time.Millisecond},
		Status:   facts.CiliumStatus{Look: seen, State: "Ok", Message: "1.18.11", DeviceMTU: 9001, RouteMTU: 8951},
		Counters: facts.Counters{Look: seen, At: time.Hour, By: counts(forwarded, 5000, dropNoTunnel, 40)},
		Earlier:  facts.Counters{Look: seen, At: time.Hour - 30*time.Second, By: counts(forwarded, 4000, dropNoTunnel, 40)},
		Meter:    meter(whole("10.0.2.10"), whole("10.0.3.10")),
		Boot:     facts.Boot{Look: seen, ID: "boot-1"},
		Kernel:   facts.Kernel{Look: seen, Release: "6.1.112-122.189.amzn2023.x86_64"},
		Pods: facts.Pods{Look: seen, List: []facts.Pod{
			pod("a", "10.244.1.20"), pod("b", "10.244.1.21"),
			{Namespace: "kube-system", Name: "cilium-x", HostNetwork: true, DaemonSet: "cilium", App: "cilium", IPs: []netip.Addr{ip("10.0.1.10")}},
			{Namespace: "default", Name: "job-done", Finished: true, IPs: []netip.Addr{ip("10.0.9.9")}},
		}},
		Own: facts.Own{Look: seen, CiliumNode: facts.CiliumNode{
			Name: "n1", Created: longAgo, InternalIPs: []netip.Addr{ip("10.0.1.10")}, CiliumIPs: []netip.Addr{ip("10.244.1.1")},
			HealthIP: ip("10.244.1.5"), PodCIDRs: []netip.Prefix{cidr("10.244.1.0/24")},
		}},
		Asked: facts.Asked{
			Peers:  facts.Peers{Look: seen, List: []facts.Peer{peer("n2", "10.0.2.10", "10.244.2.0/24"), peer("n3", "10.0.3.10", "10.244.3.0/24")}},
			Health: facts.CiliumHealth{Look: seen, At: now.Add(-time.Minute), Interval: time.Minute, Hosts: 2, HostsReached: 2, Endpoints: 2, EndpointsReached: 2},
		},
	}
}

// legacyNode is a node before the migration in install mode Secondary: the VPC CNI's pods, and Cilium running idle beside it.
func legacyNode() *facts.Facts {
	f := overlayNode()
	f.ConfDir = dir("10-aws.conflist", awsConf)
	f.Links.List = slices.DeleteFunc(f.Links.List, func(l facts.Link) bool { return l.Index == ixPodA || l.Index == ixPodB })
	delete(f.Endpoints.ByIP, ip("10.244.1.20"))
	delete(f.Endpoints.ByIP, ip("10.244.1.21"))
	f.Links.List = append(f.Links.List, link(ixENIPodA, "eni0123456789a", "veth", 9001), link(ixENIPodB, "eni0123456789b", "veth", 9001),
		link(ixENI, "ens6", "device", 9001, "10.0.1.11/24"))
	f.Routes.List = append(f.Routes.List,
		facts.Route{Dst: cidr("10.0.1.20/32"), Link: ixENIPodA, Type: unicast}, facts.Route{Dst: cidr("10.0.1.30/32"), Link: ixENIPodB, Type: unicast})
	f.Paths.List = []facts.Path{
		{Pod: ip("10.0.1.20"), Iif: ixENIPodA, Dst: ip("10.244.2.1"), Oif: ixHost, Table: 254}, {Pod: ip("10.0.1.30"), Iif: ixENIPodB, Dst: ip("10.244.2.1"), Oif: ixHost, Table: 254},
		{Pod: ip("10.0.1.20"), Iif: ixENIPodA, Dst: ip("10.244.3.1"), Oif: ixHost, Table: 254}, {Pod: ip("10.0.1.30"), Iif: ixENIPodB, Dst: ip("10.244.3.1"), Oif: ixHost, Table: 254},
	}
	f.Rules.List = append(f.Rules.List, facts.Rule{Priority: 1535, Dst: cidr("10.244.0.0/16"), Table: 254},
		facts.Rule{Priority: 512, Dst: cidr("10.0.1.20/32"), Table: 254}, facts.Rule{Priority: 512, Dst: cidr("10.0.1.30/32"), Table: 254},
		facts.Rule{Priority: 1024, Mark: 0x80, Table: 254}, facts.Rule{Priority: 1536, Src: cidr("10.0.1.30/32"), Table: 2})
	f.Pods.List = []facts.Pod{
		pod("a", "10.0.1.20"), pod("b", "10.0.1.30"),
		{Namespace: "kube-system", Name: "aws-node-x", HostNetwork: true, DaemonSet: "aws-node", App: "aws-node", IPs: []netip.Addr{ip("10.0.1.10")}},
	}
	return f
}

// edit changes an interface of the facts.
func edit(f *facts.Facts, name string, change func(*facts.Link)) {
	for i := range f.Links.List {
		if f.Links.List[i].Name == name {
			change(&f.Links.List[i])
		}
	}
}

func without(f *facts.Facts, name string) {
	f.Links.List = slices.DeleteFunc(f.Links.List, func(l facts.Link) bool { return l.Name == name })
}

// A tale is one way in which a good node is changed, and what the check says of it.
type tale struct {
	change  func(*facts.Facts)
	verdict v1alpha1.Verdict
	reason  v1alpha1.Reason
}

// tell runs tales about one check on a node of one role.
func tell(t *testing.T, name v1alpha1.CheckName, role v1alpha1.Role, start func() *facts.Facts, tales map[string]tale) {
	t.Helper()
	for what, x := range tales {
		t.Run(string(role)+"/"+what, func(t *testing.T) {
			f := start()
			if x.change != nil {
				x.change(f)
			}
			got := find(t, Judge(f, role, nil), name)
			if got.Verdict != x.verdict || got.Reason != x.reason {
				t.Errorf("%s %s (%s), want %s %s", got.Verdict, got.Reason, got.Message, x.verdict, x.reason)
			}
			if d := descriptions()[slices.Index(Names(), name)]; got.Reason != v1alpha1.AsWanted && !slices.Contains(d.reasons, got.Reason) {
				t.Errorf("docs/checks.md does not list %s for %s", got.Reason, name)
			}
			if got.Message == "" || len(got.Message) > v1alpha1.MaxMessageBytes || len(got.Evidence) > 16 {
				t.Errorf("message of %d bytes and %d numbers: %q", len(got.Message), len(got.Evidence), got.Message)
			}
		})
	}
}

func find(t *testing.T, findings []v1alpha1.Finding, name v1alpha1.CheckName) v1alpha1.Finding {
	t.Helper()
	i := slices.IndexFunc(findings, func(f v1alpha1.Finding) bool { return f.Check == name })
	if i < 0 {
		t.Fatalf("no finding of %s", name)
	}
	return findings[i]
}
