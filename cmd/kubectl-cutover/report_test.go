// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/report"
)

// overlayNode is a node as a finished cutover leaves it, with a pod and the report of its agent, in the cluster.
func (w *world) overlayNode(name, nodeIP, podIP string) {
	w.t.Helper()
	ready := []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}}
	w.make(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     corev1.NodeStatus{Conditions: ready, Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeIP}}, NodeInfo: corev1.NodeSystemInfo{BootID: "b"}},
	})
	var node corev1.Node
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: name}, &node); err != nil {
		w.t.Fatal(err)
	}
	w.make(&v1alpha1.NodeCutover{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodeCutoverSpec{NodeUID: node.UID},
		Status: v1alpha1.NodeCutoverStatus{NodeUID: node.UID, BootID: "b", Role: v1alpha1.RoleOverlay, Verdict: v1alpha1.VerdictPass, ObservedAt: metav1.NowMicro()},
	})
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pod-of-" + name},
		Spec:       corev1.PodSpec{NodeName: name, Containers: []corev1.Container{{Name: "c", Image: "none"}}, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: podIP, PodIPs: []corev1.PodIP{{IP: podIP}}},
	}
	w.make(pod)
}

// happened is an Event of the coordinator.
func (w *world) happened(name, action, note string, at time.Time) {
	w.t.Helper()
	w.make(&eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}, EventTime: metav1.NewMicroTime(at), Type: corev1.EventTypeNormal,
		ReportingController: "cutover-coordinator", ReportingInstance: "c1", Reason: "Deregistering", Action: action, Note: note,
		Regarding: corev1.ObjectReference{Kind: "Node", Name: "old-1"},
	})
}

func TestAReportProvesWhatIsThere(t *testing.T) {
	w := newWorld(t)
	on(t, "report").want(t, codeFailed, "there is none named cluster")
	w.make(newCutover(func(c *v1alpha1.Cutover) {
		c.Status.Phase, c.Status.Rolled = v1alpha1.PhaseFullEBPF, 1
	}))
	w.overlayNode("new-1", "10.0.0.1", "10.250.1.7")
	at := time.Now().Add(-time.Minute)
	w.happened("one", "Grant", "old-1 gets a slot: its agent passes", at)
	w.happened("two", "Deregister", "slot of old-1 enters Deregister: until later", at.Add(1500*time.Millisecond))
	w.happened("three", "Finish", "old-1 has been replaced by new-1", at.Add(11500*time.Millisecond))
	w.happened("stranger", "Drain", "slot of old-1 is looked at", at)

	on(t, "report").want(t, codeClean, "**Pass**", "| PodAddresses | Pass |", "| Cordon | 1 | 1.5s |", "| Deregister | 1 | 10s |")
	o := on(t, "report", "-o", "json").want(t, codeClean)
	var r report.Report
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.Rolled != 1 || len(r.Proofs) < 8 || len(r.Steps) != 2 {
		t.Errorf("%+v", r)
	}
	on(t, "report", "-o", "csv").want(t, codeFailed, `--output "csv"`)

	w.overlayNode("new-2", "10.0.0.2", "10.0.3.9")
	on(t, "report").want(t, codeBlocked, "**Fail**", "default/pod-of-new-2: [10.0.3.9] on new-2")

	half := w.as("half", rbacv1.PolicyRule{APIGroups: []string{v1alpha1.GroupVersion().Group}, Resources: []string{"cutovers", "nodecutovers"}, Verbs: []string{"get", "list"}},
		rbacv1.PolicyRule{APIGroups: []string{"", "apps"}, Resources: []string{"nodes", "daemonsets"}, Verbs: []string{"list"}})
	plugin(t, "", "report", "--kubeconfig", half).want(t, codeUnsure, "| PodAddresses | Unknown |", "may not list pods", "| Nodes | Pass |")
}
