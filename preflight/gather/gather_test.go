// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package gather

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/internal/golden"
	"github.com/cni-cutover/cni-cutover/preflight"
)

// kept answers as an API server with these objects would, one object a page. A kind of which it has none and no Go type is
// one that is not installed.
type kept struct {
	objects   map[string][]*unstructured.Unstructured // by kind
	forbidden string                                  // a kind
}

func load(t *testing.T, file string) *kept {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	k := &kept{objects: map[string][]*unstructured.Unstructured{}}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return k
		}
		if err != nil {
			t.Fatal(err)
		}
		if scheme.Scheme.Recognizes(o.GroupVersionKind()) { // a field that does not exist is a mistake in the file
			typed, err := scheme.Scheme.New(o.GroupVersionKind())
			if err == nil {
				err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, typed, true)
			}
			if err != nil {
				t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
			}
		}
		k.objects[o.GetKind()] = append(k.objects[o.GetKind()], o)
	}
}

func (k *kept) Get(_ context.Context, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
	return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
}

func (k *kept) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	var o client.ListOptions
	o.ApplyOptions(options)
	kind := strings.TrimSuffix(strings.TrimSuffix(reflect.TypeOf(list).Elem().Name(), "List"), "Unstructured")
	objects := k.objects[kind]
	if u, free := list.(*unstructured.UnstructuredList); free {
		kind = strings.TrimSuffix(u.GetKind(), "List")
		objects = slices.DeleteFunc(slices.Clone(k.objects[kind]), func(o *unstructured.Unstructured) bool { return o.GetAPIVersion() != u.GetAPIVersion() })
		if len(objects) == 0 {
			return &meta.NoKindMatchError{GroupKind: u.GroupVersionKind().GroupKind()}
		}
	}
	if kind == k.forbidden {
		return apierrors.NewForbidden(schema.GroupResource{Resource: strings.ToLower(kind) + "s"}, "", errors.New("no"))
	}
	at, _ := strconv.Atoi(o.Continue)
	page := &unstructured.UnstructuredList{Object: map[string]any{}}
	if at < len(objects) {
		page.Items = append(page.Items, *objects[at])
	}
	if at+1 < len(objects) {
		page.SetContinue(strconv.Itoa(at + 1))
	}
	if u, free := list.(*unstructured.UnstructuredList); free {
		u.Items = page.Items
		u.SetContinue(page.GetContinue())
		return nil
	}
	reflect.ValueOf(list).Elem().SetZero()
	return runtime.DefaultUnstructuredConverter.FromUnstructured(page.UnstructuredContent(), list)
}

// TestAClusterBecomesASnapshot holds what is kept of objects in the shapes that API servers give.
func TestAClusterBecomesASnapshot(t *testing.T) {
	var s preflight.Snapshot
	if err := Cluster(t.Context(), load(t, filepath.Join("testdata", "cluster.yaml")), &s, func(string) {}); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Match(t, filepath.Join("testdata", "cluster.json"), string(out)+"\n")
}

// TestWhatIsForbiddenIsNoted, and what can be read without it is.
func TestWhatIsForbiddenIsNoted(t *testing.T) {
	for kind, resource := range map[string]string{
		"Node": "nodes", "Pod": "pods", "DaemonSet": "daemonsets.apps", "PodDisruptionBudget": "poddisruptionbudgets.policy", "PersistentVolume": "persistentvolumes",
		"NodePool": "nodepools.karpenter.sh", "NodeClaim": "nodeclaims.karpenter.sh",
	} {
		t.Run(kind, func(t *testing.T) {
			k := load(t, filepath.Join("testdata", "cluster.yaml"))
			k.forbidden = kind
			var s preflight.Snapshot
			if err := Cluster(t.Context(), k, &s, func(string) {}); err != nil {
				t.Fatal(err)
			}
			if len(s.Missing) != 1 || s.Missing[0].Verb != "list" || s.Missing[0].Resource != resource {
				t.Errorf("%+v", s.Missing)
			}
			if (len(s.Pods) == 0) != (kind == "Pod") || (len(s.Nodes) == 0) != (kind == "Node") {
				t.Errorf("%d pods, %d nodes", len(s.Pods), len(s.Nodes))
			}
		})
	}
}

