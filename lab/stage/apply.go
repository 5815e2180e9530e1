// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// owner is the field manager of what a person would apply by hand.
const owner = "lab-stage"

// Apply applies a stream of YAML documents, as kubectl apply --server-side does. A kind whose
// definition is in the same stream may take a moment until it is served.
func (e *Env) Apply(ctx context.Context, manifest []byte) error {
	objects, err := Decode(manifest)
	if err != nil {
		return err
	}
	return e.ApplyObjects(ctx, objects)
}

// ApplyObjects is Apply for objects that were decoded, and perhaps changed, before.
func (e *Env) ApplyObjects(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		err := poll(ctx, func(ctx context.Context) (string, error) {
			err := e.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object.DeepCopy()), client.FieldOwner(owner), client.ForceOwnership)
			if meta.IsNoMatchError(err) {
				return err.Error(), nil
			}
			return "", err
		})
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", object.GetKind(), client.ObjectKeyFromObject(object), err)
		}
	}
	return nil
}

// Decode reads a stream of YAML documents.
func Decode(manifest []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		switch {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("reading document %d of a manifest: %w", len(objects)+1, err)
		case len(object.Object) > 0: // a comment alone is a document too
			objects = append(objects, object)
		}
	}
}

// pollEvery is the time between two looks at something that is waited for.
const pollEvery = 200 * time.Millisecond

// poll looks until nothing is missing or looking fails. look returns what is still missing.
func poll(ctx context.Context, look func(context.Context) (missing string, err error)) error {
	for {
		missing, err := look(ctx)
		if err != nil || missing == "" {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: still %s", ctx.Err(), missing)
		case <-time.After(pollEvery):
		}
	}
}
