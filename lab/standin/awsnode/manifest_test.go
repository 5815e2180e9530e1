// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"bytes"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

func TestManifestIsTheDaemonSetThatTheFencePatches(t *testing.T) {
	documents := bytes.Split(Manifest(), []byte("\n---\n"))
	if len(documents) != 2 {
		t.Fatalf("%d documents, want a ServiceAccount and a DaemonSet", len(documents))
	}
	var ds appsv1.DaemonSet
	if err := yaml.UnmarshalStrict(documents[1], &ds); err != nil {
		t.Fatal(err)
	}
	pod := ds.Spec.Template.Spec
	if ds.Namespace != "kube-system" || ds.Name != "aws-node" || ds.Spec.Template.Labels["k8s-app"] != "aws-node" {
		t.Errorf("it is %s/%s with labels %v", ds.Namespace, ds.Name, ds.Spec.Template.Labels)
	}
	if !pod.HostNetwork || pod.NodeSelector != nil || pod.Affinity == nil {
		t.Errorf("hostNetwork %t, nodeSelector %v, affinity %v", pod.HostNetwork, pod.NodeSelector, pod.Affinity)
	}
	if got := ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.String(); got != "10%" {
		t.Errorf("maxUnavailable %s", got)
	}
	env := map[string]string{}
	for _, e := range pod.Containers[0].Env {
		env[e.Name] = e.Value
	}
	s, err := SettingsFrom(func(name string) string { return env[name] })
	if err != nil || len(s.ExcludeSNATCIDRs) != 1 || len(s.ExternalServiceCIDRs) != 1 || s.ExternalSNAT {
		t.Errorf("its environment means %+v, %v", s, err)
	}
}
