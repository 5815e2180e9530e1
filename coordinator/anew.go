// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// atOnce is how many requests of one kind are under way together.
const atOnce = 8

// anew reads from the API server, at its newest version, what a Decision rests on, and returns the World with that. Not all of
// everything: of thousands of nodes the answers are megabytes of JSON, and a slot is about one of them. What is read is read
// at once, so that an answer waits for one round trip.
func (g gatherer) anew(ctx context.Context, w *plan.World, basis plan.Basis, ledger *sharedLedger) (*plan.World, error) {
	if basis.Everything {
		return g.everything(ctx, w.Cutover)
	}
	fresh := *w
	fresh.Now = g.now()
	fresh.Drains, fresh.Volumes = maps.Clone(w.Drains), maps.Clone(w.Volumes)
	looks := make([]looked, len(basis.Drains))
	for i := range basis.Drains {
		g.due.now(&basis.Drains[i], fresh.Now)
		looks[i] = toLook(&basis.Drains[i])
	}
	nodes := slices.Clone(w.Nodes)
	answers := make([]*v1alpha1.NodeCutover, len(basis.Answers))
	group, within := errgroup.WithContext(ctx)
	if basis.Nodes {
		group.Go(func() (err error) {
			nodes, err = g.listNodes(within, g.live, &fresh)
			return err
		})
		group.Go(func() error { return g.fence(within, g.live, &fresh, 0) })
	}
	group.Go(func() error { return g.answers(within, basis.Answers, answers) })
	group.Go(func() error { return g.look(within, &fresh, looks) })
	group.Go(func() error {
		_, _ = ledger.get(within) // whoever needs it reads it again
		return nil
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	fresh.Nodes = nodes
	carryOver(w.Nodes, nodes)
	fresh.Live = plan.Live{Nodes: basis.Nodes, Answers: make(map[types.UID]bool, len(answers))}
	for i, ref := range basis.Answers {
		fresh.Live.Answers[ref.UID] = true
		if n := slices.IndexFunc(nodes, func(n plan.Node) bool { return n.UID == ref.UID }); n >= 0 {
			nodes[n].Cutover, nodes[n].NameTaken = nil, false
			attach(&nodes[n], answers[i])
		}
	}
	return &fresh, nil
}

// carryOver gives nodes what was known of them besides the Node: answers and CNI pods.
func carryOver(from, to []plan.Node) {
	known := make(map[types.UID]*plan.Node, len(from))
	for i := range from {
		known[from[i].UID] = &from[i]
	}
	for i := range to {
		n := &to[i]
		if k := known[n.UID]; k != nil {
			n.Cutover, n.NameTaken, n.LegacyPod, n.CiliumPods = k.Cutover, k.NameTaken, k.LegacyPod, k.CiliumPods
		} else {
			n.NameTaken = true // its NodeCutover is not read, so none must be made
		}
	}
}

// answers reads the NodeCutovers of nodes live; nil where there is none.
func (g gatherer) answers(ctx context.Context, of []plan.NodeRef, into []*v1alpha1.NodeCutover) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, ref := range of {
		group.Go(func() error {
			var nc v1alpha1.NodeCutover
			err := g.live.Get(ctx, client.ObjectKey{Name: ref.Name}, &nc)
			if err == nil {
				into[i] = &nc
			} else if client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("reading nodecutover %s: %w", ref.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// attach gives a node its NodeCutover, if that is of this very node.
func attach(n *plan.Node, nc *v1alpha1.NodeCutover) {
	if nc != nil && nc.Spec.NodeUID == n.UID {
		n.Cutover = nc
	} else {
		n.NameTaken = nc != nil
	}
}
