// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/drain"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// gatherer photographs the API server. All reading for a Decision is here.
type gatherer struct {
	// cached reads from informers, live from the API server.
	cached, live client.Reader
	client       kubernetes.Interface
	term, holder string
	ownNode      string
	now          func() time.Time
}

// world photographs the cluster around a Cutover that was read live. With fresh, the nodes, their pods and DaemonSets are
// read from the API server too, at its newest version: what grants a slot or takes the VPC CNI away is decided on nothing
// older than that.
func (g gatherer) world(ctx context.Context, cutover *v1alpha1.Cutover, fresh bool) (*plan.World, error) {
	from := g.cached
	if fresh {
		from = g.live
	}
	w := &plan.World{Now: g.now(), Term: g.term, Holder: g.holder, OwnNode: g.ownNode, Cutover: cutover}
	if err := g.nodes(ctx, from, w); err != nil {
		return nil, err
	}
	if err := g.missing(ctx, w); err != nil {
		return nil, err
	}
	if err := g.daemonSets(ctx, from, w); err != nil {
		return nil, err
	}
	if cutover.Spec.Cilium.Install == v1alpha1.InstallSecondary {
		config, err := readNodeConfig(ctx, g.live, cutover.Spec.Cilium.DaemonSet.Namespace, cutover.Spec.Legacy.FenceLabel)
		if err != nil {
			return nil, err
		}
		w.NodeConfig = config
	}
	return w, g.slots(ctx, w)
}

// nodes reads every Node with its NodeCutover.
func (g gatherer) nodes(ctx context.Context, from client.Reader, w *plan.World) error {
	selector, err := selectorOf(w.Cutover)
	w.SelectorErr = err
	var nodes corev1.NodeList
	if err := from.List(ctx, &nodes); err != nil {
		return fmt.Errorf("listing nodes: %w", err)
	}
	var answers v1alpha1.NodeCutoverList
	if err := from.List(ctx, &answers); err != nil {
		return fmt.Errorf("listing nodecutovers: %w", err)
	}
	byName := make(map[string]*v1alpha1.NodeCutover, len(answers.Items))
	for i := range answers.Items {
		byName[answers.Items[i].Name] = &answers.Items[i]
	}
	for i := range nodes.Items {
		n := toNode(&nodes.Items[i], w.Cutover.Spec.Legacy.FenceLabel, selector)
		if nc := byName[n.Name]; nc != nil && nc.Spec.NodeUID == n.UID {
			n.Cutover = nc
		} else {
			n.NameTaken = nc != nil
		}
		w.Nodes = append(w.Nodes, n)
	}
	return nil
}

// selectorOf is the selector of the nodes that are rolled; without one, all are.
func selectorOf(cutover *v1alpha1.Cutover) (labels.Selector, error) {
	if s := cutover.Spec.Nodes.Selector; s != nil {
		return metav1.LabelSelectorAsSelector(s)
	}
	return labels.Everything(), nil
}

// missing looks live for the nodes of slots that were not listed. A slot goes on when its node is gone, and a cache that does
// not show a node may only be older than the ledger. Of a node that is there, no answer is known yet.
func (g gatherer) missing(ctx context.Context, w *plan.World) error {
	listed := make(map[types.UID]bool, len(w.Nodes))
	for i := range w.Nodes {
		listed[w.Nodes[i].UID] = true
	}
	selector, _ := selectorOf(w.Cutover) // its error is in the World
	for _, ref := range plan.Depends(w.Cutover.Status.Slots) {
		if listed[ref.UID] {
			continue
		}
		var n corev1.Node
		err := g.live.Get(ctx, client.ObjectKey{Name: ref.Name}, &n)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("looking for node %s of a slot: %w", ref.Name, err)
		}
		if err == nil && n.UID == ref.UID {
			late := toNode(&n, w.Cutover.Spec.Legacy.FenceLabel, selector)
			late.NameTaken = true // its NodeCutover is not read, so none must be made
			w.Nodes = append(w.Nodes, late)
		}
	}
	return nil
}

