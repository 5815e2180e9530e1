// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// rolling is a toy cluster that has come as far as its first slot, or as far as asking for one.
func rolling(t *testing.T, nodes int, spec v1alpha1.CutoverSpec) *toyCluster {
	t.Helper()
	c := newToyCluster(nodes, spec)
	c.until(t, "the roll begins", func() bool { return c.cutover.Status.Phase == v1alpha1.PhaseRollNodes })
	return c
}

// until runs the toy cluster until something is seen.
func (c *toyCluster) until(t *testing.T, what string, seen func() bool) {
	t.Helper()
	for range 2000 {
		if seen() {
			return
		}
		c.run(1)
	}
	t.Fatalf("it never came to this: %s\n%s", what, tail(c))
}

// inStep says whether the first slot is in a step.
// atStep runs until a slot is in a step. Those that only ask are over before the ledger says so, unless the answer is bad.
func (c *toyCluster) atStep(t *testing.T, step v1alpha1.Step) {
	t.Helper()
	asked := map[v1alpha1.Step]v1alpha1.Role{v1alpha1.StepConfirm: v1alpha1.RoleLegacy, v1alpha1.StepValidate: v1alpha1.RoleOverlay}[step]
	c.until(t, "a slot is in "+string(step), func() bool {
		for _, n := range c.nodes {
			n.healthy = n.role != asked || len(c.cutover.Status.Slots) == 0
		}
		return c.inStep(step)()
	})
	for _, n := range c.nodes {
		n.healthy = true
	}
}

func (c *toyCluster) inStep(step v1alpha1.Step) func() bool {
	return func() bool { return len(c.cutover.Status.Slots) > 0 && c.cutover.Status.Slots[0].Step == step }
}

func (c *toyCluster) held() bool {
	return len(c.cutover.Status.Slots) > 0 && c.cutover.Status.Slots[0].HeldSince != nil
}

// fail makes one check of a node's newest report a Fail, whatever its agent was asked.
func fail(n *toyNode, check v1alpha1.CheckName) {
	for i := range n.Cutover.Status.Findings {
		if f := &n.Cutover.Status.Findings[i]; f.Check == check {
			f.Verdict, f.Reason = v1alpha1.VerdictFail, v1alpha1.LegacyRules
		}
	}
}

func TestAWaivedFailDoesNotSendASoakingReplacementRoundInCircles(t *testing.T) {
	spec := baseSpec()
	c := rolling(t, 2, spec)
	c.cutover.Spec.Waivers = []v1alpha1.Waiver{{Check: string(v1alpha1.CheckLegacyResidue), Until: metav1.NewTime(c.now.Add(24 * time.Hour))}}
	c.until(t, "a replacement soaks", c.inStep(v1alpha1.StepSoak))
	w := c.world()
	for i := range w.Nodes {
		fail(&toyNode{Node: w.Nodes[i]}, v1alpha1.CheckLegacyResidue)
	}
	if d := Decide(w); d.Status.Slots[0].Step != v1alpha1.StepSoak {
		t.Errorf("the slot goes back to %s over a check that is waived", d.Status.Slots[0].Step)
	}
}

func TestAReplacementThatRelapsesWhileItSoaksIsAFailure(t *testing.T) {
	for name, relapse := range map[string]func(*toyNode){
		"not Ready": func(n *toyNode) { n.Ready = false },
		"unhealthy": func(n *toyNode) { n.healthy = false; fail(n, v1alpha1.CheckPrograms) },
	} {
		t.Run(name, func(t *testing.T) {
			c := rolling(t, 3, baseSpec())
			c.until(t, "a replacement soaks", c.inStep(v1alpha1.StepSoak))
			r := c.byUID(c.cutover.Status.Slots[0].ReplacementUID)
			relapse(r)
			d := Decide(c.world())
			s := d.Status.Slots[0]
			if s.Step != v1alpha1.StepValidate || s.HeldSince == nil {
				t.Fatalf("the slot is in %s, held since %v; want it held in Validate", s.Step, s.HeldSince)
			}
			if got := conditionOf(d, v1alpha1.ConditionBudgetExhausted); got.Status != metav1.ConditionTrue {
				t.Errorf("BudgetExhausted = %s, want True: a failure counts", got.Status)
			}
			c.run(2)
			r.Ready, r.healthy = true, true
			c.until(t, "the slot resumes by itself and ends", func() bool { return c.cutover.Status.Rolled == 1 })
		})
	}
}

