// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// bigWorld is a roll of many nodes with slots under way, and all others waiting for one.
func bigWorld(nodes, slots int) *World {
	spec := baseSpec()
	spec.Rollout.Canary = nil
	spec.Rollout.MaxConcurrent, spec.Rollout.MaxUnavailable = int32(slots)+1, int32(slots)
	c := newToyCluster(nodes, spec)
	for c.cutover.Status.Phase != v1alpha1.PhaseRollNodes || len(c.cutover.Status.Slots) == 0 {
		c.run(1)
	}
	w := c.world()
	first := w.Cutover.Status.Slots[0]
	for i := len(w.Cutover.Status.Slots); i < slots; i++ {
		s := first
		n := &w.Nodes[len(w.Nodes)-1-i]
		s.Node, s.NodeUID, s.Step = n.Name, n.UID, v1alpha1.StepJoin
		w.Cutover.Status.Slots = append(w.Cutover.Status.Slots, s)
		n.UID = types.UID(fmt.Sprint(n.UID, "-gone"))
	}
	return w
}

// BenchmarkDecide is one Decision about a cluster of many nodes.
func BenchmarkDecide(b *testing.B) {
	for _, size := range []struct{ nodes, slots int }{{500, 10}, {5000, 10}, {5000, 64}} {
		b.Run(fmt.Sprintf("nodes=%d/slots=%d", size.nodes, size.slots), func(b *testing.B) {
			w := bigWorld(size.nodes, size.slots)
			b.ReportAllocs()
			for b.Loop() {
				Decide(w)
			}
		})
	}
}
