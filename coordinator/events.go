// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// teller turns what changed into Events and log lines. Events about a node are on the Node, so that kubectl describe node
// shows them; all others are on the Cutover.
type teller struct {
	recorder events.EventRecorder
	// last is what was told last of a ledger that cannot be read or written, so that it is told once.
	last string
}

func newTeller(r events.EventRecorder) *teller { return &teller{recorder: r} }

// unread is the Cutover as far as an Event needs it, if it cannot be read.
func unread() *v1alpha1.Cutover {
	return &v1alpha1.Cutover{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: "Cutover"},
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName},
	}
}

// once tells of what no ledger can say, for it cannot be read or written.
func (t *teller) once(ctx context.Context, c *v1alpha1.Cutover, r *refusal) {
	if r.Message == t.last {
		return
	}
	t.last = r.Message
	log.FromContext(ctx).Info(r.Message, "reason", r.Reason)
	t.recorder.Eventf(c, nil, corev1.EventTypeWarning, string(r.Reason), "Stop", "%s", r.Message)
}

// about tells of a Decision whose ledger is written.
func (t *teller) about(ctx context.Context, w *plan.World, d plan.Decision, refused []refusal) {
	t.last = ""
	for _, n := range append(slices.Clone(d.Notes), changes(w.Cutover.Status, d.Status)...) {
		n.Message = plan.Clip(n.Message) // the names in it may be anybody's
		log.FromContext(ctx).Info(n.Message, "node", n.Node, "action", n.Action, "reason", n.Reason)
		kind := corev1.EventTypeNormal
		if n.Warning {
			kind = corev1.EventTypeWarning
		}
		t.recorder.Eventf(regarding(w, n.Node), w.Cutover, kind, string(n.Reason), n.Action, "%s", n.Message)
	}
	for _, a := range d.Actions {
		log.FromContext(ctx).V(1).Info("did", "what", a.String())
	}
	for _, r := range refused {
		log.FromContext(ctx).Info("refused", "action", r.what, "slot", r.slot, "reason", r.Reason, "message", r.Message)
	}
}

// regarding returns the Node of a name, as far as an Event needs it, or else the Cutover. A node of a slot is known by the
// ledger too, also if nobody can see nodes or if it is gone.
func regarding(w *plan.World, name string) runtime.Object {
	uid := types.UID("")
	for i := range w.Nodes {
		if w.Nodes[i].Name == name {
			uid = w.Nodes[i].UID
		}
	}
	for i := range w.Cutover.Status.Slots {
		switch s := &w.Cutover.Status.Slots[i]; name {
		case s.Node:
			uid = s.NodeUID
		case s.Replacement:
			uid = s.ReplacementUID
		}
	}
	if name == "" || uid == "" {
		return w.Cutover
	}
	return &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: uid},
	}
}

// changes finds what a reader of two ledgers would notice: a wait that changed its cause, and a condition that turned. What a
// slot waits for when it enters a step is told with that.
func changes(before, after v1alpha1.CutoverStatus) []plan.Note {
	var notes []plan.Note
	for _, w := range after.Waiting {
		if worthTelling(w.Reason) && !slices.ContainsFunc(before.Waiting, func(b v1alpha1.Waiting) bool { return b.Node == w.Node && b.Reason == w.Reason }) {
			notes = append(notes, plan.Note{Node: w.Node, Warning: true, Reason: w.Reason, Action: "Wait", Message: w.Node + " waits for a slot: " + w.Message})
		}
	}
	for _, s := range after.Slots {
		turned := slices.ContainsFunc(before.Slots, func(b v1alpha1.Slot) bool {
			return b.NodeUID == s.NodeUID && b.Step == s.Step && b.Reason != s.Reason
		})
		if s.Reason == "" || !turned {
			continue
		}
		notes = append(notes, plan.Note{Node: s.Concerned(), Warning: plan.Alarming(s.Reason), Reason: s.Reason, Action: "Wait", Message: string(s.Step) + ": " + s.Message})
	}
	for _, c := range after.Conditions {
		turned := !slices.ContainsFunc(before.Conditions, func(b metav1.Condition) bool {
			return b.Type == c.Type && b.Status == c.Status && b.Reason == c.Reason
		})
		if !turned || !notable(c) {
			continue
		}
		notes = append(notes, plan.Note{Warning: c.Status != goodStatus(c.Type), Reason: v1alpha1.Reason(c.Reason), Action: c.Type, Message: c.Message})
	}
	return notes
}

// worthTelling picks the waits that somebody may have to do something about; the others are the limits doing their work.
func worthTelling(r v1alpha1.Reason) bool {
	return slices.Contains([]v1alpha1.Reason{
		v1alpha1.NoAnswer, v1alpha1.AnswerRefused, v1alpha1.NodeNotSafe, v1alpha1.NodeNotReady, v1alpha1.CordonedByOthers, v1alpha1.TooManyUnavailable,
	}, r)
}

// notable picks the conditions that are told of; Ready repeats them, and so does Reconciling, unless the cutover goes on
// without something that it was refused.
func notable(c metav1.Condition) bool {
	if c.Type == v1alpha1.ConditionReconciling {
		return c.Status == metav1.ConditionTrue && plan.IsRefusal(v1alpha1.Reason(c.Reason))
	}
	return c.Type == v1alpha1.ConditionStalled || c.Type == v1alpha1.ConditionFenceIntact || c.Type == v1alpha1.ConditionBudgetExhausted
}

func goodStatus(kind string) metav1.ConditionStatus {
	if kind == v1alpha1.ConditionFenceIntact {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}