func TestAskingAgainIsNoNews(t *testing.T) {
	for name, step := range map[string]v1alpha1.Step{"before a slot": "", "in Confirm": v1alpha1.StepConfirm, "in Validate": v1alpha1.StepValidate} {
		t.Run(name, func(t *testing.T) {
			c := rolling(t, 1, baseSpec())
			if step != "" {
				c.atStep(t, step)
			}
			for _, n := range c.nodes {
				n.healthy = false
			}
			c.run(300)
			writes, asks := 0, 0
			for end := c.now.Add(time.Hour); c.now.Before(end); {
				c.tick()
				w := c.world()
				d := Decide(w)
				if !equality.Semantic.DeepEqual(w.Cutover.Status, d.Status) {
					writes++
				}
				for _, a := range d.Actions {
					if _, ok := a.(Ask); ok {
						asks++
					}
				}
				c.step(w)
			}
			if writes > 0 {
				t.Errorf("the ledger was written %d times in an hour in which nothing changed", writes)
			}
			if asks < 20 || asks > 40 {
				t.Errorf("the node was asked %d times in an hour, want once every two minutes", asks)
			}
		})
	}
}

func TestAReleasedSlotIsOffTheLedgerBeforeItsNodeGetsAnother(t *testing.T) {
	spec := baseSpec()
	spec.Rollout.MaxUnavailable, spec.Rollout.MaxConcurrent = 3, 3
	c := rolling(t, 1, spec)
	c.until(t, "a slot drains", c.inStep(v1alpha1.StepDrain))
	n := c.node("n01")
	n.blocked = true
	c.until(t, "it is held", c.held)
	n.Cutover.Annotations = map[string]string{v1alpha1.AnnotationRelease: "someone: it takes too long"}
	w := c.world()
	ask := (&decider{w: w, spec: &w.Cutover.Spec}).newChallenge(&n.Node, question{Purpose: v1alpha1.PurposeDrain, Role: v1alpha1.RoleLegacy})
	n.Cutover.Spec.Challenge = &ask
	c.tick()
	w = c.world()
	d := Decide(w)
	if len(d.Status.Slots) > 0 {
		t.Fatalf("n01 was granted a slot in the very decision that took its last one: %+v", d.Status.Slots[0])
	}
	c.step(w)
	c.until(t, "its marks are gone", func() bool {
		return n.CordonedBy == "" && !releaseAsked(&n.Node) || len(c.cutover.Status.Slots) > 0
	})
	if len(c.cutover.Status.Slots) > 0 {
		t.Error("n01 was granted a slot while it still carried the marks of its last one")
	}
	n.blocked = false
	if !c.run(1000) {
		t.Errorf("the roll does not go on after the release:\n%s", tail(c))
	}
}

func TestAReleaseOnTheCutoverIsOnlyForNodesThatAreGone(t *testing.T) {
	c := rolling(t, 2, baseSpec())
	c.until(t, "a slot drains", c.inStep(v1alpha1.StepDrain))
	n := c.node(c.cutover.Status.Slots[0].Node)
	n.blocked = true
	c.until(t, "it is held", c.held)
	c.cutover.Annotations = map[string]string{v1alpha1.AnnotationRelease: n.Name}
	c.run(3)
	if !c.held() {
		t.Error("a slot was released by an annotation that nobody takes away, while its node has a NodeCutover to say so on")
	}
	c.remove(n.Name)
	c.until(t, "the slot waits for a replacement that never comes, and is let go", func() bool {
		return len(c.cutover.Status.Finished) > 0 && c.cutover.Status.Finished[0].Outcome == v1alpha1.OutcomeReleased
	})
}

