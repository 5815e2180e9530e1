// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/apiserver"
)

// The one API server of this test binary: written by TestMain, only read by tests.
var (
	config  *rest.Config
	cluster client.Client
)

func TestMain(m *testing.M) {
	os.Exit(apiserver.Run(m, func(s *apiserver.Server) error {
		config = s.Config()
		scheme := runtime.NewScheme()
		if err := v1alpha1.AddToScheme(scheme); err != nil {
			return err
		}
		var err error
		cluster, err = client.New(config, client.Options{Scheme: scheme})
		return err
	}))
}

// object parses an object as a person writes it. Tests of refusals do not use the Go types: those cannot say some of what a
// person can.
func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatalf("the test's own object: %v", err)
	}
	return u
}

// merged returns a with b merged into it as a JSON merge patch would be (RFC 7396).
func merged(a, b map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range a {
		out[k] = v
	}
	for k, v := range b {
		was, isMap := out[k].(map[string]any)
		is, toMap := v.(map[string]any)
		switch {
		case v == nil:
			delete(out, k)
		case isMap && toMap:
			out[k] = merged(was, is)
		default:
			out[k] = v
		}
	}
	return out
}

// created creates an object and takes it away after the test.
func created(t *testing.T, o client.Object) client.Object {
	t.Helper()
	if err := cluster.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Delete(context.Background(), o); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	return o
}

// tryPatch says what the API server thinks of a merge patch, written as YAML, and changes nothing.
func tryPatch(t *testing.T, o client.Object, patch string) error {
	t.Helper()
	body, err := yaml.YAMLToJSON([]byte(patch))
	if err != nil {
		t.Fatalf("the test's own patch: %v", err)
	}
	copied, ok := o.DeepCopyObject().(client.Object)
	if !ok {
		t.Fatalf("%T is no object", o)
	}
	return cluster.Patch(t.Context(), copied, client.RawPatch(types.MergePatchType, body), client.DryRunAll)
}

// refused wants an error that holds a sentence.
func refused(t *testing.T, err error, sentence string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("accepted; want it refused with %q", sentence)
	case !strings.Contains(err.Error(), sentence):
		t.Errorf("refused with %q; want %q in it", err, sentence)
	}
}
