// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package figures

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Write is one that the coordinator or an agent made.
type Write struct {
	At               time.Time
	Verb, What, Name string
	// Agent says that an agent made it.
	Agent bool

	body json.RawMessage
}

// String tells of a write in a line.
func (w Write) String() string {
	from := "coordinator"
	if w.Agent {
		from = "agent"
	}
	return fmt.Sprintf("%s %-11s %-6s %-19s %s", w.At.UTC().Format("15:04:05.000"), from, w.Verb, w.What, w.Name)
}

// Counts says whether a write counts: Events, the Lease and evictions do not.
func (w Write) Counts() bool {
	return !slices.Contains([]string{"events", "leases", "pods/eviction"}, w.What)
}

// Writes are all that were made between two times, without those that do not count. A zero time is no limit.
func (r *Roll) Writes(from, to time.Time) []Write {
	return slices.DeleteFunc(slices.Clone(r.writes), func(w Write) bool {
		return !w.Counts() || w.At.Before(from) || !to.IsZero() && w.At.After(to)
	})
}

// WritesFor are the writes for the cutover of one node: those of the node, of its replacement, of what both were asked, and
// every ledger from the one that grants its slot to the one that ends it. They are its own only if no other slot was held
// meanwhile.
func (r *Roll) WritesFor(node string) []Write {
	first := r.next(time.Time{}, func(l *ledger) bool { return l.of(node) != nil })
	if first < 0 {
		return nil
	}
	end, replacement := first, ""
	for ; end < len(r.ledgers); end++ {
		s := r.ledgers[end].of(node)
		if s == nil {
			break
		}
		replacement = s.Replacement
	}
	if end == len(r.ledgers) {
		return nil
	}
	return slices.DeleteFunc(r.Writes(time.Time{}, time.Time{}), func(w Write) bool {
		if w.What == "cutovers/status" {
			return w.At.Before(r.ledgers[first].answered) || w.At.After(r.ledgers[end].answered)
		}
		name := w.Name
		if name == "" {
			name = w.created()
		}
		return name != node && name != replacement
	})
}

// created returns the name in the body: a request to create an object has none in its path.
func (w Write) created() string {
	var object struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	_ = json.Unmarshal(w.body, &object) // without a body it has no name
	return object.Metadata.Name
}

// Why says in a few words what a write changed, as far as its body tells.
func (w Write) Why() string {
	var body struct {
		Metadata struct {
			Labels, Annotations map[string]any
		}
		Spec struct {
			Unschedulable *bool
			Taints        []any
			Challenge     *v1alpha1.Challenge
			NodeUID       string
		}
		Status struct {
			Conditions  []struct{ Type, Status string }
			ChallengeID string
			Slots       []struct{ Node, Step, Reason string }
		}
	}
	if json.Unmarshal(w.body, &body) != nil {
		return ""
	}
	switch w.What {
	case "cutovers/status":
		var slots []string
		for _, s := range body.Status.Slots {
			slots = append(slots, s.Node+" in "+s.Step+" ("+s.Reason+")")
		}
		return strings.Join(slots, ", ")
	case "nodecutovers":
		if body.Spec.Challenge != nil {
			return "question: " + string(body.Spec.Challenge.Purpose)
		}
	case "nodecutovers/status":
		if body.Status.ChallengeID == "" {
			return "unasked report"
		}
		return "answer"
	case "nodes/status":
		for _, c := range body.Status.Conditions {
			return c.Type + "=" + c.Status
		}
	case "nodes":
		return patched(body.Metadata.Labels, body.Metadata.Annotations, body.Spec.Unschedulable, body.Spec.Taints != nil)
	}
	return ""
}

func patched(labels, annotations map[string]any, unschedulable *bool, taints bool) string {
	var what []string
	for k := range labels {
		what = append(what, k)
	}
	for k := range annotations {
		what = append(what, k)
	}
	if unschedulable != nil {
		what = append(what, fmt.Sprintf("unschedulable=%t", *unschedulable))
	}
	if taints {
		what = append(what, "taints")
	}
	slices.Sort(what)
	return strings.Join(what, " ")
}
