// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

const account = "system:serviceaccount:cni-cutover:cutover-coordinator"

// story is a log in the making. Each event comes a second after the one before.
type story struct {
	events  []Event
	now     time.Time
	version int
	ledger  v1alpha1.Cutover
}

func (s *story) add(user, verb, what string, object metav1.Object, request any) *Event {
	s.now = s.now.Add(time.Second)
	s.version++
	object.SetResourceVersion(fmt.Sprint(s.version))
	e := Event{Stage: "ResponseComplete", Verb: verb, Received: metav1.NewMicroTime(s.now), Answered: metav1.NewMicroTime(s.now.Add(time.Millisecond))}
	e.User.Username, e.ResponseStatus.Code = user, 200
	e.ObjectRef.Resource, e.ObjectRef.Subresource, _ = strings.Cut(what, "/")
	e.ObjectRef.Namespace, e.ObjectRef.Name = object.GetNamespace(), object.GetName()
	e.ResponseObject, _ = json.Marshal(object)
	if request != nil {
		e.RequestObject, _ = json.Marshal(request)
	}
	s.events = append(s.events, e)
	return &s.events[len(s.events)-1]
}

func (s *story) node(user, name string, uid types.UID, change func(*corev1.Node)) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: uid}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
	}}
	if change != nil {
		change(n)
	}
	s.add(user, "patch", "nodes", n, nil)
}

func cordoned(slot types.UID, before bool) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Spec.Unschedulable = true
		n.Annotations = map[string]string{v1alpha1.AnnotationCordon: fmt.Sprintf(`{"slot":%q,"unschedulable":%t}`, slot, before)}
	}
}

func (s *story) write(slots ...v1alpha1.Slot) {
	s.ledger.Status.Slots = slots
	s.add(account, "update", "cutovers/status", &s.ledger, nil)
}

func (s *story) answer(node string, uid types.UID, change func(*v1alpha1.NodeCutover)) {
	nc := &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: node, UID: types.UID("nc-" + node)}, Spec: v1alpha1.NodeCutoverSpec{NodeUID: uid, Challenge: &v1alpha1.Challenge{
		ID: "q1", NodeUID: uid, Role: v1alpha1.RoleLegacy, Purpose: v1alpha1.PurposeDrain, ExpiresAt: metav1.NewMicroTime(s.now.Add(2 * time.Minute)),
		RequiredChecks: []v1alpha1.CheckName{v1alpha1.CheckConflist, v1alpha1.CheckMTU},
	}}, Status: v1alpha1.NodeCutoverStatus{ChallengeID: "q1", NodeUID: uid, BootID: "boot", Findings: []v1alpha1.Finding{
		{Check: v1alpha1.CheckConflist, Verdict: v1alpha1.VerdictPass}, {Check: v1alpha1.CheckMTU, Verdict: v1alpha1.VerdictWarn, Reason: v1alpha1.PeerMissing},
	}}}
	if change != nil {
		change(nc)
	}
	s.add("system:serviceaccount:cni-cutover:cutover-agent", "patch", "nodecutovers/status", nc, nil)
}

func (s *story) pod(node, name, ip string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name)}, Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{PodIP: ip}}
	s.add("system:node:"+node, "patch", "pods/status", p, nil)
	return p
}

func (s *story) evict(p *corev1.Pod) *Event {
	uid := p.UID
	return s.add(account, "create", "pods/eviction", p, map[string]any{"deleteOptions": metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}})
}

func (s *story) desired(n int32) {
	s.add("system:serviceaccount:kube-system:daemon-set-controller", "update", "daemonsets/status",
		&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "aws-node"}, Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: n}}, nil)
}

func slot(node string, uid types.UID, step v1alpha1.Step) v1alpha1.Slot {
	return v1alpha1.Slot{Node: node, NodeUID: uid, Step: step}
}

// chapters is a roll of one node of two, in pieces that a test may replace. Every law is put to use in it.
type chapters struct {
	spec                                                            func(*v1alpha1.CutoverSpec)
	fence, before, answer, grant, cordon, drain, evict, after, last func(*story)
}

