// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

// roles are the rights of one of the chart's roles, in the cluster and in the CNIs' namespace, as a test changes them.
type roles struct {
	k                  *scene
	name               string
	cluster, namespace []rbacv1.PolicyRule // as the chart has them
}

func (k *scene) roles(name string) *roles {
	k.t.Helper()
	r := &roles{k: k, name: name}
	c, ns := r.objects()
	k.must(k.Client.Get(k.t.Context(), client.ObjectKeyFromObject(c), c))
	k.must(k.Client.Get(k.t.Context(), client.ObjectKeyFromObject(ns), ns))
	r.cluster, r.namespace = c.Rules, ns.Rules
	k.t.Cleanup(func() { r.write(r.cluster, r.namespace) })
	return r
}

func (r *roles) objects() (*rbacv1.ClusterRole, *rbacv1.Role) {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: r.name}},
		&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: r.name}}
}

func (r *roles) write(cluster, namespace []rbacv1.PolicyRule) {
	r.k.t.Helper()
	c, ns := r.objects()
	c.Rules, ns.Rules = cluster, namespace
	r.k.must(r.k.Client.Update(r.k.withoutCancel(), c))
	r.k.must(r.k.Client.Update(r.k.withoutCancel(), ns))
}

// right is one verb on one resource.
type right struct{ verb, group, resource string }

func (r right) String() string {
	return fmt.Sprintf(`User %q cannot %s resource %q in API group %q`, self, r.verb, r.resource, r.group)
}

// only leaves those rights of the chart's roles that keep says, one verb on one resource a rule.
func (r *roles) only(keep func(right) bool) {
	r.k.t.Helper()
	some := func(rules []rbacv1.PolicyRule) (left []rbacv1.PolicyRule) {
		for _, rule := range rules {
			for _, verb := range rule.Verbs {
				for _, resource := range rule.Resources {
					if keep(right{verb, rule.APIGroups[0], resource}) {
						one := rule.DeepCopy()
						one.Verbs, one.Resources = []string{verb}, []string{resource}
						left = append(left, *one)
					}
				}
			}
		}
		return left
	}
	r.write(some(r.cluster), some(r.namespace))
}

func (r *roles) all() { r.write(r.cluster, r.namespace) }

// without takes one right away.
func (r *roles) without(missing right) { r.only(func(x right) bool { return x != missing }) }

// stalls waits until the Cutover waits for a person for a reason, and says these words, in an Event and a metric too.
func (k *scene) stalls(kind string, reason v1alpha1.Reason, words ...string) {
	k.t.Helper()
	fleet.Eventually(k.t, 30*time.Second, func() string {
		c := k.Condition(kind)
		if c.Status == metav1.ConditionTrue && c.Reason == string(reason) && len(without(c.Message, words)) == 0 {
			return ""
		}
		return fmt.Sprintf("%s = %+v, want %s with the words %q; %+v", kind, c, reason, words, k.Cutover().Status)
	})
	k.wantWarning(v1alpha1.CutoverName, reason)
	k.counted("cni_cutover_coordinator_condition", string(reason))
	k.counted("cni_cutover_coordinator_refusals_total", string(reason))
}

