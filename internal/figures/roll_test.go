// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package figures

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/oracle"
)

const (
	us      = "system:serviceaccount:cni-cutover:cutover-coordinator"
	theirs  = "system:node"
	answerT = 10 * time.Millisecond // of the API server, for each request
)

// story is a log in the making: the test says when each request comes in, in milliseconds.
type story struct {
	t    *testing.T
	zero time.Time
	roll Roll
}

func (s *story) at(ms int) time.Time { return s.zero.Add(time.Duration(ms) * time.Millisecond) }

func (s *story) add(ms int, user, verb, what, name string, body any) {
	s.t.Helper()
	e := oracle.Event{Stage: "ResponseComplete", Verb: verb, Received: metav1.NewMicroTime(s.at(ms)), Answered: metav1.NewMicroTime(s.at(ms).Add(answerT))}
	e.User.Username, e.ResponseStatus.Code = user, 200
	e.ObjectRef.Resource, e.ObjectRef.Subresource, _ = strings.Cut(what, "/")
	e.ObjectRef.Name = name
	var err error
	if e.RequestObject, err = json.Marshal(body); err != nil {
		s.t.Fatal(err)
	}
	s.roll.Log(&e)
}

func (s *story) ledger(ms int, slots ...v1alpha1.Slot) {
	c := v1alpha1.Cutover{Spec: v1alpha1.CutoverSpec{Rollout: v1alpha1.Rollout{MaxConcurrent: 1}}, Status: v1alpha1.CutoverStatus{Slots: slots}}
	s.add(ms, us, "update", "cutovers/status", "cluster", c)
}

func (s *story) ask(ms int, node, id string, p v1alpha1.Purpose, answered int) {
	nc := v1alpha1.NodeCutover{Spec: v1alpha1.NodeCutoverSpec{Challenge: &v1alpha1.Challenge{ID: id, Purpose: p}}}
	s.add(ms, us, "patch", "nodecutovers", node, nc)
	s.answer(nc, node, answered)
}

// first asks a node in the NodeCutover that is made for it.
func (s *story) first(ms int, node, id string, p v1alpha1.Purpose, answered int) {
	nc := v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: node}, Spec: v1alpha1.NodeCutoverSpec{Challenge: &v1alpha1.Challenge{ID: id, Purpose: p}}}
	s.add(ms, us, "create", "nodecutovers", "", nc)
	s.answer(nc, node, answered)
}

func (s *story) answer(nc v1alpha1.NodeCutover, node string, answered int) {
	nc.Status.ChallengeID = nc.Spec.Challenge.ID
	s.add(answered, theirs, "update", "nodecutovers/status", node, nc)
}

// tell is the cutover of node n1, replaced by n2; only what is said of it takes time.
func tell(t *testing.T) *Roll {
	s := &story{t: t, zero: time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC)}
	slot := func(step v1alpha1.Step, since int, replacement string) v1alpha1.Slot {
		out := v1alpha1.Slot{Node: "n1", Step: step, Since: metav1.NewMicroTime(s.at(since)), Replacement: replacement}
		out.Terms.Drain.DeregistrationDelay.Duration, out.Terms.Soak.Duration = time.Second, time.Second
		return out
	}
	ready := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	replace := corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationReplace: "u1"}}}

	s.add(0, theirs, "create", "pods/binding", "p1", corev1.Binding{Target: corev1.ObjectReference{Name: "n1"}})
	s.ledger(5)
	s.ask(20, "n1", "q1", v1alpha1.PurposeDrain, 50)  // answered at 60
	s.ledger(100, slot(v1alpha1.StepCordon, 100, "")) // granted at 110, 40 ms after the answer
	s.add(120, us, "patch", "nodes", "n1", corev1.Node{Spec: corev1.NodeSpec{Unschedulable: true}})
	s.ledger(200, slot(v1alpha1.StepDeregister, 200, "")) // 100 ms in Cordon, none of them the world's
	s.ask(1260, "n1", "q2", v1alpha1.PurposeDrain, 1290)  // from 1270, 70 ms after the delay, to 1300
	s.ledger(1320, slot(v1alpha1.StepDrain, 1320, ""))
	s.add(1400, us, "create", "pods/eviction", "p1", nil) // 100 ms after the answer
	s.add(1600, theirs, "delete", "pods", "p1", nil)
	s.ledger(1700, slot(v1alpha1.StepReplace, 1700, ""))
	s.add(1710, us, "patch", "nodes", "n1", replace)
	s.add(1800, theirs, "delete", "nodes", "n1", nil)
	s.add(1900, theirs, "create", "nodes", "n2", ready)
	s.first(1950, "n2", "q3", v1alpha1.PurposeValidate, 1980) // from 1960 to 1990
	s.ledger(2010, slot(v1alpha1.StepSoak, 2010, "n2"))       // 20 ms after the answer
	s.ask(3010, "n2", "q4", v1alpha1.PurposeValidate, 3020)   // answered at 3030
	s.add(3030, us, "create", "events", "", nil)
	s.ledger(3040) // 10 ms after the answer
	return &s.roll
}

