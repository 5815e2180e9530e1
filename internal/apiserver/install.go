// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// Install creates the CustomResourceDefinitions of a folder, one in a file, and returns when all are served. A definition
// that the API server takes but cannot serve, as one whose rules are too costly, is an error that says what it says.
func (s *Server) Install(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return fmt.Errorf("listing CRDs: %w", err)
	}
	if len(files) == 0 {
		return fmt.Errorf("listing CRDs: no *.yaml in %s; run make generate", dir)
	}
	client, err := dynamic.NewForConfig(s.config)
	if err != nil {
		return fmt.Errorf("making a client for CRDs: %w", err)
	}
	crds := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for _, file := range files {
		if err := install(ctx, crds, file); err != nil {
			return fmt.Errorf("installing %s: %w", file, err)
		}
	}
	return nil
}

func install(ctx context.Context, crds dynamic.ResourceInterface, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	crd := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict(data, &crd.Object); err != nil {
		return err
	}
	if _, err := crds.Create(ctx, crd, metav1.CreateOptions{}); err != nil {
		return err
	}
	var conditions any
	err = wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		now, err := crds.Get(ctx, crd.GetName(), metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		conditions, _, _ = unstructured.NestedSlice(now.Object, "status", "conditions")
		return established(conditions), nil
	})
	if err != nil {
		return fmt.Errorf("waiting for it to be served: %w; its conditions: %v", err, conditions)
	}
	return nil
}

func established(conditions any) bool {
	list, _ := conditions.([]any)
	for _, c := range list {
		if c, ok := c.(map[string]any); ok && c["type"] == "Established" && c["status"] == "True" {
			return true
		}
	}
	return false
}
