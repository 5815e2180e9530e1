// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/drain"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// looked is what a look at the pods of one node showed.
type looked struct {
	of    plan.NodeRef
	terms v1alpha1.Drain
	// there is false if the node is gone.
	there bool
	pods  []corev1.Pod
	left  plan.Drain
}

func toLook(s *v1alpha1.Slot) looked {
	return looked{of: plan.NodeRef{Name: s.Node, UID: s.NodeUID}, terms: s.Terms.Drain}
}

// due remembers when the node of a slot was looked at last, and in which step: every look is a handful of requests, and whatever
// happens to one node of sixty-four is no reason to look at the other sixty-three again. Its zero value is ready; it is of one
// goroutine.
type due struct {
	last map[types.UID]lookedAt
	// daemonSets are those that pods belonged to at the last look.
	daemonSets []types.NamespacedName
}

type lookedAt struct {
	step v1alpha1.Step
	at   time.Time
}

// now says whether a slot's node should be looked at, and remembers that it is.
func (d *due) now(s *v1alpha1.Slot, now time.Time) bool {
	if last, ok := d.last[s.NodeUID]; ok && last.step == s.Step && now.Sub(last.at) < plan.PollEvery && !now.Before(last.at) {
		return false
	}
	if d.last == nil {
		d.last = map[types.UID]lookedAt{}
	}
	d.last[s.NodeUID] = lookedAt{s.Step, now}
	return true
}

// failed forgets looks that came to nothing: the next is due at once, or a world that nobody could see would look well in
// between.
func (d *due) failed(looks []looked) {
	for i := range looks {
		delete(d.last, looks[i].of.UID)
	}
}

// keep forgets every slot but these.
func (d *due) keep(slots []v1alpha1.Slot) {
	if len(d.last) <= len(slots) {
		return
	}
	kept := make(map[types.UID]lookedAt, len(slots))
	for i := range slots {
		if last, ok := d.last[slots[i].NodeUID]; ok {
			kept[slots[i].NodeUID] = last
		}
	}
	d.last = kept
}

// slots looks at the nodes that are being emptied, live, and at each no more often than every plan.PollEvery.
func (g gatherer) slots(ctx context.Context, w *plan.World) error {
	w.Drains, w.Volumes = map[types.UID]plan.Drain{}, map[types.UID][]string{}
	g.due.keep(w.Cutover.Status.Slots)
	var looks []looked
	for i := range w.Cutover.Status.Slots {
		s := &w.Cutover.Status.Slots[i]
		if (s.Step == v1alpha1.StepDrain || s.Step == v1alpha1.StepDetach) && g.due.now(s, w.Now) {
			looks = append(looks, toLook(s))
		}
	}
	return g.look(ctx, w, looks)
}

// look looks at the pods of nodes, then at the volumes of those that have none left, and puts both into the World.
func (g gatherer) look(ctx context.Context, w *plan.World, looks []looked) (err error) {
	if len(looks) == 0 {
		return nil
	}
	defer func() {
		if err != nil {
			g.due.failed(looks)
		}
	}()
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range looks {
		group.Go(func() error { return g.lookAt(within, &looks[i]) })
	}
	// The nodes of a cluster have pods of much the same DaemonSets, so that those of the last look are asked for beside the pods.
	var there map[types.NamespacedName]bool
	group.Go(func() (err error) {
		there, err = g.there(within, g.due.daemonSets)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if err := g.judge(ctx, looks, there); err != nil {
		return err
	}
	empty := false
	for i := range looks {
		if l := &looks[i]; l.there {
			w.Drains[l.of.UID] = l.left
			empty = empty || l.left.Empty()
		}
	}
	if !empty {
		return nil
	}
	attached, err := drain.Attached(ctx, g.client)
	if err != nil {
		return err
	}
	for i := range looks {
		if l := &looks[i]; l.there && l.left.Empty() {
			w.Volumes[l.of.UID] = attached[l.of.Name]
		}
	}
	return nil
}

// lookAt looks at one node, if it is still there: pods are found by its name, and another node may have taken that before a
// cache shows it.
func (g gatherer) lookAt(ctx context.Context, l *looked) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		n, err := g.nodeOf(ctx, l.of)
		l.there = n != nil
		return err
	})
	group.Go(func() (err error) {
		l.pods, err = drain.Pods(ctx, g.client, l.of.Name)
		return err
	})
	return group.Wait()
}

// judge says of each node that is there what has to leave it, when it is known of some DaemonSets whether they are there.
func (g gatherer) judge(ctx context.Context, looks []looked, there map[types.NamespacedName]bool) error {
	var pods []corev1.Pod
	for i := range looks {
		pods = append(pods, looks[i].pods...)
	}
	g.due.daemonSets = drain.DaemonSetsOf(pods)
	others, err := g.there(ctx, slices.DeleteFunc(slices.Clone(g.due.daemonSets), func(of types.NamespacedName) bool {
		_, known := there[of]
		return known
	}))
	if err != nil {
		return err
	}
	maps.Copy(there, others)
	for i := range looks {
		l := &looks[i]
		if !l.there {
			continue
		}
		if l.left, err = (drain.Kept{Pods: l.pods, DaemonSets: there}).Look(l.terms); err != nil {
			return fmt.Errorf("looking at node %s: %w", l.of.Name, err)
		}
	}
	return nil
}

// there says of each of some DaemonSets whether it is there.
func (g gatherer) there(ctx context.Context, daemonSets []types.NamespacedName) (map[types.NamespacedName]bool, error) {
	found := make([]*appsv1.DaemonSet, len(daemonSets))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, of := range daemonSets {
		group.Go(func() (err error) {
			found[i], err = g.daemonSet(ctx, g.live, v1alpha1.ObjectRef{Namespace: of.Namespace, Name: of.Name})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	there := make(map[types.NamespacedName]bool, len(daemonSets))
	for i, of := range daemonSets {
		there[of] = found[i] != nil
	}
	return there, nil
}
