// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package gather

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/preflight"
)

// selection is a budget's choice of pods.
type selection struct {
	budget string
	pods   labels.Selector
}

// workloads reads what a drain meets: pods, and beside them what says whether they may and can go.
func (g *gatherer) workloads(ctx context.Context) error {
	selections := map[string][]selection{} // by namespace
	local := map[client.ObjectKey]bool{}   // claims
	for _, read := range []func() error{
		func() error { return g.budgets(ctx, selections) },
		func() error { return g.localVolumes(ctx, local) },
	} {
		if err := read(); err != nil {
			return err
		}
	}
	return each(ctx, g, "pods", &corev1.PodList{}, func(l *corev1.PodList) error {
		for i := range l.Items {
			p := &l.Items[i]
			g.exposed(p)
			if p.Spec.NodeName != "" {
				kept := slim(p, selections[p.Namespace], local)
				var err error
				if kept.Needs, err = g.needsOf(p); err != nil {
					return err
				}
				g.into.Pods = append(g.into.Pods, kept)
				g.autoscaler(p)
			}
		}
		return nil
	})
}

func (g *gatherer) budgets(ctx context.Context, into map[string][]selection) error {
	return each(ctx, g, "poddisruptionbudgets.policy", &policyv1.PodDisruptionBudgetList{}, func(l *policyv1.PodDisruptionBudgetList) error {
		for i := range l.Items {
			b := &l.Items[i]
			selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			if err != nil {
				return fmt.Errorf("reading the selector of PodDisruptionBudget %s/%s: %w", b.Namespace, b.Name, err)
			}
			into[b.Namespace] = append(into[b.Namespace], selection{b.Name, selector})
			g.into.Budgets = append(g.into.Budgets, budget(b))
		}
		return nil
	})
}

func budget(b *policyv1.PodDisruptionBudget) preflight.Budget {
	out := preflight.Budget{
		Namespace: b.Namespace, Name: b.Name, Behind: b.Status.ObservedGeneration < b.Generation,
		AlwaysAllow: b.Spec.UnhealthyPodEvictionPolicy != nil && *b.Spec.UnhealthyPodEvictionPolicy == policyv1.AlwaysAllow,
		Expected:    b.Status.ExpectedPods, Healthy: b.Status.CurrentHealthy, Desired: b.Status.DesiredHealthy, Allowed: b.Status.DisruptionsAllowed,
	}
	if b.Spec.MinAvailable != nil {
		out.MinAvailable = b.Spec.MinAvailable.String()
	}
	if b.Spec.MaxUnavailable != nil {
		out.MaxUnavailable = b.Spec.MaxUnavailable.String()
	}
	for _, c := range b.Status.Conditions {
		if c.Type == policyv1.DisruptionAllowedCondition && c.Reason == policyv1.SyncFailedReason {
			out.Trouble = c.Message
		}
	}
	return out
}

// localVolumes are the claims of volumes that exist on one node alone: of kinds local and hostPath, and those that are bound
// to a node by its hostname, as CSI drivers for instance stores do.
func (g *gatherer) localVolumes(ctx context.Context, into map[client.ObjectKey]bool) error {
	return each(ctx, g, "persistentvolumes", &corev1.PersistentVolumeList{}, func(l *corev1.PersistentVolumeList) error {
		for i := range l.Items {
			v := &l.Items[i]
			if claim := v.Spec.ClaimRef; claim != nil && v.Status.Phase == corev1.VolumeBound && onOneNode(v) {
				into[client.ObjectKey{Namespace: claim.Namespace, Name: claim.Name}] = true
			}
		}
		return nil
	})
}

func onOneNode(v *corev1.PersistentVolume) bool {
	if v.Spec.Local != nil || v.Spec.HostPath != nil {
		return true
	}
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return false
	}
	for _, term := range v.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, e := range append(slices.Clone(term.MatchExpressions), term.MatchFields...) {
			if strings.HasSuffix(e.Key, "hostname") || strings.HasSuffix(e.Key, "/node") || e.Key == metav1.ObjectNameField {
				return true
			}
		}
	}
	return false
}

