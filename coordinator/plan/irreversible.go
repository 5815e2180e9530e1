// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

// Irreversible says whether a Decision gives something away for good: a new slot, the VPC CNI's nodes, or the VPC CNI. Such
// a Decision is taken on facts read from the API server, never on a cache's.
func Irreversible(w *World, d Decision) bool {
	before := map[string]bool{}
	for _, s := range w.Cutover.Status.Slots {
		before[string(s.NodeUID)] = true
	}
	for _, s := range d.Status.Slots {
		if !before[string(s.NodeUID)] {
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