func TestARollOfNothingIsNotDone(t *testing.T) {
	for name, none := range map[string]func(*World){
		"a selector that cannot be parsed": func(w *World) { w.SelectorErr = errors.New("bad operator") },
		"a selector that selects no node":  func(*World) {},
	} {
		t.Run(name, func(t *testing.T) {
			c := rolling(t, 2, baseSpec())
			c.run(1)
			w := c.world()
			for i := range w.Nodes {
				w.Nodes[i].Selected = false
			}
			none(w)
			d := Decide(w)
			got := conditionOf(d, v1alpha1.ConditionStalled)
			if d.Status.Phase != v1alpha1.PhaseRollNodes || got.Status != metav1.ConditionTrue || got.Reason != string(v1alpha1.SelectorInvalid) {
				t.Errorf("phase %s, Stalled = %s %s; want RollNodes stalled by SelectorInvalid", d.Status.Phase, got.Status, got.Reason)
			}
		})
	}
}

func TestANodeThatMayBeRolledAfterAllIsRolled(t *testing.T) {
	c := rolling(t, 3, baseSpec())
	c.node("n03").OptOut, c.node("n03").OptedOut = "a long job", true
	c.until(t, "only the node that is kept out is left", func() bool { return c.cutover.Status.Phase == v1alpha1.PhaseRemoveLegacy })
	c.run(20)
	if c.cutover.Status.Phase != v1alpha1.PhaseRemoveLegacy || !c.legacy.Found {
		t.Fatalf("phase %s, VPC CNI there: %t; want RemoveLegacy to wait for the node that is kept out", c.cutover.Status.Phase, c.legacy.Found)
	}
	c.node("n03").OptedOut = false
	if !c.run(1000) {
		t.Errorf("the node is never rolled:\n%s", tail(c))
	}
}

func TestCanariesThatAreDoneAskForNoMoreNodes(t *testing.T) {
	spec := baseSpec()
	*spec.Rollout.Canary = 3
	c := rolling(t, 5, spec)
	c.until(t, "three canaries are done", func() bool { return c.cutover.Status.Rolled == 3 && len(c.cutover.Status.Slots) == 0 })
	for _, n := range slices.Clone(c.nodes) {
		if n.role == v1alpha1.RoleOverlay {
			c.remove(n.Name)
		}
	}
	if !c.run(1000) {
		t.Errorf("the roll stops when the cluster has shrunk below the number of its canaries:\n%s", tail(c))
	}
}

func TestAMixedNodeOfTheCoordinatorDoesNotBlockTheRoll(t *testing.T) {
	c := rolling(t, 3, baseSpec())
	own := c.node("n02")
	own.role, own.FenceLabel = v1alpha1.RoleMixed, false
	if !c.run(1000) {
		t.Fatalf("the coordinator's node waits for the others and the others wait for it:\n%s", tail(c))
	}
	story := strings.Join(c.log, "\n")
	if strings.Index(story, "n02 gets a slot") < strings.Index(story, "n03 gets a slot") {
		t.Error("the coordinator's own node does not come last")
	}
}

func TestACutoverThatIsMadeAnewInTheMiddleOfASlotGoesOn(t *testing.T) {
	for _, surge := range []bool{false, true} {
		for _, step := range way(surge) {
			spec := baseSpec()
			spec.Rollout.Surge, spec.Rollout.Soak.Duration = surge, time.Minute
			c := rolling(t, 3, spec)
			if step == string(v1alpha1.StepDetach) {
				continue // the toy cluster has no volumes: the step is over in the decision that enters it
			}
			c.atStep(t, v1alpha1.Step(step))
			c.run(1)
			c.cutover.Status, c.cutover.Generation = v1alpha1.CutoverStatus{}, 1
			if !c.run(1500) {
				t.Errorf("surge %t: made anew in %s, it does not end:\n%s", surge, step, tail(c))
			}
			for _, n := range c.nodes {
				if n.marked() != "" || n.Leaving || n.role != v1alpha1.RoleOverlay {
					t.Errorf("surge %t: made anew in %s, %s is left as %s, marked %q, leaving %t", surge, step, n.Name, n.role, n.marked(), n.Leaving)
				}
			}
		}
	}
}

