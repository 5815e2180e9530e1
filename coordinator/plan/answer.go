// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

const (
	// challengeTTL is how long an answer is worth anything. Long enough for an agent that restarts to answer, short enough
	// that a node is not drained on what was true a coffee ago.
	challengeTTL = 2 * time.Minute
	// answerGrace is how long an agent may take before a missing answer is reported as one. Agents answer within
	// milliseconds; reporting every one of those as a wait would write the ledger for nothing.
	answerGrace = 10 * time.Second
)

// answer is what a node's agent says to one question, as the coordinator judges it.
type answer struct {
	// safe is a Pass, or a Warn that rollout.holdOn does not name, of every required check.
	safe bool
	// fresh is true for a few seconds after a question was asked: no answer is no news yet.
	fresh   bool
	reason  v1alpha1.Reason
	message string
}

// question is what is asked of a node, and since when there is a reason to: After is the time, as the ledger has it, at
// which a slot or a phase came so far. An answer counts only for the very question that was asked for that reason.
type question struct {
	Purpose v1alpha1.Purpose
	Role    v1alpha1.Role
	After   time.Time
}

// requiredChecks returns the checks that decide about a question. A waiver drops a check until its date; nothing else
// does, the chart's switches included.
func requiredChecks(q question, waivers []v1alpha1.Waiver, now time.Time) []v1alpha1.CheckName {
	// In the order of a report, so that of two failures the one nearer to the cause is told.
	checks := []v1alpha1.CheckName{
		v1alpha1.CheckConflist, v1alpha1.CheckTunnelDevice, v1alpha1.CheckPrograms, v1alpha1.CheckOverlayMaps, v1alpha1.CheckServices, v1alpha1.CheckCiliumAlive,
		v1alpha1.CheckOverlayRoutes, v1alpha1.CheckMTU, v1alpha1.CheckPodAddresses, v1alpha1.CheckLegacyResidue, v1alpha1.CheckKernel,
	}
	checks = slices.DeleteFunc(checks, func(c v1alpha1.CheckName) bool {
		return slices.Contains(notAsked(q.Role), c) || waived(waivers, string(c), now)
	})
	return checks
}

// notAsked are the checks that say nothing against draining or keeping a node of a role. A Mixed node is drained because of
// what Conflist, PodAddresses and LegacyResidue say of it: they cannot keep it from that.
func notAsked(r v1alpha1.Role) []v1alpha1.CheckName {
	switch r {
	case v1alpha1.RoleMixed:
		return []v1alpha1.CheckName{v1alpha1.CheckConflist, v1alpha1.CheckPodAddresses, v1alpha1.CheckLegacyResidue}
	case v1alpha1.RoleOverlay:
		return nil
	}
	return []v1alpha1.CheckName{v1alpha1.CheckLegacyResidue}
}

// waived says whether a waiver for a gate or check is in force.
func waived(waivers []v1alpha1.Waiver, check string, now time.Time) bool {
	return slices.ContainsFunc(waivers, func(x v1alpha1.Waiver) bool {
		return x.Check == check && now.Before(x.Until.Time)
	})
}

// newChallenge words a question for a node.
func (d *decider) newChallenge(n *Node, q question) v1alpha1.Challenge {
	return v1alpha1.Challenge{
		ID:             d.occasion(q) + strconv.FormatInt(d.w.Now.UnixMicro(), 16),
		NodeUID:        n.UID,
		Role:           q.Role,
		Purpose:        q.Purpose,
		ExpiresAt:      metav1.NewMicroTime(d.w.Now.Add(challengeTTL)),
		RequiredChecks: requiredChecks(q, d.spec.Waivers, d.w.Now),
	}
}

