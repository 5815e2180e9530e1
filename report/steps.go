// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// stepTimes finds how long slots stayed in each step: from its entry to the next one of the same slot.
func stepTimes(entered []Entry) []StepTime {
	type stay struct {
		node string
		took time.Duration
	}
	stays := map[v1alpha1.Step][]stay{}
	entered = slices.Clone(entered)
	slices.SortStableFunc(entered, func(a, b Entry) int { return cmp.Or(cmp.Compare(a.Node, b.Node), a.At.Compare(b.At)) })
	for i := 1; i < len(entered); i++ {
		from, to := entered[i-1], entered[i]
		if from.Node != to.Node || from.Step == "" {
			continue
		}
		stays[from.Step] = append(stays[from.Step], stay{from.Node, to.At.Sub(from.At)})
	}
	var out []StepTime
	for _, step := range v1alpha1.Steps() {
		of := stays[step]
		if len(of) == 0 {
			continue
		}
		slices.SortFunc(of, func(a, b stay) int { return cmp.Compare(a.took, b.took) })
		last := of[len(of)-1]
		out = append(out, StepTime{Step: step, Slots: len(of), Median: of[(len(of)-1)/2].took, Longest: last.took, Slowest: last.node})
	}
	return out
}
