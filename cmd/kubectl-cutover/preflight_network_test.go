// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/apiserver"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

// kind makes a kind known to the API server that takes whatever it is given.
func (w *world) kind(group, version, kind, plural string, scope apiextensionsv1.ResourceScope) {
	w.t.Helper()
	w.make(apiserver.Kind(group, version, kind, plural, string(scope)))
}

// custom makes an object of such a kind, as soon as it is served.
func (w *world) custom(apiVersion, kind, namespace, name string, content map[string]any) {
	w.t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"namespace": namespace, "name": name}}}
	maps.Copy(o.Object, content)
	fleet.Eventually(w.t, time.Minute, func() string {
		if err := w.client.Create(w.t.Context(), o.DeepCopy()); err != nil {
			return err.Error()
		}
		return ""
	})
	w.t.Cleanup(func() { w.clear(o) })
}

// published is aws-node as the VPC CNI's project publishes it.
func published(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	data, err := os.ReadFile("../../vpccni/testdata/published.json")
	if err != nil {
		t.Fatal(err)
	}
	ds := &appsv1.DaemonSet{}
	if err := json.Unmarshal(data, ds); err != nil {
		t.Fatal(err)
	}
	ds.ManagedFields = nil // the API server writes them
	return ds
}

// kubeProxy is kube-proxy as EKS ships it.
func kubeProxy(mode string) (*appsv1.DaemonSet, *corev1.ConfigMap) {
	labels := map[string]string{"k8s-app": "kube-proxy"}
	meta := metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kube-proxy"}
	config := metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kube-proxy-config"}
	return &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
				Containers: []corev1.Container{{Name: "kube-proxy", Image: "none", Command: []string{"kube-proxy", "--v=2", "--config=/var/lib/kube-proxy-config/config"}}},
				Volumes:    []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: config.Name}}}}},
			}},
		}}, &corev1.ConfigMap{ObjectMeta: config, Data: map[string]string{
			"config": "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nclusterCIDR: \"\"\nmode: \"" + mode + "\"\nconntrack:\n  maxPerCore: 32768\n",
		}}
}

// settings are those that the overlay of newCutover needs.
func settings() []corev1.EnvVar {
	return []corev1.EnvVar{{Name: "AWS_EXTERNAL_SERVICE_CIDRS", Value: "10.250.0.0/16"}, {Name: "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", Value: "10.250.0.0/16"}}
}

// asAddOn changes containers of a DaemonSet as EKS does. Its controller writes meanwhile, so it tries again.
func (w *world) asAddOn(ds *appsv1.DaemonSet, change func([]corev1.Container)) {
	w.t.Helper()
	fleet.Eventually(w.t, time.Minute, func() string {
		err := w.client.Get(w.t.Context(), client.ObjectKeyFromObject(ds), ds)
		if err == nil {
			change(ds.Spec.Template.Spec.Containers)
			err = w.client.Update(w.t.Context(), ds, client.FieldOwner("eks"))
		}
		if err != nil {
			return err.Error()
		}
		return ""
	})
}

// readyForTheMove makes a VPC CNI with both settings, and kube-proxy.
func (w *world) readyForTheMove() {
	w.t.Helper()
	ds := published(w.t)
	env := &ds.Spec.Template.Spec.Containers[0].Env
	*env = append(*env, settings()...)
	proxy, config := kubeProxy("iptables")
	w.make(ds, proxy, config)
}

// TestTheVPCCNIIsReadFromACluster goes from aws-node as it is published, through its settings, to the mode of Cilium on its nodes.
func TestTheVPCCNIIsReadFromACluster(t *testing.T) {
	w := newWorld(t)
	status := corev1.NodeStatus{NodeInfo: machine()}
	w.make(newCutover(nil),
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "old", Labels: map[string]string{v1alpha1.FenceLabel: v1alpha1.FenceValue}}, Status: status},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "new"}, Status: status})
	ask := []string{"preflight", "--vpc-cidr", "10.0.0.0/16"}
	on(t, ask...).want(t, codeUnsure, "Unknown LegacySettings: DaemonSet kube-system/aws-node does not exist")

	ds := published(t)
	proxy, config := kubeProxy("ipvs")
	w.make(ds, proxy, config)
	on(t, ask...).want(t, codeBlocked, "Fail    LegacySettings DaemonSet/kube-system/aws-node", "3 kinds of paths", "kube-proxy in mode ipvs and Cilium as kubectl cutover values installs it",
		"> kubectl -n kube-system set env daemonset/aws-node -c aws-node AWS_EXTERNAL_SERVICE_CIDRS=10.250.0.0/16 AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS=10.250.0.0/16\n", "Pass    LegacyOptions", "Pass    Policies")

	w.asAddOn(ds, func(containers []corev1.Container) { containers[0].Env = append(containers[0].Env, settings()...) })
	on(t, ask...).want(t, codeUnsure, "Unknown LegacySettings", "with ipvs")
	config.Data["config"] = strings.Replace(config.Data["config"], "ipvs", "iptables", 1)
	if err := w.client.Update(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	on(t, ask...).want(t, codeClean, "Pass    LegacySettings", "0 Fail, 0 Unknown, 0 Warn")

	// Only replacement nodes replace kube-proxy, and then old ones do, too.
	cilium, agents := running(t)
	w.make(cilium, agents)
	w.kind("cilium.io", "v2", "CiliumNodeConfig", "ciliumnodeconfigs", apiextensionsv1.NamespaceScoped)
	replaces := func(name, operator string) {
		w.custom("cilium.io/v2", "CiliumNodeConfig", "kube-system", name, map[string]any{"spec": map[string]any{
			"nodeSelector": map[string]any{"matchExpressions": []any{map[string]any{"key": v1alpha1.FenceLabel, "operator": operator}}},
			"defaults":     map[string]any{"kube-proxy-replacement": "true", "enable-bpf-masquerade": "true"},
		}})
	}
	replaces("replacements", "DoesNotExist")
	on(t, ask...).want(t, codeClean, "Pass    LegacySettings", "Cilium with iptables masquerade")
	replaces("all", "Exists")
	on(t, ask...).want(t, codeBlocked, "2 kinds of paths", "Cilium with BPF masquerade and kube-proxy replacement", "> kubectl cutover values check --live")
}

