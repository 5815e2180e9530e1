// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

// becomes makes requests to replace a node end like this one, and no later one.
func becomes(r fleet.Replacement) func(*scene, string) {
	return func(k *scene, node string) {
		k.OnReplace(func(old *corev1.Node) fleet.Replacement {
			if old.Name != node {
				return fleet.Replacement{}
			}
			return r
		})
	}
}

// joins is somebody who brings the node that was missing.
func joins(k *scene, _ string) { k.Join(fleet.Node{Role: v1alpha1.RoleOverlay}) }

// replacement is the node that the slot of a node has claimed.
func (k *scene) replacement(node string) string {
	k.t.Helper()
	s := k.slot(node)
	if s == nil || s.Replacement == "" {
		k.t.Fatalf("the slot of %s has claimed nothing: %+v", node, s)
	}
	return s.Replacement
}

func recovers(k *scene, node string) { k.SetAgent(k.replacement(node), fleet.Agent{}) }

func replacementFaults() []fault {
	return []fault{
		{
			name: "nobody hears the request", step: v1alpha1.StepReplace, reason: v1alpha1.AwaitingReplacement,
			words: []string{"node-1", "i-node-1", v1alpha1.AnnotationReplace},
			plant: becomes(fleet.Replacement{Nobody: true}),
			mend:  func(k *scene, node string) { k.Lose(node); joins(k, node) },
		},
		{
			name: "no capacity for the new node", step: v1alpha1.StepJoin, reason: v1alpha1.AwaitingNode,
			words: []string{`zone "a"`, `group "workers"`, "node-2"},
			plant: becomes(fleet.Replacement{NeverJoins: true}), mend: joins,
		},
		{
			name: "it joins in another zone", step: v1alpha1.StepJoin, reason: v1alpha1.ReplacementElsewhere,
			words: []string{"stray joined", `zone "a"`},
			plant: becomes(fleet.Replacement{Node: fleet.Node{Name: "stray", Zone: "b"}}), mend: joins,
		},
		{
			name: "it joins and is not Ready", step: v1alpha1.StepJoin, reason: v1alpha1.ReplacementNotReady,
			words: []string{"not Ready"},
			plant: becomes(fleet.Replacement{Node: fleet.Node{Name: "unready", NeverReady: true}}),
			mend:  func(k *scene, _ string) { k.SetReady("unready", true) },
		},
		{
			name: "its datapath never comes up", step: v1alpha1.StepValidate, reason: v1alpha1.ReplacementUnhealthy,
			words: []string{string(v1alpha1.TunnelDown)},
			plant: becomes(fleet.Replacement{Agent: fleet.Agent{Verdict: v1alpha1.VerdictFail, Reason: v1alpha1.TunnelDown}}), mend: recovers,
		},
		{
			name: "its agent cannot tell", step: v1alpha1.StepValidate, reason: v1alpha1.ReplacementUnhealthy,
			words: []string{"Unknown", string(v1alpha1.MapUnreadable)},
			plant: becomes(fleet.Replacement{Agent: fleet.Agent{Verdict: v1alpha1.VerdictUnknown, Reason: v1alpha1.MapUnreadable}}), mend: recovers,
		},
		{
			name: "its agent is silent", step: v1alpha1.StepValidate, reason: v1alpha1.NoAnswer,
			words: []string{"has not answered"},
			plant: becomes(fleet.Replacement{Agent: fleet.Agent{Silent: true}}), mend: recovers,
		},
		{
			name: "it comes up with the VPC CNI, and every check passes", step: v1alpha1.StepValidate, reason: v1alpha1.ReplacementUnhealthy,
			words: []string{"shows role Legacy", "terminate it"},
			// One that is created in the very second of the grant may be older than it, and is no replacement.
			plant: becomes(fleet.Replacement{JoinsAfter: time.Second, Node: fleet.Node{Role: v1alpha1.RoleLegacy}}),
			mend:  func(k *scene, node string) { k.Lose(k.replacement(node)); joins(k, node) },
		},
		{
			name: "no capacity for one node more, so the old one is not touched", step: v1alpha1.StepJoin, reason: v1alpha1.AwaitingNode,
			words: []string{"no new node has taken the place of"},
			plant: func(k *scene, node string) {
				k.Patch(`{"spec":{"rollout":{"surge":true}}}`)
				becomes(fleet.Replacement{NeverJoins: true})(k, node)
			},
			mend: func(k *scene, node string) {
				if n := k.node(node); n.Spec.Unschedulable {
					k.t.Errorf("%s was cordoned before there is a node to take its pods", node)
				}
				k.OnReplace(func(*corev1.Node) fleet.Replacement { return fleet.Replacement{} })
				joins(k, node)
			},
		},
	}
}

func TestAReplacementThatFailsIsNamedHeldAndOutlived(t *testing.T) {
	faults := replacementFaults()
	k := newScene(t, make([]fleet.Node, len(faults))...)
	k.rolling(nil)
	k.suffer(faults)
}