// TestEveryMissingRightToWriteIsNamed takes a cluster through every phase with a coordinator that has no right to write
// anything, and gives it one right after the other, each when it says that it misses it. So it needs every one of them.
func TestEveryMissingRightToWriteIsNamed(t *testing.T) {
	k := newScene(t, fleet.Node{})
	act := k.roles("cutover-coordinator-act")
	var given []right
	give := func(r ...right) {
		given = append(given, r...)
		act.only(func(r right) bool { return slices.Contains(given, r) })
		// A refused write is tried again after 5 s; that it is, other tests see. A node that changes makes it sooner.
		k.annotate(k.Nodes()[0].Name, "test/poke", fmt.Sprint(len(given)))
	}
	give()
	missing := func(kind string, r right, words ...string) {
		t.Helper()
		k.stalls(kind, v1alpha1.PermissionMissing, append(words, r.String(), "cutover-coordinator-act", "helm upgrade")...)
		give(r)
	}
	c := newCutover()
	c.Spec.Rollout.Soak.Duration, c.Spec.Rollout.Drain.DeregistrationDelay.Duration, c.Spec.Rollout.Drain.Force = time.Millisecond, 0, true
	c.Spec.ApprovedPhases = []v1alpha1.Phase{
		v1alpha1.PhaseDecoupleIngress, v1alpha1.PhaseInstallCilium, v1alpha1.PhaseFenceLegacy, v1alpha1.PhaseRollNodes, v1alpha1.PhaseRemoveLegacy,
	}
	k.must(k.Client.Create(t.Context(), c))
	k.lead()

	ledger := right{"update", v1alpha1.Group, "cutovers/status"}
	k.wantWarning(v1alpha1.CutoverName, v1alpha1.PermissionMissing)
	k.wantEventSaying(v1alpha1.CutoverName, "writing the ledger", ledger.String(), "cutover-coordinator-act")
	give(ledger)
	missing(v1alpha1.ConditionStalled, right{"create", v1alpha1.Group, "nodecutovers"}, "create NodeCutover node-1")
	missing(v1alpha1.ConditionStalled, right{"patch", "", "nodes"}, "fence label on node-1")
	missing(v1alpha1.ConditionStalled, right{"patch", "apps", "daemonsets"}, "bind the VPC CNI's DaemonSet", `namespace "kube-system"`, "cni.legacyDaemonSet")
	fleet.Eventually(t, 20*time.Second, func() string {
		if k.fenced() {
			return ""
		}
		return "the VPC CNI is not bound to the fence label"
	})
	lift := k.quota("count/ciliumnodeconfigs.cilium.io")
	k.Join(fleet.Node{Name: "joining", Role: v1alpha1.RoleOverlay, NeverReady: true}) // its Cilium pod is older than the CiliumNodeConfig
	missing(v1alpha1.ConditionStalled, right{"create", "cilium.io", "ciliumnodeconfigs"}, "write CiliumNodeConfig", "cni.namespace")
	k.stalls(v1alpha1.ConditionStalled, v1alpha1.AdmissionRefused, "write CiliumNodeConfig", "quota: none", "exempt the ServiceAccount")
	lift()
	missing(v1alpha1.ConditionStalled, right{"delete", "", "pods"}, "restart Cilium pod", "on joining")
	k.SetReady("joining", true)

	k.Pod("node-1", "web", nil)
	k.turn("node-1")
	missing(v1alpha1.ConditionStalled, right{"patch", v1alpha1.Group, "nodecutovers"}, "ask node-1")
	evict, show := right{"create", "", "pods/eviction"}, right{"patch", "", "nodes/status"}
	k.waits("node-1", v1alpha1.StepDrain, v1alpha1.PermissionMissing, "default/web", evict.String(), "cutover-coordinator-act")
	k.wantEventSaying(v1alpha1.CutoverName, "show SafeToDrain=true on node-1", show.String(), "cutover-coordinator-act")
	give(show)
	k.changeNodeConfig()
	missing(v1alpha1.ConditionStalled, right{"update", "cilium.io", "ciliumnodeconfigs"}, "write CiliumNodeConfig")
	give(evict)
	k.waitPhase(v1alpha1.PhaseRemoveLegacy)
	k.must(k.Client.Delete(t.Context(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "cutover-coordinator-tell"}}))
	missing(v1alpha1.ConditionStalled, right{"delete", "apps", "daemonsets"}, "delete the VPC CNI's DaemonSet")
	k.waitPhase(v1alpha1.PhaseFullEBPF) // also without the right to tell of it
}

// quota allows none of a resource in the CNIs' namespace, until it is lifted.
func (k *scene) quota(resource corev1.ResourceName) (lift func()) {
	k.t.Helper()
	none := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "none"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{resource: apiresource.MustParse("0")}},
	}
	k.must(k.Client.Create(k.t.Context(), none))
	lift = func() { k.must(client.IgnoreNotFound(k.Client.Delete(k.withoutCancel(), none))) }
	k.t.Cleanup(lift)
	fleet.Eventually(k.t, 20*time.Second, func() string {
		k.must(k.Client.Get(k.t.Context(), client.ObjectKeyFromObject(none), none))
		if len(none.Status.Hard) > 0 {
			return ""
		}
		return "the quota is not in force"
	})
	return lift
}

// changeNodeConfig is somebody who makes the CiliumNodeConfig choose every node.
func (k *scene) changeNodeConfig() {
	k.t.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: "cilium.io", Version: "v2", Kind: "CiliumNodeConfig"})
	k.patch(u, metav1.NamespaceSystem, v1alpha1.NodeConfigName, `{"spec":{"nodeSelector":{"matchExpressions":null}}}`)
}