// TestWhatIsBuiltOnTheVPCCNIIsRead has an object of each kind.
func TestWhatIsBuiltOnTheVPCCNIIsRead(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(nil))
	w.readyForTheMove()
	ds := published(t)
	w.asAddOn(ds, func(containers []corev1.Container) {
		for i := range containers[0].Env {
			if e := &containers[0].Env[i]; e.Name == "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG" {
				e.Value = "true"
			}
		}
		containers[0].Env = append(containers[0].Env, corev1.EnvVar{Name: "CLUSTER_NAME", Value: "shop"})
		containers[1].Args[1] = "--enable-network-policy=true"
	})
	for _, k := range []struct {
		group, version, kind, plural, namespace string
		content                                 map[string]any
	}{
		{"vpcresources.k8s.aws", "v1beta1", "SecurityGroupPolicy", "securitygrouppolicies", "default", map[string]any{"spec": map[string]any{"podSelector": map[string]any{}, "securityGroups": map[string]any{"groupIds": []any{"sg-1"}}}}},
		{"k8s.cni.cncf.io", "v1", "NetworkAttachmentDefinition", "network-attachment-definitions", "default", map[string]any{"spec": map[string]any{"config": `{"type":"ipvlan","master":"eth1"}`}}},
		{"networking.k8s.aws", "v1alpha1", "ClusterNetworkPolicy", "clusternetworkpolicies", "", map[string]any{"spec": map[string]any{"tier": "Admin", "priority": int64(10)}}},
		{"networking.k8s.aws", "v1alpha1", "ApplicationNetworkPolicy", "applicationnetworkpolicies", "default", nil},
		{"crd.k8s.amazonaws.com", "v1alpha1", "ENIConfig", "eniconfigs", "", map[string]any{"spec": map[string]any{"subnet": "subnet-1", "securityGroups": []any{"sg-7", "sg-8"}}}},
	} {
		scope := apiextensionsv1.NamespaceScoped
		if k.namespace == "" {
			scope = apiextensionsv1.ClusterScoped
		}
		w.kind(k.group, k.version, k.kind, k.plural, scope)
		w.custom(k.group+"/"+k.version, k.kind, k.namespace, "one", k.content)
	}
	multus := ds.DeepCopy()
	multus.ObjectMeta = metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-multus-ds"}
	multus.Spec.Template.Spec.InitContainers = nil
	multus.Spec.Template.Spec.Containers = []corev1.Container{{Name: "kube-multus", Image: "602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/multus-cni:v4.1.4-eksbuild.3_thick"}}
	w.make(multus, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "deny"}})

	on(t, "preflight", "--vpc-cidr", "10.0.0.0/16").want(t, codeBlocked,
		"SecurityGroupPolicy/default/one", "kubectl -n default delete securitygrouppolicy one", "NetworkAttachmentDefinition/default/one", "DaemonSet/kube-system/kube-multus-ds",
		"Fail    Policies ClusterNetworkPolicy/one", "ApplicationNetworkPolicy/default/one", "what the 1 NetworkPolicies allow", "ENIConfig one: sg-7, sg-8", "aws eks update-addon --cluster-name shop", "Pass    LegacySettings")

	// Not to be allowed to see a kind is not the same as a kind that does not exist.
	some := w.as("daemonsets", rbacv1.PolicyRule{APIGroups: []string{"", "apps"}, Resources: []string{"nodes", "daemonsets", "configmaps"}, Verbs: []string{"list", "get"}})
	plugin(t, "", "preflight", "--kubeconfig", some, "--overlay", "10.250.0.0/16").want(t, codeBlocked, "DaemonSet/kube-system/kube-multus-ds: Multus",
		"Unknown LegacyOptions: securitygrouppolicies.vpcresources.k8s.aws were not seen", "Unknown Policies: clusternetworkpolicies.networking.k8s.aws were not seen", "ENIConfigs, and so their security groups, were not seen",
		"Pass    LegacySettings")
}
