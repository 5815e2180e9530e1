// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// answerAs lets the agent of a node of the world pass a question that was asked just now.
func answerAs(w *World, name string, q question) {
	d := &decider{w: w, spec: &w.Cutover.Spec}
	for i := range w.Nodes {
		n := &w.Nodes[i]
		if n.Name != name {
			continue
		}
		c := d.newChallenge(n, q)
		s := v1alpha1.NodeCutoverStatus{ChallengeID: c.ID, NodeUID: n.UID, BootID: n.BootID, Role: q.Role, JudgedRole: q.Role, AgentVersion: "v1"}
		for _, check := range allChecks() {
			s.Findings = append(s.Findings, v1alpha1.Finding{Check: check, Verdict: v1alpha1.VerdictPass, Reason: v1alpha1.AsWanted})
		}
		n.Cutover = &v1alpha1.NodeCutover{Spec: v1alpha1.NodeCutoverSpec{NodeUID: n.UID, Challenge: &c}, Status: s}
	}
}

// TestWhatKeepsASlotInItsStep changes one thing at a time in a world in which the step would otherwise be over.
func TestWhatKeepsASlotInItsStep(t *testing.T) {
	confirmed := func(w *World) {
		answerAs(w, "n01", question{Purpose: v1alpha1.PurposeDrain, Role: v1alpha1.RoleLegacy, After: w.Cutover.Status.Slots[0].Since.Time})
	}
	empty := func(w *World) { w.Drains[w.Nodes[0].UID] = Drain{} }
	newest := func(w *World) *Node { n := &w.Nodes[len(w.Nodes)-1]; n.Zone = "a"; return n }
	// deregister lets load balancers finish with a node that is asked since a time before that; pass lets the newest node pass.
	deregister := func(w *World, before time.Duration) {
		s, n := w.Cutover.Status.Slots[0], &w.Nodes[0]
		n.Cordoned, n.Excluded, n.CordonedBy = true, true, n.UID
		w.Now = deregistered(&s)
		answerAs(w, n.Name, question{Purpose: v1alpha1.PurposeDrain, Role: v1alpha1.RoleLegacy, After: w.Now.Add(-before)})
	}
	pass := func(w *World, before time.Duration) *Node {
		n := newest(w)
		n.Created = w.Now.Add(-time.Second)
		answerAs(w, n.Name, question{Purpose: v1alpha1.PurposeValidate, Role: v1alpha1.RoleOverlay, After: n.Created.Add(-before)})
		return n
	}
	tests := map[string]struct {
		step   v1alpha1.Step
		change func(*World)
		want   v1alpha1.Step
		reason v1alpha1.Reason
	}{
		"a safe node is drained":      {v1alpha1.StepConfirm, confirmed, v1alpha1.StepDrain, v1alpha1.Evicting},
		"not while the fence is open": {v1alpha1.StepConfirm, func(w *World) { confirmed(w); w.NodeConfig.Intact = false }, v1alpha1.StepConfirm, v1alpha1.FenceOpen},
		"not an Overlay node, whatever it passes": {v1alpha1.StepConfirm, func(w *World) {
			answerAs(w, "n01", question{Purpose: v1alpha1.PurposeDrain, Role: v1alpha1.RoleOverlay})
		}, v1alpha1.StepConfirm, v1alpha1.AnswerRefused},
		"an empty node is detached":                                                {v1alpha1.StepDrain, empty, v1alpha1.StepDetach, v1alpha1.VolumesAttached},
		"not while a pod is going":                                                 {v1alpha1.StepDrain, func(w *World) { w.Drains[w.Nodes[0].UID] = Drain{Going: 1} }, v1alpha1.StepDrain, v1alpha1.Evicting},
		"not before anybody has looked at pods":                                    {v1alpha1.StepDrain, func(w *World) { clear(w.Drains) }, v1alpha1.StepDrain, v1alpha1.Evicting},
		"no volume, so it may be replaced":                                         {v1alpha1.StepDetach, func(w *World) { w.Volumes[w.Nodes[0].UID] = nil }, v1alpha1.StepReplace, v1alpha1.AwaitingReplacement},
		"not before anybody has looked at them":                                    {v1alpha1.StepDetach, func(w *World) { clear(w.Volumes) }, v1alpha1.StepDetach, v1alpha1.VolumesAttached},
		"a node is drained as soon as load balancers have finished and it is safe": {v1alpha1.StepDeregister, func(w *World) { deregister(w, 0) }, v1alpha1.StepDrain, v1alpha1.Evicting},
		"not on an answer from before that; asking again is no ledger":             {v1alpha1.StepDeregister, func(w *World) { deregister(w, time.Second) }, v1alpha1.StepDeregister, v1alpha1.Cordoning},
		"unless it is late": {v1alpha1.StepDeregister, func(w *World) {
			deregister(w, time.Second)
			w.Now = w.Now.Add(2 * time.Minute)
		}, v1alpha1.StepConfirm, v1alpha1.NoAnswer},
		"a node of the place is asked":                       {v1alpha1.StepJoin, func(w *World) { newest(w) }, v1alpha1.StepJoin, v1alpha1.Cordoning},
		"and claimed when it passes":                         {v1alpha1.StepJoin, func(w *World) { pass(w, 0) }, v1alpha1.StepSoak, v1alpha1.NoAnswer},
		"not on an answer to a question from before it came": {v1alpha1.StepJoin, func(w *World) { pass(w, time.Second) }, v1alpha1.StepJoin, v1alpha1.Cordoning},
		"or when it says nothing": {v1alpha1.StepJoin, func(w *World) {
			pass(w, 0).Cutover.Status.ChallengeID = ""
			w.Now = w.Now.Add(answerGrace)
		}, v1alpha1.StepValidate, v1alpha1.NoAnswer},
		"not an old node of the second of the grant": {v1alpha1.StepJoin, func(w *World) {
			n := newest(w)
			n.Created = w.Cutover.Status.Slots[0].GrantedAt.Truncate(time.Second)
			n.Cutover = &v1alpha1.NodeCutover{Status: v1alpha1.NodeCutoverStatus{NodeUID: n.UID, BootID: n.BootID, Role: v1alpha1.RoleLegacy}}
		}, v1alpha1.StepJoin, v1alpha1.AwaitingNode},
		"not one that is not Ready yet": {v1alpha1.StepJoin, func(w *World) { newest(w).Ready = false }, v1alpha1.StepJoin, v1alpha1.AwaitingNode},
		"which is told if it stays so": {v1alpha1.StepJoin, func(w *World) {
			n := newest(w)
			n.Ready, w.Now = false, n.Created.Add(readyGrace)
		}, v1alpha1.StepJoin, v1alpha1.ReplacementNotReady},
		"not one of another group":     {v1alpha1.StepJoin, func(w *World) { newest(w).Group = "others" }, v1alpha1.StepJoin, v1alpha1.ReplacementElsewhere},
		"not one from before the slot": {v1alpha1.StepJoin, func(w *World) { newest(w).Created = w.Now.Add(-24 * time.Hour) }, v1alpha1.StepJoin, v1alpha1.AwaitingNode},
		"not one that another slot had": {v1alpha1.StepJoin, func(w *World) {
			w.Cutover.Status.Finished = []v1alpha1.FinishedSlot{{Node: "n00", ReplacementUID: newest(w).UID}}
		}, v1alpha1.StepJoin, v1alpha1.AwaitingNode},
		"a release of a slot in time is not heeded": {v1alpha1.StepReplace, func(w *World) {
			w.Nodes[0].Cutover.Annotations = map[string]string{v1alpha1.AnnotationRelease: "me: I wish"}
		}, v1alpha1.StepReplace, v1alpha1.AwaitingReplacement},
		"with surge, a node that vanishes unreplaced is waited for": {v1alpha1.StepSurge, func(w *World) { w.Nodes = w.Nodes[1:2] }, v1alpha1.StepJoin, v1alpha1.AwaitingNode},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, _ := slotWorld(tt.step)
			tt.change(w)
			d := Decide(w)
			if len(d.Status.Slots) != 1 || d.Status.Slots[0].Step != tt.want || d.Status.Slots[0].Reason != tt.reason {
				t.Errorf("slots = %+v, want one in %s that waits for %s", d.Status.Slots, tt.want, tt.reason)
			}
		})
	}
}

