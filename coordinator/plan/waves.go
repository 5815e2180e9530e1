// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Wave is a set of nodes that are in slots at once.
type Wave struct {
	Nodes []string
	// Full says which limit kept the next node from being one of them; empty in the last wave.
	Full v1alpha1.Waiting
}

// Waves forecasts in which order a roll hands out slots, by the same rules that hand them out: in a World in which every
// agent's answer allows a drain, no gate is closed, every slot ends well, and the slots of a wave end together. Slots that are
// there are taken for ended. It also returns the nodes that would never get a slot, and why.
func Waves(w *World) ([]Wave, []v1alpha1.Waiting) {
	cutover := w.Cutover.DeepCopy()
	taken := parts(cutover.Status.Slots)
	cutover.Status.Slots = nil
	world := *w
	world.Cutover = cutover
	d := &decider{w: &world, spec: &cutover.Spec, status: cutover.Status}
	next := slices.DeleteFunc(d.candidates(), func(n *Node) bool { return taken[n.UID] })
	out, example := d.unavailable() // a node that had a slot is not among them afterwards, as it was not before
	var waves []Wave
	for {
		wave, rest, waiting := d.wave(next, out, example)
		if len(wave.Nodes) == 0 {
			return waves, waiting
		}
		waves, next = append(waves, wave), rest
		d.status.Rolled += int32(len(wave.Nodes))
		d.status.Slots = nil
	}
}

// wave hands out slots to the first of the nodes that may have one, as far as the limits allow, and returns the others, and
// why those that were looked at have to wait.
func (d *decider) wave(next []*Node, out int, example string) (wave Wave, rest []*Node, waiting []v1alpha1.Waiting) {
	mixed := d.anyMixed(next)
	for i, n := range next {
		reason, message := d.unfit(n, next[i:], mixed)
		if reason == "" {
			reason, message = d.full(n, out, example)
			if reason != "" && wave.Full.Reason == "" {
				wave.Full = v1alpha1.Waiting{Node: n.Name, Reason: reason, Message: message}
			}
		}
		if reason == "" {
			d.status.Slots = append(d.status.Slots, v1alpha1.Slot{NodeUID: n.UID, Node: n.Name, Zone: n.Zone})
			wave.Nodes = append(wave.Nodes, n.Name)
			out, example = out+1, n.Name
			continue
		}
		rest = append(rest, n)
		waiting = append(waiting, v1alpha1.Waiting{Node: n.Name, Reason: reason, Message: message})
		if len(wave.Nodes) > 0 && reason != v1alpha1.ZoneSlotsTaken && wave.Full.Reason != "" { // nobody else gets one either
			return wave, append(rest, next[i+1:]...), waiting
		}
	}
	return wave, rest, waiting
}
