// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/internal/apiserver"
	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

// plugin runs kubectl cutover as the cluster's administrator does, and returns its exit code and what it said.
func (s *scene) plugin(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../bin/kubectl-cutover", append(args, "--kubeconfig", s.env.Cluster.Kubeconfig())...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("running the plugin, which make build builds: %v", err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// wantPlugin fails unless the plugin ends with a code and says these words.
func (s *scene) wantPlugin(t *testing.T, code int, args []string, words ...string) {
	t.Helper()
	got, said := s.plugin(t, args...)
	missing := ""
	for _, w := range words {
		if !strings.Contains(said, w) {
			missing += " " + w
		}
	}
	if got != code || missing != "" {
		t.Errorf("kubectl cutover %v ended with %d, want %d; not said is%s:\n%s", args, got, code, missing, said)
	}
}

// TestTheReferenceMigrationsMistakesAreFoundBefore plants what stopped the migration that this project was made after, and what
// its people wished they had known: each is named, with what mends it, while nothing has moved. The hop limit of instance metadata
// is planted where Karpenter has it; that of launch templates stands at AWS.
func TestTheReferenceMigrationsMistakesAreFoundBefore(t *testing.T) {
	s := standing(t)
	s.wantPlugin(t, 2, []string{"values", "check", "-f", "testdata/mistakes.yaml", "--phase", "full-ebpf", "--cilium-version", "1.18.11", "--vpc-cidr", vpc.CIDR().String()},
		"MasqueradeNeedsReplacement", "set kubeProxyReplacement: true",
		"ServiceHostScheme", "set k8sServiceHost: 0123456789.gr7.eu-central-1.eks.amazonaws.com",
		"Bundle", "switch both in one upgrade")

	preflight := []string{"preflight", "--vpc-cidr", vpc.CIDR().String()}
	_, before := s.plugin(t, preflight...)
	for _, unwanted := range []string{"planted", "Fail    Callbacks", "Fail    Readiness", "Warn    Readiness", "Warn    Metadata"} {
		if strings.Contains(before, unwanted) {
			t.Errorf("before anything is planted preflight says %q:\n%s", unwanted, before)
		}
	}
	labels := map[string]string{"app": "planted"}
	s.plant(t,
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "planted", Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "hook", Image: "docker.io/lab/app:dev", ImagePullPolicy: corev1.PullNever, Ports: []corev1.ContainerPort{{ContainerPort: 9443}},
			}}},
		},
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "planted"},
			Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 443, TargetPort: intstr.FromInt32(9443)}}},
		},
		&admissionv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "planted"},
			Webhooks: []admissionv1.ValidatingWebhook{{
				Name: "planted.example.com", AdmissionReviewVersions: []string{"v1"}, SideEffects: ptr.To(admissionv1.SideEffectClassNone),
				FailurePolicy: ptr.To(admissionv1.Fail), ClientConfig: admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "default", Name: "planted"}},
				Rules: []admissionv1.RuleWithOperations{{Operations: []admissionv1.OperationType{admissionv1.Create}, Rule: admissionv1.Rule{APIGroups: []string{"planted.example.com"}, APIVersions: []string{"v1"}, Resources: []string{"things"}}}},
			}},
		},
		apiserver.Kind("karpenter.k8s.aws", "v1", "EC2NodeClass", "ec2nodeclasses", "Cluster"))
	s.eventually(t, time.Minute, func() string { // once the API server serves them
		err := s.env.Client.Create(t.Context(), nodeClassOfOneHop())
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err.Error()
		}
		return ""
	})
	s.eventually(t, time.Minute, func() string {
		code, said := s.plugin(t, preflight...)
		for _, w := range []string{"Fail    Callbacks ValidatingWebhookConfiguration/planted", "Warn    Readiness", "default/pod/planted", "Fail    Draining Pod/default/planted",
			"Warn    Metadata EC2NodeClass/planted", "kubectl patch ec2nodeclass planted"} {
			if code != 2 || !strings.Contains(said, w) {
				return fmt.Sprintf("code %d, want 2 and %q:\n%s", code, w, said)
			}
		}
		return ""
	})
}

// nodeClassOfOneHop gives the metadata of its instances to the host network alone, as Karpenter does unless it is told otherwise.
func nodeClassOfOneHop() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass",
		"metadata": map[string]any{"name": "planted"},
		"spec":     map[string]any{"metadataOptions": map[string]any{"httpEndpoint": "enabled", "httpPutResponseHopLimit": int64(1)}},
	}}
}

// plant creates objects until the test ends.
func (s *scene) plant(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		s.must(t, s.env.Client.Create(t.Context(), o))
		t.Cleanup(func() {
			if err := s.env.Client.Delete(context.WithoutCancel(t.Context()), o, client.GracePeriodSeconds(0)); err != nil {
				t.Errorf("removing what was planted: %v", err)
			}
		})
	}
}

// TestAReportBeforeTheEndSaysWhatIsMissing: every node is Legacy, and the VPC CNI runs.
func TestAReportBeforeTheEndSaysWhatIsMissing(t *testing.T) {
	s := standing(t)
	s.wantPlugin(t, 2, []string{"report"}, "**Fail**", "its pods are of role Legacy", "DaemonSet kube-system/aws-node", "label io.cilium/aws-node-enabled", "| HostPods | Pass |")
}

// wantProved waits until the plugin proves the end of a roll from the cluster's objects: pods may still be on their way.
func (s *scene) wantProved(t *testing.T) {
	t.Helper()
	s.eventually(t, time.Minute, func() string {
		if code, said := s.plugin(t, "report"); code != 0 || !strings.Contains(said, "**Pass**") || !strings.Contains(said, "| Soak |") {
			return said
		}
		return ""
	})
}
