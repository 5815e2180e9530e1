// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/oracle"
	"github.com/cni-cutover/cni-cutover/lab/asg"
	"github.com/cni-cutover/cni-cutover/lab/stage"
)

// ErrNotProved is the error of a demo that ran to its end and whose report has a NO.
var ErrNotProved = errors.New("proving the cutover: not everything holds, see the report")

//go:embed cutover.yaml
var cutoverYAML []byte

// Times of the demo.
const (
	showEvery = 500 * time.Millisecond
	// patience is how long the cutover may show nothing new; a step takes seconds.
	patience = 3 * time.Minute
	// settleWithin is for what ends by itself after the last phase, as pods that are being started.
	settleWithin = time.Minute
)

// Run shows one cutover on a scene that stands and writes all there is to say to out. It returns
// nil only if everything in the report was verified.
func Run(ctx context.Context, e *stage.Env, mode v1alpha1.InstallMode, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	original, err := nodesOf(ctx, e.Client)
	if err != nil {
		return err
	}
	remembered := &record{steps: map[string][]stepTime{}}
	background := func(run func(context.Context) error) {
		go func() {
			if err := run(ctx); err != nil {
				cancel(err)
			}
		}()
	}
	background(asg.Groups{Nodes: e.Client, Machines: e.Cluster}.Run)
	background(func(ctx context.Context) error { return remembered.keep(ctx, e.Client, original) })

	cutover, err := apply(ctx, e, mode)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nThe Cutover is applied. From here on the coordinator acts; an autoscaling group replaces the nodes it is given.\n\n")
	stuck := follows(ctx, e, out)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// A cutover that got stuck is judged all the same: how far it got, and what it cost.
	proved, err := settle(ctx, e.Client, evidence{original: original, applied: cutover.CreationTimestamp.Time}, remembered)
	if err != nil {
		return errors.Join(stuck, context.Cause(ctx), err)
	}
	if proved.summary, err = e.Load.Finish(); err != nil {
		return errors.Join(stuck, err)
	}
	var laws oracle.Oracle
	if err := oracle.ReadFile(e.Cluster.AuditLog(), laws.See); err != nil {
		return errors.Join(stuck, err)
	}
	proved.seen, proved.broken = laws.Seen(), laws.Violations()
	return errors.Join(stuck, conclude(ctx, e, proved, remembered, out))
}

func nodesOf(ctx context.Context, c client.Client) (map[types.UID]string, error) {
	var nodes corev1.NodeList
	if err := c.List(ctx, &nodes); err != nil {
		return nil, fmt.Errorf("listing the nodes of the start: %w", err)
	}
	names := map[types.UID]string{}
	for _, node := range nodes.Items {
		names[node.UID] = node.Name
	}
	return names, nil
}

// apply applies the example and returns what the API server made of it.
func apply(ctx context.Context, e *stage.Env, mode v1alpha1.InstallMode) (*v1alpha1.Cutover, error) {
	objects, err := stage.Decode(cutoverYAML)
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		if err := unstructured.SetNestedField(object.Object, string(mode), "spec", "cilium", "install"); err != nil {
			return nil, fmt.Errorf("setting the install mode: %w", err)
		}
	}
	if err := e.ApplyObjects(ctx, objects); err != nil {
		return nil, err
	}
	var cutover v1alpha1.Cutover
	if err := e.Client.Get(ctx, client.ObjectKey{Name: v1alpha1.CutoverName}, &cutover); err != nil {
		return nil, fmt.Errorf("reading the Cutover: %w", err)
	}
	return &cutover, nil
}

// follows shows the cutover until it asks for its last phase, which is a person's.
func follows(ctx context.Context, e *stage.Env, out io.Writer) error {
	began, view := time.Now(), newScreen(out)
	var moved time.Duration
	tick := time.NewTicker(showEvery)
	defer tick.Stop()
	for {
		now, err := look(ctx, e.Client, began, e.Load.Progress())
		if err != nil {
			return err
		}
		if view.show(now) {
			moved = now.elapsed
		}
		switch {
		case now.phase == v1alpha1.PhaseFullEBPF || now.phase == v1alpha1.PhaseDone:
			return nil
		case now.elapsed-moved > patience:
			return fmt.Errorf("waiting for the end of phase %s: nothing new for %s; last message: %s; nodes that wait: %v", now.phase, patience, now.message, now.waiting)
		}
		if err := e.Load.Ended(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// settle gathers evidence until it proves the cutover or has had its time; either way what was
// seen last is what is judged.
func settle(ctx context.Context, c client.Client, known evidence, remembered *record) (evidence, error) {
	deadline := time.Now().Add(settleWithin)
	for {
		e, err := gather(ctx, c)
		if err != nil {
			return e, err
		}
		e.original, e.applied, e.left, e.fence = known.original, known.applied, time.Now(), remembered.fenced()
		if allHold(proveCluster(e)) || time.Now().After(deadline) {
			return e, nil
		}
		select {
		case <-ctx.Done():
			return e, fmt.Errorf("gathering evidence: %w", ctx.Err())
		case <-time.After(showEvery):
		}
	}
}

// conclude writes the report.
func conclude(ctx context.Context, e *stage.Env, proved evidence, remembered *record, out io.Writer) error {
	var cutover v1alpha1.Cutover
	if err := e.Client.Get(ctx, client.ObjectKey{Name: v1alpha1.CutoverName}, &cutover); err != nil {
		return fmt.Errorf("reading the Cutover for the report: %w", err)
	}
	claims := prove(proved)
	err := report{
		claims: claims, phases: cutover.Status.Phases, finished: cutover.Status.Finished, took: remembered.took,
		summary: proved.summary, failures: e.Load.Failures(),
	}.write(out)
	if err != nil {
		return err
	}
	if !allHold(claims) {
		return ErrNotProved
	}
	return nil
}
