// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
	"github.com/cni-cutover/cni-cutover/internal/oracle"
)

const (
	home    = "cni-cutover"
	account = "cutover-coordinator"
	self    = "system:serviceaccount:" + home + ":" + account
)

// scene is a cluster whose nodes are rolled one by one, each when a test says so, by a coordinator that has the rights of
// the chart and no more. When the test ends, the audit log is held against the laws.
type scene struct {
	*cluster
	coordinator *rest.Config
	sight       *coordinator.Sight
	registry    *prometheus.Registry
	stop        func()
	from        int64 // where in the audit log this scene begins
}

// newScene stops before the coordinator begins. The times are as short as the API allows.
func newScene(t *testing.T, nodes ...fleet.Node) *scene {
	t.Helper()
	k := &scene{cluster: &cluster{Fleet: fleet.Start(t, server.Config()), t: t}}
	k.must(k.Client.DeleteAllOf(t.Context(), &corev1.Event{}, client.InNamespace(metav1.NamespaceDefault)))
	k.must(server.InstallAccounts(t.Context(), home))
	log, err := os.Stat(server.AuditLog())
	k.must(err)
	k.from = log.Size()
	k.coordinator, err = server.As(t.Context(), home, account, nil)
	k.must(err)
	for _, name := range k.Join(nodes...) {
		k.annotate(name, v1alpha1.AnnotationOptOut, "its turn comes later")
	}
	k.CNIs(fleet.HybridEnv()...)
	t.Cleanup(k.judge)
	return k
}

// rolling makes the Cutover, changed as the test wants, and waits until only slots are left to be handed out.
func (k *scene) rolling(change func(*v1alpha1.Cutover)) {
	k.t.Helper()
	c := newCutover()
	c.Spec.Rollout.Soak.Duration, c.Spec.Rollout.Drain.DeregistrationDelay.Duration = time.Millisecond, 0
	c.Spec.Rollout.Drain.Timeout.Duration, c.Spec.Rollout.Drain.Force = time.Second, true
	c.Spec.ApprovedPhases = []v1alpha1.Phase{v1alpha1.PhaseDecoupleIngress, v1alpha1.PhaseInstallCilium, v1alpha1.PhaseFenceLegacy, v1alpha1.PhaseRollNodes}
	if change != nil {
		change(c)
	}
	k.must(k.Client.Create(k.t.Context(), c))
	k.lead()
	fleet.Eventually(k.t, 30*time.Second, func() string {
		s := k.Cutover().Status
		if slices.ContainsFunc(s.Phases, func(p v1alpha1.PhaseRecord) bool { return p.Phase == v1alpha1.PhaseRollNodes }) {
			return ""
		}
		return fmt.Sprintf("phase %s: %+v", s.Phase, s.Conditions)
	})
}

// lead runs a coordinator with its own account.
func (k *scene) lead() {
	k.t.Helper()
	k.registry, k.sight = prometheus.NewRegistry(), &coordinator.Sight{}
	mgr, err := ctrl.NewManager(k.coordinator, ctrl.Options{
		Scheme: fleet.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: config.Controller{SkipNameValidation: new(true)}, Cache: k.sight.Cache(metav1.NamespaceSystem),
	})
	k.must(err)
	k.must(coordinator.Setup(mgr, coordinator.Options{Holder: "test", Registry: k.registry, Sight: k.sight}))
	k.stop = run(k.t, mgr)
}

// judge holds everything that the API server was asked for in this scene against the laws, and finds Events of ours that
// it did not take.
func (k *scene) judge() {
	if k.stop != nil {
		k.stop()
	}
	o := &oracle.Oracle{}
	err := oracle.ReadFileFrom(server.AuditLog(), k.from, func(e *oracle.Event) {
		o.See(e)
		if e.ObjectRef.Resource == "events" && e.By(account) && e.ResponseStatus.Code >= 400 && e.ResponseStatus.Code < 500 && e.ResponseStatus.Code != 403 {
			k.t.Errorf("an Event was refused: %d %s", e.ResponseStatus.Code, e.ResponseStatus.Message)
		}
	})
	if err != nil {
		k.t.Error(err)
	}
	for _, v := range o.Violations() {
		k.t.Errorf("a law was broken: %s", v)
	}
	k.t.Logf("the oracle saw %+v", o.Seen())
}