func tell(c chapters) *story {
	s := &story{now: time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC)}
	s.ledger = v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName}, Spec: v1alpha1.CutoverSpec{
		Overlay: v1alpha1.Overlay{PodCIDRs: []string{"10.244.0.0/16"}}, Cilium: v1alpha1.Cilium{Install: v1alpha1.InstallSecondary},
		Rollout: v1alpha1.Rollout{MaxConcurrent: 1, MaxUnavailable: 1}, State: v1alpha1.StateRunning,
	}}
	if c.spec != nil {
		c.spec(&s.ledger.Spec)
	}
	or := func(given, usual func(*story)) {
		if given == nil {
			given = usual
		}
		given(s)
	}
	s.desired(2)
	s.node("system:node:old", "old", "uid-old", nil)
	s.node("system:node:other", "other", "uid-other", nil)
	pod := s.pod("old", "web", "10.0.1.7")
	s.ledger.Status.Phase = v1alpha1.PhaseFenceLegacy
	s.write()
	or(c.fence, func(s *story) { s.desired(2) })
	s.ledger.Status.Phase = v1alpha1.PhaseRollNodes
	or(c.before, func(*story) {})
	or(c.answer, func(s *story) { s.answer("old", "uid-old", nil) })
	or(c.grant, func(s *story) { s.write(slot("old", "uid-old", v1alpha1.StepCordon)) })
	or(c.cordon, func(s *story) { s.node(account, "old", "uid-old", cordoned("uid-old", false)) })
	or(c.drain, func(s *story) { s.write(slot("old", "uid-old", v1alpha1.StepDrain)) })
	or(c.evict, func(s *story) { s.evict(pod) })
	or(c.after, func(s *story) {
		s.write()
		s.node(account, "old", "uid-old", nil)
	})
	or(c.last, func(s *story) { s.pod("other", "late", "10.0.1.8") })
	return s
}

func judge(s *story) (*Oracle, string) {
	var o Oracle
	for i := range s.events {
		o.See(&s.events[i])
	}
	return &o, strings.Join(o.Violations(), "\n")
}

// TestNobodyIsBlamedForWhatHeCouldNotKnow: a stranger uncordons a node while an eviction is on its way.
func TestNobodyIsBlamedForWhatHeCouldNotKnow(t *testing.T) {
	_, broken := judge(tell(chapters{drain: func(s *story) {
		s.write(slot("old", "uid-old", v1alpha1.StepDrain))
		s.node("admin", "old", "uid-old", nil)
	}}))
	if broken != "" {
		t.Error(broken)
	}
}

// TestANodeThatIsGoneStaysGone: a write that was answered before a delete may be logged after it.
func TestANodeThatIsGoneStaysGone(t *testing.T) {
	_, broken := judge(tell(chapters{after: func(s *story) {
		s.write()
		s.add("admin", "delete", "nodes", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "old"}}, nil)
		s.node("system:node:old", "old", "uid-old", cordoned("uid-old", false))
	}, last: func(s *story) {
		s.desired(1)
		s.now = s.now.Add(time.Minute)
		s.answer("other", "uid-other", nil)
		s.write(slot("other", "uid-other", v1alpha1.StepCordon))
	}}))
	if broken != "" {
		t.Error(broken)
	}
}

// TestAnEvictionMayBeLoggedAfterItsPodHasGone: a kubelet that has no time to lose is answered first.
func TestAnEvictionMayBeLoggedAfterItsPodHasGone(t *testing.T) {
	gone := func(s *story) {
		p := s.pod("old", "web", "10.0.1.7")
		s.add("system:node:old", "delete", "pods", p, nil)
		s.evict(p)
	}
	if o, broken := judge(tell(chapters{evict: gone})); broken != "" || o.Seen().Evictions != 1 {
		t.Errorf("saw %+v: %s", o.Seen(), broken)
	}
	if _, broken := judge(tell(chapters{drain: func(*story) {}, evict: gone})); !strings.Contains(broken, "no slot in Confirm or Drain") {
		t.Errorf("without a step that evicts the oracle says %q", broken)
	}
}

