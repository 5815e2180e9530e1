// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// twoNodes is two nodes with their agents running and knowing each other.
func twoNodes(t *testing.T) (a, b *node) {
	t.Helper()
	vpc := fabric(t)
	a, b = newNode(t, vpc, "a", 1), newNode(t, vpc, "b", 2)
	for _, n := range []*node{a, b} {
		n.startAgent(t, 0)
	}
	a.tellPeers(t, b)
	b.tellPeers(t, a)
	return a, b
}

func TestPodsReachEachOtherThroughTheTunnel(t *testing.T) {
	a, b := twoNodes(t)
	client, server, neighbour := a.newPod(t, "client"), b.newPod(t, "server"), a.newPod(t, "neighbour")
	before := a.received(t)
	for _, test := range []struct {
		name, got, want string
	}{
		{"other node", client.get(t, server.ip, "/"), "200 " + client.ip.String()},
		{"back", server.get(t, client.ip, "/"), "200 " + server.ip.String()},
		{"same node", client.get(t, neighbour.ip, "/"), "200 " + client.ip.String()},
		{"a megabyte", client.get(t, server.ip, "/big"), fmt.Sprintf("%d bytes", megabyte)},
		{"health endpoint of the other node", client.process.ask(t, fmt.Sprintf("http://%s:4240/hello", b.self.Health)), "200 "},
		{"the largest packet of the tunnel, not to be fragmented", client.process.ask(t, fmt.Sprintf("df %d %s", vpcMTU-50, server.ip)), "echoed"},
		{"one byte more", client.process.ask(t, fmt.Sprintf("df %d %s", vpcMTU-49, server.ip)), "error: message too long"},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, test.got, test.want)
		}
	}
	host := a.run(t, "curl", "-s", "-m", "3", fmt.Sprintf("http://%s:8080/", server.ip))
	if host != a.self.Router.String() {
		t.Errorf("from the node's host, the server saw %q, want the router address %s", host, a.self.Router)
	}
	if after := a.received(t); after < before+10 {
		t.Errorf("cilium_metrics counts %d packets from the overlay, %d before: want at least ten more", after, before)
	}
}

// TestTheAgentSaysHowItIs: status and configuration at the agent's socket, and what its probes of the other node's host and health
// endpoint found at the health socket, which is wrong for as long as the tunnel is down.
func TestTheAgentSaysHowItIs(t *testing.T) {
	a, b := twoNodes(t)
	var status struct{ Cilium struct{ State string } }
	a.api(t, "/v1/healthz", &status)
	var config struct {
		Status struct{ DeviceMTU, RouteMTU int }
	}
	a.api(t, "/v1/config", &config)
	if status.Cilium.State != "Ok" || config.Status.DeviceMTU != vpcMTU || config.Status.RouteMTU != vpcMTU-50 {
		t.Errorf("status %+v, config %+v", status, config)
	}
	a.probed(t, b, true)
	a.run(t, "ip", "link", "set", "cilium_vxlan", "down")
	a.probed(t, b, false)
	a.run(t, "ip", "link", "set", "cilium_vxlan", "up")
	a.probed(t, b, true)
}

// probed waits until the node's agent has reached another node's host, and its health endpoint or not.
func (n *node) probed(t *testing.T, other *node, tunnel bool) {
	t.Helper()
	type path struct {
		IP   string
		HTTP struct{ Status string }
	}
	type health struct {
		Local struct{ Name string }
		Nodes []struct {
			Name string
			Host struct {
				Address path `json:"primary-address"`
			}
			Endpoint path
		}
	}
	c := newClient(filepath.Join(n.dir, "health.sock"))
	until(t, fmt.Sprintf("%s reaches %s, through the tunnel %t", n.self.Name, other.self.Name, tunnel), func() bool {
		var got health // anew: what an answer leaves out is not what the one before said
		must(t, c.retry(t.Context(), func() error { return c.call(t.Context(), http.MethodGet, "/v1beta/status", nil, &got) }))
		for _, x := range got.Nodes {
			reached := x.Endpoint.IP == other.self.Health.String() && x.Endpoint.HTTP.Status == ""
			if x.Name == clusterName+"/"+other.self.Name && x.Host.Address.IP == other.self.IP.String() && x.Host.Address.HTTP.Status == "" && reached == tunnel {
				return got.Local.Name == clusterName+"/"+n.self.Name
			}
		}
		return false
	})
}