// TestTheVersionThatIsServedIsRead: clusters have Karpenter's older one for years.
func TestTheVersionThatIsServedIsRead(t *testing.T) {
	for version, pools := range map[string]int{"v1": 1, "v1beta1": 1, "v1alpha5": 0} {
		k := load(t, filepath.Join("testdata", "cluster.yaml"))
		for _, kind := range []string{"NodePool", "NodeClaim"} {
			for _, o := range k.objects[kind] {
				o.SetAPIVersion("karpenter.sh/" + version)
			}
		}
		var s preflight.Snapshot
		if err := Cluster(t.Context(), k, &s, func(string) {}); err != nil {
			t.Fatal(err)
		}
		if len(s.NodePools) != pools || len(s.NodeClaims) != 2*pools || len(s.Missing) != 0 {
			t.Errorf("%s: %+v, %+v, %+v", version, s.NodePools, s.NodeClaims, s.Missing)
		}
	}
}

// TestThePortThatIsCalledIsThatOfThePods: a Service's port leads to ports of its pods by name.
func TestThePortThatIsCalledIsThatOfThePods(t *testing.T) {
	name := func(n string) *string { return &n }
	port := func(n int32) *int32 { return &n }
	service := []corev1.ServicePort{{Name: "https", Port: 443}, {Name: "metrics", Port: 9090}}
	for what, c := range map[string]struct {
		of     []corev1.ServicePort
		behind []discoveryv1.EndpointPort
		want   []int32
	}{
		"by name":              {service, []discoveryv1.EndpointPort{{Name: name("metrics"), Port: port(9090)}, {Name: name("https"), Port: port(9443)}}, []int32{9443}},
		"one port has no name": {[]corev1.ServicePort{{Port: 443}}, []discoveryv1.EndpointPort{{Name: name(""), Port: port(8443)}}, []int32{8443}},
		"nor has its endpoint": {[]corev1.ServicePort{{Port: 443}}, []discoveryv1.EndpointPort{{Port: port(8443)}}, []int32{8443}},
		"two versions of pods": {service, []discoveryv1.EndpointPort{{Name: name("https"), Port: port(9443)}, {Name: name("https"), Port: port(10260)}}, []int32{9443, 10260}},
		"another port":         {service[1:], []discoveryv1.EndpointPort{{Name: name("metrics"), Port: port(9090)}}, nil},
		"all ports":            {service, []discoveryv1.EndpointPort{{Name: name("https")}}, nil},
	} {
		got := map[int32][]int32{}
		addPorts(got, c.of, c.behind)
		addPorts(got, c.of, c.behind) // of another slice of the same pods
		if !slices.Equal(got[443], c.want) {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

// TestTheHopLimitOfAnEC2NodeClass is 1 where a newer one says nothing, and 2 where an older one does not.
func TestTheHopLimitOfAnEC2NodeClass(t *testing.T) {
	for name, c := range map[string]struct {
		version string
		options map[string]any
		want    preflight.IMDS
	}{
		"said":                 {"v1", map[string]any{"httpPutResponseHopLimit": int64(2), "httpEndpoint": "enabled"}, preflight.IMDS{HopLimit: 2}},
		"not said":             {"v1", nil, preflight.IMDS{HopLimit: 1}},
		"not said by an older": {"v1beta1", nil, preflight.IMDS{HopLimit: 2}},
		"switched off":         {"v1", map[string]any{"httpEndpoint": "disabled"}, preflight.IMDS{HopLimit: 1, NoIMDS: true}},
	} {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "karpenter.k8s.aws/" + c.version, "kind": "EC2NodeClass", "metadata": map[string]any{"name": "default"}}}
		if c.options != nil {
			o.Object["spec"] = map[string]any{"metadataOptions": c.options}
		}
		g := &gatherer{from: &kept{objects: map[string][]*unstructured.Unstructured{"EC2NodeClass": {o}}}, into: &preflight.Snapshot{}, tell: func(string) {}}
		if err := g.nodeClasses(t.Context()); err != nil || len(g.into.NodeClasses) != 1 || g.into.NodeClasses[0].IMDS != c.want {
			t.Errorf("%s: %+v, %v", name, g.into.NodeClasses, err)
		}
	}
}
