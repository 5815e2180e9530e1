// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// foretold is a forecast in a few words: waves by commas, what kept the next node out of each, and who never gets a slot.
func foretold(waves []Wave, waiting []v1alpha1.Waiting) string {
	var out []string
	for _, w := range waves {
		text := strings.Join(w.Nodes, "+")
		if w.Full.Reason != "" {
			text += fmt.Sprintf(" (%s %s)", w.Full.Node, w.Full.Reason)
		}
		out = append(out, text)
	}
	for _, w := range waiting {
		out = append(out, fmt.Sprintf("never %s %s", w.Node, w.Reason))
	}
	return strings.Join(out, ", ")
}

func TestWavesAreAsLargeAsTheLimitsAllow(t *testing.T) {
	four, two, none := int32(4), int32(2), int32(0)
	wide := func(w *World) {
		r := &w.Cutover.Spec.Rollout
		r.MaxConcurrent, r.MaxUnavailable, r.Canary = 3, 3, &none
	}
	for name, c := range map[string]struct {
		nodes  int
		change func(*World)
		want   string
	}{
		"one by one":            {3, func(*World) {}, "n01 (n02 CanaryRunning), n02 (n03 SlotsTaken), n03"},
		"three at once":         {5, wide, "n01+n02+n03 (n04 SlotsTaken), n04+n05"},
		"canaries first":        {5, func(w *World) { wide(w); w.Cutover.Spec.Rollout.Canary = &two }, "n01 (n02 CanaryRunning), n02 (n03 CanaryRunning), n03+n04+n05"},
		"fewer out of service":  {4, func(w *World) { wide(w); w.Cutover.Spec.Rollout.MaxUnavailable = 2 }, "n01+n02 (n03 TooManyUnavailable), n03+n04"},
		"one a zone":            {4, func(w *World) { wide(w); one := int32(1); w.Cutover.Spec.Rollout.MaxConcurrentPerZone = &one }, "n01+n02 (n03 ZoneSlotsTaken), n03+n04"},
		"zone by zone":          {4, func(w *World) { wide(w); w.Cutover.Spec.Rollout.Order = v1alpha1.OrderZone }, "n01+n03+n02 (n04 SlotsTaken), n04"},
		"the coordinator last":  {3, func(w *World) { wide(w); w.OwnNode = "n01" }, "n02+n03, n01"},
		"Mixed nodes first":     {3, func(w *World) { wide(w); w.Nodes[2].Cutover.Status.Role = v1alpha1.RoleMixed }, "n03, n01+n02"},
		"a node that has moved": {2, func(w *World) { w.Nodes[0].Cutover.Status.Role = v1alpha1.RoleOverlay }, "n02"},
		"one in a slot":         {2, func(w *World) { w.Cutover.Status.Slots = []v1alpha1.Slot{{NodeUID: w.Nodes[0].UID}} }, "n02"},
		"one that is kept out":  {2, func(w *World) { w.Nodes[1].OptedOut = true }, "n01"},
		"one that is not Ready and has been": {3, func(w *World) { wide(w); w.Cutover.Spec.Rollout.MaxUnavailable = 1; w.Nodes[2].Ready = false },
			"never n01 TooManyUnavailable, never n02 TooManyUnavailable, never n03 NodeNotReady"},
		"one that somebody cordoned": {3, func(w *World) { wide(w); w.Nodes[1].Cordoned = true }, "n01+n03, never n02 CordonedByOthers"},
		"more canaries than nodes":   {2, func(w *World) { w.Cutover.Spec.Rollout.Canary = &four }, "n01 (n02 CanaryRunning), n02"},
		"no nodes":                   {0, wide, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := toyWorld(c.nodes)
			c.change(w)
			before := w.Cutover.DeepCopy()
			waves, waiting := Waves(w)
			if diff := cmp.Diff(c.want, foretold(waves, waiting)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(before, w.Cutover); diff != "" {
				t.Errorf("the World was changed:\n%s", diff)
			}
		})
	}
}

// toyWorld is a World of Legacy nodes in two zones, whose agents have reported.
func toyWorld(nodes int) *World {
	w := &World{Cutover: &v1alpha1.Cutover{Spec: baseSpec()}}
	for i := range nodes {
		name := fmt.Sprintf("n%02d", i+1)
		n := Node{Name: name, UID: types.UID(name), BootID: "boot", Zone: string(rune('a' + i%2)), Ready: true, WasReady: true, Selected: true, Cutover: &v1alpha1.NodeCutover{}}
		n.Cutover.Status.NodeUID, n.Cutover.Status.BootID, n.Cutover.Status.Role = n.UID, n.BootID, v1alpha1.RoleLegacy
		w.Nodes = append(w.Nodes, n)
	}
	return w
}

// TestARollKeepsToItsForecast runs whole rollouts and looks who got the slots, in which order.
func TestARollKeepsToItsForecast(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.Rollout){
		"one by one":        func(*v1alpha1.Rollout) {},
		"zone by zone":      func(r *v1alpha1.Rollout) { r.Order = v1alpha1.OrderZone },
		"three at once":     func(r *v1alpha1.Rollout) { r.MaxConcurrent, r.MaxUnavailable = 3, 3 },
		"with surge":        func(r *v1alpha1.Rollout) { r.Surge = true },
		"two of three fast": func(r *v1alpha1.Rollout) { r.MaxConcurrent, r.MaxUnavailable, r.Order = 3, 2, v1alpha1.OrderZone },
	} {
		t.Run(name, func(t *testing.T) {
			spec := baseSpec()
			change(&spec.Rollout)
			c := newToyCluster(7, spec)
			for range 1000 {
				if c.cutover.Status.Phase == v1alpha1.PhaseRollNodes {
					break
				}
				c.run(1)
			}
			waves, waiting := Waves(c.world())
			var want, got []string
			for _, w := range waves {
				want = append(want, w.Nodes...)
			}
			seen := map[types.UID]bool{}
			for i := 0; i < 3000 && c.cutover.Status.Phase == v1alpha1.PhaseRollNodes; i++ {
				for _, s := range c.cutover.Status.Slots {
					if !seen[s.NodeUID] {
						seen[s.NodeUID], got = true, append(got, s.Node)
					}
				}
				c.run(1)
			}
			if diff := cmp.Diff(want, got); diff != "" || len(got) != 7 || len(waiting) > 0 {
				t.Errorf("%v (-forecast +roll):\n%s", waiting, diff)
			}
		})
	}
}

// BenchmarkWaves forecasts a roll of 5,000 nodes one by one, the slowest way.
func BenchmarkWaves(b *testing.B) {
	w := toyWorld(5000)
	for b.Loop() {
		if waves, waiting := Waves(w); len(waves) != 5000 || len(waiting) != 0 {
			b.Fatal(len(waves), waiting)
		}
	}
}
