// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package charts

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// agentMay is everything that an agent may do in a cluster, in whatever namespace, and why it must.
var agentMay = map[string]string{
	"get nodecutovers.cni-cutover.dev":           "reads its question again when a write met another one",
	"list nodecutovers.cni-cutover.dev":          "follows its question; RBAC has no selector, the agent asks by its node's name",
	"watch nodecutovers.cni-cutover.dev":         "follows its question",
	"update nodecutovers.cni-cutover.dev/status": "answers; the admission policy keeps it to its own node",
	"get cutovers.cni-cutover.dev":               "what the overlay is meant to be",
	"get nodes":                                  "its own Node, and whether a peer that a map lacks should be there",
	"list pods":                                  "the pods of its node, whose addresses are compared with the maps",
	"watch pods":                                 "the pods of its node",
	"get ciliumnodes.cilium.io":                  "its own pod CIDR",
	"list ciliumnodes.cilium.io":                 "the peers and their pod CIDRs",
	"list services":                              "what Cilium's maps of Services should hold where it replaces kube-proxy",
	"list endpointslices.discovery.k8s.io":       "and where those should lead",
	// What everybody with a name may ask: who am I, and may I (Kubernetes' ClusterRole system:basic-user).
	"create selfsubjectreviews.authentication.k8s.io":      "everybody's",
	"create selfsubjectaccessreviews.authorization.k8s.io": "everybody's",
	"create selfsubjectrulesreviews.authorization.k8s.io":  "everybody's",
}

// TestAnAgentsToken tries the token of one node's agent, as its kubelet gets it, on everything that a cluster has.
func TestAnAgentsToken(t *testing.T) {
	k := install(t, "node-1", "node-2", "node-3", "node-4")
	k.served(apischema.GroupResource{Group: "cilium.io", Resource: "ciliumnodes"}, apischema.GroupResource{Group: "cilium.io", Resource: "ciliumnodeconfigs"})
	pods := map[string]*corev1.Pod{}
	for _, n := range []string{"node-1", "node-2", "node-3", "node-4"} {
		pods[n] = k.agentOn(n)
	}
	on := func(t *testing.T) *cluster { return &cluster{t: t, server: k.server, Client: k.Client} }
	t.Run("may do what it needs and nothing else", func(t *testing.T) { on(t).mayNothingElse(pods["node-1"]) })
	t.Run("writes the answer of its own node only", func(t *testing.T) { on(t).writesItsOwn(pods["node-1"], "node-2") })
	t.Run("changes nothing but the answer", func(t *testing.T) { on(t).changesOnlyTheAnswer(pods["node-2"]) })
	t.Run("ends with its pod", func(t *testing.T) { on(t).endsWithItsPod(pods["node-3"]) })
	t.Run("is worth nothing for a node that was created again", func(t *testing.T) { on(t).isOfOneNode(pods["node-4"]) })
}

// attempt is one thing that somebody may or may not do.
type attempt struct {
	verb, group, version, resource, subresource, namespace string
	served                                                 bool // whether there is a path for it
}

func (a attempt) String() string {
	s := a.verb + " " + a.resource
	if a.group != "" {
		s += "." + a.group
	}
	if a.subresource != "" {
		s += "/" + a.subresource
	}
	return s
}

// path is the address at which the API server takes it.
func (a attempt) path() (method, path string) {
	path = "/apis/" + a.group + "/" + a.version
	if a.group == "" {
		path = "/api/" + a.version
	}
	if a.namespace != "" {
		path += "/namespaces/" + a.namespace
	}
	path += "/" + a.resource
	one := path + "/somebody"
	if a.subresource != "" {
		one += "/" + a.subresource
	}
	method = map[string]string{"create": http.MethodPost, "update": http.MethodPut, "patch": http.MethodPatch, "delete": http.MethodDelete, "deletecollection": http.MethodDelete}[a.verb]
	if method == "" {
		method = http.MethodGet
	}
	switch {
	case a.verb == "list", a.verb == "deletecollection", a.verb == "create" && a.subresource == "":
		return method, path
	case a.verb == "watch":
		return method, path + "?watch=true&timeoutSeconds=1"
	}
	return method, one
}

