// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"encoding/hex"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/cniconf"
	"github.com/cni-cutover/cni-cutover/internal/golden"
)

// TestARealCiliumNodePasses judges two nodes of a real Cilium 1.18.11 by what was captured of them.
func TestARealCiliumNodePasses(t *testing.T) {
	for name, own := range map[string]struct{ pod, health, host string }{
		"cilium-1.18.11-kpr-false": {"10.244.0.52", "10.244.0.147", "10.244.0.20"},
		"cilium-1.18.11-kpr-true":  {"10.244.0.118", "10.244.0.254", "10.244.0.137"},
	} {
		t.Run(name, func(t *testing.T) {
			f := captured(t, filepath.Join("testdata", name))
			f.Pods.List[0].IPs = []netip.Addr{ip(own.pod)}
			f.Own.HealthIP, f.Own.CiliumIPs = ip(own.health), []netip.Addr{ip(own.host)}

			role, why := Role(f)
			if role != v1alpha1.RoleOverlay {
				t.Fatalf("role %s: %s", role, why)
			}
			if s := Suspects(f); len(s) > 0 {
				t.Errorf("suspects: %v", s)
			}
			findings := Judge(f, role, nil)
			for _, x := range findings {
				if x.Verdict != v1alpha1.VerdictPass && x.Reason != v1alpha1.MeterAtRest {
					t.Errorf("%s: %s %s: %s", x.Check, x.Verdict, x.Reason, x.Message)
				}
			}
			got, err := yaml.Marshal(findings)
			must(t, err)
			golden.Match(t, filepath.Join("testdata", name+".golden.yaml"), string(got))
		})
	}
}

// TestNoCaptureSurvivesWithoutAnEntryThatCounts takes each entry of a peer, a pod and a program away in turn: the node must not pass.
func TestNoCaptureSurvivesWithoutAnEntryThatCounts(t *testing.T) {
	load := func() *facts.Facts {
		f := captured(t, "testdata/cilium-1.18.11-kpr-false")
		f.Pods.List[0].IPs = []netip.Addr{ip("10.244.0.52")}
		f.Own.HealthIP = ip("10.244.0.147")
		for i := range f.Peers.List {
			f.Peers.List[i].Node = facts.PeerNode{Look: seen, Created: longAgo, Ready: true}
		}
		return f
	}
	for _, p := range []string{"10.244.1.0/24", "10.244.2.0/24"} {
		f := load()
		loseRemote(f, p)
		if x := find(t, Judge(f, v1alpha1.RoleOverlay, nil), v1alpha1.CheckOverlayMaps); x.Verdict != v1alpha1.VerdictFail {
			t.Errorf("without %s: %s", p, x.Verdict)
		}
	}
	for _, a := range []string{"10.244.0.52", "10.244.0.147"} {
		f := load()
		delete(f.Endpoints.ByIP, ip(a))
		if x := find(t, Judge(f, v1alpha1.RoleOverlay, nil), v1alpha1.CheckOverlayMaps); x.Verdict != v1alpha1.VerdictFail {
			t.Errorf("without %s: %s", a, x.Verdict)
		}
	}
}

