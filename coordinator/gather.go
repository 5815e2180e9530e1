// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
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
	due          *due
	config       *knownConfig
}

// world photographs the cluster around a Cutover that was read live: what is watched from the caches, all else live.
func (g gatherer) world(ctx context.Context, cutover *v1alpha1.Cutover) (*plan.World, error) {
	return g.photograph(ctx, cutover, g.cached, plan.PollEvery)
}

// everything is world without the caches: nothing in it is older than the ledger.
func (g gatherer) everything(ctx context.Context, cutover *v1alpha1.Cutover) (*plan.World, error) {
	w, err := g.photograph(ctx, cutover, g.live, 0)
	if err == nil {
		w.Live.Everything = true
	}
	return w, err
}

func (g gatherer) photograph(ctx context.Context, cutover *v1alpha1.Cutover, from client.Reader, age time.Duration) (*plan.World, error) {
	w := &plan.World{Now: g.now(), Term: g.term, Holder: g.holder, OwnNode: g.ownNode, Cutover: cutover}
	group, within := errgroup.WithContext(ctx)
	// One of the three objects of the fence is not watched: no answer should wait for it.
	group.Go(func() error { return g.fence(within, from, w, age) })
	group.Go(func() error {
		if err := g.nodes(within, from, w); err != nil {
			return err
		}
		if err := g.missing(within, w); err != nil {
			return err
		}
		if err := g.cniPods(within, from, w); err != nil {
			return err
		}
		return g.slots(within, w)
	})
	return w, group.Wait()
}

// nodes reads every Node with its NodeCutover.
func (g gatherer) nodes(ctx context.Context, from client.Reader, w *plan.World) error {
	nodes, err := g.listNodes(ctx, from, w)
	if err != nil {
		return err
	}
	var answers v1alpha1.NodeCutoverList
	if err := from.List(ctx, &answers, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing nodecutovers: %w", err)
	}
	byName := make(map[string]*v1alpha1.NodeCutover, len(answers.Items))
	for i := range answers.Items {
		byName[answers.Items[i].Name] = &answers.Items[i]
	}
	for i := range nodes {
		attach(&nodes[i], byName[nodes[i].Name])
	}
	w.Nodes = nodes
	return nil
}

// listNodes lists all Nodes, without their answers.
func (g gatherer) listNodes(ctx context.Context, from client.Reader, w *plan.World) ([]plan.Node, error) {
	var selector labels.Selector
	selector, w.SelectorErr = selectorOf(w.Cutover)
	var list corev1.NodeList
	if err := from.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	nodes := make([]plan.Node, len(list.Items))
	for i := range list.Items {
		nodes[i] = toNode(&list.Items[i], w.Cutover.Spec.Legacy.FenceLabel, selector)
	}
	return nodes, nil
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
	refs := slices.DeleteFunc(plan.Depends(w.Cutover.Status.Slots), func(r plan.NodeRef) bool { return listed[r.UID] })
	found := make([]*corev1.Node, len(refs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, ref := range refs {
		group.Go(func() (err error) {
			found[i], err = g.nodeOf(ctx, ref)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	selector, _ := selectorOf(w.Cutover) // its error is in the World
	for _, n := range found {
		if n != nil {
			late := toNode(n, w.Cutover.Spec.Legacy.FenceLabel, selector)
			late.NameTaken = true // its NodeCutover is not read, so none must be made
			w.Nodes = append(w.Nodes, late)
		}
	}
	return nil
}

// nodeOf reads one node live; nil if it is gone, whoever has its name.
func (g gatherer) nodeOf(ctx context.Context, ref plan.NodeRef) (*corev1.Node, error) {
	var n corev1.Node
	if err := g.live.Get(ctx, client.ObjectKey{Name: ref.Name}, &n); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading node %s: %w", ref.Name, err)
	}
	if n.UID != ref.UID {
		return nil, nil
	}
	return &n, nil
}

// fence reads what the fence is made of besides labels: the DaemonSets of both CNIs, and the CiliumNodeConfig, which is not
// watched and may have been read an age ago.
func (g gatherer) fence(ctx context.Context, from client.Reader, w *plan.World, age time.Duration) error {
	spec := w.Cutover.Spec
	w.Legacy, w.Cilium = plan.Legacy{}, plan.Cilium{}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		ds, err := g.daemonSet(ctx, from, spec.Legacy.DaemonSet)
		if ds != nil {
			w.Legacy = toLegacy(ds, spec.Legacy.FenceLabel)
		}
		return err
	})
	group.Go(func() error {
		ds, err := g.daemonSet(ctx, from, spec.Cilium.DaemonSet)
		if ds != nil {
			w.Cilium = toCilium(ds)
		}
		return err
	})
	if spec.Cilium.Install == v1alpha1.InstallSecondary {
		group.Go(func() (err error) {
			w.NodeConfig, err = g.nodeConfig(ctx, w, age)
			return err
		})
	}
	return group.Wait()
}

// nodeConfig reads our CiliumNodeConfig live, unless it was intact less than an age ago.
func (g gatherer) nodeConfig(ctx context.Context, w *plan.World, age time.Duration) (plan.NodeConfig, error) {
	of := [2]string{w.Cutover.Spec.Cilium.DaemonSet.Namespace, w.Cutover.Spec.Legacy.FenceLabel}
	if g.config.intact(of, w.Now, age) {
		return g.config.config, nil
	}
	config, err := readNodeConfig(ctx, g.live, of[0], of[1])
	if err == nil {
		*g.config = knownConfig{of: of, config: config, at: w.Now}
	}
	return config, err
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
func (g gatherer) cniPods(ctx context.Context, from client.Reader, w *plan.World) error {
	at := make(map[string]int, len(w.Nodes))
	for i := range w.Nodes {
		at[w.Nodes[i].Name] = i
	}
	legacy, cilium := w.Cutover.Spec.Legacy.DaemonSet, w.Cutover.Spec.Cilium.DaemonSet
	namespaces := []string{legacy.Namespace}
	if cilium.Namespace != legacy.Namespace {
		namespaces = append(namespaces, cilium.Namespace)
	}
	for _, ns := range namespaces {
		var pods corev1.PodList
		if err := from.List(ctx, &pods, client.InNamespace(ns), client.UnsafeDisableDeepCopy); err != nil {
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