// slim keeps of a pod what the checks look at: a cluster may have 50,000, and this process is somebody's laptop's.
func slim(p *corev1.Pod, budgets []selection, local map[client.ObjectKey]bool) preflight.Pod {
	out := preflight.Pod{Namespace: p.Namespace, Name: p.Name, Node: p.Spec.NodeName, Phase: p.Status.Phase, Keep: keep(p), Alone: alone(p)}
	if c := metav1.GetControllerOf(p); c != nil {
		out.Owner = preflight.Owner{APIVersion: c.APIVersion, Kind: c.Kind, Name: c.Name}
		if hash := p.Labels["pod-template-hash"]; c.Kind == "ReplicaSet" && hash != "" {
			out.Deployment, _ = strings.CutSuffix(c.Name, "-"+hash)
		}
	}
	if !p.Spec.HostNetwork {
		out.HostPorts = hostPorts(p)
	}
	for _, c := range p.Status.Conditions {
		out.Ready = out.Ready || c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	}
	if p.DeletionTimestamp != nil {
		out.Deleted = &p.DeletionTimestamp.Time
	}
	if p.Spec.TerminationGracePeriodSeconds != nil {
		out.Grace = *p.Spec.TerminationGracePeriodSeconds
	}
	_, out.Mirror = p.Annotations[corev1.MirrorPodAnnotationKey]
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		claim := ""
		switch {
		case v.EmptyDir != nil:
			out.EmptyDir = true
		case v.HostPath != nil:
			out.HostPath = out.HostPath || written(p, v.Name)
		case v.PersistentVolumeClaim != nil:
			claim = v.PersistentVolumeClaim.ClaimName
		case v.Ephemeral != nil:
			claim = p.Name + "-" + v.Name
		}
		if claim != "" && local[client.ObjectKey{Namespace: p.Namespace, Name: claim}] {
			out.LocalClaims = append(out.LocalClaims, claim)
		}
	}
	for _, b := range budgets {
		if b.pods.Matches(labels.Set(p.Labels)) {
			out.Budgets = append(out.Budgets, b.budget)
		}
	}
	return out
}

// needsOf is where in the snapshot stands what a pod needs of a node. Pods of one template share it.
func (g *gatherer) needsOf(p *corev1.Pod) (int, error) {
	requests := resource.PodRequests(p, resource.PodResourcesOptions{})
	n := preflight.Needs{CPU: requests.Cpu().MilliValue(), Memory: requests.Memory().Value(), NodeSelector: p.Spec.NodeSelector, Tolerations: p.Spec.Tolerations}
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		n.Affinity = a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	key, err := json.Marshal(n)
	if err != nil {
		return 0, fmt.Errorf("keeping what pod %s/%s needs: %w", p.Namespace, p.Name, err)
	}
	at, known := g.needs[string(key)]
	if !known {
		at = len(g.into.Needs)
		g.needs[string(key)], g.into.Needs = at, append(g.into.Needs, n)
	}
	return at, nil
}

// written says whether a container may write to a volume.
func written(p *corev1.Pod, volume string) bool {
	return slices.ContainsFunc(append(slices.Clone(p.Spec.Containers), p.Spec.InitContainers...), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == volume && !m.ReadOnly })
	})
}

// keep is the annotation by which a pod asks autoscalers not to disrupt it: Karpenter's, its older name, cluster-autoscaler's.
func keep(p *corev1.Pod) string {
	for _, a := range []struct{ key, value string }{
		{"karpenter.sh/do-not-disrupt", "true"}, {"karpenter.sh/do-not-evict", "true"}, {"cluster-autoscaler.kubernetes.io/safe-to-evict", "false"},
	} {
		if p.Annotations[a.key] == a.value {
			return a.key + "=" + a.value
		}
	}
	return ""
}

// alone says whether no two pods of a kind may be on one node.
func alone(p *corev1.Pod) bool {
	if len(hostPorts(p)) > 0 {
		return true
	}
	if p.Spec.Affinity == nil || p.Spec.Affinity.PodAntiAffinity == nil {
		return false
	}
	return slices.ContainsFunc(p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, func(t corev1.PodAffinityTerm) bool {
		own, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
		return err == nil && t.TopologyKey == corev1.LabelHostname && own.Matches(labels.Set(p.Labels)) && (len(t.Namespaces) == 0 || slices.Contains(t.Namespaces, p.Namespace))
	})
}

// hostPorts are the ports of its node that a pod takes, in order. On the host network every port is one, and the API server
// writes them so.
func hostPorts(p *corev1.Pod) []int32 {
	var out []int32
	for i := range p.Spec.Containers {
		for _, port := range p.Spec.Containers[i].Ports {
			if port.HostPort != 0 {
				out = append(out, port.HostPort)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