// attempts are every verb on every resource and subresource that the API server tells of, in our namespaces and in all of
// them at once, and the verbs and resources that it keeps to itself.
func (k *cluster) attempts() (all []attempt) {
	k.t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(k.server.Config())
	k.must(err)
	_, lists, err := d.ServerGroupsAndResources()
	k.must(err)
	for _, list := range lists {
		gv, err := apischema.ParseGroupVersion(list.GroupVersion)
		k.must(err)
		for _, r := range list.APIResources {
			name, sub, _ := strings.Cut(r.Name, "/")
			for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"} {
				a := attempt{verb: verb, group: gv.Group, version: gv.Version, resource: name, subresource: sub}
				everywhere := sub == "" && (verb == "list" || verb == "watch")
				a.served = !r.Namespaced || everywhere
				if sub != "" && (verb == "list" || verb == "watch" || verb == "deletecollection") {
					a.served = false // no such path
				}
				all = append(all, a)
				if r.Namespaced {
					a.served = sub == "" || verb != "list" && verb != "watch" && verb != "deletecollection"
					for _, a.namespace = range []string{release, "kube-system", "default"} {
						all = append(all, a)
					}
				}
			}
		}
	}
	for _, hidden := range []attempt{
		{group: "", resource: "users"}, {group: "", resource: "groups"}, {group: "", resource: "serviceaccounts"},
		{group: "authentication.k8s.io", resource: "userextras", subresource: "authentication.kubernetes.io/node-name"}, {group: "authentication.k8s.io", resource: "uids"},
	} {
		hidden.verb = "impersonate"
		all = append(all, hidden)
	}
	for _, verb := range []string{"bind", "escalate"} {
		all = append(all, attempt{verb: verb, group: "rbac.authorization.k8s.io", resource: "roles"}, attempt{verb: verb, group: "rbac.authorization.k8s.io", resource: "clusterroles"})
	}
	for _, verb := range []string{"approve", "sign", "attest"} {
		all = append(all, attempt{verb: verb, group: "certificates.k8s.io", resource: "signers"})
	}
	// The kubelet asks the API server about these.
	for _, sub := range []string{"metrics", "stats", "log", "spec", "pods", "healthz", "configz", "checkpoint", "proxy"} {
		all = append(all, attempt{verb: "get", resource: "nodes", subresource: sub}, attempt{verb: "create", resource: "nodes", subresource: sub})
	}
	return append(all, attempt{verb: "*", group: "*", resource: "*"})
}

// mayNothingElse asks the API server about every attempt, and makes every one that it says is denied.
func (k *cluster) mayNothingElse(pod *corev1.Pod) {
	config := k.bearer(k.token(pod))
	config.QPS = -1
	agent := k.as(config)
	plain, err := rest.HTTPClientFor(config)
	k.must(err)
	all := k.attempts()
	var (
		lock    sync.Mutex
		allowed = map[string]bool{}
		made    int
		wg      sync.WaitGroup
		queue   = make(chan attempt)
	)
	for range 4 {
		wg.Go(func() {
			for a := range queue {
				review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
					Verb: a.verb, Group: a.group, Resource: a.resource, Subresource: a.subresource, Namespace: a.namespace, Name: "somebody",
				}}}
				if err := agent.Create(k.t.Context(), review); err != nil {
					k.t.Error(err)
					continue
				}
				code := 0
				if !review.Status.Allowed && a.served {
					method, path := a.path()
					var said string
					if code, said = k.request(plain, method, path, "{}"); code != http.StatusForbidden {
						k.t.Errorf("%s in %q: %s %s is answered %d, want 403: %.200s", a, a.namespace, method, path, code, said)
					}
				}
				lock.Lock()
				if review.Status.Allowed {
					allowed[a.String()] = true
				}
				if code != 0 {
					made++
				}
				lock.Unlock()
			}
		})
	}
	for _, a := range all {
		queue <- a
	}
	close(queue)
	wg.Wait()
	if diff := cmp.Diff(sorted(agentMay), sorted(allowed)); diff != "" {
		k.t.Errorf("what an agent may do (-should +may):\n%s", diff)
	}
	if made < len(all)/2 {
		k.t.Errorf("of %d attempts only %d were made", len(all), made)
	}
	k.t.Logf("%d attempts were judged, %d of them made and refused", len(all), made)
	for path, why := range map[string]string{"/metrics": "the API server's metrics", "/debug/pprof/": "its profiles", "/logs/": "its logs"} {
		if code, _ := k.request(plain, http.MethodGet, path, ""); code != http.StatusForbidden && code != http.StatusNotFound {
			k.t.Errorf("%s at %s are answered %d", why, path, code)
		}
	}
	if code, said := k.request(plain, http.MethodGet, "/api/v1/nodes", "", "Impersonate-User", "system:serviceaccount:"+release+":cutover-coordinator"); code != http.StatusForbidden {
		k.t.Errorf("acting as the coordinator is answered %d: %.200s", code, said)
	}
}

