// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"math"
	"time"
)

// resolution of a histogram. An answer that counts took at most the limit, so
// plain equal buckets are few enough: 10,000 for a limit of one second.
const resolution = 100 * time.Microsecond

// histogram counts durations in buckets of resolution, and keeps the largest.
// The zero value is empty.
type histogram struct {
	buckets []uint64 // the i-th is (i*resolution, (i+1)*resolution]
	count   uint64
	max     time.Duration
}

func (h *histogram) add(d time.Duration) {
	i := int((max(d, 1) - 1) / resolution)
	if len(h.buckets) <= i {
		h.buckets = append(h.buckets, make([]uint64, i+1-len(h.buckets))...)
	}
	h.buckets[i]++
	h.count++
	h.max = max(h.max, d)
}

// quantile is a duration that at least the share q of those added do not
// exceed, rounded up to resolution but not above the largest; 0 without any.
func (h *histogram) quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := max(1, uint64(math.Ceil(q*float64(h.count))))
	var seen uint64
	for i, n := range h.buckets {
		if seen += n; seen >= rank {
			return min(time.Duration(i+1)*resolution, h.max)
		}
	}
	return h.max
}

func (h *histogram) latency() Latency {
	return Latency{P50: ms(h.quantile(0.5)), P99: ms(h.quantile(0.99)), Max: ms(h.max)}
}

// ms is d in milliseconds, to the microsecond.
func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
