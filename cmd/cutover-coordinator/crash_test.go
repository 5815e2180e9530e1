// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/internal/meddler"
)

var (
	crashFrom = flag.Int("crash.from", 25, "first write of a roll at which the coordinator is killed; make crash begins at 1")
	crashTo   = flag.Int("crash.to", 25, "last write at which it is killed; 0 for the last of a roll")
)

// TestTheCoordinatorIsKilledAtOneWrite kills the coordinator, by SIGKILL, before its n-th write reaches the API server and,
// in another roll, after, before it hears of that. Another one starts at once, and the cluster ends as if nothing had happened.
// make crash does this for every n.
//
// Not here: steps of the clock. All processes of a machine share CLOCK_REALTIME, which time namespaces do not cover
// (time_namespaces(7)); the simulation of coordinator/plan steps it.
func TestTheCoordinatorIsKilledAtOneWrite(t *testing.T) {
	last := *crashTo
	if last == 0 {
		last = undisturbedWrites(t)
	}
	began := time.Now()
	for n := *crashFrom; n <= last; n++ {
		t.Run(fmt.Sprintf("before %d", n), func(t *testing.T) {
			crashAt(t, n, func(kill func()) meddler.Fate { return meddler.Fate{Before: kill, Lost: true} })
		})
		t.Run(fmt.Sprintf("after %d", n), func(t *testing.T) {
			crashAt(t, n, func(kill func()) meddler.Fate { return meddler.Fate{After: kill, Unheard: true} })
		})
	}
	t.Logf("%d rolls, killed before and after each of the writes %d to %d, in %s", 2*(last-*crashFrom+1), *crashFrom, last, time.Since(began).Round(time.Second))
}

// undisturbedWrites is how many writes a roll takes that nothing disturbs.
func undisturbedWrites(t *testing.T) (writes int) {
	t.Run("undisturbed", func(t *testing.T) {
		r := newRoll(t)
		p := r.proxy()
		d := r.deployment(p)
		d.run()
		r.ends(time.Minute)
		r.oracle.judged(20, 2)
		writes = p.Writes()
		if d.incarnation() != 1 {
			t.Errorf("%d coordinators ran, and nothing killed one", d.incarnation())
		}
	})
	return writes
}

func crashAt(t *testing.T, n int, fate func(kill func()) meddler.Fate) {
	r := newRoll(t)
	p := r.proxy()
	d := r.deployment(p)
	var what meddler.Request
	var once sync.Once
	p.Meddle(func(q meddler.Request) (f meddler.Fate) {
		if q.Write == n {
			once.Do(func() { what, f = q, fate(d.kill) })
		}
		return f
	})
	d.run()
	r.ends(time.Minute)
	r.oracle.judged(20, 2)
	switch {
	case p.Writes() < n:
		t.Logf("this roll took only %d writes: reconciles may coincide", p.Writes())
	case d.incarnation() != 2:
		t.Errorf("%d coordinators ran, want 2", d.incarnation())
	default:
		t.Logf("killed at %s", what)
	}
}

// TestEveryCoordinatorDiesAfterItsFirstWrite makes every write of a roll the last of a coordinator.
func TestEveryCoordinatorDiesAfterItsFirstWrite(t *testing.T) {
	allDie(t, 1, func(kill func()) meddler.Fate { return meddler.Fate{After: kill, Unheard: true} })
}

// TestEveryCoordinatorDiesBeforeItsSecondWrite makes every second one a write that never was.
func TestEveryCoordinatorDiesBeforeItsSecondWrite(t *testing.T) {
	allDie(t, 2, func(kill func()) meddler.Fate { return meddler.Fate{Before: kill, Lost: true} })
}

// allDie lets every coordinator die at its write of this number, but for one thing: who gains leadership asks every question
// again, so that a roll whose every coordinator dies of a question stands still, and should. The next one after such a death
// is spared the questions: they are not counted.
func allDie(t *testing.T, at int, fate func(kill func()) meddler.Fate) {
	r := newRoll(t)
	p := r.proxy()
	d := r.deployment(p)
	var (
		mu            sync.Mutex
		who, writes   int
		asked, spared bool
	)
	p.Meddle(func(q meddler.Request) meddler.Fate {
		if q.Write == 0 {
			return meddler.Fate{}
		}
		mu.Lock()
		defer mu.Unlock()
		if now := d.incarnation(); now != who {
			who, writes, asked, spared = now, 0, false, asked
		}
		if question := q.Resource == "nodecutovers" && q.Verb == "patch"; question {
			if spared {
				return meddler.Fate{}
			}
			asked = true
		}
		if writes++; writes < at {
			return meddler.Fate{}
		}
		return fate(d.kill)
	})
	d.run()
	r.ends(3 * time.Minute)
	r.oracle.judged(20, 2)
	if d.incarnation() < 20 {
		t.Errorf("%d coordinators ran, want at least one for every write of a ledger", d.incarnation())
	}
	t.Logf("%d coordinators, %d writes", d.incarnation(), p.Writes())
}
