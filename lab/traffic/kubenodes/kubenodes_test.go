// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package kubenodes

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cni-cutover/cni-cutover/lab/traffic/balancer"
)

func node(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name + "-uid"), Labels: map[string]string{}},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeHostName, Address: name},
				{Type: corev1.NodeInternalIP, Address: "10.0.1.1"},
			},
		},
	}
	for _, c := range change {
		c(n)
	}
	return n
}

func exclude(n *corev1.Node) {
	n.Labels["node.kubernetes.io/exclude-from-external-load-balancers"] = ""
}

func ready(status corev1.ConditionStatus) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Status.Conditions[0].Status = status }
}

func taint(key string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: key, Effect: effect}} }
}

func TestNodesAreTargetsAsTheLoadBalancerControllerSeesThem(t *testing.T) {
	for name, c := range map[string]struct {
		node *corev1.Node
		want bool
	}{
		"ready":                        {node("n"), true},
		"cordoned is still a target":   {node("n", func(n *corev1.Node) { n.Spec.Unschedulable = true }), true},
		"excluded, whatever the value": {node("n", exclude), false},
		"not ready":                    {node("n", ready(corev1.ConditionFalse)), false},
		"ready unknown":                {node("n", ready(corev1.ConditionUnknown)), false},
		"no condition yet":             {node("n", func(n *corev1.Node) { n.Status.Conditions = nil }), false},
		"no address yet":               {node("n", func(n *corev1.Node) { n.Status.Addresses = nil }), false},
		"cluster autoscaler's taint":   {node("n", taint("ToBeDeletedByClusterAutoscaler", corev1.TaintEffectNoSchedule)), false},
		"karpenter's taint":            {node("n", taint("karpenter.sh/disrupted", corev1.TaintEffectNoSchedule)), false},
		"any other taint":              {node("n", taint("cni-cutover.dev/legacy", corev1.TaintEffectPreferNoSchedule)), true},
	} {
		t.Run(name, func(t *testing.T) {
			got := eligible([]*corev1.Node{c.node})
			if (len(got) == 1) != c.want {
				t.Fatalf("targets %+v, want one: %t", got, c.want)
			}
			if c.want && got[0] != (balancer.Node{ID: "n-uid", Name: "n", Address: "10.0.1.1"}) {
				t.Errorf("target %+v", got[0])
			}
		})
	}
}

func TestWatchFollowsTheCluster(t *testing.T) {
	client := fake.NewClientset(node("a"), node("b"))
	ctx, stop := context.WithCancel(t.Context())
	seen := make(chan string, 100)
	done := make(chan error, 1)
	go func() {
		done <- Source{Client: client}.Watch(ctx, func(nodes []balancer.Node) {
			var names []string
			for _, n := range nodes {
				names = append(names, n.Name)
			}
			seen <- strings.Join(names, " ")
		})
	}()
	await := func(want string) {
		t.Helper()
		var got []string
		for !slices.Contains(got, want) {
			select {
			case names := <-seen:
				got = append(got, names)
			case <-time.After(20 * time.Second):
				t.Fatalf("never saw %q, only %q", want, got)
			}
		}
	}

	await("a b")
	api := client.CoreV1().Nodes()
	if _, err := api.Update(ctx, node("a", exclude), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await("b")
	if _, err := api.Create(ctx, node("c"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await("b c")
	if err := api.Delete(ctx, "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await("c")
	if _, err := api.Update(ctx, node("c", ready(corev1.ConditionUnknown)), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await("")

	stop()
	if err := <-done; err != nil {
		t.Errorf("ending: %v", err)
	}
}
