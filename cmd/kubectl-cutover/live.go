// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/values"
)

// gatherValues reads what Cilium runs with, and what of the cluster its values are judged by. Only the former is needed: what
// is missing of the latter is told, and left open.
func (a *app) gatherValues(ctx context.Context, o checkOptions, v values.Version, into *values.Cluster) (*values.Values, error) {
	c, _, err := a.cluster()
	if err != nil {
		return nil, err
	}
	legacy := defaultLegacy()
	if cutover, err := readCutover(ctx, c); err == nil {
		spec := &cutover.Spec
		legacy = spec.Legacy
		if into.Overlay, err = parseNetworks("overlay", spec.Overlay.PodCIDRs); err != nil {
			return nil, err
		}
		into.NodeMaskSize, into.TunnelPort, into.Install = int(spec.Overlay.NodeMaskSize), int(spec.Overlay.Tunnel.Port), spec.Cilium.Install
	} else {
		a.note("pools and install mode are not compared with a Cutover: %v", err)
	}
	var nodes []labels.Set
	err = eachPage(ctx, c, "nodes", &corev1.NodeList{}, func(l *corev1.NodeList) {
		for i := range l.Items {
			nodes = append(nodes, l.Items[i].Labels)
			for _, at := range l.Items[i].Status.Addresses {
				if ip, ok := addressOf(at.Address); ok && at.Type == corev1.NodeInternalIP && ip.Is4() {
					into.NodeAddresses = append(into.NodeAddresses, ip)
				}
			}
		}
	})
	into.Overrides = values.Unseen
	if a.told(err) && a.told(a.nodeConfigs(ctx, c, o.namespace, legacy, nodes, into)) {
		into.Overrides = values.Seen
	}
	policies := 0
	err = eachPage(ctx, c, "networkpolicies.networking.k8s.io", &networkingv1.NetworkPolicyList{}, func(l *networkingv1.NetworkPolicyList) { policies += len(l.Items) })
	if a.told(err) {
		into.Policies = &policies
	}
	err = eachPage(ctx, c, "servicecidrs.networking.k8s.io", &networkingv1.ServiceCIDRList{}, func(l *networkingv1.ServiceCIDRList) {
		for i := range l.Items {
			if networks, err := parseNetworks("services", l.Items[i].Spec.CIDRs); err == nil {
				into.Services = append(into.Services, networks...)
			}
		}
	})
	a.told(err)

	running, err := a.release(ctx, c, o)
	if err != nil || running == nil {
		why := "there is none"
		if err != nil {
			why = err.Error()
		}
		a.note("Helm release %s/%s was not read, so cilium-config is: %s", o.namespace, o.release, why)
		if running, err = a.config(ctx, c, o, v); err != nil {
			return nil, err
		}
	}
	if v != (values.Version{}) {
		running.Version = v
	}
	return running, nil
}

// nodeConfigs reads the CiliumNodeConfigs that select nodes of the VPC CNI.
func (a *app) nodeConfigs(ctx context.Context, c client.Client, namespace string, legacy v1alpha1.Legacy, nodes []labels.Set, into *values.Cluster) error {
	err := c.Get(ctx, client.ObjectKey{Namespace: legacy.DaemonSet.Namespace, Name: legacy.DaemonSet.Name}, &appsv1.DaemonSet{})
	if apierrors.IsNotFound(err) {
		return nil // the VPC CNI is gone, and so are its nodes
	}
	if err != nil {
		return ask{"get", "daemonsets.apps", legacy.DaemonSet.Namespace}.fail(err)
	}
	old := v1alpha1.LegacyNodes(nodes, legacy.FenceLabel)
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: "cilium.io", Version: "v2", Kind: "CiliumNodeConfigList"})
	if err := c.List(ctx, list, client.InNamespace(namespace)); meta.IsNoMatchError(err) {
		return nil // Cilium has not made its kinds yet
	} else if err != nil {
		return ask{"list", "ciliumnodeconfigs.cilium.io", namespace}.fail(err)
	}
	for i := range list.Items {
		var config struct {
			Spec struct {
				NodeSelector metav1.LabelSelector `json:"nodeSelector"`
				Defaults     map[string]string    `json:"defaults"`
			} `json:"spec"`
		}
		name := list.Items[i].GetName()
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &config); err != nil {
			return fmt.Errorf("reading CiliumNodeConfig %s: %w", name, err)
		}
		selector, err := metav1.LabelSelectorAsSelector(&config.Spec.NodeSelector)
		if err != nil {
			return fmt.Errorf("reading the selector of CiliumNodeConfig %s: %w", name, err)
		}
		n := values.NodeConfig{Name: name, Defaults: config.Spec.Defaults}
		for _, node := range old {
			if selector.Matches(node) {
				n.OldNodes++
			}
		}
		if n.OldNodes > 0 {
			into.NodeConfigs = append(into.NodeConfigs, n)
		}
	}
	return nil
}

// told tells an error as a note, and says whether there was none.
func (a *app) told(err error) bool {
	if err != nil {
		a.note("%v", err)
	}
	return err == nil
}

// release reads the newest deployed revision of the Helm release; nil if there is none.
func (a *app) release(ctx context.Context, c client.Client, o checkOptions) (*values.Values, error) {
	var secrets corev1.SecretList
	err := c.List(ctx, &secrets, client.InNamespace(o.namespace), client.MatchingLabels{"owner": "helm", "name": o.release, "status": "deployed"})
	if err != nil {
		return nil, ask{"list", "secrets", o.namespace}.fail(err)
	}
	newest, revision := -1, -1
	for i := range secrets.Items {
		if n, err := strconv.Atoi(secrets.Items[i].Labels["version"]); err == nil && n > revision {
			newest, revision = i, n
		}
	}
	if newest < 0 {
		return nil, nil
	}
	return values.FromRelease(&secrets.Items[newest])
}

// config reads cilium-config and, if it may, the agents' DaemonSet.
func (a *app) config(ctx context.Context, c client.Client, o checkOptions, v values.Version) (*values.Values, error) {
	var config corev1.ConfigMap
	if err := c.Get(ctx, client.ObjectKey{Namespace: o.namespace, Name: "cilium-config"}, &config); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("reading what Cilium runs with: there is neither a Helm release %s nor a ConfigMap cilium-config in namespace %s: %w", o.release, o.namespace, err)
		}
		return nil, ask{"get", "configmaps", o.namespace}.fail(err)
	}
	ds := &appsv1.DaemonSet{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: o.namespace, Name: "cilium"}, ds); err != nil {
		if !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
			return nil, ask{"get", "daemonsets.apps", o.namespace}.fail(err)
		}
		a.told(ask{"get", "daemonsets.apps", o.namespace}.fail(err))
		ds = nil
	}
	return values.FromCluster(&config, ds, v), nil
}
