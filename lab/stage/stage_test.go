// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package stage_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab"
	"github.com/cni-cutover/cni-cutover/lab/asg"
	"github.com/cni-cutover/cni-cutover/lab/stage"
	"github.com/cni-cutover/cni-cutover/lab/traffic/load"
)

func TestMain(m *testing.M) {
	lab.Main()
	os.Exit(m.Run())
}

// TestHandMadeCutover moves half of a cluster by hand, step by step as docs/phases.md has it. It shows
// what the demo's zero rests on: whoever keeps the order loses no request, whoever leaves one step out
// does. Else a zero would say nothing about the coordinator. The other half stays, as a cluster is for
// most of a cutover: pods of either kind behind one Service.
func TestHandMadeCutover(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root: it starts a cluster of namespaces")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	e, err := stage.Start(ctx, stage.Options{Say: func(what string, took time.Duration) { t.Logf("%-70s %s", what, took.Round(time.Millisecond)) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	must(t, e.InstallCilium(ctx))
	must(t, e.StartLoad(ctx))
	groups, stopGroups := context.WithCancel(ctx)
	resized := make(chan error, 1)
	go func() {
		resized <- asg.Groups{Nodes: e.Client, Machines: e.Cluster, Say: func(what string) { t.Log(what) }}.Run(groups)
	}()

	old := list(ctx, t, e)
	fence(ctx, t, e, old)
	for _, node := range old[:2] {
		t.Run("replace "+node.Name, func(t *testing.T) { replace(ctx, t, e, node) })
	}
	t.Run("every pod has the addresses of its node", func(t *testing.T) {
		pods, err := stage.Workload(ctx, e.Client)
		must(t, err)
		moved := 0
		for _, pod := range pods {
			stayed := slices.ContainsFunc(old, func(n corev1.Node) bool { return n.Name == pod.Spec.NodeName })
			if stage.InOverlay(pod) == stayed {
				t.Errorf("%s/%s on %s has %s", pod.Namespace, pod.Name, pod.Spec.NodeName, pod.Status.PodIP)
			}
			if !stayed {
				moved++
			}
		}
		if moved == 0 {
			t.Errorf("none of %d pods is on a node that was replaced", len(pods))
		}
	})
	kept := e.Load.Progress()
	if kept.Total.Lost != 0 {
		t.Errorf("lost %d of %d requests: %v", kept.Total.Lost, kept.Total.Sent, kept.Total.Causes)
	}

	careless := list(ctx, t, e)[0]
	stopGroups()
	must(t, <-resized)
	must(t, e.Cluster.Terminate(ctx, careless.Name))
	eventually(ctx, t, "a request lost after a careless termination", func() bool { return e.Load.Progress().Total.Lost > 0 })
	summary, err := e.Load.Finish()
	must(t, err)
	report(t, e, summary)
}