// occasion is how the id of every question begins that was asked in this term and for the same reason: After, as the
// ledger has it. Comparing After with a time of this clock would be wrong once somebody has set the clock back. Without a
// reason of its own any question of this term will do.
func (d *decider) occasion(q question) string {
	if q.After.IsZero() {
		return d.w.Term + "-"
	}
	return d.w.Term + "-" + strconv.FormatInt(q.After.UnixMicro(), 16) + "-"
}

// asked says whether the node's outstanding challenge is this question, asked in this term and still worth an answer. One that
// would be worth it for longer than we ever give was not worded by us, or before somebody set the clock back.
func (d *decider) asked(n *Node, q question) bool {
	if n.Cutover == nil || n.Cutover.Spec.Challenge == nil {
		return false
	}
	c := n.Cutover.Spec.Challenge
	return strings.HasPrefix(c.ID, d.occasion(q)) &&
		c.NodeUID == n.UID && c.Role == q.Role && c.Purpose == q.Purpose &&
		d.w.Now.Before(c.ExpiresAt.Time) && !c.ExpiresAt.After(d.w.Now.Add(challengeTTL)) &&
		slices.Equal(c.RequiredChecks, requiredChecks(q, d.spec.Waivers, d.w.Now))
}

// justAsked says whether the agent was asked so lately that no answer is no news.
func (d *decider) justAsked(n *Node) bool {
	if n.Cutover == nil || n.Cutover.Spec.Challenge == nil || n.Cutover.Spec.Challenge.ID == n.Cutover.Status.ChallengeID {
		return false
	}
	until := n.Cutover.Spec.Challenge.ExpiresAt.Add(answerGrace - challengeTTL)
	d.wakeAt(until)
	return d.w.Now.Before(until)
}

// ask judges the answer to a question, and asks it if it is not outstanding and act is true.
func (d *decider) ask(n *Node, q question, act bool) answer {
	if !d.asked(n, q) {
		if act {
			d.put(n, d.newChallenge(n, q))
		}
		return answer{fresh: true, reason: v1alpha1.NoAnswer, message: "the agent on " + n.Name + " has not answered yet"}
	}
	c := n.Cutover.Spec.Challenge
	d.wakeAt(c.ExpiresAt.Time)
	a := judge(n, d.spec.Rollout.HoldOn)
	if a.reason == v1alpha1.NoAnswer {
		until := c.ExpiresAt.Add(answerGrace - challengeTTL)
		a.fresh = d.w.Now.Before(until)
		d.wakeAt(until)
	}
	return a
}

// put asks a node a question, in the NodeCutover that it has or will have.
func (d *decider) put(n *Node, c v1alpha1.Challenge) {
	if n.Cutover != nil {
		d.act(Ask{Node: n.Name, Challenge: c})
		return
	}
	if d.first == nil {
		d.first = map[types.UID]*v1alpha1.Challenge{}
	}
	d.first[n.UID] = &c
}

// heard is what an answer means to a slot that waits for it. Answers expire and are asked for again; that is no news, so
// until the new one is there, what the last one said stands.
func heard(s *v1alpha1.Slot, a answer) progress {
	switch {
	case a.safe:
		return done()
	case a.fresh && (answered(s.Reason) || s.Reason == v1alpha1.Soaking):
		return progress{reason: s.Reason, message: s.Message, fresh: true}
	}
	return progress{reason: a.reason, message: a.message, fresh: a.fresh}
}

// answered says whether a reason to wait comes from an answer, or from the lack of one.
func answered(r v1alpha1.Reason) bool {
	return slices.Contains([]v1alpha1.Reason{v1alpha1.NoAnswer, v1alpha1.AnswerRefused, v1alpha1.NodeNotSafe, v1alpha1.ReplacementUnhealthy}, r)
}

