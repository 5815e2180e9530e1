// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func TestValuesAreThoseOfTheCluster(t *testing.T) {
	w := newWorld(t)
	without := on(t, "values").want(t, codeClean, "# The Cutover was not read, so pools and mode are defaults", "# The kubeconfig's server ", "--api-server",
		"[10.244.0.0/16]", "customConf: true", "k8sServiceHost: API-SERVER-ENDPOINT-WITHOUT-SCHEME")
	w.make(newCutover(func(c *v1alpha1.Cutover) {
		c.Spec.Cilium.Install = v1alpha1.InstallShared
		c.Spec.Overlay.Tunnel.Port = 4789
	}))
	with := on(t, "values", "--api-server", "https://ABCD.eks.amazonaws.com", "--cilium-version", "1.20.2").want(t, codeClean,
		"[10.250.0.0/16]", "clusterPoolIPv4MaskSize: 25", "tunnelPort: 4789", "customConf: false", "k8sServiceHost: ABCD.eks.amazonaws.com\n", "k8sServicePort: 443", "--version 1.20.2")
	for _, o := range []outcome{without, with} {
		var parsed map[string]any
		if err := yaml.UnmarshalStrict([]byte(o.stdout), &parsed); err != nil {
			t.Errorf("not YAML: %v\n%s", err, o.stdout)
		}
	}
	on(t, "values", "--install-mode", "Secondary", "--overlay", "10.251.0.0/16").want(t, codeClean, "[10.251.0.0/16]", "customConf: true")
	on(t, "values", "--phase", "full-ebpf").want(t, codeClean, "kubeProxyReplacement: true")
	on(t, "values", "--replacement-nodes").want(t, codeClean, "kind: CiliumNodeConfig", "FenceIntact", "io.cilium/aws-node-enabled")
	on(t, "values", "rules").want(t, codeClean, "MaskSeveral"[:4], "SOURCE")
	for _, wrong := range [][]string{
		{"--cilium-version", "1.17.9"}, {"--cilium-version", "new"}, {"--phase", "now"}, {"--install-mode", "Both"}, {"--overlay", "10.0.0.0"},
		{"--api-server", "https://"}, {"--phase", "full-ebpf", "--replacement-nodes"},
	} {
		on(t, append([]string{"values"}, wrong...)...).want(t, codeFailed, "kubectl cutover:")
	}
}

func TestValuesNeedNoCluster(t *testing.T) {
	plugin(t, "", "values", "--kubeconfig", filepath.Join(t.TempDir(), "none"), "--api-server", "api.example.org:6443").want(t, codeClean,
		"k8sServiceHost: api.example.org\n", "k8sServicePort: 6443", "pools and mode are defaults")
}

func TestAFileIsJudgedWithoutACluster(t *testing.T) {
	good := plugin(t, "", "values", "--kubeconfig", filepath.Join(t.TempDir(), "none"), "--api-server", "api.example.org").want(t, codeClean).stdout
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	plugin(t, "", "values", "check", "-f", file, "--cilium-version", "1.18.11", "--vpc-cidr", "10.0.0.0/16").want(t, codeClean, "0 Fail, 0 Unknown, 0 Warn")
	plugin(t, "", "values", "check", "-f", file, "--cilium-version", "1.18.11").want(t, codeUnsure, "Unknown  PoolOverlap", "--vpc-cidr")
	plugin(t, "", "values", "check", "-f", file, "--vpc-cidr", "10.0.0.0/16").want(t, codeUnsure, "Unknown  Version")
	plugin(t, "bpf: {masquerade: true}\n"+good, "values", "check", "-f", "-", "--cilium-version", "1.18.11").want(t, codeFailed, "already defined")
	plugin(t, strings.ReplaceAll(good, "masquerade: false", "masquerade: true"), "values", "check", "-f", "-", "--cilium-version", "1.18.11").want(t, codeBlocked, "Fail     MasqueradeOnOldNodes", "set bpf.masquerade: false")
	plugin(t, "", "values", "check", "-f", file, "--cilium-version", "1.18.11", "--vpc-cidr", "10.244.0.0/20", "-o", "json").want(t, codeBlocked, `"rule": "PoolOverlap"`)
	plugin(t, "", "values", "check", "-f", file, "--cilium-version", "1.18.11", "--vpc-cidr", "10.0.0.0/16", "--all").want(t, codeClean, "Pass     AWSRules", "NotAsked Bundle")
	plugin(t, "", "values", "check").want(t, codeFailed, "-f, or --live")
	plugin(t, "", "values", "check", "-f", "/does/not/exist").want(t, codeFailed, "no such file")
}

