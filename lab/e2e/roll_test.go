// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab"
	"github.com/cni-cutover/cni-cutover/lab/asg"
	"github.com/cni-cutover/cni-cutover/lab/stage"
)

// TestNothingUnsafeIsDrained is one roll in which everything goes wrong that may: every node has a fault of its own, a budget
// never allows an eviction, the leading coordinator is killed in the middle of a slot, and a replacement joins with the old
// CNI. Each cause is named in status, Event and metric, and the roll goes on by itself when the cause is gone.
func TestNothingUnsafeIsDrained(t *testing.T) {
	s := standing(t)
	s.peersOfAge(t)
	machines := &oldCNIOnce{Cluster: s.env.Cluster}
	ctx, cancel := context.WithCancel(t.Context())
	resized := make(chan error, 1)
	go func() { resized <- asg.Groups{Nodes: s.env.Client, Machines: machines}.Run(ctx) }()
	defer func() {
		cancel()
		s.must(t, <-resized)
	}()

	old := s.hosts(t)
	for i, f := range faults() {
		s.must(t, f.plant(t.Context(), s, old[i]))
	}
	nginxBudget(t, s, 4)
	s.patchCutover(t, `{"spec":{"approvedPhases":["DecoupleIngress","InstallCilium","FenceLegacy","RollNodes","RemoveLegacy"]}}`)

	for i, f := range faults() {
		s.wantWait(t, old[i].Name, f)
	}
	if c := s.cutover(t); len(c.Status.Slots) != 0 {
		t.Fatalf("an unsafe node was granted a slot: %+v", c.Status.Slots)
	}
	if n := s.evictions(t); n != 0 {
		t.Fatalf("%d evictions while no node is safe", n)
	}
	s.wantMetric(t, "cutover-coordinator", "9792", `cni_cutover_coordinator_waits{reason="NodeNotSafe"} 4`)
	s.wantMetric(t, "cutover-agent", "9791", `verdict="Fail"} 1`)

	for i, f := range faults() {
		s.must(t, f.cure(t.Context(), s, old[i]))
	}
	s.wantSlot(t, v1alpha1.EvictionBlocked, time.Minute)
	stuck := s.cutover(t).Status.Slots[0]
	s.wantEvent(t, stuck.Node, v1alpha1.EvictionBlocked)
	s.wantMetric(t, "cutover-coordinator", "9792", `cni_cutover_coordinator_waits{reason="EvictionBlocked"} 1`)

	s.killLeader(t)
	s.wantMetric(t, "cutover-coordinator", "9792", `cni_cutover_coordinator_waits{reason="EvictionBlocked"} 1`)
	if now := s.cutover(t).Status.Slots; len(now) != 1 || now[0].NodeUID != stuck.NodeUID || now[0].GrantedAt != stuck.GrantedAt {
		t.Fatalf("after the kill the ledger says %+v, before it said %+v", now, stuck)
	}

	machines.arm()
	nginxBudget(t, s, 3)
	s.wantSlot(t, v1alpha1.ReplacementUnhealthy, 2*time.Minute)
	s.eventually(t, 30*time.Second, func() string {
		slot := s.cutover(t).Status.Slots[0]
		if slot.Step == v1alpha1.StepValidate && strings.Contains(slot.Message, "came up with the VPC CNI") {
			return ""
		}
		return fmt.Sprintf("the old CNI is not named: %s: %s", slot.Step, slot.Message)
	})
	bad := s.cutover(t).Status.Slots[0]
	s.wantEvent(t, bad.Replacement, v1alpha1.ReplacementUnhealthy)
	s.wantMetric(t, "cutover-coordinator", "9792", `cni_cutover_coordinator_waits{reason="ReplacementUnhealthy"} 1`)

	s.must(t, s.env.Cluster.Terminate(t.Context(), bad.Replacement))
	s.eventually(t, 5*time.Minute, func() string {
		c := s.cutover(t)
		if c.Status.Phase == v1alpha1.PhaseFullEBPF {
			return ""
		}
		return fmt.Sprintf("phase %s, slots %+v, waiting %+v", c.Status.Phase, c.Status.Slots, c.Status.Waiting)
	})
	s.verifyMoved(t, old)
	s.wantProved(t)
	s.wantLaws(t, len(old))
}

// oldCNIOnce is a group whose next instance, once armed, joins with the fence label, as it would if somebody had put the
// label on the node group.
type oldCNIOnce struct {
	*lab.Cluster

	mu    sync.Mutex
	armed bool
}

func (m *oldCNIOnce) arm() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.armed = true
}

func (m *oldCNIOnce) AddNode(ctx context.Context, o lab.NodeOptions) (lab.Host, error) {
	m.mu.Lock()
	if m.armed {
		m.armed = false
		o.Labels = map[string]string{v1alpha1.FenceLabel: v1alpha1.FenceValue}
	}
	m.mu.Unlock()
	return m.Cluster.AddNode(ctx, o)
}

