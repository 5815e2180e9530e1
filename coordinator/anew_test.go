// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// TestAnewIsWhatTheAPIServerShows: whatever a Decision rests on, a cache may show it as it was long ago.
func TestAnewIsWhatTheAPIServerShows(t *testing.T) {
	answer := func(uid types.UID, id string) *v1alpha1.NodeCutover {
		return &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: v1alpha1.NodeCutoverSpec{NodeUID: uid}, Status: v1alpha1.NodeCutoverStatus{ChallengeID: id}}
	}
	cordoned := node("n1", "uid-1")
	cordoned.Spec.Unschedulable = true
	aws := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "aws-node"}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "p"}, Spec: corev1.PodSpec{NodeName: "n1"}}
	n1 := plan.NodeRef{Name: "n1", UID: "uid-1"}
	cached := []client.Object{node("n1", "uid-1"), answer("uid-1", "old")}
	for name, tt := range map[string]struct {
		basis plan.Basis
		live  []client.Object
		want  func(*plan.World, *plan.Node) bool
	}{
		"a node was cordoned":                    {plan.Basis{Nodes: true, Answers: []plan.NodeRef{n1}}, []client.Object{cordoned, answer("uid-1", "new")}, func(_ *plan.World, n *plan.Node) bool { return n.Cordoned }},
		"its agent was asked again":              {plan.Basis{Nodes: true, Answers: []plan.NodeRef{n1}}, []client.Object{node("n1", "uid-1"), answer("uid-1", "new")}, func(_ *plan.World, n *plan.Node) bool { return n.Cutover.Status.ChallengeID == "new" }},
		"its NodeCutover is another node's":      {plan.Basis{Nodes: true, Answers: []plan.NodeRef{n1}}, []client.Object{node("n1", "uid-1"), answer("uid-2", "new")}, func(_ *plan.World, n *plan.Node) bool { return n.Cutover == nil && n.NameTaken }},
		"its NodeCutover is gone":                {plan.Basis{Nodes: true, Answers: []plan.NodeRef{n1}}, []client.Object{node("n1", "uid-1")}, func(_ *plan.World, n *plan.Node) bool { return n.Cutover == nil && !n.NameTaken }},
		"it is gone":                             {plan.Basis{Nodes: true, Answers: []plan.NodeRef{n1}}, nil, func(w *plan.World, n *plan.Node) bool { return n == nil }},
		"another node has its name":              {plan.Basis{Nodes: true, Answers: []plan.NodeRef{n1}}, []client.Object{node("n1", "uid-2")}, func(w *plan.World, n *plan.Node) bool { return n == nil }},
		"of all nodes, one was cordoned":         {plan.Basis{Nodes: true}, []client.Object{cordoned}, func(_ *plan.World, n *plan.Node) bool { return n.Cordoned && n.Cutover.Status.ChallengeID == "old" }},
		"of all nodes, one is gone":              {plan.Basis{Nodes: true}, []client.Object{node("n2", "uid-2")}, func(w *plan.World, n *plan.Node) bool { return n == nil && len(w.Nodes) == 1 && w.Nodes[0].NameTaken }},
		"the VPC CNI's DaemonSet is there again": {plan.Basis{Nodes: true}, []client.Object{aws}, func(w *plan.World, _ *plan.Node) bool { return w.Legacy.Found }},
		"pods are left on the node of a slot":    {plan.Basis{Drains: []v1alpha1.Slot{{Node: "n1", NodeUID: "uid-1"}}}, []client.Object{node("n1", "uid-1")}, func(w *plan.World, _ *plan.Node) bool { _, ok := w.Drains["uid-1"]; return ok }},
		"the slot's node has gone":               {plan.Basis{Drains: []v1alpha1.Slot{{Node: "n1", NodeUID: "uid-1"}}}, []client.Object{node("n1", "uid-2")}, func(w *plan.World, _ *plan.Node) bool { _, ok := w.Drains["uid-1"]; return !ok }},
		"a CNI is taken away: the caches are out": {plan.Basis{Everything: true}, []client.Object{cordoned, aws}, func(w *plan.World, n *plan.Node) bool {
			return n.Cordoned && n.Cutover == nil && w.Legacy.Found && w.Live.Everything
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := gatherer{cached: reader(t, nil, cached...), live: reader(t, nil, tt.live...), client: fake.NewClientset(pod), now: time.Now, due: &due{}, config: &knownConfig{}}
			cutover := &v1alpha1.Cutover{Spec: v1alpha1.CutoverSpec{
				Legacy: v1alpha1.Legacy{DaemonSet: v1alpha1.ObjectRef{Namespace: "kube-system", Name: "aws-node"}, FenceLabel: v1alpha1.FenceLabel},
				Cilium: v1alpha1.Cilium{Install: v1alpha1.InstallShared, DaemonSet: v1alpha1.ObjectRef{Namespace: "kube-system", Name: "cilium"}},
			}}
			old, err := g.world(t.Context(), cutover)
			if err != nil {
				t.Fatal(err)
			}
			w, err := g.anew(t.Context(), old, tt.basis, &sharedLedger{live: g.live})
			if err != nil {
				t.Fatal(err)
			}
			var n *plan.Node
			if i := slices.IndexFunc(w.Nodes, func(n plan.Node) bool { return n.UID == "uid-1" }); i >= 0 {
				n = &w.Nodes[i]
			}
			if !tt.want(w, n) {
				t.Errorf("read anew: %+v of %+v", n, w)
			}
			if len(old.Nodes) != 1 || old.Nodes[0].Cordoned || old.Nodes[0].Cutover.Status.ChallengeID != "old" || len(old.Drains) != 0 {
				t.Errorf("the World before was changed: %+v", old)
			}
		})
	}
}

func TestNobodyLooksTwiceASecond(t *testing.T) {
	var d due
	slot := v1alpha1.Slot{NodeUID: "u", Step: v1alpha1.StepDrain}
	at := func(after time.Duration) time.Time { return noon.Add(after) }
	for i, look := range []struct {
		at   time.Duration
		step v1alpha1.Step
		want bool
	}{
		{0, v1alpha1.StepDrain, true},
		{plan.PollEvery - 1, v1alpha1.StepDrain, false},
		{plan.PollEvery, v1alpha1.StepDrain, true},
		{plan.PollEvery + 1, v1alpha1.StepDetach, true}, // what is looked for is another thing
		{plan.PollEvery + 2, v1alpha1.StepDetach, false},
		{-time.Hour, v1alpha1.StepDetach, true}, // somebody has set the clock back
	} {
		slot.Step = look.step
		if got := d.now(&slot, at(look.at)); got != look.want {
			t.Errorf("look %d, %s after the first, in %s: due %t, want %t", i, look.at, look.step, got, look.want)
		}
	}
	d.now(&v1alpha1.Slot{NodeUID: "other"}, noon)
	if d.keep([]v1alpha1.Slot{slot}); len(d.last) != 1 {
		t.Errorf("%d looks are remembered of one slot", len(d.last))
	}
}