// TestAnEvictionMayBeLoggedAfterANodeOfTheSameName: the node was lost the moment its pod was evicted, and is back.
func TestAnEvictionMayBeLoggedAfterANodeOfTheSameName(t *testing.T) {
	_, broken := judge(tell(chapters{evict: func(s *story) {
		p := s.pod("old", "web", "10.0.1.7")
		s.add("admin", "delete", "nodes", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "old"}}, nil)
		s.node("system:node:old", "old", "uid-new", nil)
		s.evict(p)
	}, after: func(*story) {}, last: func(*story) {}}))
	if broken != "" {
		t.Error(broken)
	}
}

// TestAnEvictionMayComeTooLate: a coordinator stood still with it, and the next one has evicted the pod and gone on.
func TestAnEvictionMayComeTooLate(t *testing.T) {
	late := func(code int) string {
		_, broken := judge(tell(chapters{after: func(s *story) {
			p := s.pod("old", "web", "10.0.1.7")
			s.write(slot("old", "uid-old", v1alpha1.StepReplace))
			s.evict(p).ResponseStatus.Code = code
		}, last: func(*story) {}}))
		return broken
	}
	if broken := late(http.StatusNotFound); broken != "" {
		t.Errorf("nothing could be evicted any more, and the oracle says %q", broken)
	}
	if broken := late(http.StatusCreated); !strings.Contains(broken, "no slot in Confirm or Drain") {
		t.Errorf("a pod was evicted, and the oracle says %q", broken)
	}
}

// TestALedgerMayHaveBeenWritten: a coordinator was killed with it on its way, so that the API server could not say. What the
// next ledger was written over tells.
func TestALedgerMayHaveBeenWritten(t *testing.T) {
	play := func(written bool) (*Oracle, string) {
		return judge(tell(chapters{grant: func(s *story) {
			before := s.ledger.ResourceVersion
			s.write(slot("old", "uid-old", v1alpha1.StepCordon))
			lost := &s.events[len(s.events)-1]
			lost.RequestObject, lost.ResponseObject, lost.ResponseStatus.Code = lost.ResponseObject, nil, http.StatusGatewayTimeout
			if !written {
				s.ledger.ResourceVersion = before
			}
		}, drain: func(s *story) {
			over := s.ledger.ResourceVersion
			s.write(slot("old", "uid-old", v1alpha1.StepDrain))
			s.events[len(s.events)-1].RequestObject = fmt.Appendf(nil, `{"metadata":{"resourceVersion":%q}}`, over)
		}}))
	}
	if o, broken := play(true); broken != "" || o.Seen().Grants != 1 {
		t.Errorf("it was written, and the oracle saw %+v and says %q", o.Seen(), broken)
	}
	if _, broken := play(false); !strings.Contains(broken, "patch nodes old") || !strings.Contains(broken, "rests on a ledger that was not written") {
		t.Errorf("it was not written, and the oracle says %q", broken)
	}
}

// TestARequestThatNobodyReadIsNoEviction: without the right to evict a request is sent away before its body is read.
func TestARequestThatNobodyReadIsNoEviction(t *testing.T) {
	s := tell(chapters{})
	e := s.add(account, "create", "pods/eviction", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}}, nil)
	e.ResponseStatus.Code = 403
	if o, broken := judge(s); broken != "" || o.Seen().Evictions != 1 {
		t.Errorf("saw %+v: %s", o.Seen(), broken)
	}
}

func TestALawfulRollIsNotBlamed(t *testing.T) {
	o, broken := judge(tell(chapters{}))
	if broken != "" {
		t.Error(broken)
	}
	if want := (Seen{Grants: 1, Evictions: 1, Cordons: 1, Uncordons: 1, LegacyStatus: 1, PodAddresses: 1}); o.Seen() != want {
		t.Errorf("saw %+v, want %+v", o.Seen(), want)
	}
}

