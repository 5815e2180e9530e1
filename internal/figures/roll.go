// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package figures

import (
	"cmp"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/oracle"
)

// Roll is what an audit log shows of a roll. Its zero value is ready; Log enters an event.
type Roll struct {
	// Requests are those of the coordinator and the agents.
	Requests Requests

	ledgers []ledger
	asked   map[string]time.Time // by id of the challenge: when the API server had taken it
	answers []answer
	heard   map[string]bool // ids of answered challenges
	nodes   map[string]*life
	pods    map[string]string // node of a pod, by namespace/name
	leaving map[string]string // the same, of those that were evicted
	writes  []Write
}

// ledger is one that the coordinator wrote.
type ledger struct {
	received, answered time.Time
	slots              []v1alpha1.Slot
	limit              int // rollout.maxConcurrent that stood beside it
}

func (l *ledger) slot(match func(*v1alpha1.Slot) bool) *v1alpha1.Slot {
	for i := range l.slots {
		if match(&l.slots[i]) {
			return &l.slots[i]
		}
	}
	return nil
}

func (l *ledger) of(node string) *v1alpha1.Slot {
	return l.slot(func(s *v1alpha1.Slot) bool { return s.Node == node })
}

// answer is an agent's first one to a challenge.
type answer struct {
	received, at time.Time // from the agent, and when the API server had answered it
	id           string
	node         string
	purpose      v1alpha1.Purpose
}

// life is what became of a node; zero for what has not happened.
type life struct {
	ready    time.Time // when it was Ready first
	evicted  time.Time // when the first Eviction came in, whatever was said to it
	emptied  time.Time // when the last pod that was evicted was gone
	replaced time.Time // when the request to replace it was taken
	gone     time.Time
}

func (r *Roll) node(name string) *life {
	if r.nodes == nil {
		r.nodes = map[string]*life{}
	}
	if r.nodes[name] == nil {
		r.nodes[name] = &life{}
	}
	return r.nodes[name]
}

// Log enters an event, in the order of the log.
func (r *Roll) Log(e *oracle.Event) {
	if r.asked == nil {
		r.asked, r.heard, r.pods, r.leaving = map[string]time.Time{}, map[string]bool{}, map[string]string{}, map[string]string{}
	}
	r.Requests.count(e)
	if !e.Write() {
		return
	}
	if by(e) != nobody && e.Done() {
		r.writes = append(r.writes, Write{At: e.Answered.Time, Verb: e.Verb, What: e.What(), Name: e.ObjectRef.Name, Agent: by(e) == agent, body: e.RequestObject})
	}
	switch e.What() {
	case "cutovers/status":
		r.ledger(e)
	case "nodecutovers", "nodecutovers/status":
		r.question(e)
	case "nodes", "nodes/status":
		r.seeNode(e)
	case "pods/binding":
		var b corev1.Binding
		if read(e, &b) {
			r.pods[podName(e)] = b.Target.Name
		}
	case "pods/eviction":
		r.eviction(e)
	case "pods":
		if node := r.leaving[podName(e)]; node != "" && e.Verb == "delete" && e.Done() {
			r.node(node).emptied = e.Answered.Time
		}
	}
}

func podName(e *oracle.Event) string { return e.ObjectRef.Namespace + "/" + e.ObjectRef.Name }

// read reads the body of a request that was granted.
func read(e *oracle.Event, into any) bool {
	return e.Done() && len(e.RequestObject) > 0 && json.Unmarshal(e.RequestObject, into) == nil
}

func (r *Roll) ledger(e *oracle.Event) {
	var c v1alpha1.Cutover
	if by(e) == coordinator && read(e, &c) {
		r.ledgers = append(r.ledgers, ledger{
			received: e.Received.Time, answered: e.Answered.Time, slots: c.Status.Slots, limit: int(c.Spec.Rollout.MaxConcurrent),
		})
	}
}

func (r *Roll) question(e *oracle.Event) {
	var nc v1alpha1.NodeCutover
	if !read(e, &nc) || nc.Spec.Challenge == nil {
		return
	}
	c := nc.Spec.Challenge
	nc.Name = cmp.Or(e.ObjectRef.Name, nc.Name) // a request that creates has it in its body, a patch in its path
	switch {
	case by(e) == coordinator:
		r.asked[c.ID+nc.Name] = e.Answered.Time
	case nc.Status.ChallengeID == c.ID && !r.heard[c.ID+nc.Name]:
		r.heard[c.ID+nc.Name] = true
		r.answers = append(r.answers, answer{received: e.Received.Time, at: e.Answered.Time, id: c.ID, node: nc.Name, purpose: c.Purpose})
	}
}

func (r *Roll) seeNode(e *oracle.Event) {
	var n corev1.Node
	switch {
	case e.Verb == "delete" && e.Done():
		r.node(e.ObjectRef.Name).gone = e.Answered.Time
		return
	case !read(e, &n):
		return
	}
	name := e.ObjectRef.Name
	if name == "" {
		name = n.Name
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue && r.node(name).ready.IsZero() {
			r.node(name).ready = e.Answered.Time
		}
	}
	if n.Annotations[v1alpha1.AnnotationReplace] != "" && by(e) == coordinator && r.node(name).replaced.IsZero() {
		r.node(name).replaced = e.Answered.Time
	}
}

func (r *Roll) eviction(e *oracle.Event) {
	node := r.pods[podName(e)]
	if node == "" || by(e) != coordinator {
		return
	}
	if r.node(node).evicted.IsZero() {
		r.node(node).evicted = e.Received.Time
	}
	if e.Done() {
		r.leaving[podName(e)] = node
	}
}
