// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

// ours is true of requests of the coordinator: policies that only it meets leave the fleet alone.
const ours = `request.userInfo.username == "` + self + `"`

func rule(group, resource, operation string) []admissionv1.RuleWithOperations {
	return []admissionv1.RuleWithOperations{{
		Operations: []admissionv1.OperationType{admissionv1.OperationType(operation)},
		Rule:       admissionv1.Rule{APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: []string{resource}},
	}}
}

// deny makes a ValidatingAdmissionPolicy that denies an operation on a resource to the coordinator, until allow is called.
func (k *scene) deny(name, group, resource, operation string) (allow func()) {
	k.t.Helper()
	var named []admissionv1.NamedRuleWithOperations
	for _, r := range rule(group, resource, operation) {
		named = append(named, admissionv1.NamedRuleWithOperations{RuleWithOperations: r})
	}
	policy := &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: named},
			MatchConditions:  []admissionv1.MatchCondition{{Name: "ours", Expression: ours}},
			Validations:      []admissionv1.Validation{{Expression: "false", Message: "not on a Friday"}},
		},
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}},
	}
	return k.inForce(resource, policy, binding)
}

// breakWebhook makes a webhook of whom nobody answers, and without whom nothing may be done.
func (k *scene) breakWebhook(name, group, resource, operation string) (mend func()) {
	k.t.Helper()
	return k.inForce(resource, &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name: name + ".example.com", Rules: rule(group, resource, operation),
			ClientConfig:  admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: metav1.NamespaceDefault, Name: "nobody"}},
			FailurePolicy: new(admissionv1.Fail), SideEffects: new(admissionv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
			MatchConditions: []admissionv1.MatchCondition{{Name: "ours", Expression: ours}},
		}},
	})
}

// inForce creates objects of admission and waits until the API server obeys them; lift deletes them.
func (k *scene) inForce(resource string, objects ...client.Object) (lift func()) {
	k.t.Helper()
	for _, o := range objects {
		k.must(k.Client.Create(k.t.Context(), o))
	}
	lifted := false
	lift = func() {
		for _, o := range objects {
			if err := k.Client.Delete(k.withoutCancel(), o); err != nil && !lifted {
				k.t.Errorf("lifting %s: %v", o.GetName(), err)
			}
		}
		lifted = true
	}
	k.t.Cleanup(lift)
	kube, err := kubernetes.NewForConfig(k.coordinator)
	k.must(err)
	fleet.Eventually(k.t, 20*time.Second, func() string {
		if err := k.probe(kube, resource); err == nil || !strings.Contains(err.Error(), objects[0].GetName()) {
			return fmt.Sprintf("%s is not in force: %v", objects[0].GetName(), err)
		}
		return ""
	})
	return lift
}

// probe tries as the coordinator what would change nothing.
func (k *scene) probe(kube kubernetes.Interface, resource string) error {
	ctx, try := k.t.Context(), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}
	switch resource {
	case "nodes":
		_, err := kube.CoreV1().Nodes().Patch(ctx, k.Nodes()[0].Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"probe":"x"}}}`), try)
		return err
	case "pods/eviction":
		// Admission is asked before anybody looks for the pod. The UID is for the oracle, which wants one of every eviction.
		return kube.PolicyV1().Evictions(metav1.NamespaceDefault).Evict(ctx, &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "nobody"},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: new(types.UID("nobody"))}, DryRun: []string{metav1.DryRunAll}},
		})
	}
	var object client.Object = &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: k.Nodes()[0].Name}}
	c, err := client.New(k.coordinator, client.Options{Scheme: fleet.Scheme()})
	if err != nil {
		return err
	}
	if resource == "cutovers/status" {
		now := k.Cutover()
		return c.Status().Update(ctx, now, client.DryRunAll)
	}
	return c.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"probe":"x"}}}`)), client.DryRunAll)
}

func TestWhatAdmissionRefusesIsNamedHeldAndOutlived(t *testing.T) {
	var lift func()
	k := newScene(t, make([]fleet.Node, 4)...)
	k.rolling(nil)
	undo := func(*scene, string) { lift() }
	k.suffer([]fault{
		{
			name: "a webhook without a service answers for evictions", step: v1alpha1.StepDrain, reason: v1alpha1.AdmissionRefused,
			words: []string{"default/first", `webhook "broken-evictions.example.com"`, `service "nobody" not found`, "exempt the ServiceAccount"},
			plant: func(k *scene, node string) {
				k.Pod(node, "first", nil)
				lift = k.breakWebhook("broken-evictions", "", "pods/eviction", "CREATE")
			},
			mend: undo,
		},
		{
			name: "a policy denies evictions", step: v1alpha1.StepDrain, reason: v1alpha1.AdmissionRefused,
			words: []string{"default/second", "'no-evictions'", "not on a Friday", "exempt the ServiceAccount"},
			plant: func(k *scene, node string) {
				k.Pod(node, "second", nil)
				lift = k.deny("no-evictions", "", "pods/eviction", "CREATE")
			},
			mend: undo,
		},
		{
			name: "a webhook without a service answers for nodes", step: v1alpha1.StepCordon, reason: v1alpha1.AdmissionRefused,
			words: []string{"trying to cordon node-3", `webhook "broken-nodes.example.com"`},
			plant: func(k *scene, _ string) { lift = k.breakWebhook("broken-nodes", "", "nodes", "UPDATE") },
			mend:  undo,
		},
	})

	t.Log("a policy denies the question to node-4, in the middle of its slot")
	nodes := k.deny("no-nodes", "", "nodes", "UPDATE")
	k.turn("node-4")
	k.waits("node-4", v1alpha1.StepCordon, v1alpha1.AdmissionRefused, "no-nodes")
	questions := k.deny("no-questions", v1alpha1.Group, "nodecutovers", "UPDATE")
	nodes()
	k.waits("node-4", v1alpha1.StepConfirm, v1alpha1.AdmissionRefused, "trying to ask node-4", "no-questions")
	k.wantWarning("node-4", v1alpha1.AdmissionRefused)

	t.Log("and then the ledger itself")
	ledger := k.deny("no-ledger", v1alpha1.Group, "cutovers/status", "UPDATE")
	questions()
	k.wantWarning(v1alpha1.CutoverName, v1alpha1.AdmissionRefused)
	k.counted("cni_cutover_coordinator_refusals_total", "WriteLedger")
	if s := k.slot("node-4"); s == nil || s.Step != v1alpha1.StepConfirm {
		t.Errorf("the slot moved without its ledger: %+v", s)
	}
	ledger()
	k.replaced("node-4")
}
