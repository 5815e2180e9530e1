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

	"github.com/cni-cutover/cni-cutover/internal/oracle"
)

// who a request is from.
type who int

const (
	nobody who = iota // of ours
	coordinator
	agent
)

// by tells our requests: the coordinator's come with its ServiceAccount's token, and the status of a NodeCutover is written
// by agents only.
func by(e *oracle.Event) who {
	switch {
	case e.By(oracle.Coordinator):
		return coordinator
	case e.What() == "nodecutovers/status" && e.Verb == "update":
		return agent
	}
	return nobody
}

// Requests counts ours by kind.
type Requests struct {
	// Gets, Lists, Watches and Writes are the coordinator's, without those that follow.
	Gets, Lists, Watches, Writes int
	// Evictions, Events and Lease are its writes of these kinds, and its reads of the Lease.
	Evictions, Events, Lease int
	// Answers are the agents' writes.
	Answers int
	// Refused are those of all of them that were answered with an error; 404 and 409 are none.
	Refused map[string]int

	kinds       map[string]int
	first, last time.Time // the first and the last
}

func (r *Requests) count(e *oracle.Event) {
	from := by(e)
	if from == nobody {
		return
	}
	if r.first.IsZero() {
		r.first, r.kinds, r.Refused = e.Received.Time, map[string]int{}, map[string]int{}
	}
	r.last = e.Answered.Time
	if code := e.ResponseStatus.Code; code >= 400 && code != 404 && code != 409 {
		r.Refused[fmt.Sprintf("%d %s %s", code, e.Verb, e.What())]++
	}
	r.kinds[e.Verb+" "+e.What()]++
	switch {
	case from == agent:
		r.Answers++
	case e.ObjectRef.Resource == "leases":
		r.Lease++
	case e.ObjectRef.Resource == "events":
		r.Events++
	case e.What() == "pods/eviction":
		r.Evictions++
	case e.Write():
		r.Writes++
	case e.Verb == "list":
		r.Lists++
	case e.Verb == "watch":
		r.Watches++
	default:
		r.Gets++
	}
}

// Minus returns what came after an earlier count.
func (r Requests) Minus(before Requests) Requests {
	out := Requests{
		Gets: r.Gets - before.Gets, Lists: r.Lists - before.Lists, Watches: r.Watches - before.Watches, Writes: r.Writes - before.Writes,
		Evictions: r.Evictions - before.Evictions, Events: r.Events - before.Events, Lease: r.Lease - before.Lease,
		Answers: r.Answers - before.Answers, Refused: minus(r.Refused, before.Refused), kinds: minus(r.kinds, before.kinds),
		first: before.last, last: r.last,
	}
	return out
}

func minus(all, before map[string]int) map[string]int {
	out := map[string]int{}
	for k, n := range all {
		if n -= before[k]; n > 0 {
			out[k] = n
		}
	}
	return out
}

// String lists the kinds, the most frequent first.
func (r Requests) String() string {
	var b strings.Builder
	keys := slices.SortedFunc(maps.Keys(r.kinds), func(a, b string) int { return cmp.Or(r.kinds[b]-r.kinds[a], strings.Compare(a, b)) })
	for _, k := range keys {
		fmt.Fprintf(&b, "%8d %s\n", r.kinds[k], k)
	}
	return b.String()
}
