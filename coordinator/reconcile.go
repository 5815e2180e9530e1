// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// retryAfter is when to see whether an action has had its effect. One that met a conflict has had none, and what it
// conflicted with, as a kubelet's heartbeat, may be of a kind that wakes nobody.
const retryAfter = 5 * time.Second

// countEvery is how often the ledger is written for the sake of counts alone.
const countEvery = 5 * time.Second

// Reconciler drives the one Cutover of a cluster.
type Reconciler struct {
	sight   *Sight
	gather  gatherer
	move    mover
	client  client.Client
	tell    *teller
	metrics *metrics
	// dryRun receives every action instead of the cluster; nil outside of a dry run.
	dryRun  io.Writer
	printed string
	// written is the Cutover as the write that has just ended left it, for the reconcile that follows at once.
	written *v1alpha1.Cutover
	// wroteAt is when the ledger was written last.
	wroteAt time.Time
	// unshown is what was refused beside the last write of the ledger, for the next one to show.
	unshown []refusal
}

// Reconcile reads the ledger live, decides, acts on what the ledger allows already, writes the ledger, and tells people.
func (r *Reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	cutover, err := r.read(ctx)
	if err != nil {
		if apierrors.IsNotFound(err) {
			r.metrics.forget()
			return ctrl.Result{}, nil
		}
		err = fmt.Errorf("reading Cutover %s: %w", v1alpha1.CutoverName, err)
		if lacksRight(err) {
			r.tell.once(ctx, unread(), refuse("nothing moves", err, v1alpha1.PermissionMissing))
		}
		return ctrl.Result{}, err
	}
	if cutover.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	if err := r.sight.Blind(); err != nil {
		return ctrl.Result{}, r.blind(ctx, cutover, err)
	}
	ledger := &sharedLedger{live: r.gather.live}
	w, d, err := r.decide(ctx, cutover, ledger)
	if err != nil {
		return ctrl.Result{}, r.blind(ctx, cutover, err)
	}
	if r.dryRun != nil {
		return r.after(d), r.print(d)
	}
	first, beside := parted(d.Actions)
	refused := append(r.move.run(ctx, w, ledger, first), r.unshown...)
	show(w, &d, refused)
	aside := make(chan []refusal, 1)
	go func() { aside <- r.move.run(ctx, w, ledger, beside) }()
	written, err := r.publish(ctx, w, d, refused)
	before := r.unshown
	r.unshown = <-aside
	if err != nil {
		return ctrl.Result{}, err
	}
	if len(refused) == 0 || !slices.Equal(r.unshown, before) {
		r.written = written
	}
	if later := r.wroteAt.Add(countEvery); written == nil && r.mayCountLater(w, d) && (d.Wake.IsZero() || later.Before(d.Wake)) {
		d.Wake = later
	}
	return r.again(d, r.written != nil), nil
}

// parted parts Actions into those whose refusal the next ledger has to tell, and those that need not keep it waiting: the idle
// ones, for a slot that is granted to many nodes at once would wait for as many SafeToDrain, and questions, for their answers wake
// the coordinator anyway. Of the leaving taints, which thousands of nodes get when RollNodes begins, it takes a few: the next look
// finds the others, and an answer that comes meanwhile does not wait for all.
func parted(actions []plan.Action) (first, beside []plan.Action) {
	taints := 0
	for _, a := range actions {
		if _, is := a.(plan.SetLeaving); is {
			if taints++; taints > atOnce {
				continue
			}
		}
		if idle(a) || asks(a) {
			beside = append(beside, a)
		} else {
			first = append(first, a)
		}
	}
	return first, beside
}

// read reads the Cutover live. What the API server answered to our own write a moment ago is as live as that, and every write
// of the ledger and every action of a slot will be held against the newest.
func (r *Reconciler) read(ctx context.Context) (*v1alpha1.Cutover, error) {
	if c := r.written; c != nil {
		r.written = nil
		return c, nil
	}
	var c v1alpha1.Cutover
	err := r.gather.live.Get(ctx, client.ObjectKey{Name: v1alpha1.CutoverName}, &c)
	return &c, err
}