// received sums what cil_from_overlay counted: direction 1, reason 3, file 3.
func (n *node) received(t *testing.T) (packets uint64) {
	t.Helper()
	for key, count := range n.metrics(t) {
		if key[0] == 3 && key[1] == 1 && key[4] == 3 {
			packets += count
		}
	}
	return packets
}

func (n *node) metrics(t *testing.T) map[[8]byte]uint64 {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(n.bpffs("tc/globals/cilium_metrics"), nil)
	must(t, err)
	defer m.Close()
	sums := map[[8]byte]uint64{}
	var key [8]byte
	var perCPU [][16]byte
	entries := m.Iterate()
	for entries.Next(&key, &perCPU) {
		for _, value := range perCPU {
			sums[key] += binary.LittleEndian.Uint64(value[:])
		}
	}
	must(t, entries.Err())
	return sums
}

func (n *node) dump(t *testing.T, name string) map[string]string {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(n.bpffs("tc/globals", name), nil)
	must(t, err)
	defer m.Close()
	var key, value []byte
	content := map[string]string{}
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		content[hex.EncodeToString(key)] = hex.EncodeToString(value)
	}
	must(t, entries.Err())
	return content
}

func TestNodeLooksLikeTheOriginal(t *testing.T) {
	a, b := twoNodes(t)
	p := a.newPod(t, "pod")
	var endpoints []struct {
		ID     uint16
		Status struct {
			Identity   struct{ ID uint32 }
			Networking struct {
				Addressing     []struct{ IPv4 netip.Addr }
				InterfaceIndex int    `json:"interface-index"`
				InterfaceName  string `json:"interface-name"`
				MAC            string
				HostMAC        string `json:"host-mac"`
			}
		}
	}
	a.api(t, "/v1/endpoint", &endpoints)
	ip := func(addr netip.Addr) string { return hex.EncodeToString(addr.AsSlice()) }
	zero := func(n int) string { return strings.Repeat("00", n) }
	single := func(addr netip.Addr) string { return "4000000000000001" + ip(addr) + zero(12) }
	behind := func(identity string, n *node) string { return identity + ip(n.self.IP) + zero(12) + "00000002" }
	wantCache := map[string]string{
		"2000000000000001" + zero(16):              "02000000" + zero(20),
		single(a.self.IP):                          "01000000" + zero(20),
		single(a.self.Router):                      "01000000" + zero(20),
		single(a.self.Health):                      "04000000" + zero(20),
		single(b.self.IP):                          "06000000" + zero(20),
		"3800000000000001" + "0af40200" + zero(12): behind("02000000", b),
		single(b.self.Router):                      behind("06000000", b),
		single(b.self.Health):                      behind("04000000", b),
	}
	wantEndpoints := map[string]string{
		ip(a.self.IP) + zero(12) + "01000000":     zero(8) + "01000000" + zero(36),
		ip(a.self.Router) + zero(12) + "01000000": zero(8) + "01000000" + zero(36),
	}
	if len(endpoints) != 2 {
		t.Fatalf("got %d endpoints, want the pod and the health endpoint", len(endpoints))
	}
	for _, ep := range endpoints {
		network := ep.Status.Networking
		addr := network.Addressing[0].IPv4
		if addr == p.ip {
			wantCache[single(addr)] = little(uint64(ep.Status.Identity.ID), 4) + zero(20)
		}
		l, err := a.net.LinkByName(network.InterfaceName)
		must(t, err)
		if l.Attrs().Index != network.InterfaceIndex || l.Attrs().HardwareAddr.String() != network.HostMAC {
			t.Errorf("%s is interface %d, %s; the agent says %d, %s", network.InterfaceName, l.Attrs().Index, l.Attrs().HardwareAddr, network.InterfaceIndex, network.HostMAC)
		}
		bare := func(mac string) string { return strings.ReplaceAll(mac, ":", "") + zero(2) }
		wantEndpoints[ip(addr)+zero(12)+"01000000"] = little(uint64(network.InterfaceIndex), 4) + zero(2) + little(uint64(ep.ID), 2) + zero(8) +
			bare(network.MAC) + bare(network.HostMAC) + little(uint64(ep.Status.Identity.ID), 4) + zero(12)
	}
	if diff := cmp.Diff(wantCache, a.dump(t, "cilium_ipcache_v2")); diff != "" {
		t.Errorf("ipcache, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(wantEndpoints, a.dump(t, "cilium_lxc")); diff != "" {
		t.Errorf("endpoints, -want +got:\n%s", diff)
	}
	a.checkDevices(t)
	a.checkPrograms(t)
	a.checkRouting(t, b)
	a.checkLiveness(t)
}

func little(value uint64, size int) string {
	return hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, value)[:size])
}