// running reads what the real chart made of our values (values/testdata).
func running(t *testing.T) (*corev1.ConfigMap, *appsv1.DaemonSet) {
	t.Helper()
	config, ds := &corev1.ConfigMap{}, &appsv1.DaemonSet{}
	for name, into := range map[string]any{"configmap": config, "daemonset": ds} {
		data, err := os.ReadFile(filepath.Join("..", "..", "values", "testdata", "rendered", "install-1.18.11-"+name+".yaml"))
		if err == nil {
			err = yaml.Unmarshal(data, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	labels := map[string]string{"k8s-app": "cilium"}
	ds.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	ds.Spec.Template.Labels = labels
	return config, ds
}

// release is the Secret of a revision, as Helm writes it.
func release(t *testing.T, revision int, config map[string]any) *corev1.Secret {
	t.Helper()
	plain, err := json.Marshal(map[string]any{
		"name": "cilium", "version": revision, "config": config,
		"chart": map[string]any{"metadata": map[string]any{"name": "cilium", "version": "1.19.0"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceSystem, Name: fmt.Sprintf("sh.helm.release.v1.cilium.v%d", revision),
			Labels: map[string]string{"owner": "helm", "name": "cilium", "status": "deployed", "version": fmt.Sprint(revision)},
		},
		Type: "helm.sh/release.v1", Data: map[string][]byte{"release": []byte(base64.StdEncoding.EncodeToString(zipped.Bytes()))},
	}
}

func TestWhatRunsIsJudged(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(func(c *v1alpha1.Cutover) {
		c.Spec.Overlay.PodCIDRs, c.Spec.Overlay.NodeMaskSize = []string{"10.244.0.0/16"}, 24
	}))
	live := []string{"values", "check", "--live", "--vpc-cidr", "10.0.0.0/16"}
	on(t, live...).want(t, codeFailed, "neither a Helm release cilium nor a ConfigMap cilium-config")

	config, ds := running(t)
	w.make(config, ds)
	on(t, live...).want(t, codeClean, "ConfigMap kube-system/cilium-config and DaemonSet kube-system/cilium, Cilium 1.18.11", "0 Fail, 0 Unknown, 0 Warn")
	limited := w.as("nosecrets", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"}})
	plugin(t, "", append(live, "--kubeconfig", limited)...).want(t, codeUnsure, "may not get daemonsets.apps", "Unknown  AWSRules")

	w.make(release(t, 9, map[string]any{"bpf": map[string]any{"masquerade": true}}), release(t, 10, map[string]any{"cni": map[string]any{"customConf": true, "exclusive": false}}))
	on(t, append(live, "--all")...).want(t, codeBlocked, "Helm release kube-system/cilium, revision 10, Cilium 1.19.0", "Fail     AWSRules", "Pass     MasqueradeOnOldNodes")

	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte("ipam: {operator: {clusterPoolIPv4MaskSize: 26}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	on(t, append(live, "-f", file)...).want(t, codeBlocked, "Fail     PoolChange: the mask is 24 now and would be 26", "Fail     Pool: the pools are [10.0.0.0/8] and the Cutover's")
}

// TestPoliciesAreCountedBeyondAPage, and addresses of nodes and Services are compared.
func TestPoliciesAreCountedBeyondAPage(t *testing.T) {
	w := newWorld(t)
	config, ds := running(t)
	config.Data["enable-policy"] = "default"
	config.Data["cluster-pool-ipv4-cidr"] = "10.96.0.0/12" // where the API server has its Services
	w.make(config, ds)
	w.make(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.1.7"}}}})
	const many = pageSize + 1
	var makers sync.WaitGroup
	names := make(chan int)
	for range 8 {
		makers.Go(func() {
			for i := range names {
				p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("p%d", i)}}
				if err := w.client.Create(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range many {
		names <- i
	}
	close(names)
	makers.Wait()
	t.Cleanup(func() {
		if err := w.client.DeleteAllOf(context.Background(), &networkingv1.NetworkPolicy{}, client.InNamespace("default")); err != nil {
			t.Error(err)
		}
	})
	var services networkingv1.ServiceCIDRList
	if err := w.client.List(t.Context(), &services); err != nil || len(services.Items) == 0 {
		t.Fatalf("the API server has no ServiceCIDR: %v", err)
	}
	on(t, "values", "check", "--live").want(t, codeBlocked, fmt.Sprintf("the cluster has %d of them", many), "overlaps with "+services.Items[0].Spec.CIDRs[0])
	config.Data["cluster-pool-ipv4-cidr"] = "10.0.0.0/16"
	if err := w.client.Update(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	on(t, "values", "check", "--live").want(t, codeBlocked, "holds the address 10.0.1.7 of a node")
}

// TestACiliumNodeConfigOnOldNodesIsFound: before there is a fence every node is an old one, then those that carry its label.
func TestACiliumNodeConfigOnOldNodesIsFound(t *testing.T) {
	w := newWorld(t)
	config, ds := running(t)
	w.make(config, ds, awsNode())
	w.make(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"pool": "a"}}})
	w.kind("cilium.io", "v2", "CiliumNodeConfig", "ciliumnodeconfigs", apiextensionsv1.NamespaceScoped)
	w.custom("cilium.io/v2", "CiliumNodeConfig", "kube-system", "kpr", map[string]any{"spec": map[string]any{
		"nodeSelector": map[string]any{"matchExpressions": []any{map[string]any{"key": v1alpha1.FenceLabel, "operator": "DoesNotExist"}}},
		"defaults":     map[string]any{"kube-proxy-replacement": "true"},
	}})
	live := []string{"values", "check", "--live", "--vpc-cidr", "10.0.0.0/16"}
	on(t, live...).want(t, codeBlocked, "Fail     NodeConfigs: CiliumNodeConfig kpr selects 1 nodes of the VPC CNI: kube-proxy replacement")
	w.make(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "old", Labels: map[string]string{v1alpha1.FenceLabel: v1alpha1.FenceValue}}})
	on(t, live...).want(t, codeClean, "0 Fail, 0 Unknown, 0 Warn")
}

func TestHostsAreSplit(t *testing.T) {
	for text, want := range map[string]string{
		"https://ABCD.eks.amazonaws.com": "ABCD.eks.amazonaws.com 443", "ABCD.eks.amazonaws.com:6443": "ABCD.eks.amazonaws.com 6443",
		"https://[2001:db8::1]:443/": "2001:db8::1 443",
	} {
		host, port, err := hostOf(text)
		if got := fmt.Sprint(host, " ", port); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "https://", "https://a b", "a:port"} {
		if host, port, err := hostOf(text); err == nil {
			t.Errorf("%q was read as %s %d", text, host, port)
		}
	}
	if _, ok := addressOf("ip-10-0-0-1"); ok {
		t.Error("a name was taken for an address")
	}
	if a, ok := addressOf("10.0.0.1"); !ok || a != netip.MustParseAddr("10.0.0.1") {
		t.Error("an address was not read")
	}
}
