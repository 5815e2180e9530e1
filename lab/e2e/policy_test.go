// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab/stage"
)

// agentAccount is the ServiceAccount of the agents; one for all of them, which is why a policy has to tell them apart.
const agentAccount = "cutover-agent"

// TestAnAgentMayWriteTheReportOfItsOwnNodeOnly tries the token of one node's agent on what it must not have.
func TestAnAgentMayWriteTheReportOfItsOwnNodeOnly(t *testing.T) {
	s := standing(t)
	hosts := s.hosts(t)
	own, other := hosts[0].Name, hosts[1].Name
	bound, unbound := s.as(t, s.agentToken(t, s.agentOn(t, own))), s.as(t, s.agentToken(t, nil))

	report := func(c client.Client, node string) error {
		var nc v1alpha1.NodeCutover
		s.must(t, s.env.Client.Get(t.Context(), client.ObjectKey{Name: node}, &nc))
		nc.Status.AgentVersion = "policy-test"
		return c.Status().Update(t.Context(), &nc)
	}
	question := func(c client.Client) error {
		var nc v1alpha1.NodeCutover
		s.must(t, s.env.Client.Get(t.Context(), client.ObjectKey{Name: own}, &nc))
		nc.Spec.Challenge = nil
		return c.Update(t.Context(), &nc)
	}
	// The agent itself may write between our read and our write.
	s.eventually(t, 20*time.Second, func() string {
		if err := report(bound, own); err != nil {
			return "the report of the own node is refused: " + err.Error()
		}
		return ""
	})
	for name, try := range map[string]func() error{
		"another node's report":         func() error { return report(bound, other) },
		"a report by a token of no pod": func() error { return report(unbound, own) },
		"the question of its own node":  func() error { return question(bound) },
		"the Cutover's state": func() error {
			return bound.Patch(t.Context(), s.cutover(t), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"state":"Paused"}}`)))
		},
		"a Node": func() error {
			return bound.Patch(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: own}}, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"unschedulable":true}}`)))
		},
		"the removal of its own NodeCutover": func() error {
			return bound.Delete(t.Context(), &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: own}})
		},
	} {
		if err := try(); !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v, want it forbidden", name, err)
		}
	}
}

func (s *scene) agentOn(t *testing.T, node string) *corev1.Pod {
	t.Helper()
	var pods corev1.PodList
	s.must(t, s.env.Client.List(t.Context(), &pods, client.InNamespace(stage.Namespace)))
	for i := range pods.Items {
		if p := &pods.Items[i]; p.Spec.ServiceAccountName == agentAccount && p.Spec.NodeName == node {
			return p
		}
	}
	t.Fatalf("no agent on %s", node)
	return nil
}

// agentToken asks for a token of the agents' account, bound to a pod as the kubelet binds it, or to none.
func (s *scene) agentToken(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}
	}
	answer, err := s.env.Kube.CoreV1().ServiceAccounts(stage.Namespace).CreateToken(t.Context(), agentAccount, request, metav1.CreateOptions{})
	s.must(t, err)
	return answer.Status.Token
}

func (s *scene) as(t *testing.T, token string) client.Client {
	t.Helper()
	config := rest.AnonymousClientConfig(s.env.Cluster.RESTConfig())
	config.BearerToken = token
	c, err := client.New(config, client.Options{Scheme: s.env.Client.Scheme(), Mapper: s.env.Client.RESTMapper()})
	s.must(t, err)
	return c
}
