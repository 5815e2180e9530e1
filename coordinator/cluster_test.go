// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// cluster plays what a real API server lacks: kubelets, agents, and the tool that replaces nodes. Its API server, its
// scheduler, its DaemonSet controller and its evictions are real.
type cluster struct {
	t *testing.T
	c client.Client

	mu     sync.Mutex
	sick   map[string]v1alpha1.Reason // nodes whose agents answer Fail, and why
	joined int
	keep   map[string]bool // nodes that nobody replaces
}

// eventually polls until the condition holds and fails the test with what was missing if it never does.
func eventually(t *testing.T, within time.Duration, look func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for missing := look(); missing != ""; missing = look() {
		select {
		case <-ctx.Done():
			t.Fatalf("after %s still: %s", within, missing)
		case <-tick.C:
		}
	}
}

func (k *cluster) must(err error) {
	k.t.Helper()
	if err != nil && !apierrors.IsAlreadyExists(err) {
		k.t.Fatal(err)
	}
}

// start lets kubelets, agents and the replacing tool work until the test ends.
func (k *cluster) start(ctx context.Context) {
	var wg sync.WaitGroup
	for _, play := range []func(context.Context) error{k.kubelets, k.agents, k.replacer} {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := play(ctx); err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
					k.t.Errorf("playing the cluster: %v", err)
				}
				select {
				case <-ctx.Done():
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
	k.t.Cleanup(wg.Wait)
}

// kubelets makes bound pods Running and Ready and lets deleted ones go.
func (k *cluster) kubelets(ctx context.Context) error {
	var pods corev1.PodList
	if err := k.c.List(ctx, &pods); err != nil {
		return err
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		var err error
		switch {
		case p.Spec.NodeName == "":
		case p.DeletionTimestamp != nil:
			err = k.c.Delete(ctx, p, client.GracePeriodSeconds(0))
		case p.Status.Phase == corev1.PodPending:
			p.Status.Phase = corev1.PodRunning
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
			err = k.c.Status().Update(ctx, p)
		}
		if client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

// agents answers every challenge at once, with what the test says of the node.
func (k *cluster) agents(ctx context.Context) error {
	var asked v1alpha1.NodeCutoverList
	if err := k.c.List(ctx, &asked); err != nil {
		return err
	}
	for i := range asked.Items {
		nc := &asked.Items[i]
		var n corev1.Node
		if err := k.c.Get(ctx, client.ObjectKey{Name: nc.Name}, &n); err != nil {
			if apierrors.IsNotFound(err) {
				continue
			}
			return err
		}
		if n.UID != nc.Spec.NodeUID {
			continue
		}
		next := k.report(&n, nc)
		if next.ChallengeID == nc.Status.ChallengeID && next.Role == nc.Status.Role && next.Verdict == nc.Status.Verdict {
			continue
		}
		nc.Status = next
		if err := client.IgnoreNotFound(k.c.Status().Update(ctx, nc)); err != nil {
			return err
		}
	}
	return nil
}

func (k *cluster) report(n *corev1.Node, nc *v1alpha1.NodeCutover) v1alpha1.NodeCutoverStatus {
	role := v1alpha1.Role(n.Annotations["test/role"])
	s := v1alpha1.NodeCutoverStatus{
		NodeUID: n.UID, BootID: n.Status.NodeInfo.BootID, Role: role, JudgedRole: role, AgentVersion: "test",
		ObservedAt: metav1.NowMicro(), Verdict: v1alpha1.VerdictPass,
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	reason := v1alpha1.AsWanted
	if r, sick := k.sick[n.Name]; sick {
		s.Verdict, reason = v1alpha1.VerdictFail, r
	}
	checks := []v1alpha1.CheckName{v1alpha1.CheckConflist}
	if c := nc.Spec.Challenge; c != nil {
		s.ChallengeID, s.JudgedRole, checks = c.ID, c.Role, c.RequiredChecks
	}
	for _, check := range checks {
		s.Findings = append(s.Findings, v1alpha1.Finding{Check: check, Verdict: s.Verdict, Reason: reason, Message: "as the test says"})
	}
	return s
}

func (k *cluster) setSick(node string, reason v1alpha1.Reason) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.sick, node)
	if reason != "" {
		k.sick[node] = reason
	}
}

// replacer ends nodes whose annotation asks for that and makes another one of the same place.
func (k *cluster) replacer(ctx context.Context) error {
	var nodes corev1.NodeList
	if err := k.c.List(ctx, &nodes); err != nil {
		return err
	}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		if n.Annotations[v1alpha1.AnnotationReplace] == "" || k.keep[n.Name] {
			continue
		}
		zone := n.Labels[corev1.LabelTopologyZone]
		if err := k.c.Delete(ctx, n); err != nil {
			return err
		}
		if err := k.removePods(ctx, n.Name); err != nil {
			return err
		}
		k.join(v1alpha1.RoleOverlay, zone)
	}
	return nil
}

func (k *cluster) removePods(ctx context.Context, node string) error {
	var pods corev1.PodList
	if err := k.c.List(ctx, &pods, client.MatchingFields{"spec.nodeName": node}); err != nil {
		return err
	}
	for i := range pods.Items {
		if err := client.IgnoreNotFound(k.c.Delete(ctx, &pods.Items[i], client.GracePeriodSeconds(0))); err != nil {
			return err
		}
	}
	return nil
}

// join makes a Ready node whose agent will say that it has a role.
func (k *cluster) join(role v1alpha1.Role, zone string) string {
	k.mu.Lock()
	k.joined++
	name := fmt.Sprintf("node-%d", k.joined)
	k.mu.Unlock()
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: map[string]string{"test/role": string(role)},
			Labels: map[string]string{corev1.LabelTopologyZone: zone, "eks.amazonaws.com/nodegroup": "workers", corev1.LabelHostname: name, corev1.LabelOSStable: "linux"},
		},
		Spec: corev1.NodeSpec{ProviderID: "aws:///" + zone + "/i-" + name},
	}
	k.must(k.c.Create(k.t.Context(), n))
	status := corev1.NodeStatus{
		NodeInfo:    corev1.NodeSystemInfo{BootID: "boot-" + name},
		Capacity:    corev1.ResourceList{corev1.ResourcePods: *quantity("110"), corev1.ResourceCPU: *quantity("8"), corev1.ResourceMemory: *quantity("8Gi")},
		Allocatable: corev1.ResourceList{corev1.ResourcePods: *quantity("110"), corev1.ResourceCPU: *quantity("8"), corev1.ResourceMemory: *quantity("8Gi")},
		Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(), LastHeartbeatTime: metav1.Now()}},
	}
	k.must(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if err := k.c.Get(k.t.Context(), client.ObjectKeyFromObject(n), n); err != nil {
			return err
		}
		n.Status = status
		return k.c.Status().Update(k.t.Context(), n)
	}))
	return name
}