// TestTheLastAnswersOfTheRollProveNothingAboutTheRemoval: the ledger cuts the fraction off the second in which RemoveLegacy
// began, so by the clock a question of the roll that was asked within it looks as if it came after.
func TestTheLastAnswersOfTheRollProveNothingAboutTheRemoval(t *testing.T) {
	w, _ := slotWorld(v1alpha1.StepSoak)
	w.Legacy, w.Nodes = Legacy{}, w.Nodes[:1]
	w.Nodes[0].LegacyPod, w.Nodes[0].FenceLabel = false, false
	begun := w.Now.Truncate(time.Second)
	w.Cutover.Status.Slots, w.Cutover.Status.Phase = nil, v1alpha1.PhaseRemoveLegacy
	w.Cutover.Status.Phases = []v1alpha1.PhaseRecord{{Phase: v1alpha1.PhaseFenceLegacy, StartedAt: metav1.NewTime(begun)}, {Phase: v1alpha1.PhaseRemoveLegacy, StartedAt: metav1.NewTime(begun)}}
	w.Now = begun.Add(600 * time.Millisecond)
	for _, tt := range []struct {
		after time.Time
		asks  bool
		phase v1alpha1.Phase
	}{
		{begun.Add(300 * time.Millisecond), true, v1alpha1.PhaseRemoveLegacy}, // the end of the last soak
		{begun, false, v1alpha1.PhaseFullEBPF},
	} {
		answerAs(w, w.Nodes[0].Name, question{Purpose: v1alpha1.PurposeValidate, Role: v1alpha1.RoleOverlay, After: tt.after})
		d := Decide(w)
		asks := slices.ContainsFunc(d.Actions, func(a Action) bool { _, ok := a.(Ask); return ok })
		if d.Status.Phase != tt.phase || asks != tt.asks {
			t.Errorf("after an answer to a question of %s: phase %s, asks %t, want %s and %t", tt.after, d.Status.Phase, asks, tt.phase, tt.asks)
		}
	}
}

