// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

func TestAFewTaintsAtATimeAndAllOfTheRest(t *testing.T) {
	var actions []plan.Action
	for range 100 {
		actions = append(actions, plan.SetLeaving{On: true}, plan.SetSafe{Safe: true}, plan.Cordon{}, plan.Ask{})
	}
	first, beside := parted(actions)
	taints := 0
	for _, a := range beside {
		if _, is := a.(plan.SetLeaving); is {
			taints++
		}
	}
	if len(first) != 100 || taints != atOnce || len(beside) != taints+200 {
		t.Errorf("%d actions are done first, and beside the ledger %d, %d of them taints", len(first), len(beside), taints)
	}
}

func TestEveryActionIsLookedAtAgain(t *testing.T) {
	now := time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC)
	act := []plan.Action{plan.Cordon{Slot: "u", Node: "n"}}
	for name, tt := range map[string]struct {
		d       plan.Decision
		written bool
		want    time.Duration
	}{
		"nothing to do":                         {plan.Decision{}, false, 0},
		"nothing to do before a time":           {plan.Decision{Wake: now.Add(time.Hour)}, false, time.Hour},
		"an action, though nothing wakes it":    {plan.Decision{Actions: act}, false, retryAfter},
		"an action, long before anything wakes": {plan.Decision{Actions: act, Wake: now.Add(time.Hour)}, false, retryAfter},
		"an action, and an early wake":          {plan.Decision{Actions: act, Wake: now.Add(time.Second)}, false, time.Second},
		"a ledger that was written":             {plan.Decision{Wake: now.Add(time.Hour)}, true, time.Millisecond},
		"a wake that is past":                   {plan.Decision{Wake: now.Add(-time.Second)}, false, time.Millisecond},
	} {
		r := &Reconciler{gather: gatherer{now: func() time.Time { return now }}}
		if got := r.again(tt.d, tt.written).RequeueAfter; got != tt.want {
			t.Errorf("%s: looks again after %s, want %s", name, got, tt.want)
		}
	}
}