func (k *scene) annotate(node, key string, value any) {
	k.t.Helper()
	body := fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, key)
	if value != nil {
		body = fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
	}
	k.must(k.Client.Patch(k.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, client.RawPatch(types.MergePatchType, []byte(body))))
}

// turn lets a node have a slot.
func (k *scene) turn(node string) { k.annotate(node, v1alpha1.AnnotationOptOut, nil) }

// slot returns the slot of a node; nil if it has none.
func (k *scene) slot(node string) *v1alpha1.Slot {
	for _, s := range k.Cutover().Status.Slots {
		if s.Node == node {
			return &s
		}
	}
	return nil
}

// waits waits until the slot of a node waits in a step for a reason, and says these words.
func (k *scene) waits(node string, step v1alpha1.Step, reason v1alpha1.Reason, words ...string) {
	k.t.Helper()
	fleet.Eventually(k.t, time.Minute, func() string {
		s := k.slot(node)
		if s != nil && s.Step == step && s.Reason == reason && len(without(s.Message, words)) == 0 {
			return ""
		}
		return fmt.Sprintf("the slot of %s is %+v, want %s %s with the words %q; %+v", node, s, step, reason, words, k.Cutover().Status)
	})
}

// without returns the words that a text does not hold.
func without(text string, words []string) []string {
	return slices.DeleteFunc(slices.Clone(words), func(w string) bool { return strings.Contains(text, w) })
}

// held lets a day pass for the slot of a node and sees it held for a reason, in its status, in a Warning Event and in the metrics.
func (k *scene) held(node string, step v1alpha1.Step, reason v1alpha1.Reason) {
	k.t.Helper()
	fleet.Eventually(k.t, 20*time.Second, func() string {
		c := k.Cutover()
		for i := range c.Status.Slots {
			s := &c.Status.Slots[i]
			switch {
			case s.Node != node:
			case s.HeldSince != nil && s.Step == step && s.Reason == reason && s.Message != "":
				return ""
			case s.HeldSince == nil && time.Since(s.Since.Time) < time.Hour:
				s.Since.Time = s.Since.Add(-24 * time.Hour)
				if err := k.Client.Status().Update(k.t.Context(), c); err != nil {
					return err.Error()
				}
			}
		}
		return fmt.Sprintf("%s is not held in %s for %s: %+v", node, step, reason, c.Status.Slots)
	})
	k.wantWarning(node, reason)
	k.counted("cni_cutover_coordinator_waits", string(reason))
	k.counted("cni_cutover_coordinator_slots_held_total", string(step))
}

// counted waits until a metric counts something under this value of a label: metrics follow the ledger.
func (k *scene) counted(name, label string) {
	k.t.Helper()
	fleet.Eventually(k.t, 10*time.Second, func() string {
		if k.gauge(name, label) > 0 {
			return ""
		}
		return fmt.Sprintf("%s counts nothing under %s", name, label)
	})
}

// gauge reads a gauge, or a counter, that has this value of a label; the sum if several have.
func (k *scene) gauge(name, label string) (sum float64) {
	k.t.Helper()
	families, err := k.registry.Gather()
	k.must(err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetValue() == label {
					sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// wantWarning waits for a Warning Event of a reason that is about an object, or names it.
func (k *scene) wantWarning(about string, reason v1alpha1.Reason) {
	k.t.Helper()
	fleet.Eventually(k.t, 15*time.Second, func() string {
		var events corev1.EventList
		k.must(k.Client.List(k.t.Context(), &events, client.InNamespace(metav1.NamespaceDefault)))
		if slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
			return e.Reason == string(reason) && e.Type == corev1.EventTypeWarning && (e.InvolvedObject.Name == about || strings.Contains(e.Message, about))
		}) {
			return ""
		}
		return fmt.Sprintf("no Warning Event %s about %s", reason, about)
	})
}

// replaced waits until a node has been replaced and its slot has ended.
func (k *scene) replaced(node string) {
	k.t.Helper()
	fleet.Eventually(k.t, 30*time.Second, func() string {
		s := k.Cutover().Status
		if slices.ContainsFunc(s.Finished, func(f v1alpha1.FinishedSlot) bool { return f.Node == node && f.Outcome == v1alpha1.OutcomeReplaced }) {
			return ""
		}
		return fmt.Sprintf("%s is not replaced: slots %+v, waiting %+v, conditions %+v", node, s.Slots, s.Waiting, s.Conditions)
	})
}
