// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantilesAgreeWithSortingToTheResolution(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 99, 100, 101, 5000} {
		var h histogram
		var all []time.Duration
		for range n {
			d := time.Duration(random.ExpFloat64() * float64(20*time.Millisecond))
			h.add(d)
			all = append(all, d)
		}
		slices.Sort(all)
		for _, q := range []float64{0.5, 0.99, 1} {
			rank := max(1, int(float64(n)*q+0.9999999))
			exact := all[rank-1]
			if got := h.quantile(q); got < exact || got > exact+resolution {
				t.Errorf("n=%d q=%g: %s, exactly %s", n, q, got, exact)
			}
		}
		if h.max != all[n-1] {
			t.Errorf("n=%d: max %s, want %s", n, h.max, all[n-1])
		}
	}
	var empty histogram
	if got := empty.latency(); got != (Latency{}) {
		t.Errorf("an empty histogram says %+v", got)
	}
}