func TestEveryBrokenLawIsNamed(t *testing.T) {
	web := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "uid-web"}}
	nothing := func(*story) {}
	answerWith := func(change func(*v1alpha1.NodeCutover)) func(*story) {
		return func(s *story) { s.answer("old", "uid-old", change) }
	}
	for name, tt := range map[string]struct {
		chapters chapters
		want     string
	}{
		"two slots where one is allowed": {chapters{grant: func(s *story) {
			s.answer("other", "uid-other", nil)
			s.write(slot("old", "uid-old", v1alpha1.StepCordon), slot("other", "uid-other", v1alpha1.StepCordon))
		}}, "got slot 2 where rollout.maxConcurrent is 1"},
		"a slot while another node is cordoned": {chapters{before: func(s *story) {
			s.node("admin", "other", "uid-other", func(n *corev1.Node) { n.Spec.Unschedulable = true })
			s.now = s.now.Add(settled)
		}}, "2 nodes are out of service where rollout.maxUnavailable is 1"},
		"a slot while another node is NotReady": {chapters{before: func(s *story) {
			s.node("kcm", "other", "uid-other", func(n *corev1.Node) { n.Status.Conditions = nil })
			s.now = s.now.Add(settled)
		}}, "2 nodes are out of service"},
		"a slot while paused":      {chapters{spec: func(c *v1alpha1.CutoverSpec) { c.State = v1alpha1.StatePaused }}, "while the cutover is Paused"},
		"a slot without an answer": {chapters{answer: nothing}, "old got a slot without an unexpired passing answer"},
		"an answer that fails": {chapters{answer: answerWith(func(n *v1alpha1.NodeCutover) {
			n.Status.Findings[0].Verdict = v1alpha1.VerdictFail
		})}, "never passed"},
		"an answer that does not know": {chapters{answer: answerWith(func(n *v1alpha1.NodeCutover) {
			n.Status.Findings[0].Verdict = v1alpha1.VerdictUnknown
		})}, "never passed"},
		"an answer without a required check": {chapters{answer: answerWith(func(n *v1alpha1.NodeCutover) { n.Status.Findings = n.Status.Findings[:1] })}, "never passed"},
		"a warning that holds": {chapters{spec: func(c *v1alpha1.CutoverSpec) {
			c.Rollout.HoldOn = []string{string(v1alpha1.PeerMissing)}
		}}, "never passed"},
		"an answer of another UID":         {chapters{answer: answerWith(func(n *v1alpha1.NodeCutover) { n.Status.NodeUID = "uid-earlier" })}, "never passed"},
		"an answer to another question":    {chapters{answer: answerWith(func(n *v1alpha1.NodeCutover) { n.Status.ChallengeID = "q0" })}, "never passed"},
		"an answer of no boot":             {chapters{answer: answerWith(func(n *v1alpha1.NodeCutover) { n.Status.BootID = "" })}, "never passed"},
		"an answer about a replacement":    {chapters{answer: answerWith(func(n *v1alpha1.NodeCutover) { n.Spec.Challenge.Purpose = v1alpha1.PurposeValidate })}, "never passed"},
		"an eviction on an expired answer": {chapters{evict: func(s *story) { s.now = s.now.Add(3 * time.Minute); s.evict(web) }}, "expired at"},
		"an eviction without a slot":       {chapters{drain: func(s *story) { s.write() }}, "the ledger has no slot in Confirm or Drain for old"},
		"an eviction before its step":      {chapters{drain: nothing}, "the ledger has no slot in Confirm or Drain for old"},
		"an eviction from a re-created node": {chapters{drain: func(s *story) {
			s.write(slot("old", "uid-old", v1alpha1.StepDrain))
			s.node("system:node:old", "old", "uid-new", cordoned("uid-old", false))
			s.pod("old", "web", "10.0.1.9")
		}}, "the ledger has no slot in Confirm or Drain for old (UID uid-new)"},
		"an eviction that was refused":       {chapters{drain: nothing, evict: func(s *story) { s.evict(web).ResponseStatus.Code = 429 }}, "the ledger has no slot in Confirm or Drain for old"},
		"an eviction by name alone":          {chapters{evict: func(s *story) { s.add(account, "create", "pods/eviction", web, map[string]any{}) }}, "names no pod UID"},
		"an eviction from a node in service": {chapters{cordon: nothing}, "old is not cordoned"},
		"an eviction from a node that others have uncordoned": {chapters{drain: func(s *story) {
			s.write(slot("old", "uid-old", v1alpha1.StepDrain))
			s.node("admin", "old", "uid-old", nil)
			s.now = s.now.Add(settled)
		}}, "old is not cordoned"},
		"a cordon without a slot": {chapters{grant: nothing}, "a node was cordoned without a slot"},
		"a cordon without a record": {chapters{cordon: func(s *story) {
			s.node(account, "old", "uid-old", func(n *corev1.Node) { n.Spec.Unschedulable = true })
		}}, "without a record of the slot"},
		"a cordon of others undone": {chapters{last: func(s *story) {
			s.node("admin", "other", "uid-other", func(n *corev1.Node) { n.Spec.Unschedulable = true })
			s.node(account, "other", "uid-other", nil)
		}}, "a cordon was undone that was not ours"},
		"a cordon undone that was there before":  {chapters{cordon: func(s *story) { s.node(account, "old", "uid-old", cordoned("uid-old", true)) }}, "a cordon was undone that was not ours"},
		"a cordon undone while the slot is held": {chapters{after: func(s *story) { s.node(account, "old", "uid-old", nil) }}, "whose slot is still held"},
		"a fence that takes the VPC CNI away":    {chapters{fence: func(s *story) { s.desired(1) }}, "DESIRED fell from 2 to 1, and only 0 nodes have gone"},
		"the VPC CNI deleted too early": {chapters{last: func(s *story) {
			s.add(account, "delete", "daemonsets", &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "aws-node"}}, nil)
		}}, "deleted in phase RollNodes"},
		"pods of both CNIs on one node": {chapters{last: func(s *story) { s.pod("old", "new", "10.244.3.4") }}, "old serves pods of both CNIs"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, broken := judge(tell(tt.chapters)); !strings.Contains(broken, tt.want) {
				t.Errorf("the oracle says %q, want %q named", broken, tt.want)
			}
		})
	}
}

