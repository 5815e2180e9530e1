// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/bpf/tunnelmeter"
)

// observed is an agent's registry after a look at a small node.
func observed() (*prometheus.Registry, *Metrics) {
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry, "v1")
	f := facts.Facts{
		At:       time.Unix(1000, 0),
		Settings: facts.Settings{Look: seen(), Overlay: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}},
		Pods:     facts.Pods{Look: seen(), List: []facts.Pod{{Name: "a", IPs: []netip.Addr{netip.MustParseAddr("10.244.1.7")}}, {Name: "b"}}},
		Node:     facts.Node{Look: seen(), InternalIPs: []netip.Addr{netip.MustParseAddr("10.0.1.10")}},
		Links: facts.Links{Look: seen(), List: []facts.Link{
			{Index: 2, Name: "ens5", MTU: 9001, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.10/24")}}, {Index: 3, Name: "cilium_vxlan", MTU: 9001},
		}},
		IPCache: facts.IPCache{Look: seen()},
		Counters: facts.Counters{Look: seen(), By: map[ciliummap.Counter]ciliummap.Count{
			{Reason: 0, Direction: 1}: {Packets: 9}, {Reason: 133, Direction: 1}: {Packets: 7}, {Reason: 160, Direction: 2}: {Packets: 5},
		}},
		Kernel: facts.Kernel{Look: seen(), Release: "6.1.0"},
	}
	a, b := netip.MustParseAddr("10.0.2.10"), netip.MustParseAddr("10.0.3.10")
	counted := tunnelmeter.Reading{Flows: map[tunnelmeter.Flow]tunnelmeter.Counters{
		{Peer: a, Direction: tunnelmeter.Egress}: {Packets: 3, OuterBytes: 303, InnerBytes: 153, OuterMax: 101, TooBig: 2},
		{Peer: b, Direction: tunnelmeter.Egress}: {Packets: 1, OuterBytes: 1570, InnerBytes: 1500, OuterMax: 1500, FirstFragments: 1, LaterFragments: 1},
	}}
	f.Meter = facts.Meter{Look: seen(), Total: counted}
	m.measured(counted)
	m.observe(&f, Report(&f, v1alpha1.RoleOverlay, "v1", map[v1alpha1.CheckName]bool{v1alpha1.CheckMTU: true}), 500*time.Millisecond)
	return registry, m
}

