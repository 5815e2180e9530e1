// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package figures

import (
	"fmt"
	"slices"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Delays are times between two requests, of one kind.
type Delays []time.Duration

// At returns the delay that a share of all of them does not exceed: 0.5 for the median, 1 for the longest.
func (d Delays) At(share float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d))
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

// String implements fmt.Stringer.
func (d Delays) String() string {
	return fmt.Sprintf("n=%d p50=%s p99=%s max=%s", len(d), milli(d.At(0.5)), milli(d.At(0.99)), milli(d.At(1)))
}

func milli(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }

// Reactions are the delays from an agent's answer, as the API server had answered it, to the coordinator's request that acts on it. A
// watch may show an answer sooner than its sender hears of it: what was done by then took no time.
type Reactions struct {
	// Grant is the ledger that grants a slot, counted from when one was free if that was later.
	Grant Delays
	// Eviction is the first one after the answer that allows it.
	Eviction Delays
	// Validated and Soaked are the ledgers that end these steps.
	Validated, Soaked Delays
}

// All are all of them.
func (r Reactions) All() Delays { return slices.Concat(r.Grant, r.Eviction, r.Validated, r.Soaked) }

// Reactions finds what the coordinator did about every answer. One that it asked for again has none.
func (r *Roll) Reactions() Reactions {
	var out Reactions
	for _, a := range r.answers {
		before := r.ledgerAt(a.received)
		switch s := before.of(a.node); {
		case a.purpose == v1alpha1.PurposeValidate:
			r.validated(&out, a, before)
		case s == nil:
			r.granted(&out, a)
		case s.Step == v1alpha1.StepDeregister || s.Step == v1alpha1.StepConfirm:
			if at := r.node(a.node).evicted; at.After(a.received) {
				out.Eviction = append(out.Eviction, since(a.at, at))
			}
		}
	}
	return out
}

// since is the time between two moments, none if the second is the earlier one.
func since(from, to time.Time) time.Duration { return max(0, to.Sub(from)) }

// ledgerAt returns the ledger that stood at a time, an empty one before the first.
func (r *Roll) ledgerAt(t time.Time) *ledger {
	i, _ := slices.BinarySearchFunc(r.ledgers, t, func(l ledger, t time.Time) int {
		if l.answered.After(t) {
			return 1
		}
		return -1
	})
	if i == 0 {
		return &ledger{}
	}
	return &r.ledgers[i-1]
}

// next returns the index of the first ledger after a time for which is holds, -1 without one.
func (r *Roll) next(after time.Time, is func(*ledger) bool) int {
	for i := range r.ledgers {
		if r.ledgers[i].received.After(after) && is(&r.ledgers[i]) {
			return i
		}
	}
	return -1
}

func (r *Roll) granted(out *Reactions, a answer) {
	i := r.next(a.received, func(l *ledger) bool { return l.of(a.node) != nil })
	if i < 1 || r.askedAgain(a, r.ledgers[i].received) || r.ledgers[i-1].full() {
		return // without a grant, or with one in the very ledger that set the slot free
	}
	from := a.at
	for k := i - 1; k > 0 && r.ledgers[k].answered.After(from); k-- {
		if r.ledgers[k-1].full() {
			from = r.ledgers[k].answered
		}
	}
	out.Grant = append(out.Grant, since(from, r.ledgers[i].received))
}

func (l *ledger) full() bool { return len(l.slots) >= l.limit }

// askedAgain says whether a node answered once more before a time.
func (r *Roll) askedAgain(a answer, until time.Time) bool {
	return slices.ContainsFunc(r.answers, func(b answer) bool { return b.node == a.node && b.at.After(a.at) && b.at.Before(until) })
}

func (r *Roll) validated(out *Reactions, a answer, before *ledger) {
	replaces := func(s *v1alpha1.Slot) bool { return s.Replacement == a.node }
	s := before.slot(replaces)
	if s == nil { // it is claimed when it has passed
		i := r.next(a.received, func(l *ledger) bool { return l.slot(replaces) != nil })
		if i >= 0 && r.ledgers[i].slot(replaces).Step != v1alpha1.StepValidate {
			out.Validated = append(out.Validated, since(a.at, r.ledgers[i].received))
		}
		return
	}
	i := r.next(a.received, func(l *ledger) bool {
		now := l.of(s.Node)
		return now == nil || now.Step != s.Step
	})
	switch {
	case i < 0:
	case s.Step == v1alpha1.StepValidate:
		out.Validated = append(out.Validated, since(a.at, r.ledgers[i].received))
	case s.Step == v1alpha1.StepSoak:
		out.Soaked = append(out.Soaked, since(a.at, r.ledgers[i].received))
	}
}
