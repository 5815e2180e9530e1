// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/golden"
)

// baseSpec is a spec as the API server would complete it, with times that make a story short to read.
func baseSpec() v1alpha1.CutoverSpec {
	canary, yes := int32(1), true
	d := func(x time.Duration) metav1.Duration { return metav1.Duration{Duration: x} }
	return v1alpha1.CutoverSpec{
		Overlay: v1alpha1.Overlay{PodCIDRs: []string{"10.244.0.0/16"}, NodeMaskSize: 24},
		Legacy:  v1alpha1.Legacy{FenceLabel: v1alpha1.FenceLabel},
		Cilium:  v1alpha1.Cilium{Install: v1alpha1.InstallSecondary},
		Rollout: v1alpha1.Rollout{
			MaxConcurrent: 1, MaxUnavailable: 1, Canary: &canary, Soak: d(time.Minute), FailureBudget: 1, Order: v1alpha1.OrderName,
			Drain: v1alpha1.Drain{DeregistrationDelay: d(30 * time.Second), Timeout: d(10 * time.Minute), DeleteEmptyDirData: &yes},
		},
		Replacement: v1alpha1.Replacement{Type: v1alpha1.ReplacementExternal, Timeout: d(10 * time.Minute), JoinTimeout: d(10 * time.Minute)},
		ApprovedPhases: []v1alpha1.Phase{
			v1alpha1.PhaseDecoupleIngress, v1alpha1.PhaseInstallCilium, v1alpha1.PhaseFenceLegacy, v1alpha1.PhaseRollNodes,
			v1alpha1.PhaseRemoveLegacy, v1alpha1.PhaseFullEBPF,
		},
		State: v1alpha1.StateRunning,
	}
}

func TestRolloutsReadAsStories(t *testing.T) {
	tests := map[string]struct {
		nodes int
		spec  func(*v1alpha1.CutoverSpec)
		story func(*toyCluster)
	}{
		"four nodes one by one": {nodes: 4},
		"two at once after a canary, zone by zone": {nodes: 6, spec: func(s *v1alpha1.CutoverSpec) {
			s.Rollout.MaxConcurrent, s.Rollout.MaxUnavailable, s.Rollout.Order = 2, 2, v1alpha1.OrderZone
		}},
		"surge":  {nodes: 3, spec: func(s *v1alpha1.CutoverSpec) { s.Rollout.Surge = true }},
		"shared": {nodes: 2, spec: func(s *v1alpha1.CutoverSpec) { s.Cilium.Install = v1alpha1.InstallShared }},
		"an unsafe node is passed over and mended": {nodes: 3, story: func(c *toyCluster) {
			c.node("n01").healthy = false
			c.run(60)
			c.say("%s someone mends n01", c.clock())
			c.node("n01").healthy = true
		}},
		"a mixed node goes first and is not labelled": {nodes: 3, story: func(c *toyCluster) {
			for c.cutover.Status.Phase != v1alpha1.PhaseRollNodes {
				c.run(1)
			}
			n := c.node("n03")
			n.role, n.FenceLabel = v1alpha1.RoleMixed, false
		}},
		"a budget that allows nothing holds the slot": {nodes: 2, story: func(c *toyCluster) {
			c.node("n01").blocked = true
			c.run(220)
			c.say("%s someone mends the budget", c.clock())
			c.node("n01").blocked = false
		}},
		"a spot node vanishes in the middle of its drain": {nodes: 2, story: func(c *toyCluster) {
			c.node("n01").blocked = true
			c.run(40)
			c.remove("n01")
			c.say("%s n01 vanishes", c.clock())
			c.join(v1alpha1.RoleOverlay, "a")
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec := baseSpec()
			if tt.spec != nil {
				tt.spec(&spec)
			}
			c := newToyCluster(tt.nodes, spec)
			if tt.story != nil {
				tt.story(c)
			}
			if !c.run(3000) {
				t.Errorf("the cutover did not end; it is in %s: %v", c.cutover.Status.Phase, c.cutover.Status.Conditions)
			}
			golden.Match(t, filepath.Join("testdata", "rollouts", strings.ReplaceAll(strings.ReplaceAll(name, ",", ""), " ", "-")+".log"), strings.Join(c.log, "\n")+"\n")
		})
	}
}

func tail(c *toyCluster) string {
	lines := c.log
	if len(lines) > 25 {
		lines = lines[len(lines)-25:]
	}
	out := strings.Join(lines, "\n")
	for _, s := range c.cutover.Status.Slots {
		out += "\nslot " + s.Node + " " + string(s.Step) + " " + string(s.Reason) + " " + s.Message
	}
	for _, s := range c.cutover.Status.Conditions {
		out += "\n" + s.Type + " " + s.Reason + " " + s.Message
	}
	return out
}