func (n *node) checkDevices(t *testing.T) {
	t.Helper()
	for name, parts := range map[string][]string{
		"cilium_vxlan": {"mtu 9001", "vxlan external", "dstport 8472", "udpcsum"},
		"cilium_host":  {"mtu 9001", "NOARP", "UP"},
		"cilium_net":   {"mtu 9001", "NOARP", "UP"},
		"lxc_health":   {"mtu 9001", "UP"},
	} {
		got := n.run(t, "ip", "-d", "link", "show", name)
		for _, part := range parts {
			if !strings.Contains(got, part) {
				t.Errorf("%s lacks %q: %s", name, part, got)
			}
		}
	}
}

// checkPrograms follows the pinned links, as the kernel has them, to their programs and to the maps of those.
func (n *node) checkPrograms(t *testing.T) {
	t.Helper()
	ipcache, err := ebpf.LoadPinnedMap(n.bpffs("tc/globals/cilium_ipcache_v2"), nil)
	must(t, err)
	defer ipcache.Close()
	info, err := ipcache.Info()
	must(t, err)
	id, _ := info.ID()
	if _, hasBTF := info.BTFID(); hasBTF {
		t.Error("the pinned ipcache has BTF; the original's has none")
	}
	for pin, usesIPCache := range map[string]bool{
		"devices/cilium_vxlan/links/cil_from_overlay": false, // its tail calls do
		"devices/cilium_vxlan/links/cil_to_overlay":   false,
		"devices/cilium_host/links/cil_from_host":     true,
		"devices/cilium_host/links/cil_to_host":       false,
		"devices/cilium_net/links/cil_to_host":        false,
		"devices/eth0/links/cil_from_netdev":          true,
	} {
		pinned, err := link.LoadPinnedLink(n.bpffs("cilium", pin), nil)
		must(t, err)
		linkInfo, err := pinned.Info()
		pinned.Close()
		must(t, err)
		device, err := n.net.LinkByIndex(int(linkInfo.TCX().Ifindex))
		must(t, err)
		if want := strings.Split(pin, "/")[1]; device.Attrs().Name != want {
			t.Errorf("%s is attached to %s", pin, device.Attrs().Name)
		}
		if got := slices.Contains(mapsOf(t, linkInfo.Program), id); got != usesIPCache {
			t.Errorf("%s uses the pinned ipcache: %v, want %v", pin, got, usesIPCache)
		}
	}
	var program uint32
	calls, err := ebpf.LoadPinnedMap(n.bpffs("tc/globals/cilium_calls_overlay_2"), nil)
	must(t, err)
	defer calls.Close()
	must(t, calls.Lookup(uint32(7), &program))
	if !slices.Contains(mapsOf(t, ebpf.ProgramID(program)), id) {
		t.Error("slot 7 of cilium_calls_overlay_2 does not use the pinned ipcache")
	}
}

func mapsOf(t *testing.T, id ebpf.ProgramID) []ebpf.MapID {
	t.Helper()
	program, err := ebpf.NewProgramFromID(id)
	must(t, err)
	defer program.Close()
	info, err := program.Info()
	must(t, err)
	ids, _ := info.MapIDs()
	return ids
}

