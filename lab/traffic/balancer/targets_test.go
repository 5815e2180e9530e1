// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package balancer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func node(name string) Node { return Node{ID: name + "-id", Name: name, Address: name} }

func nodes(names string) []Node {
	var all []Node
	for _, name := range strings.Fields(names) {
		all = append(all, node(name))
	}
	return all
}

// script drives targets through steps of a small language and narrates every
// transition: "= a b" registers, "a+" and "a-" are health checks, "@5s" sets
// the time since the start and lets drains expire, "?" takes a connection.
func script(t *testing.T, steps string) []string {
	t.Helper()
	ts := targets{healthyAfter: 2, unhealthyAfter: 2, delay: 10 * time.Second}
	start := time.Unix(1e9, 0)
	now := start
	var story []string
	for step := range strings.SplitSeq(steps, ";") {
		step = strings.TrimSpace(step)
		var changes []change
		switch {
		case strings.HasPrefix(step, "="):
			changes = ts.register(nodes(step[1:]), now)
		case strings.HasPrefix(step, "@"):
			d, err := time.ParseDuration(step[1:])
			if err != nil {
				t.Fatal(err)
			}
			now = start.Add(d)
			changes = ts.expire(now)
		case step == "?":
			if m := ts.next(); m != nil {
				story = append(story, "to "+m.node.Name)
			} else {
				story = append(story, "to nobody")
			}
		default:
			name, good := step[:len(step)-1], strings.HasSuffix(step, "+")
			found := false
			for _, m := range ts.members {
				if m.node.Name == name {
					changes, found = ts.observe(m, good, "bad"), true
				}
			}
			if !found {
				t.Fatalf("step %q: no such target", step)
			}
		}
		for _, c := range changes {
			story = append(story, fmt.Sprintf("%s %s>%s", c.target.node.Name, c.from, c.to))
		}
	}
	return story
}

func TestTargetsFollowTheRulesOfAWS(t *testing.T) {
	for name, c := range map[string]struct {
		steps string
		want  []string
	}{
		"a new target waits for its health checks": {
			"= a; ?; a+; ?; a+; ?",
			[]string{"a unused>initial", "to nobody", "to nobody", "a initial>healthy", "to a"},
		},
		"good checks have to be in a row": {
			"= a; a+; a-; a+; ?; a+",
			[]string{"a unused>initial", "to nobody", "a initial>healthy"},
		},
		"one bad check does not turn a healthy target, two do": {
			"= a b; a+; a+; b+; b+; a-; a+; a-; ?; ?; a-; ?; ?",
			[]string{"a unused>initial", "b unused>initial", "a initial>healthy", "b initial>healthy", "to b", "to a", "a healthy>unhealthy", "to b", "to b"},
		},
		"traffic goes round the healthy ones": {
			"= a b c; a+; a+; b+; b+; c+; c+; ?; ?; ?; ?",
			[]string{"a unused>initial", "b unused>initial", "c unused>initial", "a initial>healthy", "b initial>healthy", "c initial>healthy", "to b", "to c", "to a", "to b"},
		},
		"a deregistered target gets nothing new from that moment": {
			"= a b; a+; a+; b+; b+; = b; ?; ?",
			[]string{"a unused>initial", "b unused>initial", "a initial>healthy", "b initial>healthy", "a healthy>draining", "to b", "to b"},
		},
		"not even when nobody else is there": {
			"= a; a+; a+; = ; ?",
			[]string{"a unused>initial", "a initial>healthy", "a healthy>draining", "to nobody"},
		},
		"a drain takes its whole delay and is not prolonged": {
			"= a; @1s; = ; @6s; = ; @10999ms; @11s",
			[]string{"a unused>initial", "a initial>draining", "a draining>unused"},
		},
		"a draining target that comes back starts anew": {
			"= a; a+; a+; = ; @5s; = a; ?; a+; a+; ?; @60s",
			[]string{"a unused>initial", "a initial>healthy", "a healthy>draining", "a draining>initial", "to nobody", "a initial>healthy", "to a"},
		},
		"health checks of a draining target change nothing": {
			"= a; = ; a+; a+; a-; a-; ?",
			[]string{"a unused>initial", "a initial>draining", "to nobody"},
		},
		"with no healthy target the unhealthy ones get the traffic": {
			"= a b; a-; a-; ?; ?; b+; b+; ?",
			[]string{"a unused>initial", "b unused>initial", "a initial>unhealthy", "to a", "to a", "b initial>healthy", "to b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, script(t, c.steps)); diff != "" {
				t.Errorf("story (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnotherMachineUnderTheSameNameIsAnotherTarget(t *testing.T) {
	ts := targets{healthyAfter: 1, unhealthyAfter: 1}
	old := node("a")
	ts.register([]Node{old}, time.Time{})
	ts.observe(ts.members[0], true, "")
	reborn := old
	reborn.ID = "other"
	ts.register([]Node{reborn}, time.Time{})
	if m := ts.next(); m != nil {
		t.Errorf("traffic goes to %+v before it passed a health check", m.node)
	}
}
