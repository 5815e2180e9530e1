// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package gather

import (
	"context"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/vpccni"
)

// network reads what gives pods their network, and what others build on it. It comes after the nodes.
func (g *gatherer) network(ctx context.Context) error {
	n := &g.into.Network
	var proxy *appsv1.DaemonSet
	err := each(ctx, g, "daemonsets.apps", &appsv1.DaemonSetList{}, func(l *appsv1.DaemonSetList) error {
		for i := range l.Items {
			g.into.DaemonSets = append(g.into.DaemonSets, l.Items[i].Namespace+"/"+l.Items[i].Name)
			switch ds := &l.Items[i]; {
			case ds.Namespace == n.Legacy.Namespace && ds.Name == n.Legacy.Name:
				n.Legacy.Found, n.Legacy.Options = true, vpccni.Read(ds)
			case ds.Namespace == n.Cilium.Namespace && ds.Name == n.Cilium.Name:
				n.Cilium.Found = true
				for c := range ds.Spec.Template.Spec.Containers {
					n.Cilium.StripsRules = n.Cilium.StripsRules || vpccni.StripsRules(&ds.Spec.Template.Spec.Containers[c])
				}
			case ds.Namespace == metav1.NamespaceSystem && ds.Name == "kube-proxy":
				n.KubeProxy.Found, proxy = true, ds.DeepCopy()
			case multus(ds):
				n.Multus = append(n.Multus, ds.Namespace+"/"+ds.Name)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, read := range []func() error{
		func() error { return g.kubeProxy(ctx, proxy) },
		func() error { return g.cilium(ctx) },
		func() error { return g.eniConfigs(ctx) },
		func() error {
			return g.names(ctx, &n.SecurityGroupPolicies, "", "securitygrouppolicies.vpcresources.k8s.aws", of("vpcresources.k8s.aws", "v1beta1", "SecurityGroupPolicy"))
		},
		func() error {
			return g.names(ctx, &n.Attachments, "", "network-attachment-definitions.k8s.cni.cncf.io", of("k8s.cni.cncf.io", "v1", "NetworkAttachmentDefinition"))
		},
		func() error {
			return g.names(ctx, &n.AWSPolicies, "ClusterNetworkPolicy/", "clusternetworkpolicies.networking.k8s.aws", of("networking.k8s.aws", "v1alpha1", "ClusterNetworkPolicy"))
		},
		func() error {
			return g.names(ctx, &n.AWSPolicies, "ApplicationNetworkPolicy/", "applicationnetworkpolicies.networking.k8s.aws", of("networking.k8s.aws", "v1alpha1", "ApplicationNetworkPolicy"))
		},
		func() error {
			return each(ctx, g, "networkpolicies.networking.k8s.io", &networkingv1.NetworkPolicyList{}, func(l *networkingv1.NetworkPolicyList) error {
				n.NetworkPolicies += len(l.Items)
				return nil
			})
		},
	} {
		if err := read(); err != nil {
			return err
		}
	}
	return nil
}

// names are those of all objects of a kind, with their namespace if they have one.
func (g *gatherer) names(ctx context.Context, into *[]string, prefix, resource string, list *unstructured.UnstructuredList) error {
	return each(ctx, g, resource, list, func(l *unstructured.UnstructuredList) error {
		for i := range l.Items {
			name := l.Items[i].GetName()
			if namespace := l.Items[i].GetNamespace(); namespace != "" {
				name = namespace + "/" + name
			}
			*into = append(*into, prefix+name)
		}
		return nil
	})
}

// multus says whether a DaemonSet runs Multus (ghcr.io/k8snetworkplumbingwg/multus-cni, amazon/amazon-k8s-multus).
func multus(ds *appsv1.DaemonSet) bool {
	return slices.ContainsFunc(ds.Spec.Template.Spec.Containers, func(c corev1.Container) bool {
		return strings.Contains(c.Image[strings.LastIndex(c.Image, "/")+1:], "multus")
	})
}

// get reads an object, and says whether it is there. What may not be read is noted.
func (g *gatherer) get(ctx context.Context, resource, namespace, name string, into client.Object) (bool, error) {
	err := g.from.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, into)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, g.missing("get", resource, namespace, err)
}

// kubeProxy reads kube-proxy's mode: its flag, or the file that it gets from a ConfigMap, whatever that is called (EKS:
// kube-proxy-config).
func (g *gatherer) kubeProxy(ctx context.Context, ds *appsv1.DaemonSet) error {
	if ds == nil {
		return nil
	}
	p := &g.into.Network.KubeProxy
	for _, c := range ds.Spec.Template.Spec.Containers {
		for _, arg := range append(slices.Clone(c.Command), c.Args...) {
			if name, value, _ := strings.Cut(arg, "="); name == "--proxy-mode" {
				p.Mode = value
				return nil
			}
		}
	}
	for _, v := range ds.Spec.Template.Spec.Volumes {
		if v.ConfigMap == nil {
			continue
		}
		var files corev1.ConfigMap
		if found, err := g.get(ctx, "configmaps", ds.Namespace, v.ConfigMap.Name, &files); err != nil || !found {
			return err
		}
		for _, file := range files.Data {
			var config struct {
				Kind string `yaml:"kind"`
				Mode string `yaml:"mode"`
			}
			if err := yaml.Unmarshal([]byte(file), &config); err == nil && config.Kind == "KubeProxyConfiguration" {
				p.Mode = config.Mode
			}
		}
	}
	return nil
}

// cilium reads how Cilium translates on nodes of the VPC CNI: as cilium-config says, or the CiliumNodeConfigs that select one of
// them.
func (g *gatherer) cilium(ctx context.Context) error {
	n := &g.into.Network
	if !n.Cilium.Found {
		return nil
	}
	var config corev1.ConfigMap
	if _, err := g.get(ctx, "configmaps", n.Cilium.Namespace, "cilium-config", &config); err != nil {
		return err
	}
	var overrides []override
	err := each(ctx, g, "ciliumnodeconfigs.cilium.io", of("cilium.io", "v2", "CiliumNodeConfig"), func(l *unstructured.UnstructuredList) error {
		for i := range l.Items {
			var o override
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(l.Items[i].Object, &o); err != nil {
				return g.missing("list", "ciliumnodeconfigs.cilium.io", "", err)
			}
			overrides = append(overrides, o)
		}
		return nil
	}, client.InNamespace(n.Cilium.Namespace))
	if err != nil {
		return err
	}
	var nodes []labels.Set
	for i := range g.into.Nodes {
		nodes = append(nodes, g.into.Nodes[i].Labels)
	}
	old := v1alpha1.LegacyNodes(nodes, n.Legacy.FenceLabel)
	n.Cilium.KubeProxyReplacement = anyOn(&config, overrides, old, "kube-proxy-replacement")
	n.Cilium.BPFMasquerade = anyOn(&config, overrides, old, "enable-bpf-masquerade")
	return nil
}

// override is a CiliumNodeConfig.
type override struct {
	Spec struct {
		NodeSelector metav1.LabelSelector `json:"nodeSelector"`
		Defaults     map[string]string    `json:"defaults"`
	} `json:"spec"`
}

// anyOn says whether a switch of Cilium is on for one of the nodes at least. A selector that cannot be read selects all.
func anyOn(config *corev1.ConfigMap, overrides []override, nodes []labels.Set, key string) bool {
	usual := config.Data[key] == "true"
	if len(nodes) == 0 {
		return usual
	}
	return slices.ContainsFunc(nodes, func(node labels.Set) bool {
		overridden := false
		for i := range overrides {
			value, set := overrides[i].Spec.Defaults[key]
			selector, err := metav1.LabelSelectorAsSelector(&overrides[i].Spec.NodeSelector)
			if !set || err == nil && !selector.Matches(node) {
				continue
			}
			if overridden = true; value == "true" {
				return true
			}
		}
		return usual && !overridden
	})
}

func (g *gatherer) eniConfigs(ctx context.Context) error {
	return each(ctx, g, "eniconfigs.crd.k8s.amazonaws.com", of("crd.k8s.amazonaws.com", "v1alpha1", "ENIConfig"), func(l *unstructured.UnstructuredList) error {
		for i := range l.Items {
			groups, _, _ := unstructured.NestedStringSlice(l.Items[i].Object, "spec", "securityGroups")
			if len(groups) == 0 {
				groups = []string{"the node's security groups"}
			}
			g.into.Network.ENIConfigs = append(g.into.Network.ENIConfigs, "ENIConfig "+l.Items[i].GetName()+": "+strings.Join(groups, ", "))
		}
		return nil
	})
}
