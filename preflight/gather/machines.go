// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package gather

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/preflight"
)

// report is which CNI an agent said owns the pods of its node, and of which boot of which node.
type report struct {
	uid  types.UID
	boot string
	role v1alpha1.Role
}

// reports reads what agents say. Without the chart there are none.
func (g *gatherer) reports(ctx context.Context) error {
	return each(ctx, g, "nodecutovers.cni-cutover.dev", &v1alpha1.NodeCutoverList{}, func(l *v1alpha1.NodeCutoverList) error {
		for i := range l.Items {
			s := &l.Items[i].Status
			g.said[l.Items[i].Name] = report{s.NodeUID, s.BootID, s.Role}
		}
		return nil
	})
}

func nodeInfo(n *corev1.Node, said report) preflight.NodeInfo {
	is, room := n.Status.NodeInfo, n.Status.Allocatable
	out := preflight.NodeInfo{
		CPU: room.Cpu().MilliValue(), Memory: room.Memory().Value(), Pods: room.Pods().Value(),
		Labels: n.Labels, Taints: n.Spec.Taints, ProviderID: n.Spec.ProviderID, Unschedulable: n.Spec.Unschedulable,
		OS: is.OperatingSystem, Image: is.OSImage, Kernel: is.KernelVersion, Runtime: is.ContainerRuntimeVersion,
	}
	if said.uid == n.UID && said.boot != "" && said.boot == is.BootID {
		out.Role = said.role
	}
	_, out.OptedOut = n.Annotations[v1alpha1.AnnotationOptOut]
	for _, c := range n.Status.Conditions {
		switch {
		case c.Type == corev1.NodeReady:
			out.Ready = c.Status == corev1.ConditionTrue
		case c.Type == "NetworkingReady" && c.Status == corev1.ConditionFalse: // eks-node-monitoring-agent's
			out.Repair = c.Reason + ": " + c.Message
		}
	}
	return out
}

// karpenter reads NodePools and NodeClaims, in the version that is served. In the older one expiry belongs to the pool, and its
// budgets hold it.
func (g *gatherer) karpenter(ctx context.Context) error {
	for _, version := range []string{"v1", "v1beta1"} {
		err := each(ctx, g, "nodepools.karpenter.sh", of("karpenter.sh", version, "NodePool"), func(l *unstructured.UnstructuredList) error {
			for i := range l.Items {
				g.into.NodePools = append(g.into.NodePools, nodePool(&l.Items[i]))
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = each(ctx, g, "nodeclaims.karpenter.sh", of("karpenter.sh", version, "NodeClaim"), func(l *unstructured.UnstructuredList) error {
			for i := range l.Items {
				g.into.NodeClaims = append(g.into.NodeClaims, nodeClaim(&l.Items[i]))
			}
			return nil
		})
		if err != nil || len(g.into.NodePools)+len(g.into.NodeClaims) > 0 {
			return err
		}
	}
	return nil
}

// nodeClasses reads Karpenter's EC2NodeClasses. An older one that says nothing of the hop limit means 2, a newer one 1
// (karpenter-provider-aws, pkg/apis).
func (g *gatherer) nodeClasses(ctx context.Context) error {
	return g.served(ctx, "ec2nodeclasses", "karpenter.k8s.aws", "EC2NodeClass", []string{"v1", "v1beta1"}, func(o *unstructured.Unstructured) {
		c := preflight.NodeClass{Name: o.GetName(), IMDS: preflight.IMDS{HopLimit: 1}}
		if o.GroupVersionKind().Version == "v1beta1" {
			c.HopLimit = 2
		}
		if n, found, _ := unstructured.NestedInt64(o.Object, "spec", "metadataOptions", "httpPutResponseHopLimit"); found {
			c.HopLimit = int32(n)
		}
		c.NoIMDS = text(o.Object, "spec", "metadataOptions", "httpEndpoint") == "disabled"
		g.into.NodeClasses = append(g.into.NodeClasses, c)
	})
}

// maps are the objects in a list.
func maps(o map[string]any, path ...string) []map[string]any {
	list, _, _ := unstructured.NestedSlice(o, path...)
	var out []map[string]any
	for _, raw := range list {
		if m, ok := raw.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func nodePool(u *unstructured.Unstructured) preflight.NodePool {
	out := preflight.NodePool{Name: u.GetName()}
	out.Labels, _, _ = unstructured.NestedStringMap(u.Object, "spec", "template", "metadata", "labels")
	for _, b := range maps(u.Object, "spec", "disruption", "budgets") {
		reasons, _, _ := unstructured.NestedStringSlice(b, "reasons")
		out.Budgets = append(out.Budgets, preflight.DisruptionBudget{Nodes: text(b, "nodes"), Reasons: reasons, Schedule: text(b, "schedule")})
	}
	for _, t := range maps(u.Object, "spec", "template", "spec", "taints") {
		out.Taints = append(out.Taints, text(t, "key"))
	}
	for _, t := range maps(u.Object, "spec", "template", "spec", "startupTaints") {
		out.StartupTaints = append(out.StartupTaints, text(t, "key"))
	}
	return out
}

func nodeClaim(u *unstructured.Unstructured) preflight.NodeClaim {
	out := preflight.NodeClaim{Name: u.GetName(), Node: text(u.Object, "status", "nodeName"), Pool: u.GetLabels()["karpenter.sh/nodepool"]}
	// "Never" is no duration, and neither is nothing (v1beta1, whose pools say it).
	if after, err := time.ParseDuration(text(u.Object, "spec", "expireAfter")); err == nil {
		at := u.GetCreationTimestamp().Add(after).UTC()
		out.Expires = &at
	}
	for _, c := range maps(u.Object, "status", "conditions") {
		out.Drifted = out.Drifted || c["type"] == "Drifted" && c["status"] == "True"
	}
	return out
}

// autoscaler keeps what cluster-autoscaler was told, if a pod is one. Its image has that name wherever it is kept.
func (g *gatherer) autoscaler(p *corev1.Pod) {
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		if name := path.Base(c.Image); !strings.HasPrefix(name, "cluster-autoscaler") || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		a := preflight.Autoscaler{Namespace: p.Namespace, Pod: p.Name, ScalesDown: true}
		if owner := metav1.GetControllerOf(p); owner != nil {
			a.Deployment = strings.TrimSuffix(owner.Name, "-"+p.Labels["pod-template-hash"])
		}
		where := "command"
		if len(c.Args) > 0 || len(c.Command) == 0 {
			where = "args"
		}
		a.Flags = fmt.Sprintf("/spec/template/spec/containers/%d/%s", i, where)
		for _, flag := range slices.Concat(c.Command, c.Args) {
			if value, ok := strings.CutPrefix(strings.TrimLeft(flag, "-"), "scale-down-enabled="); ok {
				a.ScalesDown = value != "false"
			}
		}
		g.into.Autoscalers = append(g.into.Autoscalers, a)
	}
}