func (n *node) checkRouting(t *testing.T, peer *node) {
	t.Helper()
	router := n.self.Router.String()
	for _, want := range []struct{ command, line string }{
		{"ip route", fmt.Sprintf("%s via %s dev cilium_host proto kernel src %s ", n.self.PodCIDR[0], router, router)},
		{"ip route", fmt.Sprintf("%s via %s dev cilium_host proto kernel src %s mtu 8951 ", peer.self.PodCIDR[0], router, router)},
		{"ip route", router + " dev cilium_host proto kernel scope link "},
		{"ip rule", "100:\tfrom all lookup local"},
		{"ip rule", "9:\tfrom all fwmark 0x200/0xf00 lookup 2004"},
		{"ip route show table 2004", "local default dev lo proto kernel scope host "},
		{"iptables -t nat -S POSTROUTING", `-A POSTROUTING -m comment --comment "cilium-feeder: CILIUM_POST_nat" -j CILIUM_POST_nat`},
		{"cat /proc/sys/net/ipv4/conf/all/rp_filter", "0"},
		{"cat /proc/sys/net/ipv4/conf/cilium_host/accept_local", "1"},
	} {
		got := n.run(t, strings.Fields(want.command)...)
		if !slices.Contains(strings.Split(got, "\n"), want.line) {
			t.Errorf("%s lacks %q:\n%s", want.command, want.line, got)
		}
	}
	if rules := n.run(t, "ip", "rule"); strings.HasPrefix(rules, "0:") {
		t.Errorf("the local rule is still at 0:\n%s", rules)
	}
}

func (n *node) lastBeat(t *testing.T) time.Duration {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(n.bpffs("tc/globals/cilium_runtime_config"), nil)
	must(t, err)
	defer m.Close()
	var beat uint64
	must(t, m.Lookup(uint32(1), &beat))
	var now unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return time.Duration(now.Nano() - int64(beat))
}

func (n *node) checkLiveness(t *testing.T) {
	t.Helper()
	first := n.lastBeat(t)
	until(t, "a newer sign of life", func() bool { return n.lastBeat(t) < first })
}

func TestTrafficOutlivesTheAgent(t *testing.T) {
	a, b := twoNodes(t)
	client, server := a.newPod(t, "client"), b.newPod(t, "server")
	for _, n := range []*node{a, b} {
		n.agent.kill()
	}
	want := "200 " + client.ip.String()
	if got := client.get(t, server.ip, "/"); got != want {
		t.Fatalf("without agents: got %q, want %q", got, want)
	}
	router, pinBefore := a.self.Router, a.dump(t, "cilium_ipcache_v2")
	a.startAgent(t, 0)
	a.tellPeers(t, b)
	until(t, "the new agent's health endpoint", func() bool {
		// While the agent starts, no request may fail: the old programs go on with the old ipcache.
		if got := client.get(t, server.ip, "/"); got != want {
			t.Fatalf("during the start: got %q, want %q", got, want)
		}
		return len(a.dump(t, "cilium_ipcache_v2")) == len(pinBefore)
	})
	if a.self.Router != router {
		t.Errorf("router address changed from %s to %s", router, a.self.Router)
	}
	a.checkPrograms(t)
	if second := a.newPod(t, "second"); second.ip == client.ip {
		t.Errorf("the address %s was given twice", client.ip)
	}
}

// TestProgramsKeepTheIPCacheBeforeUntilAnAgentLoadsThemAnew starts an agent that gets no further than its maps, and then one that does:
// what our own reader says of a node on which Cilium has just started.
func TestProgramsKeepTheIPCacheBeforeUntilAnAgentLoadsThemAnew(t *testing.T) {
	a, b := twoNodes(t)
	a.newPod(t, "client")
	users := map[string]bool{"cil_from_overlay": true, "cil_from_host": true, "cil_from_netdev": true, "cil_from_container": true}
	wantOld := func(old bool) string {
		for name, uses := range a.mapUses(t) {
			if slices.Contains(uses.Old, ciliummap.IPCachePin) != (old && users[name]) || slices.Contains(uses.Now, ciliummap.IPCachePin) != (!old && users[name]) {
				return fmt.Sprintf("%s uses %+v", name, uses)
			}
		}
		return ""
	}
	if wrong := wantOld(false); wrong != "" {
		t.Error(wrong)
	}
	a.agent.kill()
	a.startAgent(t, time.Hour)
	if wrong := wantOld(true); wrong != "" {
		t.Errorf("while the agent starts: %s", wrong)
	}
	a.agent.kill()
	a.startAgent(t, 0)
	a.tellPeers(t, b)
	until(t, "programs with the pinned ipcache", func() bool { return wantOld(false) == "" })
}

