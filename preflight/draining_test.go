// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// rollout is a Cutover's, as the API server fills it in.
func rollout() v1alpha1.Rollout {
	yes := true
	return v1alpha1.Rollout{MaxConcurrent: 1, MaxUnavailable: 1, Drain: v1alpha1.Drain{Timeout: metav1.Duration{Duration: 30 * time.Minute}, DeleteEmptyDirData: &yes}}
}

// pods are those of a cluster of two nodes that nobody has to worry about.
func pods() []Pod {
	web := func(name, node string) Pod {
		return Pod{Namespace: "shop", Name: name, Node: node, Owner: Owner{"apps/v1", "ReplicaSet", "web-1"}, Deployment: "web", Phase: corev1.PodRunning, Ready: true, Grace: 30, EmptyDir: true, Budgets: []string{"web"}}
	}
	daemon := func(name, node string) Pod {
		return Pod{Namespace: "kube-system", Name: name, Node: node, Owner: Owner{"apps/v1", "DaemonSet", "aws-node"}, Phase: corev1.PodRunning, Ready: true, Grace: 10, HostPath: true}
	}
	return []Pod{
		daemon("aws-node-a", "node-a"), web("web-1-a", "node-a"), daemon("aws-node-b", "node-b"), web("web-1-b", "node-b"),
		{Namespace: "kube-system", Name: "static", Node: "node-a", Owner: Owner{"v1", "Node", "node-a"}, Mirror: true, Phase: corev1.PodRunning},
		{Namespace: "shop", Name: "migrate", Node: "node-b", Owner: Owner{"batch/v1", "Job", "migrate"}, Phase: corev1.PodSucceeded, LocalClaims: []string{"done"}},
	}
}

// finds fails unless a check says such a thing of a cluster.
func finds(t *testing.T, s *Snapshot, check string, want v1alpha1.Verdict, says, mend string) {
	t.Helper()
	var all []string
	for _, f := range Judge(s).Findings {
		if f.Check != check {
			continue
		}
		if f.Verdict == want && strings.Contains(f.Message, says) && strings.Contains(f.Mend, mend) {
			return
		}
		all = append(all, fmt.Sprintf("%s: %s %v > %s", f.Verdict, f.Message, f.Objects, f.Mend))
	}
	t.Errorf("%s %s with %q and %q is not among\n%s", want, check, says, mend, strings.Join(all, "\n"))
}

