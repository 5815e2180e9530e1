// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// ledgerShared is for how long actions share one look at the ledger: those that begin together, and the reads that they rest on.
// As long may lie between a look and the request that it allows, on an API server that is slow.
const ledgerShared = 200 * time.Millisecond

// sharedLedger reads the ledger live for the Actions of one Decision.
type sharedLedger struct {
	live client.Reader

	mu    sync.Mutex
	read  *v1alpha1.Cutover
	begun time.Time // when read was begun
}

// check fails if an Action that depends on a slot is not allowed by the ledger as it is now: errStale if the slot has moved
// on.
func (l *sharedLedger) check(ctx context.Context, w *plan.World, a plan.Action) error {
	undo, undoes := a.(plan.Uncordon)
	slot := slotOf(a)
	if slot == "" && !undoes {
		return nil
	}
	now, err := l.get(ctx)
	if err != nil {
		return fmt.Errorf("reading the ledger: %w", err)
	}
	if undoes {
		return checkNoSlot(now, undo.Slot)
	}
	return checkSlot(w, now, slot)
}

func (l *sharedLedger) get(ctx context.Context) (*v1alpha1.Cutover, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	begun := time.Now()
	if l.read != nil && begun.Sub(l.begun) < ledgerShared {
		return l.read, nil
	}
	var now v1alpha1.Cutover
	if err := l.live.Get(ctx, client.ObjectKey{Name: v1alpha1.CutoverName}, &now); err != nil {
		return nil, err
	}
	l.read, l.begun = &now, begun
	return l.read, nil
}

// checkNoSlot fails if a slot that was no more is in the ledger: what is on its node belongs to it again.
func checkNoSlot(now *v1alpha1.Cutover, slot types.UID) error {
	if now.Status.SlotOf(slot) != nil {
		return errStale
	}
	return nil
}

// checkSlot fails if a slot is gone or in another step than the Decision knew.
func checkSlot(w *plan.World, now *v1alpha1.Cutover, slot types.UID) error {
	before, s := w.Cutover.Status.SlotOf(slot), now.Status.SlotOf(slot)
	if before == nil || s == nil || s.Step != before.Step {
		return errStale
	}
	return nil
}