func TestNodesThatGoTakeTheirDesiredPodWithThem(t *testing.T) {
	_, broken := judge(tell(chapters{last: func(s *story) {
		s.add("admin", "delete", "nodes", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "old"}}, nil)
		s.desired(1)
	}}))
	if broken != "" {
		t.Error(broken)
	}
}

func TestSharedInstallMayServePodsOfBoth(t *testing.T) {
	_, broken := judge(tell(chapters{
		spec: func(c *v1alpha1.CutoverSpec) { c.Cilium.Install = v1alpha1.InstallShared },
		last: func(s *story) { s.pod("old", "new", "10.244.3.4") },
	}))
	if broken != "" {
		t.Error(broken)
	}
}

func TestReadingALog(t *testing.T) {
	whole := `{"stage":"ResponseComplete","verb":"get"}` + "\n"
	for name, tt := range map[string]struct {
		log  string
		want int
		err  string
	}{
		"nothing yet":           {"", 0, ""},
		"a last line half done": {whole + `{"stage":"Resp`, 1, ""},
		"other stages":          {whole + `{"stage":"RequestReceived"}` + "\n", 1, ""},
		"a broken line":         {whole + "{\n" + whole, 1, "line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			got := 0
			err := Read(bytes.NewBufferString(tt.log), func(*Event) { got++ })
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%d events, %v; want %d and an error of %q", got, err, tt.want, tt.err)
			}
		})
	}
}
