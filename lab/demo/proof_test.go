// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/oracle"
	"github.com/cni-cutover/cni-cutover/lab/traffic/load"
)

func node(name string) corev1.Node {
	return corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}
}

func pod(name, node, address string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo-echo", Name: name, Labels: map[string]string{}},
		Spec:       corev1.PodSpec{NodeName: node},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: address,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

// proved is evidence that proves a cutover.
func proved() evidence {
	began := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	e := evidence{
		original: map[types.UID]string{"uid-node-1": "node-1", "uid-node-2": "node-2"},
		nodes:    []corev1.Node{node("node-3"), node("node-4")},
		fence:    fenceRecord{looks: 5, minDesired: 2, maxDesired: 2, minReady: 1, bound: true},
		applied:  began.Add(time.Second), left: began.Add(99 * time.Second),
		summary: load.Summary{Started: began, Ended: began.Add(100 * time.Second), Rate: 120},
	}
	e.seen = oracle.Seen{Grants: 2, Cordons: 2, Evictions: 9}
	e.summary.Total.Counts = load.Counts{Sent: 12000, OK: 12000}
	for i := range 10 {
		e.pods = append(e.pods, pod("echo-"+string(rune('a'+i)), "node-3", "10.244.3.7"))
	}
	agent := pod("aws-node-ghost", "node-1", "10.0.1.10") // its node is gone: a record, not a pod
	agent.Spec.HostNetwork, agent.Labels["k8s-app"] = true, "aws-node"
	e.pods = append(e.pods, agent)
	return e
}

func TestProofHoldsForACutover(t *testing.T) {
	for _, c := range prove(proved()) {
		if !c.holds {
			t.Errorf("%s: %s", c.name, c.detail)
		}
	}
}

func TestProofFailsForEveryThingThatIsWrong(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*evidence)
		want  string // the claim, and a part of what it says
	}{
		"a node of the start is left":     {func(e *evidence) { e.nodes[0].UID = "uid-node-1" }, "nodes: node-3 is of the start"},
		"a node is not Ready":             {func(e *evidence) { e.nodes[0].Status.Conditions = nil }, "nodes: node-3 is not Ready"},
		"a node is cordoned":              {func(e *evidence) { e.nodes[0].Spec.Unschedulable = true }, "nodes: node-3 is cordoned"},
		"a node is missing":               {func(e *evidence) { e.nodes = e.nodes[:1] }, "nodes: there are 1 nodes"},
		"a pod has an address of the VPC": {func(e *evidence) { e.pods[0].Status.PodIP = "10.0.3.20" }, "pods: demo-echo/echo-a has address \"10.0.3.20\""},
		"a pod has no address":            {func(e *evidence) { e.pods[0].Status.PodIP = "" }, "pods: demo-echo/echo-a has address"},
		"a pod is not Ready":              {func(e *evidence) { e.pods[0].Status.Conditions = nil }, "pods: demo-echo/echo-a is not Ready"},
		"a replica is missing":            {func(e *evidence) { e.pods = e.pods[1:] }, "pods: there are 9 pods"},
		"the DaemonSet is left": {func(e *evidence) {
			e.daemonSets = []appsv1.DaemonSet{{ObjectMeta: metav1.ObjectMeta{Name: "aws-node"}}}
		}, "VPC CNI: DaemonSet"},
		"a pod of it runs":                    {func(e *evidence) { e.pods[10].Spec.NodeName = "node-3" }, "VPC CNI: aws-node-ghost is on node-3"},
		"a fence label is left":               {func(e *evidence) { e.nodes[0].Labels[v1alpha1.FenceLabel] = "true" }, "VPC CNI: node-3 has the fence label"},
		"the fence took a node away":          {func(e *evidence) { e.fence.minDesired = 1 }, "fence: DESIRED of aws-node was between 1 and 2"},
		"nobody looked at the fence":          {func(e *evidence) { e.fence = fenceRecord{} }, "fence: DESIRED"},
		"too many of its pods were away":      {func(e *evidence) { e.fence.minReady = 0 }, "fence: READY of aws-node fell to 0"},
		"there never was a fence":             {func(e *evidence) { e.fence.bound = false }, "fence: aws-node was never seen bound"},
		"the fence came before the labels":    {func(e *evidence) { e.fence.unlabelled = []string{"node-1", "node-1"} }, "fence: aws-node was bound while nodes had no fence label: [node-1]"},
		"the audit log shows a broken law":    {func(e *evidence) { e.broken = []string{"two slots"} }, "audit log: two slots"},
		"the audit log shows too few slots":   {func(e *evidence) { e.seen.Grants = 1 }, "audit log: the audit log shows only 1 grants"},
		"a request was lost":                  {func(e *evidence) { e.lose("refused") }, "requests: 1 of 12000 requests lost: 1 refused"},
		"too few requests were sent":          {func(e *evidence) { e.summary.Total.Sent, e.summary.Total.OK = 11000, 11000 }, "requests: 11000 requests sent"},
		"the rate was too low":                {func(e *evidence) { e.summary.Rate = 50 }, "requests: 12000 requests sent"},
		"an answer is missing":                {func(e *evidence) { e.summary.Total.OK-- }, "requests: 12000 sent, but 11999 answered"},
		"the clients began after the Cutover": {func(e *evidence) { e.applied = e.summary.Started.Add(-time.Second) }, "requests: the clients did not ask"},
		"the clients ended before its end":    {func(e *evidence) { e.left = e.summary.Ended.Add(time.Second) }, "requests: the clients did not ask"},
	} {
		t.Run(name, func(t *testing.T) {
			e := proved()
			test.spoil(&e)
			var wrong []string
			for _, c := range prove(e) {
				if !c.holds {
					wrong = append(wrong, c.name+": "+c.detail)
				}
			}
			if len(wrong) != 1 || !strings.Contains(wrong[0], test.want) {
				t.Errorf("what does not hold is %q, want one that contains %q", wrong, test.want)
			}
		})
	}
}

func (e *evidence) lose(cause load.Cause) {
	e.summary.Total.OK--
	e.summary.Total.Lost++
	e.summary.Total.Causes = map[load.Cause]uint64{cause: 1}
}