// publish writes the ledger and then tells of it. It returns what it wrote, nil if there was nothing to write.
func (r *Reconciler) publish(ctx context.Context, w *plan.World, d plan.Decision, refused []refusal) (*v1alpha1.Cutover, error) {
	written, err := r.write(ctx, w, d)
	if err != nil {
		if !apierrors.IsConflict(err) {
			r.tell.once(ctx, w.Cutover, refuse("no slot moves", err, v1alpha1.WriteRefused))
			r.metrics.refuse(refusal{what: "WriteLedger", Reason: v1alpha1.WriteRefused})
		}
		return nil, err
	}
	r.metrics.observe(w, d.Status)
	for _, x := range refused {
		r.metrics.refuse(x)
	}
	r.tell.about(ctx, w, d, refused)
	return written, nil
}

// show puts what was refused where people look: on the slot that waits for it, or else into the conditions.
func show(w *plan.World, d *plan.Decision, refused []refusal) {
	for _, r := range slices.Backward(refused) { // the first is nearest to the cause
		i := slices.IndexFunc(d.Status.Slots, func(s v1alpha1.Slot) bool { return r.slot != "" && s.NodeUID == r.slot })
		switch {
		case i < 0 || r.idle:
			plan.Refused(w, &d.Status, r.Reason, r.Message, !r.idle)
		case sameStep(w, &d.Status.Slots[i]):
			d.Status.Slots[i].Reason, d.Status.Slots[i].Message = r.Reason, r.Message
		}
	}
}

// blind says that the world could not be looked at, if that is for want of a right: nothing moves then, and what cannot be
// seen is not taken for gone. Any other error is tried again.
func (r *Reconciler) blind(ctx context.Context, cutover *v1alpha1.Cutover, err error) error {
	if !lacksRight(err) || r.dryRun != nil {
		return err
	}
	why := refuse("nothing moves", err, v1alpha1.PermissionMissing)
	w := &plan.World{Now: r.gather.now(), Holder: r.gather.holder, Cutover: cutover}
	why.what = "Read"
	r.metrics.refuse(*why)
	_, failed := r.publish(ctx, w, plan.Blind(w, why.Reason, why.Message), nil)
	return errors.Join(err, failed)
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

// decide decides on cached facts, and as long as that gives something away for good, reads what it rests on and decides
// again. All of that is read in one go, so that no part of it is older than the look that found it missing, and the ledger with it,
// for the actions that depend on it.
func (r *Reconciler) decide(ctx context.Context, cutover *v1alpha1.Cutover, ledger *sharedLedger) (*plan.World, plan.Decision, error) {
	cached, err := r.gather.world(ctx, cutover)
	if err != nil {
		return nil, plan.Decision{}, err
	}
	w, basis := cached, plan.Basis{}
	for {
		d := plan.Decide(w)
		lacks := w.Lacks(d)
		if lacks.None() {
			return w, d, nil
		}
		basis = basis.With(lacks) // it grows every time, and there are only so many nodes
		if w, err = r.gather.anew(ctx, cached, basis, ledger); err != nil {
			return nil, plan.Decision{}, err
		}
	}
}

// sameStep says whether a slot is in the step that the ledger had: a refusal is about that one.
func sameStep(w *plan.World, s *v1alpha1.Slot) bool {
	before := w.Cutover.Status.SlotOf(s.NodeUID)
	return before != nil && before.Step == s.Step
}

// write writes the ledger by compare-and-swap, if it says anything new.
func (r *Reconciler) write(ctx context.Context, w *plan.World, d plan.Decision) (*v1alpha1.Cutover, error) {
	if equality.Semantic.DeepEqual(w.Cutover.Status, d.Status) || r.mayCountLater(w, d) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	if !r.move.leads() {
		return nil, fmt.Errorf("writing the ledger: %w", errNotLeading)
	}
	next := w.Cutover.DeepCopy()
	next.Status = d.Status
	if err := r.client.Status().Update(ctx, next); err != nil {
		return nil, fmt.Errorf("writing the ledger: %w", err)
	}
	r.wroteAt = w.Now
	return next, nil
}

// mayCountLater says whether a ledger says nothing new but counts, so soon after the last one.
func (r *Reconciler) mayCountLater(w *plan.World, d plan.Decision) bool {
	since := w.Now.Sub(r.wroteAt)
	return since >= 0 && since < countEvery && !plan.Urgent(&w.Cutover.Status, &d.Status)
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

// requestFor is the one request there is.
func requestFor() ctrl.Request {
	return ctrl.Request{NamespacedName: types.NamespacedName{Name: v1alpha1.CutoverName}}
}
