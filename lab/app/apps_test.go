// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/yaml"
)

// manifest is Manifest by "kind namespace/name", decoded strictly, so a
// misspelt field is an error here and not a silent default in the lab.
func manifest(t *testing.T) map[string]any {
	t.Helper()
	objects := map[string]any{}
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(Manifest)))
	defer documents.Close()
	buffer := make([]byte, len(Manifest))
	for {
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		var head struct {
			metav1.TypeMeta   `json:",inline"`
			metav1.ObjectMeta `json:"metadata"`
		}
		if err := strict.Unmarshal(buffer[:n], &head); err != nil {
			t.Fatal(err)
		}
		if head.Kind == "" { // the comment above the first document
			continue
		}
		object, known := map[string]any{
			"Namespace":           &corev1.Namespace{},
			"Deployment":          &appsv1.Deployment{},
			"Service":             &corev1.Service{},
			"PodDisruptionBudget": &policyv1.PodDisruptionBudget{},
		}[head.Kind]
		if !known {
			t.Fatalf("unexpected kind %s", head.Kind)
		}
		if err := strict.UnmarshalStrict(buffer[:n], object); err != nil {
			t.Fatalf("%s %s/%s: %v", head.Kind, head.Namespace, head.Name, err)
		}
		objects[fmt.Sprintf("%s %s/%s", head.Kind, head.Namespace, head.Name)] = object
	}
}

func get[T any](t *testing.T, objects map[string]any, kind, namespace, name string) T {
	t.Helper()
	object, ok := objects[fmt.Sprintf("%s %s/%s", kind, namespace, name)].(T)
	if !ok {
		t.Fatalf("no %s %s/%s in %v", kind, namespace, name, slices.Sorted(maps.Keys(objects)))
	}
	return object
}

func TestManifestDeclaresWhatAppsPromises(t *testing.T) {
	objects := manifest(t)
	if want := 4 * len(Apps()); len(objects) != want {
		t.Errorf("%d objects, want %d", len(objects), want)
	}
	for _, a := range Apps() {
		t.Run(a.Flavour, func(t *testing.T) {
			get[*corev1.Namespace](t, objects, "Namespace", "", a.Namespace)
			deployment := get[*appsv1.Deployment](t, objects, "Deployment", a.Namespace, a.Flavour)
			service := get[*corev1.Service](t, objects, "Service", a.Namespace, a.Flavour)
			budget := get[*policyv1.PodDisruptionBudget](t, objects, "PodDisruptionBudget", a.Namespace, a.Flavour)

			pod := deployment.Spec.Template
			for what, selector := range map[string]map[string]string{
				"deployment": deployment.Spec.Selector.MatchLabels,
				"service":    service.Spec.Selector,
				"budget":     budget.Spec.Selector.MatchLabels,
				"spread":     pod.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels,
			} {
				if !maps.Equal(selector, pod.Labels) {
					t.Errorf("%s selects %v, the pods are %v", what, selector, pod.Labels)
				}
			}
			if got := int(*deployment.Spec.Replicas); got != a.Replicas {
				t.Errorf("%d replicas, want %d", got, a.Replicas)
			}
			if got := budget.Spec.MinAvailable.IntValue(); got != a.Replicas-1 {
				t.Errorf("minAvailable %d, want %d", got, a.Replicas-1)
			}
			if got := int(service.Spec.Ports[0].NodePort); got != a.NodePort {
				t.Errorf("node port %d, want %d", got, a.NodePort)
			}
			container := pod.Spec.Containers[0]
			if container.Image != Image || container.ImagePullPolicy != corev1.PullNever {
				t.Errorf("image %s (%s), want %s (Never)", container.Image, container.ImagePullPolicy, Image)
			}
			if !slices.Contains(container.Args, "--flavour="+a.Flavour) {
				t.Errorf("args %v do not choose the flavour", container.Args)
			}
			if got := deployment.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue(); got != 0 {
				t.Errorf("maxUnavailable %d, want 0", got)
			}
		})
	}
}