// judge judges a node's report against the challenge on the same object. Whatever is missing, empty, of another node, of
// another boot or of another role is Unknown, and Unknown is never safe. The caller has checked the challenge itself.
func judge(n *Node, holdOn []string) answer {
	c, s := n.Cutover.Spec.Challenge, &n.Cutover.Status
	refuse := func(format string, args ...any) answer {
		return answer{reason: v1alpha1.AnswerRefused, message: fmt.Sprintf(format, args...)}
	}
	switch {
	case s.ChallengeID != c.ID:
		return answer{reason: v1alpha1.NoAnswer, message: "the agent on " + n.Name + " has not answered; look at its pod and its log"}
	case s.NodeUID != n.UID:
		return refuse("the answer is of node UID %q, but %s has UID %q; another node had this name", s.NodeUID, n.Name, n.UID)
	case n.BootID == "" || s.BootID != n.BootID:
		return refuse("the answer is of boot %q, but %s runs boot %q; the node has restarted since", s.BootID, n.Name, n.BootID)
	case s.JudgedRole != c.Role || s.AgentVersion == "":
		return refuse("the answer judges %s as %q by agent %q, but was asked about %q", n.Name, s.JudgedRole, s.AgentVersion, c.Role)
	case c.Purpose == v1alpha1.PurposeDrain && s.Role != c.Role:
		return refuse("%s was taken for %s, but its host shows %s", n.Name, c.Role, s.Role)
	case c.Purpose == v1alpha1.PurposeValidate && (s.Role == v1alpha1.RoleLegacy || s.Role == v1alpha1.RoleMixed):
		return answer{reason: v1alpha1.NodeNotSafe, message: fmt.Sprintf("the host of %s shows role %s: it came up with the VPC CNI; terminate it, and find out why the fence let it through", n.Name, s.Role)}
	}
	return judgeFindings(c.RequiredChecks, s.Findings, holdOn)
}

// judgeFindings computes the verdict over the required checks; the report's own verdict is not asked.
func judgeFindings(required []v1alpha1.CheckName, findings []v1alpha1.Finding, holdOn []string) answer {
	if len(required) == 0 {
		return answer{reason: v1alpha1.NodeNotSafe, message: "no check is required, which proves nothing; take waivers off the Cutover"}
	}
	worst, rank := answer{safe: true, reason: v1alpha1.AsWanted}, 0
	for _, check := range required {
		a, r := judgeFinding(check, findings, holdOn)
		if r > rank {
			worst, rank = a, r
		}
	}
	return worst
}

// judgeFinding judges one check by the worst that is said of it: 0 for Pass, 1 for a Warn that holds nothing, 2 for what could
// not be told, 3 for Fail.
func judgeFinding(check v1alpha1.CheckName, findings []v1alpha1.Finding, holdOn []string) (answer, int) {
	worst, rank := answer{}, -1
	for i := range findings {
		if f := &findings[i]; f.Check == check {
			if a, r := weigh(f, holdOn); r > rank {
				worst, rank = a, r
			}
		}
	}
	if rank < 0 {
		return answer{reason: v1alpha1.NodeNotSafe, message: fmt.Sprintf("%s: the answer holds no such finding; is the agent older than the coordinator?", check)}, 2
	}
	return worst, rank
}

func weigh(f *v1alpha1.Finding, holdOn []string) (answer, int) {
	if f.Verdict == v1alpha1.VerdictPass {
		return answer{safe: true, reason: v1alpha1.AsWanted}, 0 // the most common one, and nothing is said of it
	}
	said := answer{reason: v1alpha1.NodeNotSafe, message: Clip(fmt.Sprintf("%s: %s (%s): %s", f.Check, f.Verdict, f.Reason, f.Message))}
	switch f.Verdict {
	case v1alpha1.VerdictWarn:
		if slices.Contains(holdOn, string(f.Reason)) {
			return said, 3
		}
		said.safe = true
		return said, 1
	case v1alpha1.VerdictFail:
		return said, 3
	default:
		// Unknown, NotAsked of a check that is required, and whatever a later release may say.
		return said, 2
	}
}

// Clip makes a message fit for a field that people read.
func Clip(s string) string { return v1alpha1.Message(s) }
