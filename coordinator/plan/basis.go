// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Irreversible says whether a Decision gives something away for good: a new slot, a node's pods, the VPC CNI's nodes, or the
// VPC CNI. Such a Decision is taken on facts read from the API server, never on a cache's.
func Irreversible(w *World, d Decision) bool {
	before := map[types.UID]v1alpha1.Step{}
	for _, s := range w.Cutover.Status.Slots {
		before[s.NodeUID] = s.Step
	}
	for _, s := range d.Status.Slots {
		if step, had := before[s.NodeUID]; !had || (s.Step == v1alpha1.StepDrain && step != s.Step) {
			return true
		}
	}
	for _, a := range d.Actions {
		switch a.(type) {
		case FenceDaemonSet, DeleteLegacy, DeleteCiliumPod:
			return true
		}
	}
	return false
}
