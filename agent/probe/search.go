// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package probe

// How the largest packet was found.
const (
	Whole   How = "whole"   // the largest that was wanted passes
	Told    How = "told"    // a router said what fits, and it is so
	Tried   How = "tried"   // nobody said anything: a black hole
	Silent  How = "silent"  // not even the smallest is answered
	Unclear How = "unclear" // answers contradict each other: packets are lost, or the path changes
)

// How is the way in which a size was found.
type How string

// Found is the size in bytes, IP header included, of the largest packet that passes; 0 for Silent and Unclear.
type Found struct {
	Size int
	How  How
}

// heard is what is known of a path: the sizes that were answered, and the smallest size that a router, or this node's own NIC,
// said would fit (0: nobody did).
type heard struct {
	answered map[int]bool
	told     int
}

// most is the largest size that was answered, 0 if none was.
func (h heard) most() int {
	out := 0
	for size := range h.answered {
		out = max(out, size)
	}
	return out
}

const (
	// sizes at once divide what is not known yet by 33: 8,400 bytes are searched in three rounds.
	sizes = 32
	// rounds bound what a path that changes all the time may cost.
	rounds = 6
)

// asker sends packets of these sizes, and returns what it has heard of the path by then. It waits until of every size something was
// heard, or for so long; patient, it waits longer, because what it does not hear will be taken for lost.
type asker func(sizes []int, patient bool) heard

// search finds the largest size from least to most that passes. A router's word is believed only if that size passes and one byte
// more does not; what comes late counts all the same.
func search(least, most int, ask asker) Found {
	h := ask([]int{least, most}, false)
	for range rounds {
		claim := h.told
		if h.answered[most] || claim < least || claim >= most {
			break
		}
		h = ask([]int{claim + 1, claim}, false) // its answer, if there is one, comes before the other
		if h.told < claim {
			continue // a narrower hop further on
		}
		if h.answered[claim] && h.most() == claim {
			return Found{claim, Told}
		}
		break // not so, or it is the way back that is narrow
	}
	if h.most() == 0 {
		h = ask([]int{least}, false)
	}
	switch {
	case h.answered[most]:
		return Found{most, Whole}
	case h.most() == 0:
		return Found{0, Silent}
	}
	return try(h, most, ask)
}

// try searches without anybody's help.
func try(h heard, most int, ask asker) Found {
	low, high := h.most(), most
	for range rounds {
		tried := between(low, high)
		if len(tried) == 0 {
			break
		}
		if low = max(low, ask(tried, false).most()); low >= high {
			high = most // what an earlier round took for lost was late
		}
		for _, size := range tried {
			if size > low {
				high = min(high, size)
			}
		}
	}
	h = ask([]int{low + 1, most}, true)
	switch {
	case h.answered[most]:
		return Found{most, Whole}
	case h.most() != low || high != low+1:
		return Found{0, Unclear}
	}
	return Found{low, Tried}
}

// between are sizes above low and below high, evenly spread: all of them if they are few.
func between(low, high int) []int {
	n := min(sizes, high-low-1)
	var out []int
	for i := 1; i <= n; i++ {
		out = append(out, low+(high-low)*i/(n+1))
	}
	return out
}
