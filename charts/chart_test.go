// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package charts holds the tests of the Helm chart, and derives from the comments of its values.yaml what else tells of
// its values: values.schema.json and the table in its README. `go test ./charts -update` writes what is derived.
package charts

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/internal/golden"
)

const (
	chart = "cni-cutover"
	helm  = "../bin/helm"
	// everything switches on what the defaults leave off.
	everything = "testdata/everything.values.yaml"
)

// runHelm runs the pinned helm, in the chart's folder, and returns what it says on either stream.
func runHelm(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	path, err := filepath.Abs(helm)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("looking for the pinned helm at %s: it is not built; run: tools/install helm", path)
	}
	var out, complaint bytes.Buffer
	c := exec.Command(path, args...)
	c.Dir, c.Stdout, c.Stderr = chart, &out, &complaint
	err = c.Run()
	return out.String(), complaint.String(), err
}

// render returns the chart's manifests. The version is that of the cluster they are for; without a cluster helm knows none.
func render(args ...string) []string {
	return append([]string{"template", "cni-cutover", ".", "--namespace", "cni-cutover", "--kube-version", "1.35.0"}, args...)
}

func mustRender(t *testing.T, args ...string) string {
	t.Helper()
	out, complaint, err := runHelm(t, render(args...)...)
	if err != nil {
		t.Fatalf("rendering the chart with %v: %v\n%s", args, err, complaint)
	}
	return out
}

// objects decodes manifests into the types of the API, refusing fields that these do not have. PodMonitor, whose type is
// the Prometheus operator's, is counted and left out.
func objects(t *testing.T, manifests string) (known []runtime.Object, podMonitors int) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifests)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return known, podMonitors
		}
		if err != nil {
			t.Fatal(err)
		}
		var content map[string]any
		if err := sigsyaml.Unmarshal(document, &content); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if content == nil { // comments
			continue
		}
		if content["kind"] == "PodMonitor" {
			podMonitors++
			continue
		}
		object, _, err := strict.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("decoding strictly: %v\n%s", err, document)
		}
		known = append(known, object)
	}
}

// find returns the objects of one type.
func find[T runtime.Object](objects []runtime.Object) []T {
	var found []T
	for _, o := range objects {
		if o, ok := o.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// golden compares got with a file of the chart, or writes it.
func TestLintIsClean(t *testing.T) {
	for name, args := range map[string][]string{"defaults": nil, "everything": {"--values", everything}} {
		t.Run(name, func(t *testing.T) {
			out, complaint, err := runHelm(t, append([]string{"lint", "--strict", "--quiet", "."}, args...)...)
			if err != nil || strings.Contains(out, "WARNING") || strings.Contains(out, "ERROR") {
				t.Errorf("helm lint: %v\n%s%s", err, out, complaint)
			}
		})
	}
}

func TestRendersAsBefore(t *testing.T) {
	for name, args := range map[string][]string{"default": nil, "everything": {"--values", everything}} {
		t.Run(name, func(t *testing.T) {
			key := regexp.MustCompile(`(?m)^  current: [A-Za-z0-9+/=]{64}$`) // 48 random bytes of letters and digits
			golden.Match(t, filepath.Join(chart, "testdata/"+name+".yaml"), key.ReplaceAllString(mustRender(t, args...), "  current: RANDOM"))
		})
	}
}

func TestRendersObjectsOfTheAPI(t *testing.T) {
	byDefault, monitors := objects(t, mustRender(t, "--include-crds"))
	if monitors != 0 {
		t.Error("a PodMonitor by default: most clusters do not have that kind")
	}
	if n := len(find[*apiextensionsv1.CustomResourceDefinition](byDefault)); n != 2 {
		t.Errorf("%d CRDs, want Cutover and NodeCutover", n)
	}
	if n := len(find[*admissionv1.ValidatingAdmissionPolicyBinding](byDefault)); n != 1 {
		t.Errorf("%d bindings of admission policies, want one: a policy without one does nothing", n)
	}
	all, monitors := objects(t, mustRender(t, "--include-crds", "--values", everything))
	if monitors != 1 {
		t.Errorf("%d PodMonitors with everything on, want 1", monitors)
	}
	if len(all) == 0 {
		t.Error("nothing with everything on")
	}
}

func TestRefuses(t *testing.T) {
	cases := map[string]struct {
		set  []string
		says string
	}{
		"an unknown key":                        {[]string{"agnet.image=x"}, "agnet"},
		"an unknown key deep down":              {[]string{"coordinator.resources.limits.cpus=1"}, "cpus"},
		"Cilium's health port":                  {[]string{"ports.agent=4240"}, "/ports/agent"},
		"the API server's port":                 {[]string{"ports.agent=6443"}, "/ports/agent"},
		"a port that everybody uses":            {[]string{"ports.coordinatorMetrics=8080"}, "/ports/coordinatorMetrics"},
		"the other port that everybody uses":    {[]string{"ports.coordinatorHealth=8081"}, "/ports/coordinatorHealth"},
		"the port of webhooks":                  {[]string{"ports.agent=9443"}, "/ports/agent"},
		"Cilium's agent's port":                 {[]string{"ports.agent=9879"}, "/ports/agent"},
		"Cilium's metrics port":                 {[]string{"ports.agent=9962"}, "/ports/agent"},
		"the kubelet's port":                    {[]string{"ports.agent=10250"}, "/ports/agent"},
		"a port that needs a capability":        {[]string{"ports.agent=443"}, "/ports/agent"},
		"one port for two":                      {[]string{"ports.agent=9793"}, "has a port twice"},
		"an unknown check":                      {[]string{"agent.disableChecks={Conflits}"}, "/agent/disableChecks/0"},
		"a scheme in the API server's host":     {[]string{"kubernetes.serviceHost=https://example.org"}, "/kubernetes/serviceHost"},
		"a meter that is half attached":         {[]string{"agent.tunnelMeter.attached=Sometimes"}, "/agent/tunnelMeter/attached"},
		"net.d outside of what the agents see":  {[]string{"agent.cniConfDir=/var/lib/cni/net.d"}, "widen agent.hostDir"},
		"net.d in a folder of a similar name":   {[]string{"agent.cniConfDir=/etcetera/net.d"}, "widen agent.hostDir"},
		"no coordinator":                        {[]string{"coordinator.replicas=0"}, "/coordinator/replicas"},
		"a cluster that does not name the node": {nil, "requires kubeVersion"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			args := render()
			for _, set := range c.set {
				args = append(args, "--set", set)
			}
			if c.set == nil {
				args = append(args, "--kube-version", "1.31.9")
			}
			_, complaint, err := runHelm(t, args...)
			if err == nil {
				t.Fatal("it was accepted")
			}
			if !strings.Contains(strings.ReplaceAll(complaint, ".", "/"), strings.ReplaceAll(c.says, ".", "/")) {
				t.Errorf("the refusal does not say %q:\n%s", c.says, complaint)
			}
		})
	}
}
