// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Given is what a Decision gives away for good. What gives anything away is never decided on a cache alone.
type Given struct {
	// Granted are the nodes that get a slot, Drained those whose pods may be evicted from now on.
	Granted, Drained []types.UID
	// More says that it gives the VPC CNI, its nodes or a pod of Cilium away.
	More bool
}

// Gives returns what a Decision gives away.
func Gives(w *World, d Decision) Given {
	var g Given
	before := map[types.UID]v1alpha1.Step{}
	for _, s := range w.Cutover.Status.Slots {
		before[s.NodeUID] = s.Step
	}
	for _, s := range d.Status.Slots {
		switch step, had := before[s.NodeUID]; {
		case !had:
			g.Granted = append(g.Granted, s.NodeUID)
		case s.Step == v1alpha1.StepDrain && step != s.Step:
			g.Drained = append(g.Drained, s.NodeUID)
		}
	}
	for _, a := range d.Actions {
		switch a.(type) {
		case FenceDaemonSet, DeleteLegacy, DeleteCiliumPod:
			g.More = true
		}
	}
	return g
}

// Irreversible says whether a Decision gives anything away.
func Irreversible(w *World, d Decision) bool {
	g := Gives(w, d)
	return len(g.Granted) > 0 || len(g.Drained) > 0 || g.More
}

// Within says whether nothing is given away that another Decision does not give away too.
func (g Given) Within(other Given) bool {
	for _, uid := range g.Granted {
		if !slices.Contains(other.Granted, uid) {
			return false
		}
	}
	for _, uid := range g.Drained {
		if !slices.Contains(other.Drained, uid) {
			return false
		}
	}
	return other.More || !g.More
}
