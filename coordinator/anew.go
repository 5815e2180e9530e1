// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// atOnce is how many requests of one kind are under way together.
const atOnce = 8

// anew reads from the API server, at its newest version, what a Decision rests on, and returns the World with that.
// Not all of everything: of thousands of nodes every answer is a megabyte of JSON a hundred times over, and one slot is about
// one of them.
func (g gatherer) anew(ctx context.Context, w *plan.World, basis plan.Basis) (*plan.World, error) {
	if basis.Everything {
		return g.everything(ctx, w.Cutover)
	}
	fresh := *w
	fresh.Nodes = slices.Clone(w.Nodes)
	fresh.Drains, fresh.Volumes = maps.Clone(w.Drains), maps.Clone(w.Volumes)
	if basis.Nodes {
		if err := g.allNodes(ctx, &fresh); err != nil {
			return nil, err
		}
		fresh.Live.Nodes = true
	}
	if basis.Fence {
		if err := g.fence(ctx, g.live, &fresh); err != nil {
			return nil, err
		}
		fresh.Live.Fence = true
	}
	if err := g.answers(ctx, &fresh, basis.Answers); err != nil {
		return nil, err
	}
	fresh.Now = g.now()
	looks := make([]looked, len(basis.Drains))
	for i := range basis.Drains {
		g.due.now(&basis.Drains[i], fresh.Now)
		looks[i] = toLook(&basis.Drains[i])
	}
	if err := g.look(ctx, &fresh, looks); err != nil {
		return nil, err
	}
	return &fresh, nil
}

// allNodes lists all Nodes live. Their answers and CNI pods stay as the World had them.
func (g gatherer) allNodes(ctx context.Context, w *plan.World) error {
	known := make(map[types.UID]*plan.Node, len(w.Nodes))
	for i := range w.Nodes {
		known[w.Nodes[i].UID] = &w.Nodes[i]
	}
	nodes, err := g.listNodes(ctx, g.live, w)
	if err != nil {
		return err
	}
	for i := range nodes {
		n := &nodes[i]
		if k := known[n.UID]; k != nil {
			n.Cutover, n.NameTaken, n.LegacyPod, n.CiliumPods = k.Cutover, k.NameTaken, k.LegacyPod, k.CiliumPods
		} else {
			n.NameTaken = true // its NodeCutover is not read, so none must be made
		}
	}
	w.Nodes = nodes
	return nil
}

// answers reads nodes with their NodeCutovers live. One that is gone is gone from the World.
func (g gatherer) answers(ctx context.Context, w *plan.World, refs []plan.NodeRef) error {
	type read struct {
		node   *corev1.Node
		answer *v1alpha1.NodeCutover
	}
	found := make([]read, len(refs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, ref := range refs {
		group.Go(func() error {
			var err error
			if found[i].node, err = g.nodeOf(ctx, ref); err != nil {
				return err
			}
			var nc v1alpha1.NodeCutover
			if err := g.live.Get(ctx, client.ObjectKey{Name: ref.Name}, &nc); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("reading nodecutover %s: %w", ref.Name, err)
			} else if err == nil {
				found[i].answer = &nc
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	at := make(map[types.UID]read, len(refs))
	w.Live.Answers = make(map[types.UID]bool, len(refs))
	for i, ref := range refs {
		at[ref.UID], w.Live.Answers[ref.UID] = found[i], true
	}
	selector, _ := selectorOf(w.Cutover) // its error is in the World
	kept := w.Nodes[:0]
	for _, n := range w.Nodes {
		r, asked := at[n.UID]
		if asked && r.node == nil {
			continue
		}
		if asked {
			pods, legacy := n.CiliumPods, n.LegacyPod
			n = toNode(r.node, w.Cutover.Spec.Legacy.FenceLabel, selector)
			n.CiliumPods, n.LegacyPod = pods, legacy
			attach(&n, r.answer)
		}
		kept = append(kept, n)
	}
	w.Nodes = kept
	return nil
}

// attach gives a node its NodeCutover, if that is of this very node.
func attach(n *plan.Node, nc *v1alpha1.NodeCutover) {
	if nc != nil && nc.Spec.NodeUID == n.UID {
		n.Cutover = nc
	} else {
		n.NameTaken = nc != nil
	}
}