// wantEventSaying waits for a Warning Event about an object with these words.
func (k *scene) wantEventSaying(about string, words ...string) {
	k.t.Helper()
	fleet.Eventually(k.t, 15*time.Second, func() string {
		var events corev1.EventList
		k.must(k.Client.List(k.t.Context(), &events, client.InNamespace(metav1.NamespaceDefault)))
		for _, e := range events.Items {
			if e.Type == corev1.EventTypeWarning && e.InvolvedObject.Name == about && len(without(e.Message, words)) == 0 {
				return ""
			}
		}
		return fmt.Sprintf("no Warning Event about %s says %q", about, words)
	})
}

// TestACoordinatorThatCannotSeeDoesNotMove takes rights to look away in the middle of slots.
func TestACoordinatorThatCannotSeeDoesNotMove(t *testing.T) {
	k := newScene(t, make([]fleet.Node, 3)...)
	k.rolling(nil)
	look := k.roles("cutover-coordinator-look")

	t.Log("no right to list pods while node-1 is drained: an empty list is not taken for an empty node")
	k.Pod("node-1", "needed", nil)
	k.budget("budget", "needed", 1, nil)
	k.turn("node-1")
	k.waits("node-1", v1alpha1.StepDrain, v1alpha1.EvictionBlocked)
	for _, missing := range []right{{"list", "", "pods"}, {"get", "", "nodes"}, {"get", "cilium.io", "ciliumnodeconfigs"}} {
		look.without(missing)
		k.waits("node-1", v1alpha1.StepDrain, v1alpha1.PermissionMissing, missing.String(), "cutover-coordinator-look")
		k.stalls(v1alpha1.ConditionStalled, v1alpha1.PermissionMissing, missing.String())
		k.held("node-1", v1alpha1.StepDrain, v1alpha1.PermissionMissing)
		if c := k.Condition(v1alpha1.ConditionFenceIntact); c.Status != metav1.ConditionUnknown {
			t.Errorf("FenceIntact = %s, and nobody can see the fence", c.Status)
		}
		look.all()
		k.waits("node-1", v1alpha1.StepDrain, v1alpha1.EvictionBlocked)
	}
	k.endBudget("budget")
	k.replaced("node-1")

	t.Log("no right to list volume attachments: none is not what that means, and the drain of an empty node does not begin")
	volumes := right{"list", "storage.k8s.io", "volumeattachments"}
	look.without(volumes)
	k.turn("node-2")
	k.waits("node-2", v1alpha1.StepConfirm, v1alpha1.PermissionMissing, volumes.String())
	k.held("node-2", v1alpha1.StepConfirm, v1alpha1.PermissionMissing)
	if k.node("node-2").Annotations[v1alpha1.AnnotationReplace] != "" {
		t.Error("node-2 was handed over to be replaced")
	}
	look.all()
	k.replaced("node-2")

	t.Log("no right to read the Cutover")
	cutovers := right{"get", v1alpha1.Group, "cutovers"}
	look.without(cutovers)
	// What it wrote itself a moment before is a look at the ledger, too: node-3 comes when it has been seen to miss another one.
	k.annotate("node-3", v1alpha1.AnnotationOptOut, "still")
	k.wantEventSaying(v1alpha1.CutoverName, cutovers.String(), "nothing moves")
	k.turn("node-3")
	if s := k.slot("node-3"); s != nil {
		t.Errorf("a slot was granted without a look at the ledger: %+v", s)
	}

	t.Log("a coordinator that begins without the right to watch nodes never begins to look, and is not ready")
	k.stop()
	nodes := right{"watch", "", "nodes"}
	look.only(func(r right) bool { return r != nodes && r != right{"list", "", "nodes"} })
	k.lead()
	fleet.Eventually(t, 20*time.Second, func() string {
		if err := k.sight.Ready(nil); err == nil || len(without(err.Error(), []string{self, `resource "nodes"`})) > 0 {
			return fmt.Sprintf("the readiness check says %v", err)
		}
		return ""
	})
	k.wantEventSaying(v1alpha1.CutoverName, `resource "nodes"`, "nothing moves", "cutover-coordinator-look")
	if s := k.slot("node-3"); s != nil {
		t.Errorf("a slot was granted by a coordinator that sees no nodes: %+v", s)
	}
	look.all()
	k.replaced("node-3")
	if err := k.sight.Ready(nil); err != nil {
		t.Errorf("the readiness check still says %v", err)
	}
}
