// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// metrics shows Prometheus the last Decision. Gauges are computed when they are asked for, so that a node that is gone
// leaves no series behind.
type metrics struct {
	mu     sync.Mutex
	safety map[string]bool // by node: its last answer allows a drain
	status v1alpha1.CutoverStatus

	steps    *prometheus.HistogramVec
	held     *prometheus.CounterVec
	finished *prometheus.CounterVec
	refused  *prometheus.CounterVec

	safe, role, slot, waiting, phase, fence, condition *prometheus.Desc
}

func newMetrics() *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("cni_cutover_coordinator_"+name, help, labels, nil)
	}
	return &metrics{
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cni_cutover_coordinator_step_duration_seconds", Help: "How long slots stayed in a step.",
			Buckets: []float64{0.1, 0.5, 1, 5, 15, 60, 300, 900, 1800, 3600},
		}, []string{"step"}),
		held: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cni_cutover_coordinator_slots_held_total", Help: "How often a slot was held because a step passed its deadline.",
		}, []string{"step", "reason"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cni_cutover_coordinator_slots_finished_total", Help: "How many slots have ended, by outcome.",
		}, []string{"outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cni_cutover_coordinator_refusals_total", Help: "How often the API server refused what the coordinator asked for.",
		}, []string{"action", "reason"}),
		condition: desc("condition", "1 for a condition of the Cutover that is True, 0 for one that is False; absent while it is Unknown.", "type", "reason"),

		safe:    desc("node_safe_to_drain", "1 if the node's last answer allows a drain and has not expired, 0 otherwise.", "node"),
		role:    desc("nodes", "Selected nodes by the role that their hosts show.", "role"),
		slot:    desc("slots", "Slots by step and by whether they are held.", "step", "held"),
		waiting: desc("waits", "Nodes and slots that wait, by what they wait for.", "reason"),
		phase:   desc("phase", "1 for the phase that the cutover is in.", "phase"),
		fence:   desc("fence_intact", "1 while the fence is intact, 0 otherwise; absent while it is not watched."),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.safe, m.role, m.slot, m.waiting, m.phase, m.fence, m.condition} {
		ch <- d
	}
	m.steps.Describe(ch)
	m.held.Describe(ch)
	m.finished.Describe(ch)
	m.refused.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.steps.Collect(ch)
	m.held.Collect(ch)
	m.finished.Collect(ch)
	m.refused.Collect(ch)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.status.Phase == "" {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for node, safe := range m.safety {
		gauge(m.safe, number(safe), node)
	}
	c := m.status.Nodes
	for role, count := range map[v1alpha1.Role]int32{
		v1alpha1.RoleLegacy: c.Legacy, v1alpha1.RoleOverlay: c.Overlay, v1alpha1.RoleMixed: c.Mixed, v1alpha1.RoleUnknown: c.Unknown,
	} {
		gauge(m.role, float64(count), string(role))
	}
	type key struct{ step, held string }
	slots, waits := map[key]int{}, map[v1alpha1.Reason]int{}
	for _, s := range m.status.Slots {
		held := "false"
		if s.HeldSince != nil {
			held = "true"
		}
		slots[key{string(s.Step), held}]++
		waits[s.Reason]++
	}
	for _, w := range m.status.Waiting {
		waits[w.Reason]++
	}
	for k, count := range slots {
		gauge(m.slot, float64(count), k.step, k.held)
	}
	for reason, count := range waits {
		gauge(m.waiting, float64(count), string(reason))
	}
	for _, p := range plan.Phases() {
		gauge(m.phase, number(p == m.status.Phase), string(p))
	}
	for _, cond := range m.status.Conditions {
		if cond.Status != "Unknown" {
			gauge(m.condition, number(cond.Status == "True"), cond.Type, cond.Reason)
		}
		if cond.Type == v1alpha1.ConditionFenceIntact && cond.Status != "Unknown" {
			gauge(m.fence, number(cond.Status == "True"))
		}
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// observe takes note of a Decision whose ledger is written.
func (m *metrics) observe(w *plan.World, status v1alpha1.CutoverStatus) {
	before := w.Cutover.Status
	after := map[string]v1alpha1.Slot{}
	for _, s := range status.Slots {
		after[string(s.NodeUID)] = s
	}
	for _, b := range before.Slots {
		a, still := after[string(b.NodeUID)]
		if !still || a.Step != b.Step {
			m.steps.WithLabelValues(string(b.Step)).Observe(w.Now.Sub(b.Since.Time).Seconds())
		}
		if still && a.HeldSince != nil && b.HeldSince == nil {
			m.held.WithLabelValues(string(a.Step), string(a.Reason)).Inc()
		}
	}
	for _, f := range status.Finished {
		if f.FinishedAt.Time.Equal(w.Now) {
			m.finished.WithLabelValues(string(f.Outcome)).Inc()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.safety, m.status = make(map[string]bool, len(w.Nodes)), status
	for _, n := range w.Nodes {
		m.safety[n.Name] = plan.SafeToDrain(w, n)
	}
}

// refuse counts a refusal.
func (m *metrics) refuse(r refusal) { m.refused.WithLabelValues(r.what, string(r.Reason)).Inc() }

// forget drops what is known of a Cutover that is gone.
func (m *metrics) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.safety, m.status = nil, v1alpha1.CutoverStatus{}
}
