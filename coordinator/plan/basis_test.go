// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// TestWhatADecisionRestsOn: what cannot be taken back must not be decided on a cache, and nothing is read twice that need not be.
func TestWhatADecisionRestsOn(t *testing.T) {
	in := func(step v1alpha1.Step) []v1alpha1.Slot {
		return []v1alpha1.Slot{{Node: "n1", NodeUID: "uid-1", Step: step}}
	}
	type summary struct {
		everything, nodes bool
		answers, drains   int
	}
	everything, nothing := summary{everything: true}, summary{}
	for name, tt := range map[string]struct {
		before, after []v1alpha1.Slot
		actions       []Action
		live          Live
		want          summary
	}{
		"a slot is granted":                            {nil, in(v1alpha1.StepCordon), nil, Live{}, summary{nodes: true, answers: 1}},
		"a slot is granted with surge":                 {nil, in(v1alpha1.StepSurge), nil, Live{}, summary{nodes: true, answers: 1}},
		"granted on nodes that are read already":       {nil, in(v1alpha1.StepCordon), nil, Live{Nodes: true}, summary{answers: 1}},
		"granted to another node than was read":        {nil, in(v1alpha1.StepCordon), nil, Live{Nodes: true, Answers: map[types.UID]bool{"uid-2": true}}, summary{answers: 1}},
		"granted on all of it":                         {nil, in(v1alpha1.StepCordon), nil, Live{Nodes: true, Answers: map[types.UID]bool{"uid-1": true}}, nothing},
		"a drain begins":                               {in(v1alpha1.StepConfirm), in(v1alpha1.StepDrain), nil, Live{}, summary{nodes: true, answers: 1, drains: 1}},
		"a drain begins and is over at once":           {in(v1alpha1.StepConfirm), in(v1alpha1.StepReplace), nil, Live{}, summary{nodes: true, answers: 1, drains: 1}},
		"a drain goes on":                              {in(v1alpha1.StepDrain), in(v1alpha1.StepDrain), []Action{Evict{}}, Live{}, nothing},
		"a drain is over":                              {in(v1alpha1.StepDrain), in(v1alpha1.StepReplace), nil, Live{}, nothing},
		"a pod came after a drain":                     {in(v1alpha1.StepDetach), in(v1alpha1.StepDrain), nil, Live{}, nothing},
		"a node vanishes":                              {in(v1alpha1.StepDrain), in(v1alpha1.StepJoin), nil, Live{}, nothing},
		"a slot ends":                                  {in(v1alpha1.StepSoak), nil, nil, Live{}, nothing},
		"a question, a label, a cordon":                {in(v1alpha1.StepCordon), in(v1alpha1.StepCordon), []Action{Ask{}, SetFenceLabel{}, Cordon{}}, Live{}, nothing},
		"the VPC CNI is bound":                         {nil, nil, []Action{FenceDaemonSet{}}, Live{}, everything},
		"the VPC CNI is deleted":                       {nil, nil, []Action{DeleteLegacy{}}, Live{Nodes: true}, everything},
		"a Cilium pod is started again beside a grant": {nil, in(v1alpha1.StepCordon), []Action{DeleteCiliumPod{}}, Live{}, everything},
		"all was read":                                 {nil, in(v1alpha1.StepCordon), []Action{FenceDaemonSet{}}, Live{Everything: true}, nothing},
	} {
		t.Run(name, func(t *testing.T) {
			w := &World{Cutover: &v1alpha1.Cutover{Status: v1alpha1.CutoverStatus{Slots: tt.before}}, Live: tt.live}
			b := w.Lacks(Decision{Status: v1alpha1.CutoverStatus{Slots: tt.after}, Actions: tt.actions})
			if got := (summary{b.Everything, b.Nodes, len(b.Answers), len(b.Drains)}); got != tt.want {
				t.Errorf("lacks %+v, want %+v", got, tt.want)
			}
			if b.None() != (tt.want == nothing) {
				t.Errorf("%+v is nothing: %t", b, b.None())
			}
		})
	}
}

// TestAGrantRestsOnWhatUnfencedNodesSay: the fence is open while a node that says it is Legacy has no label, and what it said last a
// cache may not show yet. Found by one of 600,000 schedules.
func TestAGrantRestsOnWhatUnfencedNodesSay(t *testing.T) {
	shows := func(n Node, role v1alpha1.Role) Node {
		n.Cutover = &v1alpha1.NodeCutover{Spec: v1alpha1.NodeCutoverSpec{NodeUID: n.UID}, Status: v1alpha1.NodeCutoverStatus{NodeUID: n.UID, BootID: n.BootID, Role: role}}
		return n
	}
	granted := Decision{Status: v1alpha1.CutoverStatus{Slots: []v1alpha1.Slot{{Node: "n1", NodeUID: "uid-1", Step: v1alpha1.StepCordon}}}}
	for name, tt := range map[string]struct {
		other Node
		live  bool // its answer is read already
		d     Decision
		want  bool
	}{
		"one that nobody has heard of": {Node{}, false, granted, true},
		"one that is read already":     {Node{}, true, granted, false},
		"one that has the label":       {Node{FenceLabel: true}, false, granted, false},
		"one that is on its way out":   {Node{Deleting: true}, false, granted, false},
		"one that shows the overlay":   {shows(Node{UID: "uid-2", BootID: "b"}, v1alpha1.RoleOverlay), false, granted, false},
		"one that shows both CNIs":     {shows(Node{UID: "uid-2", BootID: "b"}, v1alpha1.RoleMixed), false, granted, true},
		"where nothing is given away":  {Node{}, false, Decision{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			tt.other.Name, tt.other.UID = "n2", "uid-2"
			w := &World{Cutover: &v1alpha1.Cutover{}, Nodes: []Node{{Name: "n1", UID: "uid-1"}, tt.other}}
			w.Live = Live{Nodes: true, Answers: map[types.UID]bool{"uid-1": true, "uid-2": tt.live}}
			b := w.Lacks(tt.d)
			if got := slices.Contains(b.Answers, NodeRef{Name: "n2", UID: "uid-2"}); got != tt.want || len(b.Answers) > 1 {
				t.Errorf("lacks %+v, want n2's answer: %t", b, tt.want)
			}
		})
	}
}