// mapUses is which maps the programs at the node's devices and pods use, by their names.
func (n *node) mapUses(t *testing.T) map[string]ciliummap.Uses {
	t.Helper()
	devices, err := ciliummap.ReadLinks(n.bpffs())
	must(t, err)
	pods, err := ciliummap.ReadEndpointLinks(n.bpffs())
	must(t, err)
	names, ids := map[ebpf.ProgramID]string{}, []ebpf.ProgramID{}
	for _, l := range append(devices, pods...) {
		if !l.Detached() { // the health endpoint of an agent that was killed
			names[l.ProgramID], ids = l.Program, append(ids, l.ProgramID)
		}
	}
	uses, err := ciliummap.ReadUses(n.bpffs(ciliummap.GlobalsDir), ids)
	must(t, err)
	out := map[string]ciliummap.Uses{}
	for id, u := range uses {
		out[names[id]] = u
	}
	return out
}

func TestDeletionIsIdempotentAndLeavesNothing(t *testing.T) {
	a, b := twoNodes(t)
	kept, gone, orphan := a.newPod(t, "kept"), a.newPod(t, "gone"), a.newPod(t, "orphan")
	server := b.newPod(t, "server")
	for range 2 {
		if _, err := gone.plugin(t, "DEL"); err != nil {
			t.Fatal(err)
		}
	}
	a.agent.kill()
	if _, err := orphan.plugin(t, "DEL"); err != nil {
		t.Fatalf("without an agent: %v", err)
	}
	a.startAgent(t, 0)
	a.tellPeers(t, b)
	// The host endpoint, the kept pod and the health endpoint have policy maps; all others are gone.
	until(t, "three policy maps", func() bool {
		pins, err := filepath.Glob(a.bpffs("tc/globals/cilium_policy_v2_*"))
		must(t, err)
		return len(pins) == 3
	})
	until(t, "four local addresses: node, router, health, kept pod", func() bool { return len(a.dump(t, "cilium_lxc")) == 4 })
	if got, want := kept.get(t, server.ip, "/"), "200 "+kept.ip.String(); got != want {
		t.Errorf("the kept pod: got %q, want %q", got, want)
	}
}

func TestPlantedFaultStays(t *testing.T) {
	a, b := twoNodes(t)
	client, server := a.newPod(t, "client"), b.newPod(t, "server")
	if got := client.get(t, server.ip, "/"); !strings.HasPrefix(got, "200 ") {
		t.Fatalf("before the fault: %s", got)
	}
	m, err := ebpf.LoadPinnedMap(a.bpffs("tc/globals/cilium_ipcache_v2"), nil)
	must(t, err)
	defer m.Close()
	slice, err := hex.DecodeString("3800000000000001" + "0af40200" + strings.Repeat("00", 12))
	must(t, err)
	must(t, m.Delete(slice))
	a.tellPeers(t, b) // nothing new for the agent, so nothing to write
	if got := client.get(t, server.ip, "/"); !strings.HasPrefix(got, "error") {
		t.Errorf("without the peer's entry: got %q, want an error", got)
	}
	const noTunnelEndpoint = 160
	var drops uint64
	for key, count := range a.metrics(t) {
		if key[0] == noTunnelEndpoint && key[1] == 2 {
			drops += count
		}
	}
	if drops == 0 {
		t.Error("the drops are not counted under reason 160")
	}
}

func TestConflistComesBeforeThePrograms(t *testing.T) {
	n := newNode(t, fabric(t), "a", 1)
	n.startAgent(t, time.Hour)
	if _, err := os.Stat(filepath.Join(n.dir, "05-cilium.conflist")); err != nil {
		t.Errorf("conflist: %v", err)
	}
	until(t, "health", func() bool { return n.healthy() })
	if _, err := os.Stat(n.bpffs("tc/globals/cilium_ipcache_v2")); err != nil {
		t.Errorf("pins: %v", err)
	}
	if links, err := filepath.Glob(n.bpffs("cilium/devices/*/links/*")); err != nil || len(links) != 0 {
		t.Errorf("got links %v, %v; want none yet", links, err)
	}
	if _, err := n.net.LinkByName("cilium_vxlan"); err == nil {
		t.Error("cilium_vxlan is there before its time")
	}
}

func (n *node) healthy() bool {
	argv := append(n.enter(), "curl", "-sf", "-m", "1", "http://127.0.0.1:9879/healthz")
	return exec.Command(argv[0], argv[1:]...).Run() == nil
}
