// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// record remembers what is over before the end: what the VPC CNI's DaemonSet wanted while every
// node of the start was there, and when each slot was in which step.
type record struct {
	mu    sync.Mutex
	fence fenceRecord
	steps map[string][]stepTime // by node, in order
}

// fenceRecord is what was seen of the DaemonSet until the first node of the start was gone.
type fenceRecord struct {
	looks                            int
	minDesired, maxDesired, minReady int
	// bound: the DaemonSet was seen bound to the fence label; unlabelled are the nodes of the start
	// that did not have the label then.
	bound      bool
	unlabelled []string
}

// stepTime is when a slot entered a step.
type stepTime struct {
	step  v1alpha1.Step
	since time.Time
}

// fenced returns what was seen of the DaemonSet.
func (r *record) fenced() fenceRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fence
}

// keep watches until ctx ends, which is no error. original are the nodes of the start.
func (r *record) keep(ctx context.Context, c client.WithWatch, original map[types.UID]string) error {
	errs := make(chan error, 2)
	go func() {
		errs <- follow(ctx, c, &appsv1.DaemonSetList{}, func(object client.Object) error {
			if ds, ok := object.(*appsv1.DaemonSet); ok && ds.Name == "aws-node" {
				return r.daemonSet(ctx, c, ds, original)
			}
			return nil
		})
	}()
	go func() {
		errs <- follow(ctx, c, &v1alpha1.CutoverList{}, func(object client.Object) error {
			if cutover, ok := object.(*v1alpha1.Cutover); ok {
				r.slots(cutover.Status.Slots)
			}
			return nil
		})
	}()
	return errors.Join(<-errs, <-errs)
}

// follow hands every version of every object of a kind to do, from now on until ctx ends.
func follow(ctx context.Context, c client.WithWatch, kind client.ObjectList, do func(client.Object) error) error {
	for ctx.Err() == nil {
		watcher, err := c.Watch(ctx, kind)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watching %T: %w", kind, err)
		}
		for event := range watcher.ResultChan() {
			if object, ok := event.Object.(client.Object); ok && event.Type != watch.Deleted {
				if err := do(object); err != nil && ctx.Err() == nil {
					watcher.Stop()
					return err
				}
			}
		}
	}
	return nil
}

// daemonSet counts one version of the DaemonSet, if every node of the start is still there. The
// nodes are read after it: whoever sees a node's end in the DaemonSet sees it in the nodes too.
func (r *record) daemonSet(ctx context.Context, c client.Client, ds *appsv1.DaemonSet, original map[types.UID]string) error {
	var unlabelled []string
	for uid, name := range original {
		var node corev1.Node
		err := c.Get(ctx, client.ObjectKey{Name: name}, &node)
		if apierrors.IsNotFound(err) || err == nil && node.UID != uid {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading node %s: %w", name, err)
		}
		if node.Labels[v1alpha1.FenceLabel] != v1alpha1.FenceValue {
			unlabelled = append(unlabelled, name)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	desired, ready := int(ds.Status.DesiredNumberScheduled), int(ds.Status.NumberReady)
	if r.fence.looks == 0 {
		r.fence = fenceRecord{minDesired: desired, maxDesired: desired, minReady: ready}
	}
	r.fence.looks++
	r.fence.minDesired, r.fence.maxDesired = min(r.fence.minDesired, desired), max(r.fence.maxDesired, desired)
	r.fence.minReady = min(r.fence.minReady, ready)
	if ds.Spec.Template.Spec.NodeSelector[v1alpha1.FenceLabel] == v1alpha1.FenceValue {
		r.fence.bound = true
		r.fence.unlabelled = append(r.fence.unlabelled, unlabelled...)
	}
	return nil
}

// slots notes every step that the ledger shows for the first time.
func (r *record) slots(slots []v1alpha1.Slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, slot := range slots {
		known := slices.ContainsFunc(r.steps[slot.Node], func(s stepTime) bool { return s.step == slot.Step && s.since.Equal(slot.Since.Time) })
		if !known {
			r.steps[slot.Node] = append(r.steps[slot.Node], stepTime{slot.Step, slot.Since.Time})
		}
	}
}

// took returns how long a node's slot was in each step; end is when the slot ended.
func (r *record) took(node string, end time.Time) map[v1alpha1.Step]time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	times := map[v1alpha1.Step]time.Duration{}
	for i, s := range r.steps[node] {
		until := end
		if i+1 < len(r.steps[node]) {
			until = r.steps[node][i+1].since
		}
		times[s.step] += until.Sub(s.since)
	}
	return times
}