func TestWhatADrainMeetsIsSaid(t *testing.T) {
	const of = "Draining"
	web := func(change func(*Pod)) func(*Snapshot) { return func(s *Snapshot) { change(&s.Pods[1]) } }
	webs := func(change func(*Pod)) func(*Snapshot) {
		return func(s *Snapshot) { change(&s.Pods[1]); change(&s.Pods[3]) }
	}
	budget := func(change func(*Budget)) func(*Snapshot) { return func(s *Snapshot) { change(&s.Budgets[0]) } }
	none := budget(func(b *Budget) { b.Healthy, b.Allowed = 1, 0 })
	both := func(a, b func(*Snapshot)) func(*Snapshot) { return func(s *Snapshot) { a(s); b(s) } }
	bare := web(func(p *Pod) { p.Owner, p.Deployment = Owner{}, "" })
	no := false
	for name, c := range map[string]struct {
		change func(*Snapshot)
		want   v1alpha1.Verdict
		says   string
		mend   string
	}{
		"what goes": {func(*Snapshot) {}, v1alpha1.VerdictPass, "a roll of 2 nodes evicts 3 pods, 2 of them with emptyDir volumes, whose data goes with them; the longest grace period is 30s", ""},

		"a bare pod":                  {bare, v1alpha1.VerdictFail, "Pods that declare no controller (delete them yourself if they may go, or set rollout.drain.force", "kubectl -n shop delete pod web-1-a"},
		"keeps its node":              {bare, v1alpha1.VerdictFail, "1 of 2 nodes that are to be rolled could not be emptied today, as node-a: Pod shop/web-1-a is not deleted", "annotate node node-a"},
		"one that force deletes":      {both(bare, func(s *Snapshot) { s.Rollout.Drain.Force = true }), v1alpha1.VerdictWarn, "which nobody makes again", `"force":false`},
		"scratch data that must stay": {func(s *Snapshot) { s.Rollout.Drain.DeleteEmptyDirData = &no }, v1alpha1.VerdictFail, "Pods with local storage", ""},
		"a DaemonSet that is gone":    {func(s *Snapshot) { s.DaemonSets = nil }, v1alpha1.VerdictFail, `daemonsets.apps "aws-node" not found`, "kubectl -n kube-system delete pod aws-node-a aws-node-b, if"},
		"a DaemonSet of another kind": {func(s *Snapshot) { s.Pods[0].Owner.APIVersion = "apps.kruise.io/v1alpha1" }, v1alpha1.VerdictPass, "evicts 4 pods", ""},
		"a pod that is on its way":    {web(func(p *Pod) { now := time.Unix(1, 0); p.Deleted = &now }), v1alpha1.VerdictPass, "evicts 2 pods", ""},
		"a node that is kept out":     {both(bare, func(s *Snapshot) { s.Nodes[0].OptedOut = true }), v1alpha1.VerdictPass, "a roll of 1 node evicts 2 pods", ""},
		"a node that is not selected": {both(bare, func(s *Snapshot) { s.Selector = "pool=b"; s.Nodes[1].Labels = map[string]string{"pool": "b"} }), v1alpha1.VerdictPass, "a roll of 1 node evicts", ""},
		"a selector that is none":     {func(s *Snapshot) { s.Selector = "=" }, v1alpha1.VerdictUnknown, "which nodes are rolled is not known", ""},

		"a budget that can never allow": {budget(func(b *Budget) { b.MinAvailable, b.Desired, b.Allowed = "2", 2, 0 }), v1alpha1.VerdictFail,
			"it can never allow an eviction (minAvailable 2; 2 of 2 pods are healthy, 2 must be): nodes with 2 of its pods cannot be emptied", `kubectl -n shop patch pdb web --type merge -p '{"spec":{"minAvailable":null,"maxUnavailable":1}}'`},
		"one whose pods are all away besides": {budget(func(b *Budget) { b.MinAvailable, b.MaxUnavailable, b.Desired, b.Healthy, b.Allowed = "", "0", 2, 0, 0 }), v1alpha1.VerdictFail, "it can never allow an eviction (maxUnavailable 0; 0 of 2", ""},
		"one of a single replica": {both(func(s *Snapshot) { s.Pods = s.Pods[:3] }, budget(func(b *Budget) { b.MinAvailable, b.Expected, b.Healthy, b.Desired, b.Allowed = "1", 1, 1, 1, 0 })), v1alpha1.VerdictFail,
			"nodes with 1 of its pods", "kubectl -n shop scale deployment/web --replicas=2"},
		"one that allows none now": {none, v1alpha1.VerdictWarn, "it allows no eviction now (minAvailable 50%; 1 of 2 pods are healthy, 1 must be)", "AlwaysAllow"},
		"which its nodes wait for": {none, v1alpha1.VerdictWarn, "2 of 2 nodes that are to be rolled could not be emptied just now, as node-a: web keeps Pod shop/web-1-a", ""},
		"one that cannot count": {both(none, budget(func(b *Budget) { b.Trouble = "found no controllers for pod" })), v1alpha1.VerdictFail,
			"cannot count its pods (found no controllers for pod)", "kubectl -n shop get pdb web -o yaml"},
		"one that nobody has looked at": {budget(func(b *Budget) { b.Behind = true }), v1alpha1.VerdictUnknown, "has not looked at it since", ""},
		"which its nodes are held for":  {budget(func(b *Budget) { b.Behind = true }), v1alpha1.VerdictWarn, "2 of 2 nodes that are to be rolled could not be emptied just now", ""},
		"two budgets for a pod": {both(web(func(p *Pod) { p.Budgets = []string{"web", "all"} }), func(s *Snapshot) { s.Budgets = append(s.Budgets, Budget{Namespace: "shop", Name: "all", Allowed: 5}) }), v1alpha1.VerdictFail,
			"web and all of shop select the same 1 pod, so the eviction API answers 500", "kubectl -n shop delete pdb all"},

		"a volume of the node":            {web(func(p *Pod) { p.LocalClaims = []string{"data"} }), v1alpha1.VerdictFail, "PersistentVolumes of 1 pod exist on one node alone (data of shop/web-1-a)", "kubectl -n shop delete pvc data"},
		"files of the node":               {web(func(p *Pod) { p.HostPath = true }), v1alpha1.VerdictWarn, "write to the node's disk", "hostPath.path"},
		"state in scratch space":          {web(func(p *Pod) { p.Owner.Kind, p.Deployment = "StatefulSet", "" }), v1alpha1.VerdictWarn, "emptyDir volumes of 1 pod goes with them", "deleteEmptyDirData"},
		"a pod that wants to stay":        {web(func(p *Pod) { p.Keep = "karpenter.sh/do-not-disrupt=true" }), v1alpha1.VerdictWarn, "a wish not to be disrupted (karpenter.sh/do-not-disrupt=true) is written on 1 pod", "opt-out"},
		"a single replica":                {func(s *Snapshot) { s.Pods = s.Pods[:3] }, v1alpha1.VerdictWarn, "there is one pod only of 1 workload", "kubectl -n shop scale deployment/web --replicas=2"},
		"a pod that takes longer":         {web(func(p *Pod) { p.Grace = 3600 }), v1alpha1.VerdictWarn, "(shop/web-1-a: 1h0m0s, rollout.drain.timeout: 30m0s)", `"timeout":"5400s"`},
		"pods unseen":                     {func(s *Snapshot) { s.Missing = []Missing{{Resource: "pods"}} }, v1alpha1.VerdictUnknown, "were not all seen", ""},
		"budgets unseen":                  {func(s *Snapshot) { s.Missing = []Missing{{Resource: "poddisruptionbudgets.policy"}} }, v1alpha1.VerdictUnknown, "PodDisruptionBudgets were not seen", ""},
		"volumes unseen":                  {func(s *Snapshot) { s.Missing = []Missing{{Resource: "persistentvolumes"}} }, v1alpha1.VerdictUnknown, "PersistentVolumes were not seen", ""},
		"many of a kind are named for":    {webs(func(p *Pod) { p.Owner, p.Deployment = Owner{}, "" }), v1alpha1.VerdictFail, "declare no controller", "kubectl -n shop delete pod web-1-a web-1-b, if"},
		"budgets that hang on each other": {hanging(2), v1alpha1.VerdictWarn, "shop/web and shop/cache have pods on the same 2 nodes", `"maxConcurrent":1`},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			c.change(s)
			finds(t, s, of, c.want, c.says, c.mend)
		})
	}
}

