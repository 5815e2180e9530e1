// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Coordinator is the ServiceAccount whose writes are judged.
const Coordinator = "cutover-coordinator"

// Oracle keeps the books. The zero value is ready; it is for one log, one goroutine.
type Oracle struct {
	// Act says which requests are the coordinator's; nil for those of the ServiceAccount Coordinator.
	Act func(*Event) bool

	cutover v1alpha1.Cutover // as last written
	doubt   doubt
	nodes   map[string]*node // by name
	pods    map[types.UID]*pod
	// Nodes and pods that have gone: a write of theirs may be logged later, for the log is in the order of answers.
	gone   map[types.UID]bool
	left   map[types.UID]*pod
	asked  map[string]*v1alpha1.NodeCutover // by name, as last written
	passed map[types.UID]metav1.MicroTime   // by node UID: when the newest passing answer before a drain expires
	legacy legacy

	seen       Seen
	violations []string
}

// Seen counts what was judged: laws that nothing was held against prove nothing.
type Seen struct {
	Grants, Evictions, Cordons, Uncordons, LegacyStatus, PodAddresses int
}

// node is what the log showed of a Node.
type node struct {
	uid      types.UID
	version  uint64
	cordoned bool
	record   *cordonRecord // of our cordon
	wasReady bool
	ready    bool
	outSince time.Time // when it was cordoned or fell out of Ready; zero while it is in service
	openedAt time.Time // when somebody else undid its cordon last; zero for never
}

// cordonRecord is the value of our cordon annotation.
type cordonRecord struct {
	Slot          types.UID `json:"slot"`
	Unschedulable bool      `json:"unschedulable"`
}

// pod is what the log showed of a pod with an address of its own.
type pod struct {
	name, node string
	nodeUID    types.UID // of the node that had that name when the pod was last written; empty where the log did not show it
	hostNet    bool
	ip         string
}

// Violations are the sentences that say which law was broken when, by which request, in the order of the log.
func (o *Oracle) Violations() []string { return o.violations }

// Seen says how much was judged.
func (o *Oracle) Seen() Seen { return o.seen }

// See enters an event into the books and holds it against the laws. Events must come in the order of the log.
func (o *Oracle) See(e *Event) {
	if o.nodes == nil {
		o.nodes, o.pods, o.asked = map[string]*node{}, map[types.UID]*pod{}, map[string]*v1alpha1.NodeCutover{}
		o.passed, o.gone, o.left = map[types.UID]metav1.MicroTime{}, map[types.UID]bool{}, map[types.UID]*pod{}
		o.doubt.cordons = map[string]bool{}
	}
	if !e.Write() {
		return
	}
	// Refused or not: that the coordinator asked for it is what is judged.
	if e.What() == "pods/eviction" && o.acts(e) {
		o.judgeEviction(e)
	}
	if e.Doubtful() && o.acts(e) {
		o.mayHaveBeen(e)
	}
	if !e.Done() {
		return
	}
	switch e.What() {
	case "cutovers", "cutovers/status":
		o.seeCutover(e)
	case "nodecutovers", "nodecutovers/status":
		o.seeNodeCutover(e)
	case "nodes", "nodes/status":
		o.seeNode(e)
	case "pods", "pods/status", "pods/binding":
		o.seePod(e)
	case "daemonsets", "daemonsets/status":
		o.seeDaemonSet(e)
	}
}

func (o *Oracle) acts(e *Event) bool {
	if o.Act != nil {
		return o.Act(e)
	}
	return e.By(Coordinator)
}

func (o *Oracle) violate(e *Event, format string, args ...any) {
	o.violations = append(o.violations, fmt.Sprintf("%s %s %s %s by %s, answered %d: %s", e.Received.UTC().Format("15:04:05.000"),
		e.Verb, e.What(), e.ObjectRef.Name, e.User.Username, e.ResponseStatus.Code, fmt.Sprintf(format, args...)))
}

// decode reads the object as it was after the write; false if the log does not hold it.
func decode(e *Event, into any) bool {
	return len(e.ResponseObject) > 0 && json.Unmarshal(e.ResponseObject, into) == nil
}

// version orders the states of one object. etcd's revisions are numbers, whatever the API calls opaque.
func version(m metav1.Object) uint64 {
	v, _ := strconv.ParseUint(m.GetResourceVersion(), 10, 64)
	return v
}

// seeCutover enters the ledger.
func (o *Oracle) seeCutover(e *Event) {
	if e.Verb == "delete" {
		o.cutover = v1alpha1.Cutover{}
		return
	}
	var now v1alpha1.Cutover
	if !decode(e, &now) || version(&now) < version(&o.cutover) {
		return
	}
	o.settle(e, true)
	o.enter(e, now)
}