// TestNoProgramOfACaptureIsNeedless takes each program of a real node away in turn, in both modes: all that Cilium attached there,
// it needs, but for a pod's program of which nobody has an endpoint and the sockets of what is not IPv4 TCP or UDP.
func TestNoProgramOfACaptureIsNeedless(t *testing.T) {
	for folder, podIP := range map[string]string{"cilium-1.18.11-kpr-false": "10.244.0.52", "cilium-1.18.11-kpr-true": "10.244.0.118"} {
		load := func() *facts.Facts {
			f := captured(t, filepath.Join("testdata", folder))
			f.Pods.List[0].IPs = []netip.Addr{ip(podIP)}
			return f
		}
		judged := func(f *facts.Facts) v1alpha1.Finding {
			return find(t, Judge(f, v1alpha1.RoleOverlay, nil), v1alpha1.CheckPrograms)
		}
		for i, p := range load().Programs.List {
			f := load()
			f.Programs.List = slices.Delete(f.Programs.List, i, i+1)
			if x := judged(f); x.Verdict != v1alpha1.VerdictFail || !strings.Contains(x.Message, p.Name) {
				t.Errorf("%s without %+v: %s %s", folder, p, x.Verdict, x.Message)
			}
		}
		for i, p := range load().Programs.Sockets {
			f := load()
			f.Programs.Sockets = slices.Delete(f.Programs.Sockets, i, i+1)
			if x := judged(f); (x.Verdict == v1alpha1.VerdictFail) != slices.Contains(socketPrograms(), p.Name) {
				t.Errorf("%s without %s: %s %s", folder, p.Name, x.Verdict, x.Message)
			}
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// captured builds facts from a folder of captured data.
func captured(t *testing.T, folder string) *facts.Facts {
	t.Helper()
	f := overlayNode()
	f.Meter = facts.Meter{} // nothing of ours was attached there
	f.Status, f.Health, f.Layouts = facts.CiliumStatus{}, facts.CiliumHealth{}, facts.Layouts{}
	f.At = time.Date(2026, 11, 22, 3, 10, 0, 0, time.UTC) // an hour after the objects were made
	f.ConfDir = cniconf.Read(filepath.Join(folder, "net.d"))
	f.ConfDir.Path = "/etc/cni/net.d"
	f.Links.List = capturedLinks(t, filepath.Join(folder, "links.json"))
	index := map[string]int{}
	for _, l := range f.Links.List {
		index[l.Name] = l.Index
	}
	f.Routes.List = capturedRoutes(t, filepath.Join(folder, "ip-route.txt"), index)
	f.Rules.List = capturedRules(t, filepath.Join(folder, "ip-rule.txt"))
	f.Programs.List = nil
	for _, line := range lines(t, filepath.Join(folder, "tcx.jsonl")) {
		var p struct {
			Hook, Prog string
			Ifindex    int
		}
		must(t, json.Unmarshal([]byte(line), &p))
		f.Programs.List = append(f.Programs.List, facts.Program{Name: p.Prog, Link: p.Ifindex, Egress: p.Hook == "egress", Via: "tcx"})
	}
	f.Pins.Names, f.Programs.Sockets = nil, nil
	for _, pin := range lines(t, filepath.Join(folder, "pins.txt")) {
		switch dir, name := path.Split(pin); dir {
		case "tc/globals/":
			f.Pins.Names = append(f.Pins.Names, name)
		case "cilium/socketlb/links/cgroup/":
			f.Programs.Sockets, f.Programs.SocketsOnce = append(f.Programs.Sockets, facts.SocketProgram{Name: name}), true
		default:
			t.Fatalf("%s holds %s", folder, pin)
		}
	}
	if len(f.Programs.Sockets) > 0 {
		f.Services = facts.Services{Look: seen, Services: ciliummap.NewServices(0)}
		entries(t, filepath.Join(folder, "cilium_lb4_services_v2.hex"), func(key, value []byte) { must(t, f.Services.AddService(key, value)) })
		entries(t, filepath.Join(folder, "cilium_lb4_backends_v3.hex"), func(key, value []byte) { must(t, f.Services.AddBackend(key, value)) })
		f.Services.Gaps = f.Services.Services.Gaps()
		f.Kubernetes = facts.Kubernetes{Look: seen, Frontend: port("10.96.0.1:443"), Endpoints: []netip.AddrPort{port("172.18.0.1:6443")}}
	}
	f.Endpoints.ByIP = map[netip.Addr]ciliummap.Endpoint{}
	entries(t, filepath.Join(folder, "cilium_lxc.hex"), func(key, value []byte) {
		k, v, err := ciliummap.DecodeEndpointEntry(key, value)
		must(t, err)
		f.Endpoints.ByIP[k.Addr] = v
	})
	remotes := map[netip.Prefix]ciliummap.RemoteEndpoint{}
	entries(t, filepath.Join(folder, "cilium_ipcache_v2.hex"), func(key, value []byte) {
		k, v, err := ciliummap.DecodeIPCacheEntry(key, value)
		must(t, err)
		remotes[k.Prefix] = v
	})
	f.IPCache.Entries = ciliummap.NewIPCache(remotes)
	entries(t, filepath.Join(folder, "cilium_runtime_config.hex"), func(_, value []byte) {
		var err error
		f.Liveness.Stamp, err = ciliummap.DecodeAgentLiveness(value)
		must(t, err)
		f.Liveness.Now = f.Liveness.Stamp + 500*time.Millisecond // the capture has no clock
	})
	f.Kernel.Release = "6.18.44"
	capturedObjects(t, f)
	return f
}

func capturedObjects(t *testing.T, f *facts.Facts) {
	t.Helper()
	read := func(name string, into any) {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		must(t, err)
		must(t, yaml.Unmarshal(b, into))
	}
	var nodes corev1.NodeList
	read("nodes.yaml", &nodes)
	f.Node = facts.NodeOf(&nodes.Items[0])
	var pods corev1.PodList
	read("pods.yaml", &pods)
	f.Pods.List = nil
	for i := range pods.Items {
		if pods.Items[i].Spec.NodeName == f.Node.Name {
			f.Pods.List = append(f.Pods.List, facts.PodOf(&pods.Items[i]))
		}
	}
	var list struct{ Items []facts.CiliumNodeObject }
	read("ciliumnodes.yaml", &list)
	f.Peers.List = nil
	for i := range list.Items {
		n, err := facts.CiliumNodeOf(&list.Items[i])
		must(t, err)
		if n.Name == f.Node.Name {
			f.Own.CiliumNode = n
			continue
		}
		f.Peers.List = append(f.Peers.List, facts.Peer{CiliumNode: n})
	}
}

func capturedLinks(t *testing.T, path string) []facts.Link {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	var found []struct {
		Ifindex, MTU          int
		Ifname, Kind, Address string
		Flags, Addrs          []string
		VXLAN                 *struct {
			External bool
			Port, ID int
		}
	}
	must(t, json.Unmarshal(b, &found))
	var out []facts.Link
	for _, l := range found {
		hw, err := net.ParseMAC(l.Address)
		must(t, err)
		link := facts.Link{Index: l.Ifindex, Name: l.Ifname, Kind: l.Kind, MTU: l.MTU, Up: slices.Contains(l.Flags, "UP"), MAC: ciliummap.MAC(hw)}
		for _, a := range l.Addrs {
			link.Addrs = append(link.Addrs, cidr(a))
		}
		if l.VXLAN != nil {
			link.VXLAN = &facts.VXLAN{Port: l.VXLAN.Port, VNI: l.VXLAN.ID, External: l.VXLAN.External}
		}
		out = append(out, link)
	}
	return out
}

func capturedRoutes(t *testing.T, path string, index map[string]int) []facts.Route {
	t.Helper()
	var out []facts.Route
	for _, line := range lines(t, path) {
		words := strings.Fields(line)
		r := facts.Route{Type: unicast}
		switch dst := words[0]; {
		case dst == "default":
			r.Dst = cidr("0.0.0.0/0")
		case strings.Contains(dst, "/"):
			r.Dst = cidr(dst)
		default:
			r.Dst = cidr(dst + "/32")
		}
		for i := 1; i+1 < len(words); i++ {
			switch words[i] {
			case "dev":
				r.Link = index[words[i+1]]
			case "via":
				r.Gateway = ip(words[i+1])
			case "mtu":
				var err error
				r.MTU, err = strconv.Atoi(words[i+1])
				must(t, err)
			}
		}
		out = append(out, r)
	}
	return out
}

func capturedRules(t *testing.T, path string) []facts.Rule {
	t.Helper()
	var out []facts.Rule
	for _, line := range lines(t, path) {
		prio, _, _ := strings.Cut(line, ":")
		n, err := strconv.Atoi(prio)
		must(t, err)
		out = append(out, facts.Rule{Priority: n})
	}
	return out
}

func entries(t *testing.T, path string, each func(key, value []byte)) {
	t.Helper()
	for _, line := range lines(t, path) {
		k, v, _ := strings.Cut(line, " ")
		key, err := hex.DecodeString(k)
		must(t, err)
		value, err := hex.DecodeString(v)
		must(t, err)
		each(key, value)
	}
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}
