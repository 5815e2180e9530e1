// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/tunnelmeter"
)

// Metrics are what the agent tells Prometheus. What is not known is not there, rather than 0.
type Metrics struct {
	findings     *prometheus.GaugeVec
	roles        *prometheus.GaugeVec
	pods         *prometheus.GaugeVec
	mtu          *prometheus.GaugeVec
	entries      *prometheus.GaugeVec
	drops        *prometheus.GaugeVec
	duration     prometheus.Histogram
	lastLook     prometheus.Gauge
	writes       prometheus.Counter
	failedWrites prometheus.Counter
	answers      prometheus.Counter
	tunnel       tunnelMetrics
}

// tunnelMetrics are what the tunnel meter counts, of all peers together: a series for each would be 5,000 on each of 5,000 nodes.
type tunnelMetrics struct {
	attached                                   prometheus.Gauge
	packets, outer, inner, cut, pieces, tooBig *prometheus.CounterVec
	largest                                    *prometheus.GaugeVec
}

// NewMetrics registers the metrics of one agent.
func NewMetrics(r prometheus.Registerer, version string) *Metrics {
	const ns = "cni_cutover_agent"
	with := promauto.With(r)
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return with.NewGaugeVec(prometheus.GaugeOpts{Namespace: ns, Name: name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return with.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help})
	}
	counters := func(name, help string) *prometheus.CounterVec {
		return with.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help}, []string{"direction"})
	}
	gauges("build_info", "Version of the agent; always 1.", "version").WithLabelValues(version).Set(1)
	return &Metrics{
		findings: gauges("finding", "1 for the verdict that each check has now, 0 for the others.", "check", "verdict"),
		roles:    gauges("role", "1 for the role that this node's host shows now, 0 for the others.", "role"),
		pods:     gauges("pods", "Pods with a network of their own on this node, by the network that their address lies in.", "network"),
		mtu:      gauges("mtu_bytes", "MTU of the NIC (underlay), of cilium_vxlan (device) and of the routes into the tunnel (route_min, route_max).", "kind"),
		entries:  gauges("map_entries", "Entries of Cilium's pinned maps at the last look.", "map"),
		drops:    gauges("cilium_dropped_packets", "Packets that Cilium's programs have dropped on this node since Cilium made its map, by reason.", "reason", "direction"),
		duration: with.NewHistogram(prometheus.HistogramOpts{
			Namespace: ns, Name: "look_duration_seconds", Help: "Time that a look and its judgement took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), // 1 ms to 8 s
		}),
		lastLook: with.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Name: "last_look_timestamp_seconds", Help: "When the last look ended, in seconds since 1970.",
		}),
		writes:       counter("reports_written_total", "Reports written to the API server, answers included."),
		failedWrites: counter("report_failures_total", "Reports that could not be made or written."),
		answers:      counter("challenges_answered_total", "Challenges of the coordinator that were answered."),
		tunnel: tunnelMetrics{
			attached: with.NewGauge(prometheus.GaugeOpts{Namespace: ns, Name: "tunnel_meter_attached", Help: "1 while the tunnel meter is attached; only then the other metrics of the tunnel move."}),
			packets:  counters("tunnel_packets_total", "Packets of the tunnel at the NIC while the meter was attached."),
			outer:    counters("tunnel_outer_bytes_total", "Bytes of the tunnel's packets from the outer IP header on."),
			inner:    counters("tunnel_inner_bytes_total", "Bytes of the packets inside the tunnel from the inner IP header on."),
			cut:      counters("tunnel_fragmented_packets_total", "Packets of the tunnel that were sent, or came, in pieces."),
			pieces:   counters("tunnel_later_fragments_total", "Pieces of the tunnel's packets after the first."),
			tooBig:   counters("tunnel_too_big_messages_total", "Messages of routers about packets of the tunnel that were too big for them."),
			largest:  gauges("tunnel_largest_packet_bytes", "Largest packet of the tunnel since the meter was attached.", "direction"),
		},
	}
}

// measured adds what the tunnel meter has counted since the last look.
func (m *Metrics) measured(r tunnelmeter.Reading) {
	var sums [2]tunnelmeter.Counters
	for flow, c := range r.Flows {
		sums[flow.Direction] = sums[flow.Direction].Plus(c)
	}
	for d, c := range sums {
		direction := tunnelmeter.Direction(d).String()
		for counter, n := range map[*prometheus.CounterVec]uint64{
			m.tunnel.packets: c.Packets, m.tunnel.outer: c.OuterBytes, m.tunnel.inner: c.InnerBytes,
			m.tunnel.cut: c.FirstFragments, m.tunnel.pieces: c.LaterFragments, m.tunnel.tooBig: c.TooBig,
		} {
			counter.WithLabelValues(direction).Add(float64(n))
		}
	}
}

// observe puts one look into the metrics.
func (m *Metrics) observe(f *facts.Facts, s v1alpha1.NodeCutoverStatus, took time.Duration) {
	m.duration.Observe(took.Seconds())
	m.lastLook.Set(float64(f.At.Add(took).UnixNano()) / 1e9)
	for _, x := range s.Findings {
		for _, v := range []v1alpha1.Verdict{v1alpha1.VerdictPass, v1alpha1.VerdictWarn, v1alpha1.VerdictFail, v1alpha1.VerdictUnknown, v1alpha1.VerdictNotAsked} {
			m.findings.WithLabelValues(string(x.Check), string(v)).Set(one(x.Verdict == v))
		}
	}
	for _, r := range []v1alpha1.Role{v1alpha1.RoleLegacy, v1alpha1.RoleOverlay, v1alpha1.RoleMixed, v1alpha1.RoleUnknown} {
		m.roles.WithLabelValues(string(r)).Set(one(s.Role == r))
	}
	m.pods.Reset()
	if n, ok := check.NetworksOf(f); ok {
		m.pods.WithLabelValues("overlay").Set(float64(n.Overlay))
		m.pods.WithLabelValues("outside").Set(float64(n.Outside))
		m.pods.WithLabelValues("pending").Set(float64(n.Pending))
	}
	m.mtu.Reset()
	z := check.SizesOf(f)
	for kind, bytes := range map[string]int{"underlay": z.Underlay, "device": z.Device, "route_min": z.RouteMin, "route_max": z.RouteMax} {
		if bytes > 0 {
			m.mtu.WithLabelValues(kind).Set(float64(bytes))
		}
	}
	m.drops.Reset()
	for c, n := range f.Counters.By {
		if c.Dropped() {
			m.drops.WithLabelValues(check.DropReason(c.Reason), map[uint8]string{1: "ingress", 2: "egress", 3: "service"}[c.Direction]).Set(float64(n.Packets))
		}
	}
	m.tunnel.attached.Set(one(f.Meter.Sight == facts.Seen))
	m.tunnel.largest.Reset()
	var largest [2]uint32
	for flow, c := range f.Meter.Total.Flows {
		largest[flow.Direction] = max(largest[flow.Direction], c.OuterMax)
	}
	for d, bytes := range largest {
		if bytes > 0 {
			m.tunnel.largest.WithLabelValues(tunnelmeter.Direction(d).String()).Set(float64(bytes))
		}
	}
	m.entries.Reset()
	if f.Endpoints.Sight == facts.Seen {
		m.entries.WithLabelValues("endpoints").Set(float64(len(f.Endpoints.ByIP)))
	}
	if f.IPCache.Sight == facts.Seen {
		m.entries.WithLabelValues("ipcache").Set(float64(f.IPCache.Entries.Len()))
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
