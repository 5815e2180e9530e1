// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package charts

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// cutoverSchema returns the validation of the Cutover's CRD, as far as it is a JSON schema: the rules in CEL are the API
// server's own.
func cutoverSchema(t *testing.T) *validate.SchemaValidator {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(chart, "crds", "cni-cutover.dev_cutovers.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(data, &crd); err != nil {
		t.Fatal(err)
	}
	if len(crd.Spec.Versions) != 1 {
		t.Fatalf("the CRD has %d versions, want one", len(crd.Spec.Versions))
	}
	written, err := json.Marshal(crd.Spec.Versions[0].Schema.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	var s spec.Schema
	if err := json.Unmarshal(written, &s); err != nil {
		t.Fatal(err)
	}
	return validate.NewSchemaValidator(&s, nil, "", strfmt.Default)
}

func TestTheExampleIsACutover(t *testing.T) {
	data, err := os.ReadFile("../docs/examples/cutover.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cutover v1alpha1.Cutover
	if err := yaml.UnmarshalStrict(data, &cutover); err != nil {
		t.Fatalf("decoding strictly: %v", err)
	}
	if cutover.Name != v1alpha1.CutoverName || len(cutover.Spec.ApprovedPhases) != 0 {
		t.Errorf("name %q, approved phases %v: want %q and none, because people will apply it before they think",
			cutover.Name, cutover.Spec.ApprovedPhases, v1alpha1.CutoverName)
	}
	s := cutoverSchema(t)
	var object map[string]any
	if err := yaml.Unmarshal(data, &object); err != nil {
		t.Fatal(err)
	}
	for _, err := range s.Validate(object).Errors {
		t.Error(err)
	}
	object["spec"].(map[string]any)["state"] = "Stopped"
	if s.Validate(object).IsValid() {
		t.Error("the schema lets a state through that there is not: it judges nothing")
	}
}
