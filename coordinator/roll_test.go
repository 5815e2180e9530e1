// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator"
	"github.com/cni-cutover/cni-cutover/internal/apiserver"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

var server *apiserver.Server

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(m.Run()) // fuzz tests only parse, and each of their workers would start a server of its own
	}
	ctrl.SetLogger(logr.Discard())
	os.Exit(apiserver.Run(m, func(s *apiserver.Server) error {
		server = s
		return nil
	}))
}

// lead runs a coordinator until the returned function is called, which is no gentler to its state than kill -9: nothing of
// it is in the process.
func lead(t *testing.T, dryRun io.Writer) (stop func(), registry *prometheus.Registry) {
	t.Helper()
	registry = prometheus.NewRegistry()
	mgr, err := ctrl.NewManager(server.Config(), ctrl.Options{
		Scheme: fleet.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := coordinator.Setup(mgr, coordinator.Options{Holder: "test", Registry: registry, DryRun: dryRun}); err != nil {
		t.Fatal(err)
	}
	return run(t, mgr), registry
}

// run runs a manager until the returned function is called, or the test ends.
func run(t *testing.T, mgr ctrl.Manager) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	var once bool
	stop = func() {
		cancel()
		if !once {
			once = true
			if err := <-ended; err != nil {
				t.Errorf("running the coordinator: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

// newCutover is a Cutover with the times of a test.
func newCutover() *v1alpha1.Cutover {
	short := func(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }
	return &v1alpha1.Cutover{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName},
		Spec: v1alpha1.CutoverSpec{
			Overlay: v1alpha1.Overlay{PodCIDRs: []string{"10.244.0.0/16"}},
			Rollout: v1alpha1.Rollout{Soak: short(time.Second), Drain: v1alpha1.Drain{DeregistrationDelay: short(time.Second), Timeout: short(3 * time.Second)}},
		},
	}
}

// cluster is a fleet with what these tests want to see of it.
type cluster struct {
	*fleet.Fleet
	t *testing.T
}

func (k *cluster) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// said collects what a dry run prints.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// wantDryRun runs a coordinator that may only print, and sees that it prints the first actions and writes nothing.
func (k *cluster) wantDryRun() {
	k.t.Helper()
	out := &said{}
	stop, _ := lead(k.t, out)
	fleet.Eventually(k.t, 20*time.Second, func() string {
		if strings.Contains(out.String(), "would create NodeCutover node-1") && strings.Contains(out.String(), string(v1alpha1.AwaitingApproval)) {
			return ""
		}
		return "the dry run has printed only: " + out.String()
	})
	stop()
	var asked v1alpha1.NodeCutoverList
	k.must(k.Client.List(k.t.Context(), &asked))
	if len(asked.Items) != 0 || k.Cutover().Status.Phase != "" {
		k.t.Errorf("a dry run wrote %d NodeCutovers and phase %q", len(asked.Items), k.Cutover().Status.Phase)
	}
}

// TestAWholeRoll takes a cluster of three nodes through every phase on a real API server, approving as a person would,
// with an unsafe node, a budget that allows nothing, and a coordinator that is replaced in the middle of a drain.
func TestAWholeRoll(t *testing.T) {
	k := &cluster{Fleet: fleet.Start(t, server.Config()), t: t}
	k.Join(fleet.Node{Zone: "a"}, fleet.Node{Zone: "b"}, fleet.Node{Zone: "a"})
	k.CNIs()
	k.must(k.Client.Create(t.Context(), newCutover()))

	t.Log("a dry run prints what it would do and does nothing")
	k.wantDryRun()
	stop, before := lead(t, nil)

	t.Log("every phase waits for its approval and says what a person must do")
	k.waitStalled(v1alpha1.AwaitingApproval)
	k.Patch(`{"spec":{"approvedPhases":["DecoupleIngress","InstallCilium","FenceLegacy"]}}`)

	t.Log("the fence refuses to start without the settings that keep Services alive")
	k.waitStalled(v1alpha1.LegacySettings)
	if k.fenced() {
		t.Fatal("the VPC CNI was fenced without its settings")
	}
	k.setLegacyEnv()

	t.Log("the fence is built in order, and no node loses its CNI")
	k.waitPhase(v1alpha1.PhaseRollNodes)
	k.wantLegacyPods(3)
	if got := k.Condition(v1alpha1.ConditionFenceIntact); got.Status != metav1.ConditionTrue {
		t.Errorf("FenceIntact = %s (%s), want True", got.Status, got.Message)
	}

	t.Log("an unsafe node gets no slot, and says why")
	for _, n := range []string{"node-1", "node-2", "node-3"} {
		k.SetAgent(n, fleet.Agent{Verdict: v1alpha1.VerdictFail, Reason: v1alpha1.TunnelDown})
	}
	k.Deployment("shop", 3)
	k.Budget("shop", 3)
	k.Patch(`{"spec":{"approvedPhases":["DecoupleIngress","InstallCilium","FenceLegacy","RollNodes","RemoveLegacy"]}}`)
	fleet.Eventually(t, 20*time.Second, func() string {
		for _, w := range k.Cutover().Status.Waiting {
			if w.Node == "node-1" && w.Reason == v1alpha1.NodeNotSafe && strings.Contains(w.Message, string(v1alpha1.TunnelDown)) {
				return ""
			}
		}
		return fmt.Sprintf("node-1 does not wait as NodeNotSafe: %+v", k.Cutover().Status.Waiting)
	})
	if slots := k.Cutover().Status.Slots; len(slots) > 0 {
		t.Fatalf("an unsafe node was granted a slot: %+v", slots)
	}
	k.wantEvent("node-1", v1alpha1.NodeNotSafe)

	t.Log("it is granted one by itself once the cause is gone, and a budget that allows nothing holds it")
	for _, n := range []string{"node-1", "node-2", "node-3"} {
		k.SetAgent(n, fleet.Agent{})
	}
	k.waitSlot(v1alpha1.EvictionBlocked)
	fleet.Eventually(t, 20*time.Second, func() string {
		if got := k.Condition(v1alpha1.ConditionBudgetExhausted); got.Status != metav1.ConditionTrue {
			return "the slot is not held: " + got.Message
		}
		return ""
	})
	k.wantEvent(k.Cutover().Status.Slots[0].Node, v1alpha1.EvictionBlocked)

	t.Log("another coordinator takes over in the middle, and the roll goes on by itself once the budget allows")
	stop()
	_, after := lead(t, nil)
	k.Budget("shop", 2)
	k.waitPhase(v1alpha1.PhaseFullEBPF)
	k.verifyMoved()
	if got := total(t, "cni_cutover_coordinator_slots_finished_total", before) + total(t, "cni_cutover_coordinator_slots_finished_total", after); got != 3 {
		t.Errorf("the coordinators have counted %g finished slots, want 3", got)
	}
}

// total adds up a counter over its series.
func total(t *testing.T, name string, registry prometheus.Gatherer) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func (k *cluster) waitStalled(reason v1alpha1.Reason) {
	k.t.Helper()
	fleet.Eventually(k.t, 20*time.Second, func() string {
		got := k.Condition(v1alpha1.ConditionStalled)
		if got.Status == metav1.ConditionTrue && got.Reason == string(reason) && got.Message != "" {
			return ""
		}
		return fmt.Sprintf("Stalled = %s %s (%s), want True %s", got.Status, got.Reason, got.Message, reason)
	})
}

func (k *cluster) waitPhase(p v1alpha1.Phase) {
	k.t.Helper()
	fleet.Eventually(k.t, 90*time.Second, func() string {
		c := k.Cutover()
		if c.Status.Phase == p {
			return ""
		}
		return fmt.Sprintf("phase %s, want %s; slots %+v; waiting %+v; conditions %+v", c.Status.Phase, p, c.Status.Slots, c.Status.Waiting, c.Status.Conditions)
	})
}

func (k *cluster) waitSlot(reason v1alpha1.Reason) {
	k.t.Helper()
	fleet.Eventually(k.t, 30*time.Second, func() string {
		slots := k.Cutover().Status.Slots
		if len(slots) == 1 && slots[0].Reason == reason && slots[0].Message != "" {
			return ""
		}
		return fmt.Sprintf("slots = %+v, want one that waits for %s", slots, reason)
	})
}

func (k *cluster) wantEvent(node string, reason v1alpha1.Reason) {
	k.t.Helper()
	fleet.Eventually(k.t, 15*time.Second, func() string {
		var events corev1.EventList
		if err := k.Client.List(k.t.Context(), &events); err != nil {
			return err.Error()
		}
		if slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
			return e.InvolvedObject.Kind == "Node" && e.InvolvedObject.Name == node && e.Reason == string(reason) && e.Type == corev1.EventTypeWarning
		}) {
			return ""
		}
		return fmt.Sprintf("no Event %s on %s", reason, node)
	})
}

func (k *cluster) fenced() bool {
	return k.Legacy().Spec.Template.Spec.NodeSelector[v1alpha1.FenceLabel] == "true"
}

func (k *cluster) setLegacyEnv() {
	ds := k.Legacy()
	ds.Spec.Template.Spec.Containers[0].Env = fleet.HybridEnv()
	k.must(k.Client.Update(k.t.Context(), ds))
}

func (k *cluster) wantLegacyPods(n int32) {
	k.t.Helper()
	if ds := k.Legacy(); ds.Status.DesiredNumberScheduled != n || ds.Status.NumberReady != n {
		k.t.Errorf("aws-node: desired %d ready %d, want %d of both", ds.Status.DesiredNumberScheduled, ds.Status.NumberReady, n)
	}
}

// verifyMoved looks at the cluster, not at our status.
func (k *cluster) verifyMoved() {
	k.t.Helper()
	if k.Legacy() != nil {
		k.t.Error("the VPC CNI's DaemonSet is still there")
	}
	nodes := k.Nodes()
	for _, n := range nodes {
		_, fence := n.Labels[v1alpha1.FenceLabel]
		if slices.Contains([]string{"node-1", "node-2", "node-3"}, n.Name) || fence || n.Spec.Unschedulable {
			k.t.Errorf("%s is left: fence label %t, cordoned %t", n.Name, fence, n.Spec.Unschedulable)
		}
	}
	if len(nodes) != 3 {
		k.t.Errorf("%d nodes, want 3", len(nodes))
	}
	for _, f := range k.Cutover().Status.Finished {
		if f.Outcome != v1alpha1.OutcomeReplaced {
			k.t.Errorf("slot of %s ended as %s", f.Node, f.Outcome)
		}
	}
}