func TestWhoCountsAsOutOfService(t *testing.T) {
	w, _ := slotWorld(v1alpha1.StepValidate)
	for i := range w.Nodes {
		if w.Nodes[i].UID == w.Cutover.Status.Slots[0].ReplacementUID {
			w.Nodes[i].Ready = false
		}
	}
	w.Nodes = append(w.Nodes, Node{Name: "joining", UID: "j"}, Node{Name: "down", UID: "d", WasReady: true}, Node{Name: "cordoned", UID: "c", Ready: true, WasReady: true, Cordoned: true})
	d := &decider{w: w, spec: &w.Cutover.Spec, status: w.Cutover.Status}
	if got, _ := d.unavailable(); got != 3 {
		t.Errorf("%d out of service, want 3: a slot's pair once, a node that is down, a cordoned one, and no joining one", got)
	}
}

func TestTheVPCCNIGoesOnlyWhenNoNodeNeedsIt(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Node)
		want   v1alpha1.Reason
	}{
		"all have moved":            {func(*Node) {}, ""},
		"one is NotReady":           {func(n *Node) { n.Ready = false }, v1alpha1.NodesNotReady},
		"one runs it":               {func(n *Node) { n.LegacyPod = true }, v1alpha1.LegacyStillRuns},
		"one has not been seen yet": {func(n *Node) { n.Cutover = nil }, v1alpha1.NodesLeft},
	} {
		w := &World{Cutover: &v1alpha1.Cutover{}, Nodes: []Node{{Name: "n1", UID: "u", BootID: "b", Ready: true, WasReady: true}}}
		answerAs(w, "n1", question{Role: v1alpha1.RoleOverlay})
		tt.change(&w.Nodes[0])
		if s := (&decider{w: w, spec: &w.Cutover.Spec}).gateRemove(); s.done != (tt.want == "") || s.reason != tt.want {
			t.Errorf("%s: refused for %q, want %q", name, s.reason, tt.want)
		}
	}
}

