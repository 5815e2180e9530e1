// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package figures

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Idle is the part of the slots' time in which the coordinator was the one being waited for.
type Idle struct {
	// Slots that were granted and ended, the time from the first grant to the last end, and that of all slots together.
	Slots       int
	Span, Total time.Duration
	// Steps is the time of the slots without what the world was waited for, by step. What the API server took to answer the
	// coordinator is in it.
	Steps map[v1alpha1.Step]time.Duration
	// Between is the time in which a slot was free while nodes were left that got one later.
	Between time.Duration
	// World is what is left of the time of each slot, in the order of their grants.
	World []time.Duration
}

// Bound is how long these slots take, so many at a time, if nobody ever waits for the coordinator: each node begins as soon as one of
// them is free.
func (i Idle) Bound(slots int) time.Duration {
	free := make([]time.Duration, max(slots, 1)) // when each of them is
	for _, w := range i.World {
		first := slices.Index(free, slices.Min(free))
		free[first] += w
	}
	return slices.Max(free)
}

// Share is idle time over the time of the slots.
func (i Idle) Share() float64 {
	if i.Total == 0 {
		return 0
	}
	return float64(i.Sum()) / float64(i.Total+i.Between)
}

// Sum is all idle time.
func (i Idle) Sum() time.Duration {
	sum := i.Between
	for _, d := range i.Steps {
		sum += d
	}
	return sum
}

// String tells of the idle time of one slot, step by step.
func (i Idle) String() string {
	var b strings.Builder
	n := time.Duration(max(i.Slots, 1))
	fmt.Fprintf(&b, "%d slots of %s each: idle %s each, that is %.2f %%:", i.Slots, milli(i.Total/n), milli(i.Sum()/n), 100*i.Share())
	for _, s := range v1alpha1.Steps() {
		if d := i.Steps[s]; d > 0 {
			fmt.Fprintf(&b, " %s %s", s, milli(d/n))
		}
	}
	fmt.Fprintf(&b, "; before the next grant %s", milli(i.Between/n))
	return b.String()
}

// span is a stretch of time.
type span struct{ from, to time.Time }

// stay is a slot in a step, as the ledgers show it.
type stay struct {
	span
	slot v1alpha1.Slot
}

// Idle finds the idle time of every slot that ended.
func (r *Roll) Idle() Idle {
	out := Idle{Steps: map[v1alpha1.Step]time.Duration{}}
	asked := r.questions()
	var first, last, lastGrant time.Time
	ways := slices.SortedFunc(maps.Values(r.stays()), func(a, b []stay) int { return a[0].from.Compare(b[0].from) })
	for _, stays := range ways {
		out.Slots++
		began, ended := stays[0].from, stays[len(stays)-1].to
		out.Total += ended.Sub(began)
		first, last, lastGrant = earlier(first, began), later(last, ended), later(lastGrant, began)
		node, replacement := stays[0].slot.Node, stays[len(stays)-1].slot.Replacement
		waits := slices.Concat(r.waits(stays), asked[node], asked[replacement])
		world := time.Duration(0)
		for _, s := range stays {
			waited := covered(s.span, waits)
			out.Steps[s.slot.Step] += s.to.Sub(s.from) - waited
			world += waited
		}
		out.World = append(out.World, world)
	}
	out.Span = last.Sub(first)
	for i := range max(len(r.ledgers)-1, 0) {
		now, next := &r.ledgers[i], &r.ledgers[i+1]
		if from, to := later(now.answered, first), earlier(lastGrant, next.answered); !now.full() && to.After(from) {
			out.Between += to.Sub(from) * time.Duration(now.limit-len(now.slots))
		}
	}
	return out
}

// stays returns the way of every slot that ended, by node.
func (r *Roll) stays() map[string][]stay {
	ways, ended := map[string][]stay{}, map[string][]stay{}
	for i := range r.ledgers {
		l := &r.ledgers[i]
		for node, way := range ways {
			if l.of(node) == nil {
				way[len(way)-1].to = l.answered
				ended[node] = way
				delete(ways, node)
			}
		}
		for _, s := range l.slots {
			way := ways[s.Node]
			if len(way) > 0 && way[len(way)-1].slot.Step == s.Step {
				way[len(way)-1].slot = s
				continue
			}
			if len(way) > 0 {
				way[len(way)-1].to = l.answered
			}
			ways[s.Node] = append(way, stay{span: span{from: l.answered}, slot: s})
		}
	}
	return ended
}

// waits are the times in which the world was waited for: load balancers, pods, whoever replaces nodes, the soak.
func (r *Roll) waits(stays []stay) []span {
	old, replacement := r.node(stays[0].slot.Node), r.node(stays[len(stays)-1].slot.Replacement)
	waits := []span{{old.evicted, old.emptied}, {old.replaced, old.gone}, {old.gone, replacement.ready}}
	for _, s := range stays {
		since := s.slot.Since.Time
		switch s.slot.Step {
		case v1alpha1.StepDeregister:
			waits = append(waits, span{since, since.Add(s.slot.Terms.Drain.DeregistrationDelay.Duration)})
		case v1alpha1.StepSoak:
			waits = append(waits, span{since, since.Add(s.slot.Terms.Soak.Duration)})
		}
	}
	return waits
}

// questions are the times from a question to its answer, by node.
func (r *Roll) questions() map[string][]span {
	out := map[string][]span{}
	for _, a := range r.answers {
		out[a.node] = append(out[a.node], span{r.asked[a.id+a.node], a.at})
	}
	return out
}

// covered is how much of a span lies in any of others.
func covered(s span, others []span) time.Duration {
	var cut []span
	for _, o := range others {
		from, to := later(s.from, o.from), earlier(s.to, o.to)
		if !o.from.IsZero() && !o.to.IsZero() && to.After(from) {
			cut = append(cut, span{from, to})
		}
	}
	slices.SortFunc(cut, func(a, b span) int { return cmp.Or(a.from.Compare(b.from), a.to.Compare(b.to)) })
	var sum time.Duration
	end := s.from
	for _, c := range cut {
		if c.to.After(end) {
			sum += c.to.Sub(later(c.from, end))
			end = c.to
		}
	}
	return sum
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// earlier is the earlier of two times; a zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