// daemonSets reads both CNIs' DaemonSets and which nodes their pods are on.
func (g gatherer) daemonSets(ctx context.Context, from client.Reader, w *plan.World) error {
	spec := w.Cutover.Spec
	legacy, err := g.daemonSet(ctx, from, spec.Legacy.DaemonSet)
	if err != nil {
		return err
	}
	cilium, err := g.daemonSet(ctx, from, spec.Cilium.DaemonSet)
	if err != nil {
		return err
	}
	if legacy != nil {
		w.Legacy = toLegacy(legacy, spec.Legacy.FenceLabel)
	}
	if cilium != nil {
		w.Cilium = toCilium(cilium)
	}
	at := make(map[string]int, len(w.Nodes))
	for i, n := range w.Nodes {
		at[n.Name] = i
	}
	return g.cniPods(ctx, from, w, at)
}

func (g gatherer) daemonSet(ctx context.Context, from client.Reader, ref v1alpha1.ObjectRef) (*appsv1.DaemonSet, error) {
	var ds appsv1.DaemonSet
	err := from.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, &ds)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading DaemonSet %s/%s: %w", ref.Namespace, ref.Name, err)
	}
	return &ds, nil
}

// cniPods finds the pods of both DaemonSets by their owner's name, so that pods of a DaemonSet that was just deleted still
// count. Pods that have ended do not.
func (g gatherer) cniPods(ctx context.Context, from client.Reader, w *plan.World, at map[string]int) error {
	legacy, cilium := w.Cutover.Spec.Legacy.DaemonSet, w.Cutover.Spec.Cilium.DaemonSet
	namespaces := []string{legacy.Namespace}
	if cilium.Namespace != legacy.Namespace {
		namespaces = append(namespaces, cilium.Namespace)
	}
	for _, ns := range namespaces {
		var pods corev1.PodList
		if err := from.List(ctx, &pods, client.InNamespace(ns)); err != nil {
			return fmt.Errorf("listing pods of namespace %s: %w", ns, err)
		}
		for i := range pods.Items {
			p := &pods.Items[i]
			node, known := at[p.Spec.NodeName]
			if !known || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
				continue
			}
			switch {
			case ownedBy(p, legacy):
				w.Nodes[node].LegacyPod = true
			case ownedBy(p, cilium) && p.DeletionTimestamp == nil:
				w.Nodes[node].CiliumPods = append(w.Nodes[node].CiliumPods, plan.Pod{
					Namespace: p.Namespace, Name: p.Name, UID: p.UID, Created: p.CreationTimestamp.Time,
				})
			}
		}
	}
	return nil
}

func ownedBy(p *corev1.Pod, ds v1alpha1.ObjectRef) bool {
	owner := metav1.GetControllerOf(p)
	return owner != nil && owner.Kind == "DaemonSet" && owner.Name == ds.Name && p.Namespace == ds.Namespace
}

// slots looks at the pods and volumes of the nodes that are being emptied, live.
func (g gatherer) slots(ctx context.Context, w *plan.World) error {
	w.Drains, w.Volumes = map[types.UID]plan.Drain{}, map[types.UID][]string{}
	for _, s := range w.Cutover.Status.Slots {
		if s.Step != v1alpha1.StepDrain && s.Step != v1alpha1.StepDetach {
			continue
		}
		if there, err := g.there(ctx, s); err != nil {
			return err
		} else if !there {
			continue
		}
		left, err := drain.Look(ctx, g.client, s.Node, s.Terms.Drain)
		if err != nil {
			return err
		}
		w.Drains[s.NodeUID] = left
		if !left.Empty() {
			continue
		}
		volumes, err := drain.Attached(ctx, g.client, s.Node)
		if err != nil {
			return err
		}
		w.Volumes[s.NodeUID] = volumes
	}
	return nil
}

// there says whether the node of a slot's name is still the slot's node: pods and volumes are found by that name, and
// another node may have taken it before a cache shows that.
func (g gatherer) there(ctx context.Context, s v1alpha1.Slot) (bool, error) {
	var n corev1.Node
	if err := g.live.Get(ctx, client.ObjectKey{Name: s.Node}, &n); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return n.UID == s.NodeUID, nil
}