func TestTheFirstEvictionIsDecidedOnFreshFacts(t *testing.T) {
	c := rolling(t, 2, baseSpec())
	for range 200 {
		c.tick()
		w := c.world()
		d := Decide(w)
		if c.inStep(v1alpha1.StepDeregister)() && d.Status.Slots[0].Step == v1alpha1.StepDrain {
			b := w.Lacks(d)
			if slot := d.Status.Slots[0]; !b.Nodes || len(b.Answers) != 1 || b.Answers[0].UID != slot.NodeUID || len(b.Drains) != 1 || b.Drains[0].NodeUID != slot.NodeUID {
				t.Errorf("a drain begins on what a cache says of the node's boot, label and answer: only %+v is read anew", b)
			}
			return
		}
		c.step(w)
	}
	t.Fatal("no drain ever began")
}

func TestAHeldDrainSaysWhatTheAPIServerSaid(t *testing.T) {
	w, s := slotWorld(v1alpha1.StepDrain)
	w.Cutover.Status.Slots[0].Reason, w.Cutover.Status.Slots[0].Message = v1alpha1.EvictionBlocked, "a budget does not allow it"
	w.Now = s.Since.Add(s.Terms.Drain.Timeout.Duration)
	d := Decide(w)
	if !slices.ContainsFunc(d.Notes, func(n Note) bool { return n.Action == "Hold" && n.Reason == v1alpha1.EvictionBlocked }) {
		t.Errorf("the hold does not name what blocks the drain: %+v", d.Notes)
	}
	w.Drains[s.NodeUID] = Drain{Evict: w.Drains[s.NodeUID].Evict, Going: 1}
	if got := Decide(w).Status.Slots[0].Reason; got != v1alpha1.Evicting {
		t.Errorf("a pod leaves, but the slot still waits for %s", got)
	}
}

func TestWhatPeopleWriteIsCutBeforeItIsTold(t *testing.T) {
	c := rolling(t, 2, baseSpec())
	c.run(1)
	c.node("n01").OptedOut, c.node("n01").OptOut = true, strings.Repeat("no ", 5000)
	c.tick()
	for _, n := range Decide(c.world()).Notes {
		if len(n.Message) > 1000 {
			t.Errorf("a note of %d bytes does not fit into an Event", len(n.Message))
		}
	}
}

// TestACutoverCreatedAgainAfterTheEndEnds starts over on a cluster in which everything is done already.
func TestACutoverCreatedAgainAfterTheEndEnds(t *testing.T) {
	c := newToyCluster(3, baseSpec())
	if !c.run(3000) {
		t.Fatal("the first cutover did not end")
	}
	c.cutover.Status = v1alpha1.CutoverStatus{}
	if !c.run(200) {
		t.Errorf("the second one is in %s: %+v", c.cutover.Status.Phase, c.cutover.Status.Conditions)
	}
}

// TestTheVPCCNIDeletedTooEarlyOpensTheFence takes the DaemonSet away while nodes still need it.
func TestTheVPCCNIDeletedTooEarlyOpensTheFence(t *testing.T) {
	w, _ := slotWorld(v1alpha1.StepCordon)
	w.Legacy = Legacy{}
	d := Decide(w)
	if got := conditionOf(d, v1alpha1.ConditionFenceIntact); got.Status != metav1.ConditionFalse || got.Reason != string(v1alpha1.FenceSelectorLost) {
		t.Errorf("FenceIntact = %s %s (%s), want False FenceSelectorLost", got.Status, got.Reason, got.Message)
	}
}

// TestAPodThatComesBackIsDrainedAgain lets a pod appear on a node whose volumes are being detached.
func TestAPodThatComesBackIsDrainedAgain(t *testing.T) {
	w, s := slotWorld(v1alpha1.StepDetach)
	w.Drains[s.NodeUID] = Drain{Evict: []Pod{{Name: "tolerant"}}}
	d := Decide(w)
	if got := d.Status.Slots[0]; got.Step != v1alpha1.StepDrain {
		t.Errorf("step = %s, want Drain", got.Step)
	}
	for _, n := range d.Notes {
		if n.Reason == "" || n.Message == "" {
			t.Errorf("people are told without a reason, which the API server refuses: %+v", n)
		}
	}
}