func TestOnlyAJoiningNodesCiliumIsStartedAgain(t *testing.T) {
	config := time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		change func(*Node)
		want   bool
	}{
		"older than the config":      {func(*Node) {}, true},
		"of the same second":         {func(n *Node) { n.CiliumPods[0].Created = config }, true},
		"younger":                    {func(n *Node) { n.CiliumPods[0].Created = config.Add(time.Second) }, false},
		"on a node that was Ready":   {func(n *Node) { n.WasReady = true }, false},
		"on a fenced node":           {func(n *Node) { n.FenceLabel = true }, false},
		"beside the VPC CNI":         {func(n *Node) { n.LegacyPod = true }, false},
		"on a node that is deleting": {func(n *Node) { n.Deleting = true }, false},
	} {
		n := Node{Name: "n1", UID: "u", CiliumPods: []Pod{{Name: "cilium", Created: config.Add(-time.Minute)}}}
		tt.change(&n)
		d := &decider{w: &World{Nodes: []Node{n}, NodeConfig: NodeConfig{Created: config}}}
		if d.restartCilium(); len(d.actions) > 0 != tt.want {
			t.Errorf("%s: started again = %t, want %t", name, len(d.actions) > 0, tt.want)
		}
	}
}

// TestANodeThatJoinsAfterTheVPCCNIIsGoneGetsItsCNI: it needs the CiliumNodeConfig and a Cilium pod that has read it, and nobody
// is told to restore the VPC CNI for it.
func TestANodeThatJoinsAfterTheVPCCNIIsGoneGetsItsCNI(t *testing.T) {
	c := rolling(t, 1, baseSpec())
	c.until(t, "the VPC CNI is gone", func() bool { return !c.legacy.Found && c.cutover.Status.Phase == v1alpha1.PhaseRemoveLegacy })
	n := c.join(v1alpha1.RoleUnknown, "a")
	n.CiliumPods = []Pod{{Name: "cilium", UID: "cilium", Created: c.now}}
	for name, tt := range map[string]struct {
		config NodeConfig
		want   Action
		intact metav1.ConditionStatus
	}{
		"the config is lost":         {NodeConfig{}, WriteNodeConfig{}, metav1.ConditionFalse},
		"the config is newer":        {NodeConfig{Found: true, Intact: true, Created: c.now}, DeleteCiliumPod{Node: n.Name, Pod: n.CiliumPods[0]}, metav1.ConditionTrue},
		"a Legacy node needs it yet": {NodeConfig{Found: true, Intact: true, Created: c.now}, nil, metav1.ConditionFalse},
	} {
		w := c.world()
		w.NodeConfig = tt.config
		if tt.want == nil {
			answerAs(w, w.Nodes[0].Name, question{Role: v1alpha1.RoleLegacy})
		}
		d := Decide(w)
		w.Cutover.Status = d.Status // what is open is told first and mended then
		d = Decide(w)
		if got := conditionOf(d, v1alpha1.ConditionFenceIntact); got.Status != tt.intact {
			t.Errorf("%s: FenceIntact = %s: %s, want %s", name, got.Status, got.Message, tt.intact)
		}
		if tt.want != nil && !slices.Contains(d.Actions, tt.want) {
			t.Errorf("%s: actions = %v, want one to %s", name, d.Actions, tt.want)
		}
	}
}

func TestAMixedNodeIsNotLabelledOnceTheFenceStands(t *testing.T) {
	c := rolling(t, 2, baseSpec())
	w := c.world()
	w.Nodes[0].FenceLabel, w.Nodes[0].LegacyPod = false, true
	w.Nodes[0].Cutover.Status.Role = v1alpha1.RoleMixed
	if slices.ContainsFunc(Decide(w).Actions, func(a Action) bool { l, ok := a.(SetFenceLabel); return ok && l.On }) {
		t.Error("a Mixed node is labelled again")
	}
}

