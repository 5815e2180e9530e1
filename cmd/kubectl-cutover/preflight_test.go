// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// service is a Service with one endpoint, a pod that is on the host network or not.
func service(name string, onHost bool) (*corev1.Service, *corev1.Pod, *discoveryv1.EndpointSlice) {
	meta := metav1.ObjectMeta{Namespace: "default", Name: name}
	slice := meta.DeepCopy()
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	return &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 443}}}},
		&corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{NodeName: "n", HostNetwork: onHost, Containers: []corev1.Container{{Name: "c", Image: "none"}}}, Status: corev1.PodStatus{Phase: corev1.PodRunning}},
		&discoveryv1.EndpointSlice{ObjectMeta: *slice, AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{"10.0.1.77"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: name},
		}}}
}

// machine is what a kubelet says of one that nobody has to worry about.
func machine() corev1.NodeSystemInfo {
	return corev1.NodeSystemInfo{OperatingSystem: "linux", OSImage: "Amazon Linux 2023.9.20251117", KernelVersion: "6.1.158-178.288.amzn2023.x86_64", ContainerRuntimeVersion: "containerd://2.1.4"}
}

// TestARealClusterIsGatheredAndJudged has each kind of callback once, on pods and on the host network.
func TestARealClusterIsGatheredAndJudged(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(nil))
	w.readyForTheMove()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.1.10"}}, NodeInfo: machine(),
	}}
	w.make(n)
	for name, onHost := range map[string]bool{"moves": false, "stays": true} {
		s, p, e := service(name, onHost)
		p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(n, corev1.SchemeGroupVersion.WithKind("Node"))} // no bare pod
		w.make(s, p, e)
	}
	ask := []string{"preflight", "--vpc-cidr", "10.0.0.0/16"}
	on(t, ask...).want(t, codeClean, "0 Fail, 0 Unknown, 0 Warn", "the overlay's 10.250.0.0/16 is clear")

	policy, none, url := admissionv1.Ignore, admissionv1.SideEffectClassNone, "https://192.0.2.1/hook"
	rule := admissionv1.RuleWithOperations{Operations: []admissionv1.OperationType{admissionv1.Create}, Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}
	nowhere := &metav1.LabelSelector{MatchLabels: map[string]string{"no": "namespace"}} // other tests make pods
	own := rule
	own.APIGroups, own.Resources = []string{"nobody.example.org"}, []string{"*/*"}
	to := func(name string) admissionv1.WebhookClientConfig {
		return admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "default", Name: name}}
	}
	w.make(
		&admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "strict"}, Webhooks: []admissionv1.ValidatingWebhook{
			{Name: "a.example.org", ClientConfig: to("moves"), NamespaceSelector: nowhere, Rules: []admissionv1.RuleWithOperations{rule}, SideEffects: &none, AdmissionReviewVersions: []string{"v1"}},
			{Name: "b.example.org", ClientConfig: to("stays"), NamespaceSelector: nowhere, Rules: []admissionv1.RuleWithOperations{rule}, SideEffects: &none, AdmissionReviewVersions: []string{"v1"}},
			{Name: "c.example.org", ClientConfig: to("moves"), Rules: []admissionv1.RuleWithOperations{own}, SideEffects: &none, AdmissionReviewVersions: []string{"v1"}},
		}},
		&admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "lenient"}, Webhooks: []admissionv1.MutatingWebhook{
			{Name: "a.example.org", ClientConfig: to("moves"), FailurePolicy: &policy, NamespaceSelector: nowhere, Rules: []admissionv1.RuleWithOperations{rule}, SideEffects: &none, AdmissionReviewVersions: []string{"v1"}},
			{Name: "b.example.org", ClientConfig: admissionv1.WebhookClientConfig{URL: &url}, NamespaceSelector: nowhere, Rules: []admissionv1.RuleWithOperations{rule}, SideEffects: &none, AdmissionReviewVersions: []string{"v1"}},
		}},
		&apiextensionsv1.CustomResourceDefinition{
			ObjectMeta: metav1.ObjectMeta{Name: "things.nobody.example.org"},
			Spec: apiextensionsv1.CustomResourceDefinitionSpec{
				Group: "nobody.example.org", Scope: apiextensionsv1.ClusterScoped,
				Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: "Thing", ListKind: "ThingList", Plural: "things", Singular: "thing"},
				Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true,
					Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}}}},
				Conversion: &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.WebhookConverter, Webhook: &apiextensionsv1.WebhookConversion{
					ConversionReviewVersions: []string{"v1"}, ClientConfig: &apiextensionsv1.WebhookClientConfig{Service: &apiextensionsv1.ServiceReference{Namespace: "default", Name: "moves"}},
				}},
			},
		},
		&unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": map[string]any{"name": "v1.nobody2.example.org"},
			"spec": map[string]any{"group": "nobody2.example.org", "version": "v1", "groupPriorityMinimum": int64(100), "versionPriority": int64(100), "insecureSkipTLSVerify": true,
				"service": map[string]any{"namespace": "default", "name": "moves"}},
		}},
	)
	file := filepath.Join(t.TempDir(), "snapshot.tgz")
	live := on(t, append(ask, "--save", file)...).want(t, codeBlocked,
		"Fail    Callbacks ValidatingWebhookConfiguration/strict", "every new pod that it selects is refused", ": *.nobody.example.org are refused", "Pod/default/moves",
		"Warn    Callbacks MutatingWebhookConfiguration/lenient", "Fail    Callbacks CustomResourceDefinition/things.nobody.example.org",
		"Fail    Callbacks APIService/v1.nobody2.example.org", "4 Fail, 0 Unknown, 1 Warn")
	kept := plugin(t, "", "preflight", "--from", file).want(t, codeBlocked)
	if kept.stdout != live.stdout {
		t.Errorf("the kept snapshot is judged otherwise:\n%s\n%s", live.stdout, kept.stdout)
	}
	plugin(t, "", "preflight", "--from", file, "-o", "junit").want(t, codeBlocked, `<testsuite name="kubectl cutover preflight"`, `failures="4"`)
	plugin(t, "", "preflight", "--from", file, "-o", "json", "--vpc-cidr", "10.250.0.0/20").want(t, codeBlocked, `"check": "Overlap"`, "10.250.0.0/20")
	plugin(t, "", "preflight", "--from", file, "--overlay", "10.251.0.0/16", "--node-mask-size", "16").want(t, codeBlocked, "the overlay has 1 slices of /16")
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".snapshot-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWhatMayNotBeReadIsNotTakenForWell(t *testing.T) {
	w := newWorld(t)
	some := w.as("some", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list"}})
	plugin(t, "", "preflight", "--vpc-cidr", "10.0.0.0/16", "--kubeconfig", some).want(t, codeUnsure,
		"Unknown Rights: list of validatingwebhookconfigurations.admissionregistration.k8s.io in the whole cluster was not possible",
		"kubectl auth can-i list apiservices.apiregistration.k8s.io -A", "Unknown Callbacks", "Unknown Overlap", "Pass    Capacity",
		"get of cutovers.cni-cutover.dev in the whole cluster", "list of pods in the whole cluster", "list of persistentvolumes in the whole cluster", "kubectl auth can-i list poddisruptionbudgets.policy -A", "Unknown Draining",
		"Unknown LegacySettings: DaemonSets were not seen", "Unknown Readiness", "Unknown Ingress", "Unknown LoadBalancers")
}

func TestPreflightRefusesWhatItCannotUse(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.tgz")
	if err := os.WriteFile(bad, []byte("no archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-o", "xml"}, {"--vpc-cidr", "10.0.0.0"}, {"--overlay", "ten"}, {"--node-mask-size", "31"}, {"--from", bad}, {"--from", "/does/not/exist"}} {
		plugin(t, "", append([]string{"preflight"}, args...)...).want(t, codeFailed, "kubectl cutover:")
	}
}
