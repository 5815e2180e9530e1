// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"
)

// speaker is the name of a coordinator in a story.
func (s *simulation) speaker(c *coordinator) string { return "coordinator " + string(rune('A'+c.id)) }

// String says what a request is to do.
func (r *request) String() string {
	if r.status != nil {
		return "write the ledger"
	}
	return r.action.String()
}

// of says what becomes of a request.
func (f fate) of(r *request) string {
	return fmt.Sprintf([...]string{
		arrives: "%s", lost: "%s: it never arrives", unanswered: "%s: it arrives, but not its answer",
		late: "%s: it is in flight, the sender gives up on it", twice: "%s: it arrives, and will arrive again",
	}[f], r)
}

// narrate tells of what a coordinator sends, as far as people would want to know.
func (s *simulation) narrate(c *coordinator, r *request) {
	if !s.telling {
		return
	}
	if r.status != nil && r.over != s.cutover && s.bug != bugNoCompare {
		s.say("%s: the ledger has been written by somebody else since it was read", s.speaker(c))
		return
	}
	switch r.action.(type) {
	case nil, CreateNodeCutover, SetSafe, SetLeaving:
		return
	}
	s.say("%s: %s", s.speaker(c), r)
}

// String says what a schedule begins with.
func (u setup) String() string {
	r := u.spec().Rollout
	text := fmt.Sprintf("%d nodes in %d zones, maxConcurrent %d, maxUnavailable %d, failureBudget %d, soak %s, deregistrationDelay %s",
		u[setNodes], u[setZones]+1, r.MaxConcurrent, r.MaxUnavailable, r.FailureBudget, r.Soak.Duration, r.Drain.DeregistrationDelay.Duration)
	for _, option := range []struct {
		number int
		word   string
	}{{setMoved, "some moved before"}, {setPerZone, "one slot a zone"}, {setCanary, "a canary"}, {setSurge, "surge"}, {setShared, "install mode Shared"}} {
		if u[option.number] > 0 {
			text += ", " + option.word
		}
	}
	return text
}

// tell plays a schedule once more and returns its story, a line for each thing that happened, and how to see it again.
func tell(x schedule, b bug) string {
	s := newSimulation(x.setup, b, gallery{})
	s.telling = true
	s.say("%s", x.setup)
	broken := s.play(x.events)
	if len(s.story) > storyLines {
		s.story = append([]string{fmt.Sprintf("(%d lines left out)", len(s.story)-storyLines)}, s.story[len(s.story)-storyLines:]...)
	}
	again := fmt.Sprintf("go test ./coordinator/plan -run TestReplay -v -schedule %s", x)
	if b != noBug {
		again += fmt.Sprintf(" -bug %d", b)
	}
	return fmt.Sprintf("%s\n\n%s\n\nto see it again: %s", broken, strings.Join(s.story, "\n"), again)
}

// storyLines bounds what is printed of a story: its end.
const storyLines = 80

// law is the name of a law in what violate said.
func law(broken string) string {
	name, _, _ := strings.Cut(broken, ": ")
	return name
}

// shrink makes a schedule that breaks a law as simple as it can: it leaves events out, in ever smaller pieces, puts calm in
// the place of a beginning, and makes numbers smaller, as long as the same law is still broken.
func shrink(x schedule, b bug) schedule {
	g := gallery{}
	want := law(newSimulation(x.setup, b, g).play(x.events))
	breaks := func(y schedule) bool { return law(newSimulation(y.setup, b, g).play(y.events)) == want }
	for {
		before := x.String()
		x = shrinkEvents(x, breaks)
		x = shrinkBeginning(x, breaks)
		x = shrinkNumbers(x, breaks)
		if x.String() == before {
			return x
		}
	}
}

// shrinkEvents leaves out as many events as it can.
func shrinkEvents(x schedule, breaks func(schedule) bool) schedule {
	for size := max(len(x.events)/2, 1); size > 0; size /= 2 {
		for at := 0; at+size <= len(x.events); {
			y := schedule{setup: x.setup, events: slices.Delete(slices.Clone(x.events), at, at+size)}
			if breaks(y) {
				x = y
			} else {
				at += size
			}
		}
	}
	return x
}

// shrinkBeginning puts calm in the place of what leads up to the violation.
func shrinkBeginning(x schedule, breaks func(schedule) bool) schedule {
	for n := len(x.events); n > 1; n-- {
		for i := range uint8(2 * 32) {
			y := schedule{setup: x.setup, events: append([]event{{kind: aCalm, who: i / 32, arg: i % 32}}, x.events[n:]...)}
			if breaks(y) {
				return y
			}
		}
	}
	return x
}

// shrinkNumbers makes the numbers of the setup and of the events smaller.
func shrinkNumbers(x schedule, breaks func(schedule) bool) schedule {
	try := func(set func(*schedule)) bool {
		y := schedule{setup: x.setup, events: slices.Clone(x.events)}
		set(&y)
		if y.String() == x.String() || !breaks(y) {
			return false
		}
		x = y
		return true
	}
	for i, b := range bounds() {
		for v := b[0]; v < x.setup[i]; v++ {
			if try(func(y *schedule) { y.setup[i] = v }) {
				break
			}
		}
	}
	for i := range x.events {
		for v := range min(x.events[i].who, 8) {
			if try(func(y *schedule) { y.events[i].who = v }) {
				break
			}
		}
		for v := range min(x.events[i].arg, 32) {
			if try(func(y *schedule) { y.events[i].arg = v }) {
				break
			}
		}
	}
	return x
}