func TestNoPhaseBeginsWhilePausedOrBeforeCilium(t *testing.T) {
	for name, shut := range map[string]func(*World){
		"paused":                        func(w *World) { w.Cutover.Spec.State = v1alpha1.StatePaused },
		"aborted":                       func(w *World) { w.Cutover.Spec.State = v1alpha1.StateAborted },
		"Cilium has not rolled out yet": func(w *World) { w.Cilium.Rollout.Desired = 2 },
	} {
		c := newToyCluster(2, baseSpec())
		c.cutover.Status.Phase = v1alpha1.PhaseFenceLegacy
		w := c.world()
		shut(w)
		if d := Decide(w); len(d.Status.Phases) > 0 {
			t.Errorf("%s, and the phase begins", name)
		}
	}
}

func TestWhatAnAbortAndAnExpiryTakeDown(t *testing.T) {
	c := rolling(t, 2, baseSpec())
	c.until(t, "a slot is granted", func() bool { return len(c.cutover.Status.Slots) > 0 })
	c.cutover.Spec.State = v1alpha1.StateAborted
	c.run(60)
	for _, n := range c.nodes {
		if n.Leaving {
			t.Errorf("%s still carries the leaving taint after an abort", n.Name)
		}
		n.SafeShown = true
		if n.Cutover != nil && n.Cutover.Spec.Challenge != nil {
			n.Cutover.Spec.Challenge.ExpiresAt = metav1.NewMicroTime(c.now)
		}
	}
	shown := 0
	for _, a := range Decide(c.world()).Actions {
		if s, ok := a.(SetSafe); ok && !s.Safe {
			shown++
		}
	}
	if shown != len(c.nodes) {
		t.Errorf("%d of %d expired answers are taken down", shown, len(c.nodes))
	}
}

func TestASpentBudgetGrantsNothing(t *testing.T) {
	for budget, want := range map[int32]int{1: 1, 2: 2} {
		w, s := slotWorld(v1alpha1.StepReplace)
		r := &w.Cutover.Spec.Rollout
		r.MaxConcurrent, r.MaxUnavailable, r.FailureBudget, r.Canary = 9, 9, budget, nil
		w.OwnNode = ""
		w.Now = s.Since.Add(s.Terms.Replacement.Timeout.Duration)
		answerAs(w, "n02", question{Purpose: v1alpha1.PurposeDrain, Role: v1alpha1.RoleLegacy})
		if d := Decide(w); len(d.Status.Slots) != want || d.Status.Slots[0].HeldSince == nil {
			t.Errorf("with one slot held of a budget of %d there are %d slots, want %d", budget, len(d.Status.Slots), want)
		}
	}
}

func TestTheFenceIsNotDoneBeforeTheVPCCNIHasRolledOut(t *testing.T) {
	c := newToyCluster(2, baseSpec())
	c.until(t, "the VPC CNI is bound to the label", func() bool { return c.legacy.Fenced })
	c.tick()
	w := c.world()
	w.Legacy.Rollout.Updated--
	d := Decide(w)
	if got := conditionOf(d, v1alpha1.ConditionFenceIntact); got.Reason != string(v1alpha1.FenceRollingOut) {
		t.Errorf("FenceIntact = %s %s, want False FenceRollingOut", got.Status, got.Reason)
	}
	for _, a := range d.Actions {
		if _, ok := a.(WriteNodeConfig); ok {
			t.Error("Cilium may write its conflist while the VPC CNI still rolls out")
		}
	}
}

// TestABadAnswerIsAWarningFromTheFirstWord: the ledger says nothing of a step that only asks before the answer is bad.
func TestABadAnswerIsAWarningFromTheFirstWord(t *testing.T) {
	w, _ := slotWorld(v1alpha1.StepJoin)
	n := &w.Nodes[len(w.Nodes)-1]
	n.Zone, n.Created = "a", w.Now.Add(-time.Second)
	answerAs(w, n.Name, question{Purpose: v1alpha1.PurposeValidate, Role: v1alpha1.RoleOverlay, After: n.Created})
	n.Cutover.Status.Findings[0].Verdict = v1alpha1.VerdictFail
	d := Decide(w)
	warns := slices.ContainsFunc(d.Notes, func(x Note) bool {
		return x.Warning && x.Node == n.Name && x.Reason == v1alpha1.ReplacementUnhealthy && x.Action == string(v1alpha1.StepValidate)
	})
	if !warns {
		t.Errorf("nobody is warned of %s: %+v", n.Name, d.Notes)
	}
}
