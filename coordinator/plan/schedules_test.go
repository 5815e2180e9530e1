// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"flag"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

var (
	replay  = flag.String("schedule", "", "a schedule that a failing test has printed")
	planted = flag.Int("bug", 0, "the number of the mistake that was planted in it")
	first   = flag.Uint64("seed", 0, "the first seed of BenchmarkSchedules")
)

// TestSchedulesKeepTheLaws plays a fixed set of schedules, and shows that they reach everything there is.
func TestSchedulesKeepTheLaws(t *testing.T) {
	seen, g, d := newCoverage(), gallery{}, deck()
	for seed := range uint64(3000) {
		x := draw(seed, d, nil)
		s := newSimulation(x.setup, noBug, g)
		s.seen = seen
		if s.play(x.events) != "" {
			t.Fatalf("seed %d: %s", seed, tell(shrink(x, noBug), noBug))
		}
	}
	t.Logf("reached: %+v", *seen)
	for _, what := range seen.missing() {
		t.Errorf("no schedule reaches %s", what)
	}
}

// TestReplay tells the story of the schedule that -schedule holds. Without one, it sees that what is printed can be replayed.
func TestReplay(t *testing.T) {
	if *replay != "" {
		x, err := parseSchedule(*replay)
		if err != nil {
			t.Fatal(err)
		}
		t.Fatal(tell(x, bug(*planted)))
	}
	x := draw(1, deck(), nil)
	again, err := parseSchedule(x.String())
	if err != nil {
		t.Fatal(err)
	}
	if tell(x, noBug) != tell(again, noBug) {
		t.Error("a schedule that was printed tells another story when it is replayed")
	}
}

// TestTheLawsSeeEveryBug plants one mistake after the other: a law that could not be broken would say nothing. Each is seen
// within so many schedules, and its story is short enough to be read.
func TestTheLawsSeeEveryBug(t *testing.T) {
	g := gallery{}
	table := plantedBugs()
	if len(table) != int(bugs)-1 {
		t.Errorf("the table has %d rows for %d bugs", len(table), bugs-1)
	}
	for _, row := range table {
		t.Run(row.name, func(t *testing.T) {
			d := deck(row.storm...)
			for seed := range row.within {
				x := draw(seed, d, nil)
				broken := newSimulation(x.setup, row.bug, g).play(x.events)
				if broken == "" {
					continue
				}
				if row.law != "" && law(broken) != row.law {
					t.Errorf("it breaks the law that %s, want that %s", broken, row.law)
				}
				t.Logf("seed %d: %s", seed, broken)
				return
			}
			t.Error("no law saw it")
		})
	}
}

// TestAStoryIsShort shrinks what a bug does and bounds what is left to read.
func TestAStoryIsShort(t *testing.T) {
	g, d := gallery{}, deck()
	for seed := uint64(0); ; seed++ {
		x := draw(seed, d, nil)
		if newSimulation(x.setup, bugNoCompare, g).play(x.events) == "" {
			continue
		}
		small := shrink(x, bugNoCompare)
		story := tell(small, bugNoCompare)
		if n := len(small.events); n > 8 {
			t.Errorf("%d events are left of %d, want at most 8", n, len(x.events))
		}
		if n := strings.Count(story, "\n"); n > 45 {
			t.Errorf("the story has %d lines, want at most 45", n)
		}
		t.Log(story)
		return
	}
}

// TestSameStatusComparesEverything holds the comparison of the simulation to that of the coordinator.
func TestSameStatusComparesEverything(t *testing.T) {
	g, d := gallery{}, deck()
	compared, different := 0, 0
	for seed := range uint64(20) {
		x := draw(seed, d, nil)
		s := newSimulation(x.setup, noBug, g)
		s.same = func(a, b *v1alpha1.CutoverStatus) bool {
			want := equality.Semantic.DeepEqual(*a, *b)
			if got := sameStatus(a, b); got != want {
				t.Fatalf("seed %d: same = %t, want %t:\n%s", seed, got, want, cmp.Diff(*a, *b))
			}
			compared++
			if !want {
				different++
			}
			return want
		}
		s.play(x.events)
	}
	if different == 0 || different == compared {
		t.Errorf("of %d statuses %d differ, which shows nothing", compared, different)
	}
}

// BenchmarkSchedules plays b.N schedules on all cores and fails with the story of the first that breaks a law.
func BenchmarkSchedules(b *testing.B) {
	// What lives is a few kilobytes a core; collecting it as often as Go would by itself takes a third of the time.
	defer debug.SetGCPercent(debug.SetGCPercent(2000))
	var next, steps atomic.Uint64
	next.Store(*first)
	var once sync.Once
	b.RunParallel(func(pb *testing.PB) {
		g, d := gallery{}, deck()
		var events []event
		for pb.Next() {
			seed := next.Add(1) - 1
			x := draw(seed, d, events)
			events = x.events
			s := newSimulation(x.setup, noBug, g)
			if s.play(x.events) != "" {
				once.Do(func() { b.Errorf("seed %d: %s", seed, tell(shrink(x, noBug), noBug)) })
				return
			}
			steps.Add(uint64(s.tick))
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "schedules/s")
	b.ReportMetric(float64(steps.Load())/float64(b.N), "steps/schedule")
}
