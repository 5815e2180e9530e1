// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package charts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/apiserver"
)

const (
	release      = "cni-cutover"
	agentAccount = "cutover-agent"
)

// cluster is a real API server, scheduler and controllers with this chart installed, as helm renders it. Its Nodes have no
// kubelets, so nothing runs; the agents' pods are made and bound all the same.
type cluster struct {
	t      *testing.T
	server *apiserver.Server
	client.Client
}

// start starts a cluster with nothing in it, which ends with the test.
func start(t *testing.T) *cluster {
	t.Helper()
	server, err := apiserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	k := &cluster{t: t, server: server}
	k.Client = k.as(server.Config())
	return k
}

// install starts a cluster with the chart and nodes in it.
func install(t *testing.T, nodes ...string) *cluster {
	t.Helper()
	k := start(t)
	k.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: release}})
	k.create(apiserver.Kind("cilium.io", "v2", "CiliumNode", "ciliumnodes", "Cluster", "status"))
	k.create(apiserver.Kind("cilium.io", "v2", "CiliumNodeConfig", "ciliumnodeconfigs", "Namespaced", "status"))
	for _, o := range decoded(t, mustRender(t)) {
		k.create(o)
	}
	for _, name := range nodes {
		k.join(name)
	}
	return k
}

func (k *cluster) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *cluster) create(o client.Object) {
	k.t.Helper()
	k.must(k.Create(k.t.Context(), o))
}

func (k *cluster) as(config *rest.Config) client.Client {
	k.t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme} {
		k.must(add(scheme))
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	k.must(err)
	return c
}

// bearer is the configuration of somebody who has nothing but a token.
func (k *cluster) bearer(token string) *rest.Config {
	config := rest.AnonymousClientConfig(k.server.Config())
	config.BearerToken = token
	return config
}

// eventually polls until nothing is missing.
func (k *cluster) eventually(within time.Duration, look func() string) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for missing := look(); missing != ""; missing = look() {
		select {
		case <-ctx.Done():
			k.t.Fatalf("after %s still: %s", within, missing)
		case <-tick.C:
		}
	}
}

// join makes a Node with room for an agent, and its NodeCutover as the coordinator makes it.
func (k *cluster) join(name string) {
	k.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelOSStable: "linux"}}}
	k.create(n)
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourcePods: resource.MustParse("110")}
	before := n.DeepCopy() // the controllers write to it too
	n.Status.Capacity, n.Status.Allocatable = room, room
	k.must(k.Status().Patch(k.t.Context(), n, client.MergeFrom(before)))
	k.create(&v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodeCutoverSpec{NodeUID: n.UID}})
}

// agentOn waits for the DaemonSet controller and the scheduler to bind an agent to a node.
func (k *cluster) agentOn(node string) *corev1.Pod {
	k.t.Helper()
	var found *corev1.Pod
	k.eventually(time.Minute, func() string {
		var pods corev1.PodList
		k.must(k.List(k.t.Context(), &pods, client.InNamespace(release), client.MatchingLabels{"app.kubernetes.io/name": agentAccount}))
		for i := range pods.Items {
			if pods.Items[i].Spec.NodeName == node && pods.Items[i].DeletionTimestamp == nil {
				found = &pods.Items[i]
				return ""
			}
		}
		return fmt.Sprintf("none of %d agents is bound to %s", len(pods.Items), node)
	})
	return found
}

// token asks for a token of the agent as the kubelet of its pod's node does.
func (k *cluster) token(pod *corev1.Pod) string {
	k.t.Helper()
	config := k.server.Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:node:" + pod.Spec.NodeName, Groups: []string{"system:nodes"}}
	kubelet, token := k.as(config), ""
	// The Node authorizer learns of the pod by a watch of its own.
	k.eventually(20*time.Second, func() string {
		r, err := tokenRequest(k.t.Context(), kubelet, &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID})
		if err != nil {
			return err.Error()
		}
		token = r
		return ""
	})
	return token
}

func tokenRequest(ctx context.Context, c client.Client, bound *authenticationv1.BoundObjectReference) (string, error) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: release, Name: agentAccount}}
	r := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound}}
	err := c.SubResource("token").Create(ctx, account, r)
	return r.Status.Token, err
}

// request sends one request with a token and returns the code of the answer and the beginning of what it says.
func (k *cluster) request(c *http.Client, method, path string, body string, header ...string) (int, string) {
	k.t.Helper()
	r, err := http.NewRequestWithContext(k.t.Context(), method, k.server.Config().Host+path, strings.NewReader(body))
	k.must(err)
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := c.Do(r)
	k.must(err)
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
	k.must(err)
	return answer.StatusCode, string(said)
}

// decoded splits manifests into objects.
func decoded(t *testing.T, manifests string) (all []*unstructured.Unstructured) {
	t.Helper()
	documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifests)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		o := &unstructured.Unstructured{}
		if err := sigsyaml.Unmarshal(document, &o.Object); err != nil {
			t.Fatal(err)
		}
		if o.Object != nil { // comments
			all = append(all, o)
		}
	}
}

// served waits until discovery knows every kind that was installed.
func (k *cluster) served(kinds ...apischema.GroupResource) {
	k.t.Helper()
	k.eventually(30*time.Second, func() string {
		mapper := k.as(k.server.Config()).RESTMapper()
		for _, kind := range kinds {
			if _, err := mapper.KindFor(kind.WithVersion("")); err != nil {
				return err.Error()
			}
		}
		return ""
	})
}