func TestReactionsAreCountedFromTheAnswer(t *testing.T) {
	got := tell(t).Reactions()
	for name, tt := range map[string]struct {
		got  Delays
		want time.Duration
	}{
		"grant": {got.Grant, 40 * time.Millisecond}, "eviction": {got.Eviction, 100 * time.Millisecond},
		"validated": {got.Validated, 20 * time.Millisecond}, "soaked": {got.Soaked, 10 * time.Millisecond},
	} {
		if len(tt.got) != 1 || tt.got[0] != tt.want {
			t.Errorf("%s: %s, want one of %s", name, tt.got, tt.want)
		}
	}
	if all := got.All(); all.At(0.5) != 40*time.Millisecond || all.At(1) != 100*time.Millisecond {
		t.Errorf("all: %s", all)
	}
}

// TestWhatIsDoneBeforeTheAgentHearsTakesNoTime: a watch showed the answer while the API server was still busy with it, and the
// ledger that claims the replacement came in before that was over. The one that follows has nothing to do with the answer.
func TestWhatIsDoneBeforeTheAgentHearsTakesNoTime(t *testing.T) {
	zero := time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	claimed := v1alpha1.Slot{Node: "n1", Step: v1alpha1.StepSoak, Replacement: "n2"}
	r := &Roll{
		answers: []answer{{received: at(20), at: at(60), id: "q", node: "n2", purpose: v1alpha1.PurposeValidate}},
		ledgers: []ledger{
			{received: at(0), answered: at(10), slots: []v1alpha1.Slot{{Node: "n1", Step: v1alpha1.StepJoin}}},
			{received: at(59), answered: at(80), slots: []v1alpha1.Slot{claimed}},
			{received: at(1000), answered: at(1010), slots: []v1alpha1.Slot{claimed}},
		},
	}
	if got := r.Reactions(); len(got.All()) != 1 || len(got.Validated) != 1 || got.Validated[0] != 0 {
		t.Errorf("%+v", got)
	}
}

func TestIdleIsWhatNobodyElseWasWaitedFor(t *testing.T) {
	got := tell(t).Idle()
	if world := 2940*time.Millisecond - got.Sum(); len(got.World) != 1 || got.World[0] != world || got.Bound(4) != world {
		t.Errorf("the world took %s, want %s", got.World, world)
	}
	if got.Slots != 1 || got.Total != 2940*time.Millisecond || got.Between != 0 {
		t.Errorf("%d slots, %s in all, %s between", got.Slots, got.Total, got.Between)
	}
	for step, want := range map[v1alpha1.Step]time.Duration{
		v1alpha1.StepCordon:     90,  // ms: 110 to 210, but for the delay that the ledger counts from 200
		v1alpha1.StepDeregister: 100, // 210 to 1330, but for the delay to 1200 and the answer, 1270 to 1300
		v1alpha1.StepDrain:      170, // 1330 to 1710, but for the pods, 1400 to 1610
		v1alpha1.StepReplace:    80,  // 1710 to 2020, but for the replacement, 1720 to 1910, the answer, 1960 to 1990, and the soak from 2010
		v1alpha1.StepSoak:       30,  // 2020 to 3050, but for the soak to 3010 and the answer, 3020 to 3030
	} {
		if got.Steps[step] != want*time.Millisecond {
			t.Errorf("%s: %s idle, want %d ms", step, got.Steps[step], want)
		}
	}
}

func TestTheBoundIsThatOfSlotsThatAreNeverIdle(t *testing.T) {
	for slots, want := range map[int]time.Duration{1: 14, 2: 8, 3: 5, 9: 5} {
		got := Idle{World: []time.Duration{5, 3, 1, 4, 1}}.Bound(slots)
		if got != want {
			t.Errorf("with %d slots: %d, want %d", slots, got, want)
		}
	}
}

func TestWritesForANodeAreItsOwn(t *testing.T) {
	r := tell(t)
	counts := map[string]int{}
	for _, w := range r.WritesFor("n1") {
		counts[w.What]++
	}
	// The ledger before the grant, the Event and the eviction are not among them.
	for what, want := range map[string]int{"cutovers/status": 6, "nodecutovers": 4, "nodecutovers/status": 4, "nodes": 2, "events": 0, "pods/eviction": 0} {
		if counts[what] != want {
			t.Errorf("%d writes of %s, want %d", counts[what], what, want)
		}
	}
	if w := r.WritesFor("n9"); w != nil {
		t.Errorf("a node that had no slot has writes: %v", w)
	}
}

func TestRequestsOfOthersDoNotCount(t *testing.T) {
	r := tell(t).Requests
	if r.Writes != 13 || r.Answers != 4 || r.Evictions != 1 || r.Events != 1 || r.Gets+r.Lists+r.Watches != 0 {
		t.Errorf("counted %+v", r)
	}
	if left := r.Minus(r); left.Writes != 0 || left.String() != "" {
		t.Errorf("nothing is left as %+v", left)
	}
}