// daemonSet makes one of the two CNIs' DaemonSets.
func (k *cluster) daemonSet(name string, env ...corev1.EnvVar) {
	labels := map[string]string{"k8s-app": name}
	container := name
	if name == "cilium" {
		container = "cilium-agent"
	}
	k.must(k.c.Create(k.t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					HostNetwork: true, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
					Containers: []corev1.Container{{Name: container, Image: "none", Env: env}},
				},
			},
		},
	}))
}

// ciliumNodeConfigs makes the kind CiliumNodeConfig known.
func (k *cluster) ciliumNodeConfigs() {
	crd := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "ciliumnodeconfigs.cilium.io"},
		"spec": map[string]any{
			"group": "cilium.io", "scope": "Namespaced",
			"names": map[string]any{"kind": "CiliumNodeConfig", "plural": "ciliumnodeconfigs", "singular": "ciliumnodeconfig", "listKind": "CiliumNodeConfigList"},
			"versions": []any{map[string]any{
				"name": "v2", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
			}},
		},
	}}
	k.must(k.c.Create(k.t.Context(), crd))
	eventually(k.t, 10*time.Second, func() string {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{Group: "cilium.io", Version: "v2", Kind: "CiliumNodeConfigList"})
		if err := k.c.List(k.t.Context(), list); err != nil {
			return "kind CiliumNodeConfig: " + err.Error()
		}
		return ""
	})
}

func (k *cluster) cutover() *v1alpha1.Cutover {
	k.t.Helper()
	var c v1alpha1.Cutover
	if err := k.c.Get(k.t.Context(), client.ObjectKey{Name: v1alpha1.CutoverName}, &c); err != nil {
		k.t.Fatal(err)
	}
	return &c
}

func (k *cluster) condition(kind string) metav1.Condition {
	k.t.Helper()
	if c := meta.FindStatusCondition(k.cutover().Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// patch changes the Cutover as a person would.
func (k *cluster) patch(body string) {
	k.t.Helper()
	c := &v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName}}
	k.must(k.c.Patch(k.t.Context(), c, client.RawPatch(types.MergePatchType, []byte(body))))
}