func sorted[V any](m map[string]V) (keys []string) {
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// report writes an answer for a node as it is in the cluster now.
func (k *cluster) report(c client.Client, node string) error {
	k.t.Helper()
	var nc v1alpha1.NodeCutover
	k.must(k.Get(k.t.Context(), client.ObjectKey{Name: node}, &nc))
	nc.Status.AgentVersion = "token-test"
	return c.Status().Update(k.t.Context(), &nc)
}

// refused wants a refusal by the admission policy that says each of the words.
func (k *cluster) refused(what string, err error, words ...string) {
	k.t.Helper()
	if !apierrors.IsForbidden(err) {
		k.t.Errorf("%s: %v, want it forbidden", what, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			k.t.Errorf("%s: refused with %q, which does not say %q", what, err, w)
		}
	}
}

func (k *cluster) writesItsOwn(pod *corev1.Pod, other string) {
	own := pod.Spec.NodeName
	agent := k.as(k.bearer(k.token(pod)))
	// The policy is obeyed some moments after it was installed: until then it is the other node's report that is let through.
	k.eventually(30*time.Second, func() string {
		if k.report(agent, other) == nil {
			return "the report of another node is let through"
		}
		return ""
	})
	k.refused("another node's report", k.report(agent, other), "the agent of node "+own, "answers for its own node only")
	k.must(k.report(agent, own))
	unbound, err := tokenRequest(k.t.Context(), k.Client, nil)
	k.must(err)
	k.refused("a report by a token of no pod", k.report(k.as(k.bearer(unbound)), own), "a token that names no node")
}

// changesOnlyTheAnswer sends with an answer whatever else an object has, and finds that it was not taken.
func (k *cluster) changesOnlyTheAnswer(pod *corev1.Pod) {
	agent := k.as(k.bearer(k.token(pod)))
	key := client.ObjectKey{Name: pod.Spec.NodeName}
	var before, after v1alpha1.NodeCutover
	k.must(k.Get(k.t.Context(), key, &before))
	sent := before.DeepCopy()
	sent.Labels, sent.Annotations = map[string]string{"a": "b"}, map[string]string{v1alpha1.AnnotationRelease: "please"}
	sent.Finalizers = []string{"example.org/never"}
	sent.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node-1", UID: "other"}}
	sent.Spec = v1alpha1.NodeCutoverSpec{NodeUID: "other", Challenge: &v1alpha1.Challenge{
		ID: "mine", NodeUID: "other", Role: v1alpha1.RoleLegacy, Purpose: v1alpha1.PurposeDrain, RequiredChecks: []v1alpha1.CheckName{"Nothing"},
	}}
	sent.Status.AgentVersion = "answered"
	k.must(agent.Status().Update(k.t.Context(), sent))
	k.must(k.Get(k.t.Context(), key, &after))
	if after.Status.AgentVersion != "answered" {
		k.t.Error("the answer itself was not taken")
	}
	before.Status, after.Status = v1alpha1.NodeCutoverStatus{}, v1alpha1.NodeCutoverStatus{}
	before.ResourceVersion, before.ManagedFields, after.ResourceVersion, after.ManagedFields = "", nil, "", nil
	if diff := cmp.Diff(before, after); diff != "" {
		k.t.Errorf("an answer changed more than the answer:\n%s", diff)
	}
}

// endsWithItsPod: the API server keeps what it found out about a token for ten seconds.
func (k *cluster) endsWithItsPod(pod *corev1.Pod) {
	config := k.bearer(k.token(pod))
	plain, err := rest.HTTPClientFor(config)
	k.must(err)
	if code, said := k.request(plain, http.MethodGet, "/api/v1/nodes/"+pod.Spec.NodeName, ""); code != http.StatusOK {
		k.t.Fatalf("the token of a living pod is answered %d: %.200s", code, said)
	}
	k.must(k.Delete(k.t.Context(), pod, client.GracePeriodSeconds(0)))
	k.eventually(time.Minute, func() string {
		code, said := k.request(plain, http.MethodGet, "/api/v1/nodes/"+pod.Spec.NodeName, "")
		if code == http.StatusUnauthorized {
			return ""
		}
		return fmt.Sprintf("the token of a pod that is gone is answered %d: %.100s", code, said)
	})
}

// isOfOneNode deletes a Node and creates it again under its name: the pod of the earlier one is still there for a while.
func (k *cluster) isOfOneNode(pod *corev1.Pod) {
	ctx := context.WithoutCancel(k.t.Context())
	agent, name := k.as(k.bearer(k.token(pod))), pod.Spec.NodeName
	k.must(k.report(agent, name))
	k.must(k.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	k.must(k.Delete(ctx, &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	k.join(name)
	k.refused("a report with a token of the earlier node", k.report(agent, name), "a node that was created again is another node")
}
