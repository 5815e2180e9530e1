// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

const ownPath = "/apis/cni-cutover.dev/v1alpha1/nodecutovers"

// fakeServer speaks as much of the Kubernetes API as the agent uses, and writes down what it was asked.
type fakeServer struct {
	t    *testing.T
	lock sync.Mutex

	object    v1alpha1.NodeCutover
	pods      []corev1.Pod
	answers   map[string]string // bodies by path; absent is 404
	conflicts int               // how many writes are refused for an old resourceVersion

	requests []string
	written  []v1alpha1.NodeCutover
	events   chan v1alpha1.NodeCutover
}

func newFakeServer(t *testing.T) (*fakeServer, *rest.Config) {
	s := &fakeServer{t: t, answers: map[string]string{}, events: make(chan v1alpha1.NodeCutover, 8)}
	s.object = v1alpha1.NodeCutover{
		TypeMeta:   metav1.TypeMeta{APIVersion: "cni-cutover.dev/v1alpha1", Kind: "NodeCutover"},
		ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "object-1", ResourceVersion: "7"},
	}
	s.pods = []corev1.Pod{{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", ResourceVersion: "3", Annotations: map[string]string{"large": strings.Repeat("x", 1000)}},
		Spec:       corev1.PodSpec{NodeName: "n1"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.244.1.7"}}},
	}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, &rest.Config{Host: server.URL}
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.lock.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
	s.lock.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r)
	case r.Method == http.MethodPut && r.URL.Path == ownPath+"/n1/status":
		s.put(w, r)
	case r.URL.Path == ownPath+"/n1":
		s.lock.Lock()
		defer s.lock.Unlock()
		s.send(w, s.object)
	case r.URL.Path == ownPath:
		s.send(w, map[string]any{"kind": "NodeCutoverList", "apiVersion": "cni-cutover.dev/v1alpha1", "metadata": map[string]any{"resourceVersion": "7"}, "items": []any{s.object}})
	case r.URL.Path == "/api/v1/pods":
		s.send(w, corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: metav1.ListMeta{ResourceVersion: "7"}, Items: s.pods})
	case s.answers[r.URL.Path+"?"+r.URL.Query().Get("continue")] != "":
		fmt.Fprint(w, s.answers[r.URL.Path+"?"+r.URL.Query().Get("continue")])
	default:
		s.refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound)
	}
}

func (s *fakeServer) send(w io.Writer, o any) {
	if err := json.NewEncoder(w).Encode(o); err != nil {
		s.t.Error(err)
	}
}

func (s *fakeServer) refuse(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.WriteHeader(code)
	s.send(w, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: reason, Code: int32(code), Message: string(reason)})
}

// watch sends what is there, the bookmark that ends it if it was asked for, and then what the test puts into events.
func (s *fakeServer) watch(w http.ResponseWriter, r *http.Request) {
	event := func(kind string, o any) {
		s.send(w, map[string]any{"type": kind, "object": o})
		w.(http.Flusher).Flush()
	}
	end := metav1.ObjectMeta{ResourceVersion: "8", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}
	pods := strings.HasSuffix(r.URL.Path, "/pods")
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		if pods {
			for _, p := range s.pods {
				event("ADDED", p)
			}
			event("BOOKMARK", corev1.Pod{TypeMeta: s.pods[0].TypeMeta, ObjectMeta: end})
		} else {
			event("ADDED", s.object)
			event("BOOKMARK", v1alpha1.NodeCutover{TypeMeta: s.object.TypeMeta, ObjectMeta: end})
		}
	}
	events := s.events
	if pods {
		events = nil
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case o := <-events:
			event("MODIFIED", o)
		}
	}
}

func (s *fakeServer) put(w http.ResponseWriter, r *http.Request) {
	var n v1alpha1.NodeCutover
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		s.t.Error(err)
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.conflicts > 0 {
		s.conflicts--
		s.object.ResourceVersion += "1"
		s.refuse(w, http.StatusConflict, metav1.StatusReasonConflict)
		return
	}
	if n.ResourceVersion != s.object.ResourceVersion || n.Kind != "NodeCutover" {
		s.t.Errorf("a write with resourceVersion %q and kind %q", n.ResourceVersion, n.Kind)
	}
	s.written = append(s.written, n)
	s.send(w, n)
}