func TestMetricsKeepPrometheusConventions(t *testing.T) {
	registry, _ := observed()
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsSayWhatWasSeenAndNothingElse(t *testing.T) {
	registry, _ := observed()
	const want = `
# HELP cni_cutover_agent_cilium_dropped_packets Packets that Cilium's programs have dropped on this node since Cilium made its map, by reason.
# TYPE cni_cutover_agent_cilium_dropped_packets gauge
cni_cutover_agent_cilium_dropped_packets{direction="egress",reason="no tunnel endpoint"} 5
cni_cutover_agent_cilium_dropped_packets{direction="ingress",reason="reason 133"} 7
# HELP cni_cutover_agent_last_look_timestamp_seconds When the last look ended, in seconds since 1970.
# TYPE cni_cutover_agent_last_look_timestamp_seconds gauge
cni_cutover_agent_last_look_timestamp_seconds 1000.5
# HELP cni_cutover_agent_map_entries Entries of Cilium's pinned maps at the last look.
# TYPE cni_cutover_agent_map_entries gauge
cni_cutover_agent_map_entries{map="ipcache"} 0
# HELP cni_cutover_agent_mtu_bytes MTU of the NIC (underlay), of cilium_vxlan (device) and of the routes into the tunnel (route_min, route_max).
# TYPE cni_cutover_agent_mtu_bytes gauge
cni_cutover_agent_mtu_bytes{kind="device"} 9001
cni_cutover_agent_mtu_bytes{kind="underlay"} 9001
# HELP cni_cutover_agent_pods Pods with a network of their own on this node, by the network that their address lies in.
# TYPE cni_cutover_agent_pods gauge
cni_cutover_agent_pods{network="outside"} 0
cni_cutover_agent_pods{network="overlay"} 1
cni_cutover_agent_pods{network="pending"} 1
# HELP cni_cutover_agent_tunnel_largest_packet_bytes Largest packet of the tunnel since the meter was attached.
# TYPE cni_cutover_agent_tunnel_largest_packet_bytes gauge
cni_cutover_agent_tunnel_largest_packet_bytes{direction="egress"} 1500
# HELP cni_cutover_agent_tunnel_meter_attached 1 while the tunnel meter is attached; only then the other metrics of the tunnel move.
# TYPE cni_cutover_agent_tunnel_meter_attached gauge
cni_cutover_agent_tunnel_meter_attached 1
# HELP cni_cutover_agent_tunnel_outer_bytes_total Bytes of the tunnel's packets from the outer IP header on.
# TYPE cni_cutover_agent_tunnel_outer_bytes_total counter
cni_cutover_agent_tunnel_outer_bytes_total{direction="egress"} 1873
cni_cutover_agent_tunnel_outer_bytes_total{direction="ingress"} 0
# HELP cni_cutover_agent_tunnel_packets_total Packets of the tunnel at the NIC while the meter was attached.
# TYPE cni_cutover_agent_tunnel_packets_total counter
cni_cutover_agent_tunnel_packets_total{direction="egress"} 4
cni_cutover_agent_tunnel_packets_total{direction="ingress"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "cni_cutover_agent_cilium_dropped_packets", "cni_cutover_agent_last_look_timestamp_seconds",
		"cni_cutover_agent_map_entries", "cni_cutover_agent_mtu_bytes", "cni_cutover_agent_pods",
		"cni_cutover_agent_tunnel_largest_packet_bytes", "cni_cutover_agent_tunnel_meter_attached",
		"cni_cutover_agent_tunnel_outer_bytes_total", "cni_cutover_agent_tunnel_packets_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(registry, "cni_cutover_agent_finding"); err != nil || n != len(check.Names())*5 {
		t.Errorf("%d series of findings, %v", n, err)
	}
}

func TestEachCheckHasExactlyOneVerdict(t *testing.T) {
	_, m := observed()
	for check, want := range map[v1alpha1.CheckName]v1alpha1.Verdict{
		v1alpha1.CheckKernel: v1alpha1.VerdictPass, v1alpha1.CheckMTU: v1alpha1.VerdictNotAsked, v1alpha1.CheckCiliumAlive: v1alpha1.VerdictUnknown,
	} {
		for _, v := range []v1alpha1.Verdict{v1alpha1.VerdictPass, v1alpha1.VerdictWarn, v1alpha1.VerdictFail, v1alpha1.VerdictUnknown, v1alpha1.VerdictNotAsked} {
			if got := testutil.ToFloat64(m.findings.WithLabelValues(string(check), string(v))); got != one(v == want) {
				t.Errorf("%s %s is %v", check, v, got)
			}
		}
	}
}

func TestServesHealth(t *testing.T) {
	registry, m := observed()
	a := New(Config{Interval: time.Second, Metrics: m, Log: slog.New(slog.DiscardHandler)})
	synced := false
	server := httptest.NewServer(a.Handler(registry, func() bool { return synced }))
	defer server.Close()
	get := func(path string) (int, string) {
		r, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	expect := func(path string, want int, when string) {
		t.Helper()
		if code, body := get(path); code != want {
			t.Errorf("%s %s: %d %s, want %d", path, when, code, body, want)
		}
	}
	expect("/healthz", 200, "at the start")
	expect("/readyz", 503, "before the first look")
	a.looked.Store(time.Now().UnixNano())
	expect("/readyz", 503, "before the API server was heard")
	synced = true
	expect("/readyz", 200, "after both")
	a.looked.Store(time.Now().Add(-stuck*lastRetry - time.Minute).UnixNano())
	expect("/healthz", 503, "when the loop is stuck")
	if code, body := get("/metrics"); code != 200 || !strings.Contains(body, `cni_cutover_agent_build_info{version="v1"} 1`) {
		t.Errorf("/metrics: %d %s", code, body)
	}
}