// nginxBudget lets as many of the nginx-like application's four pods be evicted as are above the minimum.
func nginxBudget(t *testing.T, s *scene, available int32) {
	t.Helper()
	var pdb policyv1.PodDisruptionBudget
	s.must(t, s.env.Client.Get(t.Context(), client.ObjectKey{Namespace: "demo-nginx", Name: "nginx"}, &pdb))
	before := pdb.DeepCopy()
	least := intstr.FromInt32(available)
	pdb.Spec.MinAvailable = &least
	s.must(t, s.env.Client.Patch(t.Context(), &pdb, client.MergeFrom(before)))
}

// wantWait waits until a node is kept from a slot because of a fault, by status and by Event.
func (s *scene) wantWait(t *testing.T, node string, f fault) {
	t.Helper()
	s.eventually(t, 30*time.Second, func() string {
		waiting := s.cutover(t).Status.Waiting
		for _, w := range waiting {
			if w.Node == node && w.Reason == v1alpha1.NodeNotSafe && strings.Contains(w.Message, string(f.check)) && strings.Contains(w.Message, string(f.reason)) {
				return ""
			}
		}
		return fmt.Sprintf("%s on %s is not named: %+v", f.name, node, waiting)
	})
	s.wantEvent(t, node, v1alpha1.NodeNotSafe)
}

func (s *scene) wantSlot(t *testing.T, reason v1alpha1.Reason, within time.Duration) {
	t.Helper()
	s.eventually(t, within, func() string {
		slots := s.cutover(t).Status.Slots
		if len(slots) == 1 && slots[0].Reason == reason && slots[0].Message != "" {
			return ""
		}
		return fmt.Sprintf("slots = %+v, waiting = %+v, want one slot that waits for %s", slots, s.cutover(t).Status.Waiting, reason)
	})
}

func (s *scene) wantMetric(t *testing.T, app, port, line string) {
	t.Helper()
	s.eventually(t, time.Minute, func() string {
		got := s.metrics(t, app, port)
		if strings.Contains(got, line) {
			return ""
		}
		return fmt.Sprintf("no metric %s of %s", line, app)
	})
}

// killLeader kills the leading coordinator with SIGKILL, in its node.
func (s *scene) killLeader(t *testing.T) {
	t.Helper()
	holder := s.leader(t)
	var pod corev1.Pod
	s.must(t, s.env.Client.Get(t.Context(), client.ObjectKey{Namespace: stage.Namespace, Name: holder}, &pod))
	pid, err := s.env.Cluster.Exec(t.Context(), pod.Spec.NodeName, "pgrep", "-f", "cutover-coordinator")
	s.must(t, err)
	_, err = s.env.Cluster.Exec(t.Context(), pod.Spec.NodeName, "kill", "-9", strings.Fields(pid)[0])
	s.must(t, err)
}

// leader returns the name of the pod that holds the lease; its identity begins with the name of the host, as that of every
// hostNetwork pod does, so the lease is read with the pods.
func (s *scene) leader(t *testing.T) string {
	t.Helper()
	lease, err := s.env.Kube.CoordinationV1().Leases(stage.Namespace).Get(t.Context(), "cutover-coordinator", getOptions())
	s.must(t, err)
	host, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	var pods corev1.PodList
	s.must(t, s.env.Client.List(t.Context(), &pods, client.InNamespace(stage.Namespace)))
	i := slices.IndexFunc(pods.Items, func(p corev1.Pod) bool {
		return strings.HasPrefix(p.Name, "cutover-coordinator") && (p.Spec.NodeName == host || p.Name == host)
	})
	if i < 0 {
		t.Fatalf("no coordinator on %q, which holds the lease", *lease.Spec.HolderIdentity)
	}
	return pods.Items[i].Name
}

// verifyMoved looks at the cluster, not at our status.
func (s *scene) verifyMoved(t *testing.T, old []lab.Host) {
	t.Helper()
	var ds appsv1.DaemonSet
	if err := s.env.Client.Get(t.Context(), client.ObjectKey{Namespace: "kube-system", Name: "aws-node"}, &ds); !apierrors.IsNotFound(err) {
		t.Errorf("the VPC CNI's DaemonSet is not gone: %v", err)
	}
	for _, host := range s.hosts(t) {
		if slices.ContainsFunc(old, func(o lab.Host) bool { return o.Name == host.Name }) {
			t.Errorf("%s was not replaced", host.Name)
		}
	}
	s.must(t, s.env.WaitApps(t.Context()))
	pods, err := stage.Workload(t.Context(), s.env.Client)
	s.must(t, err)
	for _, p := range pods {
		if !stage.InOverlay(p) {
			t.Errorf("%s/%s has %s", p.Namespace, p.Name, p.Status.PodIP)
		}
	}
}