func (s *fakeServer) asked() []string {
	s.lock.Lock()
	defer s.lock.Unlock()
	return slices.Clone(s.requests)
}

func newAPI(t *testing.T, config *rest.Config, noticed func(bool)) *API {
	t.Helper()
	a, err := NewAPI(config, "n1", noticed)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// eventually polls; it ends the test if what it waits for does not come.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

func TestWatchesOnlyWhatIsThisNodes(t *testing.T) {
	server, config := newFakeServer(t)
	var questions, changes atomic.Int32
	a := newAPI(t, config, func(question bool) {
		if question {
			questions.Add(1)
			return
		}
		changes.Add(1)
	})
	if a.NodeCutover() != nil || a.HeardPods().Sight == facts.Seen || a.Synced() {
		t.Error("knows something before it was told")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Watch(ctx) }()
	eventually(t, "both lists", a.Synced)

	next := server.object
	next.ResourceVersion = "9"
	next.Spec.Challenge = &v1alpha1.Challenge{ID: "q1"}
	server.events <- next
	eventually(t, "the question", func() bool { n := a.NodeCutover(); return n != nil && questionID(n) == "q1" })
	eventually(t, "both notices", func() bool { return questions.Load() >= 2 && changes.Load() >= 1 })

	pods := a.HeardPods()
	if pods.Sight != facts.Seen || len(pods.List) != 1 || pods.List[0].IPs[0] != netip.MustParseAddr("10.244.1.7") {
		t.Errorf("%+v", pods)
	}
	if kept := a.pods.List()[0].(*corev1.Pod); kept.Annotations != nil {
		t.Error("the cache keeps what nobody reads")
	}
	for _, r := range server.asked() {
		own := strings.Contains(r, "fieldSelector=metadata.name%3Dn1") && strings.Contains(r, ownPath+"?")
		pods := strings.Contains(r, "fieldSelector=spec.nodeName%3Dn1") && strings.Contains(r, "/api/v1/pods?")
		if !own && !pods {
			t.Errorf("asked for more than this node's: %s", r)
		}
	}
	cancel()
	<-done
}

func TestReadsItsSurroundings(t *testing.T) {
	server, config := newFakeServer(t)
	server.answers["/apis/cni-cutover.dev/v1alpha1/cutovers/cluster?"] = `{"apiVersion":"cni-cutover.dev/v1alpha1","kind":"Cutover","metadata":{"name":"cluster"},"spec":{"overlay":{"podCIDRs":["10.244.0.0/16"],"tunnel":{"port":8472}}}}`
	server.answers["/api/v1/nodes/n1?"] = `{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","uid":"uid-1"},"status":{"addresses":[{"type":"InternalIP","address":"10.0.1.10"}]}}`
	server.answers["/api/v1/nodes/n3?"] = `{"apiVersion":"v1","kind":"Node","metadata":{"name":"n3"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`
	server.answers[ciliumNodesPath+"/n1?"] = `{"metadata":{"name":"n1"},"spec":{"ipam":{"podCIDRs":["10.244.1.0/24"]}}}`
	server.answers[ciliumNodesPath+"?"] = `{"apiVersion":"cilium.io/v2","items":[
		{"metadata":{"name":"n1"},"spec":{"ipam":{"podCIDRs":["10.244.1.0/24"]}}},
		{"metadata":{"name":"n2"},"spec":{"addresses":[{"type":"InternalIP","ip":"10.0.2.10"}],"ipam":{"podCIDRs":["10.244.2.0/24"]}}}
	],"kind":"CiliumNodeList","metadata":{"continue":"more","resourceVersion":"9"}}`
	server.answers[ciliumNodesPath+"?more"] = `{"items":[{"metadata":{"name":"n3"},"spec":{}}],"metadata":{}}`
	server.answers["/api/v1/namespaces/default/services/kubernetes?"] = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"kubernetes"},"spec":{"clusterIP":"10.96.0.1","ports":[{"name":"https","port":443,"targetPort":6443}]}}`
	server.answers["/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes?"] = `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"kubernetes"},"addressType":"IPv4",
		"ports":[{"name":"https","port":6443}],"endpoints":[{"addresses":["10.0.0.5"],"conditions":{"ready":true}}]}`
	a := newAPI(t, config, func(bool) {})

	s := a.Surroundings(t.Context(), true)
	if want := "{{1 } 10.96.0.1:443 [10.0.0.5:6443]}"; fmt.Sprint(s.Kubernetes) != want {
		t.Errorf("default/kubernetes is %v, want %s", s.Kubernetes, want)
	}
	for what, look := range map[string]facts.Look{"settings": s.Settings.Look, "node": s.Node.Look, "own": s.Own.Look, "pods": s.Pods.Look, "peers": s.Peers.Look} {
		if look.Sight != facts.Seen {
			t.Errorf("%s: %+v", what, look)
		}
	}
	if s.Node.UID != "uid-1" || s.Settings.TunnelPort != 8472 || len(s.Pods.List) != 1 || s.Own.PodCIDRs[0].String() != "10.244.1.0/24" {
		t.Errorf("%+v", s)
	}
	var names []string
	for _, p := range s.Peers.List {
		names = append(names, p.Name)
	}
	if fmt.Sprint(names) != "[n2 n3]" {
		t.Errorf("peers %v", names)
	}
	if !slices.Contains(server.asked(), "GET "+ciliumNodesPath+"?resourceVersion=0") {
		t.Errorf("the list did not come from the watch cache: %v", server.asked())
	}

	if s := a.Surroundings(t.Context(), false); s.Peers.Sight != facts.NotLooked || s.Kubernetes.Sight != facts.NotLooked || s.Own.Sight != facts.Seen {
		t.Errorf("unasked: %+v %+v", s.Peers.Look, s.Own)
	}
	nodes := a.PeerNodes(t.Context(), []string{"n2", "n3"})
	if nodes["n2"].Sight != facts.Absent || nodes["n3"].Sight != facts.Seen || !nodes["n3"].Ready {
		t.Errorf("%+v", nodes)
	}
}

func TestAnAPIServerThatCannotSayIsNotOneThatSaysNo(t *testing.T) {
	server, config := newFakeServer(t)
	a := newAPI(t, config, func(bool) {})
	s := a.Surroundings(t.Context(), true) // nothing is there: neither Node, nor Cutover, nor Cilium's CRDs
	if s.Settings.Sight != facts.Absent || s.Kubernetes.Sight != facts.Absent || s.Node.Sight != facts.Absent || s.Peers.Sight != facts.Failed || s.Own.Sight != facts.Failed {
		t.Errorf("%+v", s)
	}
	for what, body := range map[string]string{
		"cut short":               `{"items":[{"metadata":{"name":"n2"}}`,
		"no list":                 `{"kind":"CiliumNode"}`,
		"no object":               `[]`,
		"an address that is none": `{"items":[{"metadata":{"name":"n2"},"spec":{"addresses":[{"type":"InternalIP","ip":"10.0"}]}}]}`,
	} {
		server.answers[ciliumNodesPath+"?"] = body
		if s := a.Surroundings(t.Context(), true); s.Peers.Sight != facts.Failed || len(s.Peers.List) > 0 {
			t.Errorf("%s: %+v", what, s.Peers)
		}
	}
	server.answers[ciliumNodesPath+"?"] = `{"items":[]}`
	if s := a.Surroundings(t.Context(), true); s.Peers.Sight != facts.Seen || s.Own.Sight != facts.Absent {
		t.Errorf("an empty list: %+v %+v", s.Peers, s.Own)
	}
}

func TestPublishes(t *testing.T) {
	server, config := newFakeServer(t)
	a := newAPI(t, config, func(bool) {})
	n := server.object.DeepCopy()
	n.Status = v1alpha1.NodeCutoverStatus{ChallengeID: "", Role: v1alpha1.RoleOverlay}
	server.conflicts = 2
	if err := a.Publish(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if len(server.written) != 1 || server.written[0].Status.Role != v1alpha1.RoleOverlay {
		t.Errorf("%+v", server.written)
	}

	server.conflicts = 1
	server.object.Spec.Challenge = &v1alpha1.Challenge{ID: "another"}
	if err := a.Publish(t.Context(), n); !errors.Is(err, errMoved) {
		t.Errorf("over another question: %v", err)
	}
	if len(server.written) != 1 {
		t.Errorf("%+v", server.written)
	}
}