// enter enters a ledger and judges what it grants.
func (o *Oracle) enter(e *Event, now v1alpha1.Cutover) {
	before := o.cutover
	o.cutover = now
	for i := range now.Status.Slots {
		s := &now.Status.Slots[i]
		if before.Status.SlotOf(s.NodeUID) == nil {
			o.judgeGrant(e, s)
		}
	}
}

// seeNodeCutover enters questions and answers.
func (o *Oracle) seeNodeCutover(e *Event) {
	if e.Verb == "delete" {
		delete(o.asked, e.ObjectRef.Name)
		return
	}
	var nc v1alpha1.NodeCutover
	if !decode(e, &nc) {
		return
	}
	if old := o.asked[nc.Name]; old != nil && old.UID == nc.UID && version(old) > version(&nc) {
		return
	}
	o.asked[nc.Name] = &nc
	if c := nc.Spec.Challenge; c != nil && c.Purpose == v1alpha1.PurposeDrain && o.passes(&nc) {
		if until, ok := o.passed[c.NodeUID]; !ok || until.Before(&c.ExpiresAt) {
			o.passed[c.NodeUID] = c.ExpiresAt
		}
	}
}

// passes judges an answer: of this very node, to this very question, Pass in every required check, or a Warn that
// rollout.holdOn does not name.
func (o *Oracle) passes(nc *v1alpha1.NodeCutover) bool {
	c, s := nc.Spec.Challenge, &nc.Status
	if s.ChallengeID != c.ID || s.NodeUID != c.NodeUID || s.NodeUID != nc.Spec.NodeUID || s.BootID == "" || len(c.RequiredChecks) == 0 {
		return false
	}
	if n := o.nodes[nc.Name]; n != nil && n.uid != c.NodeUID {
		return false
	}
	good := map[v1alpha1.CheckName]bool{}
	for _, f := range s.Findings {
		good[f.Check] = f.Verdict == v1alpha1.VerdictPass || (f.Verdict == v1alpha1.VerdictWarn && !o.holds(f.Reason))
	}
	for _, check := range c.RequiredChecks {
		if !good[check] {
			return false
		}
	}
	return true
}

func (o *Oracle) holds(reason v1alpha1.Reason) bool {
	for _, r := range o.cutover.Spec.Rollout.HoldOn {
		if r == string(reason) {
			return true
		}
	}
	return false
}

// seeNode enters a Node and judges what the coordinator did to it.
func (o *Oracle) seeNode(e *Event) {
	if e.Verb == "delete" {
		o.nodeGone(e.ObjectRef.Name)
		return
	}
	var object corev1.Node
	// A write is logged when it has been answered, which may be after the answer to the delete that followed it.
	if !decode(e, &object) || o.gone[object.UID] {
		return
	}
	before := o.nodes[object.Name]
	if before != nil && before.uid != object.UID {
		o.nodeGone(object.Name)
		before = nil
	}
	if before != nil && before.version > version(&object) {
		return
	}
	delete(o.doubt.cordons, object.Name)
	now := photograph(&object)
	now.after(before, e.Answered.Time, o.acts(e))
	o.nodes[object.Name] = now
	if o.acts(e) && before != nil {
		o.judgeCordon(e, before, now)
	}
}

// after adds to a state of a node what only its past tells; before is nil for a node that is new.
func (n *node) after(before *node, at time.Time, ours bool) {
	if before == nil {
		before = &node{}
	}
	n.openedAt = before.openedAt
	if before.cordoned && !n.cordoned && !ours {
		n.openedAt = at
	}
	n.wasReady = n.ready || before.wasReady
	if n.cordoned || n.wasReady && !n.ready {
		n.outSince = at
		if !before.outSince.IsZero() {
			n.outSince = before.outSince
		}
	}
}

// photograph is what one state of a Node shows.
func photograph(object *corev1.Node) *node {
	now := &node{uid: object.UID, version: version(object), cordoned: object.Spec.Unschedulable}
	if value, ok := object.Annotations[v1alpha1.AnnotationCordon]; ok {
		var r cordonRecord
		if json.Unmarshal([]byte(value), &r) == nil {
			now.record = &r
		}
	}
	for _, c := range object.Status.Conditions {
		now.ready = now.ready || c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}
	return now
}

// uidOf is the UID of the node that has a name now; empty if there is none.
func (o *Oracle) uidOf(name string) types.UID {
	if n := o.nodes[name]; n != nil {
		return n.uid
	}
	return ""
}

func (o *Oracle) nodeGone(name string) {
	if n := o.nodes[name]; n != nil {
		o.legacy.nodesGone++
		o.gone[n.uid] = true
	}
	delete(o.nodes, name)
	for uid, p := range o.pods {
		if p.node == name {
			o.podGone(uid)
		}
	}
}

func (o *Oracle) podGone(uid types.UID) {
	if p := o.pods[uid]; p != nil {
		o.left[uid] = p
		delete(o.pods, uid)
	}
}
