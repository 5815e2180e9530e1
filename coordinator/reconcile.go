// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// retryAfter is when to see whether an action has had its effect. One that met a conflict has had none, and what it
// conflicted with, as a kubelet's heartbeat, may be of a kind that wakes nobody.
const retryAfter = 5 * time.Second

// Reconciler drives the one Cutover of a cluster.
type Reconciler struct {
	gather  gatherer
	move    mover
	client  client.Client
	tell    teller
	metrics *metrics
	// dryRun receives every action instead of the cluster; nil outside of a dry run.
	dryRun  io.Writer
	printed string
}

// Reconcile reads the ledger live, decides, acts on what the ledger allows already, writes the ledger, and tells people.
func (r *Reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	var cutover v1alpha1.Cutover
	if err := r.gather.live.Get(ctx, client.ObjectKey{Name: v1alpha1.CutoverName}, &cutover); err != nil {
		if apierrors.IsNotFound(err) {
			r.metrics.forget()
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("reading Cutover %s: %w", v1alpha1.CutoverName, err)
	}
	if cutover.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	w, d, err := r.decide(ctx, &cutover)
	if err != nil {
		return ctrl.Result{}, err
	}
	if r.dryRun != nil {
		return r.after(d), r.print(d)
	}
	refused := r.move.run(ctx, w, d.Actions)
	for i := range d.Status.Slots {
		s := &d.Status.Slots[i]
		if refusal, ok := refused[s.NodeUID]; ok && sameStep(w, s) {
			s.Reason, s.Message = refusal.Reason, plan.Clip(refusal.Message)
		}
	}
	written, err := r.write(ctx, w, d)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.metrics.observe(w, d.Status)
	r.tell.about(ctx, w, d, refused)
	return r.again(d, written), nil
}

// again says when to look again after a Decision was carried out.
func (r *Reconciler) again(d plan.Decision, written bool) ctrl.Result {
	result := r.after(d)
	switch {
	case written:
		// What the ledger allows now is done at once, not when the watch brings it back.
		result.RequeueAfter = time.Millisecond
	case len(d.Actions) > 0 && (result.RequeueAfter == 0 || result.RequeueAfter > retryAfter):
		result.RequeueAfter = retryAfter
	}
	return result
}

// decide decides on cached facts, and decides again on fresh ones if that Decision gives anything away for good.
func (r *Reconciler) decide(ctx context.Context, cutover *v1alpha1.Cutover) (*plan.World, plan.Decision, error) {
	for _, fresh := range []bool{false, true} {
		w, err := r.gather.world(ctx, cutover, fresh)
		if err != nil {
			return nil, plan.Decision{}, err
		}
		d := plan.Decide(w)
		if fresh || !plan.Irreversible(w, d) {
			return w, d, nil
		}
	}
	return nil, plan.Decision{}, nil
}

// sameStep says whether a slot is in the step that the ledger had: a refusal is about that one.
func sameStep(w *plan.World, s *v1alpha1.Slot) bool {
	for _, before := range w.Cutover.Status.Slots {
		if before.NodeUID == s.NodeUID {
			return before.Step == s.Step
		}
	}
	return false
}

// write writes the ledger by compare-and-swap, if it says anything new.
func (r *Reconciler) write(ctx context.Context, w *plan.World, d plan.Decision) (bool, error) {
	if equality.Semantic.DeepEqual(w.Cutover.Status, d.Status) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	if !r.move.leads() {
		return false, fmt.Errorf("writing the ledger: %w", errNotLeading)
	}
	next := w.Cutover.DeepCopy()
	next.Status = d.Status
	if err := r.client.Status().Update(ctx, next); err != nil {
		return false, fmt.Errorf("writing the ledger: %w", err)
	}
	return true, nil
}

func (r *Reconciler) after(d plan.Decision) ctrl.Result {
	if d.Wake.IsZero() {
		return ctrl.Result{}
	}
	return ctrl.Result{RequeueAfter: max(d.Wake.Sub(r.gather.now()), time.Millisecond)}
}

// print writes what a dry run would do now, once for as long as it stays the same.
func (r *Reconciler) print(d plan.Decision) error {
	var b strings.Builder
	fmt.Fprintf(&b, "phase %s\n", d.Status.Phase)
	for _, c := range d.Status.Conditions {
		if c.Type == v1alpha1.ConditionReady {
			fmt.Fprintf(&b, "  %s: %s\n", c.Reason, c.Message)
		}
	}
	for _, n := range d.Notes {
		fmt.Fprintf(&b, "  would record: %s\n", n.Message)
	}
	for _, a := range d.Actions {
		fmt.Fprintf(&b, "  would %s\n", a)
	}
	for _, wait := range d.Status.Waiting {
		fmt.Fprintf(&b, "  %s waits: %s: %s\n", wait.Node, wait.Reason, wait.Message)
	}
	if b.String() == r.printed {
		return nil
	}
	r.printed = b.String()
	_, err := io.WriteString(r.dryRun, r.printed)
	return err
}

// logRefusals logs what the API server refused, also where it belongs to no slot.
func logRefusals(ctx context.Context, refused refusals) {
	for slot, r := range refused {
		log.FromContext(ctx).Info("write refused", "slot", slot, "reason", r.Reason, "message", r.Message)
	}
}

// requestFor is the one request there is.
func requestFor() ctrl.Request {
	return ctrl.Request{NamespacedName: types.NamespacedName{Name: v1alpha1.CutoverName}}
}
