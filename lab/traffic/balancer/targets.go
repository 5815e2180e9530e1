// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package balancer

import (
	"cmp"
	"slices"
	"time"
)

// State is what a target group thinks of a target, in the words of AWS.
type State string

const (
	// Initial targets are registered and have not been judged yet: no traffic.
	Initial State = "initial"
	// Healthy targets get traffic.
	Healthy State = "healthy"
	// Unhealthy targets get traffic only while there is no healthy one.
	Unhealthy State = "unhealthy"
	// Draining targets are deregistered and may finish what they have.
	Draining State = "draining"
	// Unused targets are gone; no target of a group is in this state.
	Unused State = "unused"
)

// target is one node in one group.
type target struct {
	node  Node
	state State
	// good and bad count the latest health checks in a row.
	good, bad int
	// deadline is when a draining target is cut off.
	deadline time.Time
}

// change is a transition to tell the world about.
type change struct {
	target   *target
	from, to State
	reason   string
}

// targets is the pure half of a group: what AWS's rules make of nodes, health
// checks and the time. It does no I/O and has no clock. Not safe for
// concurrent use.
type targets struct {
	healthyAfter, unhealthyAfter int
	delay                        time.Duration

	members []*target // in order of registration
	turn    int       // of the round robin
}

func (t *targets) move(m *target, to State, reason string) change {
	c := change{target: m, from: m.state, to: to, reason: reason}
	m.state, m.good, m.bad = to, 0, 0
	return c
}

// register makes the group's registered targets equal to eligible: others
// begin to drain. A draining target that is eligible again starts anew.
func (t *targets) register(eligible []Node, now time.Time) []change {
	var changes []change
	for _, m := range t.members {
		wanted := slices.Contains(eligible, m.node)
		switch {
		case wanted && m.state == Draining:
			changes = append(changes, t.move(m, Initial, "registered again"))
		case !wanted && m.state != Draining:
			m.deadline = now.Add(t.delay)
			changes = append(changes, t.move(m, Draining, "deregistered"))
		}
	}
	for _, node := range eligible {
		if !slices.ContainsFunc(t.members, func(m *target) bool { return m.node == node }) {
			m := &target{node: node, state: Unused}
			t.members = append(t.members, m)
			changes = append(changes, t.move(m, Initial, "registered"))
		}
	}
	return changes
}

// observe takes in one health check of m; why says what was bad about it.
// A check of a target that has been deregistered meanwhile changes nothing.
func (t *targets) observe(m *target, good bool, why string) []change {
	if m.state == Draining || !slices.Contains(t.members, m) {
		return nil
	}
	if good {
		m.good, m.bad = m.good+1, 0
		if m.state != Healthy && m.good >= t.healthyAfter {
			return []change{t.move(m, Healthy, "health checks pass")}
		}
		return nil
	}
	m.good, m.bad = 0, m.bad+1
	if m.state != Unhealthy && m.bad >= t.unhealthyAfter {
		return []change{t.move(m, Unhealthy, why)}
	}
	return nil
}

// expire removes the targets whose time to drain is over.
func (t *targets) expire(now time.Time) []change {
	var changes []change
	t.members = slices.DeleteFunc(t.members, func(m *target) bool {
		if m.state != Draining || now.Before(m.deadline) {
			return false
		}
		changes = append(changes, t.move(m, Unused, "deregistration delay is over"))
		return true
	})
	return changes
}

// registered are the targets that health checks are due for.
func (t *targets) registered() []*target {
	return slices.Collect(func(yield func(*target) bool) {
		for _, m := range t.members {
			if m.state != Draining && !yield(m) {
				return
			}
		}
	})
}

// next is the target of the next connection: healthy ones in turn, for lack of
// any the unhealthy ones in turn, else nil.
func (t *targets) next() *target {
	for _, usable := range []State{Healthy, Unhealthy} {
		var candidates []*target
		for _, m := range t.members {
			if m.state == usable {
				candidates = append(candidates, m)
			}
		}
		if len(candidates) > 0 {
			t.turn++
			return candidates[t.turn%len(candidates)]
		}
	}
	return nil
}

// sorted are all targets by node name.
func (t *targets) sorted() []*target {
	return slices.SortedStableFunc(slices.Values(t.members), func(a, b *target) int { return cmp.Compare(a.node.Name, b.node.Name) })
}