func report(t *testing.T, e *stage.Env, summary load.Summary) {
	t.Logf("sent %d, lost %d %v, p99 %.1f ms, client late by at most %.1f ms", summary.Total.Sent, summary.Total.Lost,
		summary.Total.Causes, summary.Total.Latency.P99, summary.WorstDelay)
	for _, f := range summary.Failures {
		t.Logf("lost: %s %s %s after %.0f ms from %s: %s", f.Due.Format("15:04:05.000"), f.App, f.Cause, f.After, f.Local, f.Detail)
	}
	for _, f := range e.Load.Failures() {
		t.Logf("balancer: %s %s %s %s: %s", f.Time.Format("15:04:05.000"), f.Service, f.Node, f.Client, f.Reason)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func list(ctx context.Context, t *testing.T, e *stage.Env) []corev1.Node {
	t.Helper()
	var nodes corev1.NodeList
	must(t, e.Client.List(ctx, &nodes))
	return nodes.Items
}

func patchNode(ctx context.Context, t *testing.T, e *stage.Env, name, patch string) {
	t.Helper()
	_, err := e.Kube.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	must(t, err)
}

// fence does phase 3: the label on every node, then the VPC CNI bound to it, then Cilium's
// conflist where it is not.
func fence(ctx context.Context, t *testing.T, e *stage.Env, nodes []corev1.Node) {
	t.Helper()
	for _, node := range nodes {
		patchNode(ctx, t, e, node.Name, fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, v1alpha1.FenceLabel, v1alpha1.FenceValue))
	}
	selector := fmt.Sprintf(`{"spec":{"template":{"spec":{"nodeSelector":{%q:%q}}}}}`, v1alpha1.FenceLabel, v1alpha1.FenceValue)
	_, err := e.Kube.AppsV1().DaemonSets("kube-system").Patch(ctx, "aws-node", types.MergePatchType, []byte(selector), metav1.PatchOptions{})
	must(t, err)
	must(t, e.WaitDaemonSet(ctx, "kube-system", "aws-node"))
	must(t, e.Apply(ctx, []byte(fmt.Sprintf(`
apiVersion: cilium.io/v2
kind: CiliumNodeConfig
metadata: {name: %s, namespace: kube-system}
spec:
  nodeSelector: {matchExpressions: [{key: %s, operator: DoesNotExist}]}
  defaults:
    write-cni-conf-when-ready: /host/etc/cni/net.d/05-cilium.conflist
    custom-cni-conf: "false"
    cni-chaining-mode: none
    cni-exclusive: "true"
`, v1alpha1.NodeConfigName, v1alpha1.FenceLabel))))
	var ds *appsv1.DaemonSet
	ds, err = e.Kube.AppsV1().DaemonSets("kube-system").Get(ctx, "aws-node", metav1.GetOptions{})
	must(t, err)
	if got := int(ds.Status.DesiredNumberScheduled); got != len(nodes) {
		t.Errorf("the fence changed DESIRED of aws-node to %d", got)
	}
}

// replace does one slot of phase 4.
func replace(ctx context.Context, t *testing.T, e *stage.Env, node corev1.Node) {
	before := map[types.UID]bool{}
	for _, n := range list(ctx, t, e) {
		before[n.UID] = true
	}
	patchNode(ctx, t, e, node.Name, fmt.Sprintf(`{"spec":{"unschedulable":true},"metadata":{"labels":{%q:"true"}}}`, v1alpha1.LabelExcludeBalancers))
	deregistered := time.Now().Add(stage.DefaultTraffic().DeregistrationDelay + 2*time.Second)
	eventually(ctx, t, "the balancer to finish with the node", func() bool { return time.Now().After(deregistered) })
	began := time.Now()
	eventually(ctx, t, "the node to be drained", func() bool { return evict(ctx, t, e, node.Name) == 0 })
	t.Logf("drained in %s", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	patchNode(ctx, t, e, node.Name, fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationReplace, node.UID))
	eventually(ctx, t, "its replacement to be Ready", func() bool {
		ready := false
		for _, n := range list(ctx, t, e) {
			if n.UID == node.UID {
				return false
			}
			for _, c := range n.Status.Conditions {
				ready = ready || !before[n.UID] && c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
			}
		}
		return ready
	})
	t.Logf("replaced in %s, %+v", time.Since(began).Round(time.Millisecond), e.Load.Progress().Total)
	must(t, e.WaitDaemonSet(ctx, "kube-system", "cilium"))
	must(t, e.WaitApps(ctx))
}

// evict asks for the eviction of each pod that a drain would remove and says how many are left.
func evict(ctx context.Context, t *testing.T, e *stage.Env, node string) int {
	t.Helper()
	pods, err := e.Kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	must(t, err)
	left := 0
	for _, pod := range pods.Items {
		if owner := metav1.GetControllerOf(&pod); owner != nil && owner.Kind == "DaemonSet" {
			continue
		}
		left++
		if pod.DeletionTimestamp != nil {
			continue
		}
		err := e.Kube.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace}})
		if err != nil && !apierrors.IsTooManyRequests(err) && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
	}
	return left
}