// hanging makes two budgets of pods that need a node each, on all nodes, and lets so many nodes be drained at once.
func hanging(atOnce int32) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Rollout.MaxConcurrent = atOnce
		cache := s.Budgets[0]
		cache.Name = "cache"
		s.Budgets = append(s.Budgets, cache)
		for _, i := range []int{1, 3} {
			s.Pods[i].Alone = true
			p := s.Pods[i]
			p.Name, p.Owner.Name, p.Deployment, p.Budgets = "cache-"+p.Node, "cache-1", "cache", []string{"cache"}
			s.Pods = append(s.Pods, p)
		}
	}
}

// TestNodesWaitForEachOtherOnlyIfTheyMust: one thing less, and no deadlock is left to warn of.
func TestNodesWaitForEachOtherOnlyIfTheyMust(t *testing.T) {
	for name, change := range map[string]func(*Snapshot){
		"one node at a time":        hanging(1),
		"a node is added first":     func(s *Snapshot) { hanging(2)(s); s.Rollout.Surge = true },
		"another node is there":     func(s *Snapshot) { hanging(2)(s); s.Nodes = append(s.Nodes, Node{Name: "node-c"}) },
		"two of one may go":         func(s *Snapshot) { hanging(2)(s); s.Budgets[1].Desired = 0 },
		"one may share a node":      func(s *Snapshot) { hanging(2)(s); s.Pods[1].Alone = false },
		"they meet on one node":     func(s *Snapshot) { hanging(2)(s); s.Pods = s.Pods[:len(s.Pods)-1] },
		"the other one's are ended": func(s *Snapshot) { hanging(2)(s); s.Pods[len(s.Pods)-1].Phase = corev1.PodFailed },
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			change(s)
			for _, f := range Judge(s).Findings {
				if strings.Contains(f.Message, "wait for each other") {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// TestEvictionsAreJudgedAsTheAPIDoes: what lets a pod go though its budget allows none.
func TestEvictionsAreJudgedAsTheAPIDoes(t *testing.T) {
	now := time.Unix(1, 0)
	blocking := Budget{Namespace: "n", Name: "b", Expected: 3, Healthy: 2, Desired: 2}
	full := Budget{Namespace: "n", Name: "b", Expected: 2, Healthy: 2, Desired: 2}
	lenient, zero := blocking, Budget{Namespace: "n", Name: "b"}
	lenient.Healthy, lenient.AlwaysAllow = 0, true
	short := blocking
	short.Healthy = 1
	for name, c := range map[string]struct {
		pod  Pod
		b    Budget
		want hold
	}{
		"a healthy pod waits":                        {Pod{Phase: corev1.PodRunning, Ready: true}, blocking, waits},
		"for ever, if all must be healthy":           {Pod{Phase: corev1.PodRunning, Ready: true}, full, stuck},
		"one that is pending goes":                   {Pod{Phase: corev1.PodPending}, short, free},
		"one that has ended goes":                    {Pod{Phase: corev1.PodSucceeded}, short, free},
		"one that goes goes":                         {Pod{Phase: corev1.PodRunning, Ready: true, Deleted: &now}, full, free},
		"one that is not Ready goes if others are":   {Pod{Phase: corev1.PodRunning}, blocking, free},
		"and waits if they are not":                  {Pod{Phase: corev1.PodRunning}, short, waits},
		"unless its budget says that it always may":  {Pod{Phase: corev1.PodRunning}, lenient, free},
		"a budget that was never counted holds none": {Pod{Phase: corev1.PodRunning}, zero, waits},
	} {
		t.Run(name, func(t *testing.T) {
			c.pod.Namespace, c.pod.Budgets = "n", []string{"b"}
			if got := evictable(&c.pod, map[string]*Budget{"n/b": &c.b}); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
			if got := evictable(&c.pod, nil); (got == free) != (c.pod.Phase != corev1.PodRunning || c.pod.Deleted != nil) {
				t.Errorf("a budget that was not seen: %d", got)
			}
		})
	}
}
