// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// RoleAnnotation on a Node is the role that its host would show; the agent played there tells it.
const RoleAnnotation = "fleet.test/role"

// groupLabel is the label by which the coordinator knows an EKS managed node group.
const groupLabel = "eks.amazonaws.com/nodegroup"

// Node is a node that joins. Its zero value is a Ready Legacy node of zone a and group workers.
type Node struct {
	// Name; empty for the next of node-1, node-2 and so on.
	Name string
	// Zone and Group; empty for "a" and "workers", or those of the node that this one replaces.
	Zone, Group string
	// Role that its host shows; empty for Legacy, or Overlay for a replacement.
	Role v1alpha1.Role
	// NeverReady leaves the node as a kubelet registers it: Ready=False. ReadyAfter does so for a while.
	NeverReady bool
	ReadyAfter time.Duration
	// Labels besides those of a kubelet, of the zone and of the group.
	Labels map[string]string
}

// Join makes nodes, as many at once as the API server can use, and returns their names in order.
func (f *Fleet) Join(nodes ...Node) []string {
	f.tb.Helper()
	names := make([]string, len(nodes))
	errs := make([]error, len(nodes))
	for i := range nodes {
		names[i] = f.name(nodes[i])
	}
	workqueue.ParallelizeUntil(f.ctx, workers, len(nodes), func(i int) { errs[i] = f.join(names[i], nodes[i]) })
	for _, err := range errs {
		f.must(err)
	}
	return names
}

func (f *Fleet) name(n Node) string {
	if n.Name != "" {
		return n.Name
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.joined++
	return fmt.Sprintf("node-%d", f.joined)
}

// join registers a node as a kubelet does, status included.
func (f *Fleet) join(name string, n Node) error {
	zone, group := cmp.Or(n.Zone, "a"), cmp.Or(n.Group, "workers")
	labels := map[string]string{
		corev1.LabelTopologyZone: zone, groupLabel: group, corev1.LabelHostname: name, corev1.LabelOSStable: "linux",
	}
	for k, v := range n.Labels {
		labels[k] = v
	}
	room := corev1.ResourceList{corev1.ResourcePods: resource.MustParse("110"), corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("8Gi")}
	now := metav1.Now()
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "FleetReady", LastTransitionTime: now, LastHeartbeatTime: now}
	if n.NeverReady || n.ReadyAfter > 0 {
		ready.Status, ready.Reason = corev1.ConditionFalse, "KubeletNotReady"
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{RoleAnnotation: string(cmp.Or(n.Role, v1alpha1.RoleLegacy))}, Labels: labels},
		Spec:       corev1.NodeSpec{ProviderID: "aws:///" + zone + "/i-" + name},
		Status: corev1.NodeStatus{
			NodeInfo: corev1.NodeSystemInfo{BootID: fmt.Sprintf("boot-%s-%d", name, now.UnixMicro())},
			Capacity: room, Allocatable: room, Conditions: []corev1.NodeCondition{ready},
		},
	}
	if err := f.Client.Create(f.ctx, node); err != nil {
		return fmt.Errorf("joining %s: %w", name, err)
	}
	if n.ReadyAfter > 0 && !n.NeverReady {
		f.plays.Go(func() {
			if f.sleep(n.ReadyAfter) {
				f.insist(func(ctx context.Context) error { return f.setReady(ctx, name, true) })
			}
		})
	}
	return nil
}

// insist repeats a write until it is done or the fleet ends.
func (f *Fleet) insist(write func(context.Context) error) {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := client.IgnoreNotFound(write(f.ctx))
		if err == nil || !f.sleep(wait) {
			return
		}
		f.tb.Logf("fleet: %v; trying again", err)
	}
}

// SetReady makes a node Ready, or not Ready any more.
func (f *Fleet) SetReady(node string, ready bool) {
	f.tb.Helper()
	f.must(f.setReady(f.ctx, node, ready))
}

func (f *Fleet) setReady(ctx context.Context, node string, ready bool) error {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return f.patchStatus(ctx, node, map[string]any{"conditions": []any{map[string]any{
		"type": "Ready", "status": status, "reason": "FleetSaysSo", "lastTransitionTime": metav1.Now(), "lastHeartbeatTime": metav1.Now(),
	}}})
}

// Reboot gives a node another boot id; its agent tells.
func (f *Fleet) Reboot(node string) {
	f.tb.Helper()
	f.must(f.patchStatus(f.ctx, node, map[string]any{"nodeInfo": map[string]any{"bootID": fmt.Sprintf("boot-%s-%d", node, time.Now().UnixMicro())}}))
}

func (f *Fleet) patchStatus(ctx context.Context, node string, status map[string]any) error {
	body, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}
	return f.Client.Status().Patch(ctx, n, client.RawPatch(types.StrategicMergePatchType, body))
}

// Lose ends a node as a spot interruption does: it is gone, its pods with it, and nobody was asked.
func (f *Fleet) Lose(node string) {
	f.tb.Helper()
	f.must(client.IgnoreNotFound(f.Client.Delete(f.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}})))
}
