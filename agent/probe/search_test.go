// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"slices"
	"testing"
)

// world is a path as it really is.
type world struct {
	size int // the largest packet that passes; below everything: nobody answers
	told int // what routers say of a larger one; 0: nothing
	lies bool
	late bool // answers come a round late
	lost map[int]bool
}

// hears plays the path, and counts the packets of each size.
func (w world) hears(sent *int) asker {
	answered, coming := map[int]bool{}, map[int]bool{}
	return func(sizes []int, patient bool) heard {
		h := heard{}
		if w.late {
			for size := range coming {
				answered[size] = true
			}
		}
		*sent += copies * len(sizes)
		for _, size := range sizes {
			switch {
			case size <= w.size && !w.lost[size] && (!w.late || patient):
				answered[size] = true
			case size <= w.size && !w.lost[size]:
				coming[size] = true
			}
			if size > w.size || w.lies {
				h.told = w.told
			}
		}
		h.answered = answered
		return h
	}
}

func TestSearch(t *testing.T) {
	for name, c := range map[string]struct {
		world
		want Found
		most int // packets that it may take
	}{
		"everything passes": {world{size: 9001}, Found{9001, Whole}, 4},
		"a router tells":    {world{size: 1400, told: 1400}, Found{1400, Told}, 8},
		"nobody tells":      {world{size: 1400}, Found{1400, Tried}, 300},
		"nobody tells, and only the least passes": {world{size: 576}, Found{576, Tried}, 300},
		"nobody tells, and one byte is too many":  {world{size: 9000}, Found{9000, Tried}, 300},
		"nobody answers":                          {world{size: 0}, Found{0, Silent}, 6},
		"a router tells too little":               {world{size: 1400, told: 1000}, Found{1400, Tried}, 300},
		"a router tells too much":                 {world{size: 1400, told: 1500}, Found{1400, Tried}, 300},
		"somebody invents a narrow path":          {world{size: 9001, told: 600, lies: true}, Found{9001, Whole}, 4},
		"a router tells nonsense":                 {world{size: 1400, told: 68}, Found{1400, Tried}, 300},
		"every answer is late":                    {world{size: 9001, late: true}, Found{9001, Whole}, 300},
		"late answers to a narrow path":           {world{size: 1400, told: 1400, late: true}, Found{1400, Tried}, 300},
		"the largest is lost and nothing else":    {world{size: 9001, lost: map[int]bool{9001: true}}, Found{9000, Tried}, 300},
	} {
		t.Run(name, func(t *testing.T) {
			sent := 0
			if got := search(least, 9001, c.hears(&sent)); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if sent > c.most {
				t.Errorf("%d packets, want %d at most", sent, c.most)
			}
		})
	}
}

// FuzzSearchIsRightOrSaysThatItIsNot: whatever a router invents, a path is never said to be another than it is.
func FuzzSearchIsRightOrSaysThatItIsNot(f *testing.F) {
	f.Add(1400, 1400, 9001, false)
	f.Add(1400, 900, 1500, true)
	f.Add(0, 1400, 576, true)
	f.Add(65000, 1400, 65507, true)
	f.Fuzz(func(t *testing.T, size, told, most int, lies bool) {
		if most < least || most > 65507+headers {
			t.Skip("no size that a datagram can have")
		}
		sent := 0
		got := search(least, most, world{size: size, told: told, lies: lies}.hears(&sent))
		want := min(size, most)
		if size < least {
			want = 0
		}
		if got.Size != want || got.How == Unclear || (got.How == Silent) != (want == 0) || (got.How == Whole) != (want == most) {
			t.Errorf("%+v of a path of %d, at most %d", got, size, most)
		}
		if sent > 400 {
			t.Errorf("%d packets", sent)
		}
	})
}

func TestALossyPathIsNotCalledNarrow(t *testing.T) {
	lost := map[int]bool{}
	for size := 3000; size < 9001; size += 2 { // what was lost in a round passes in the next
		lost[size] = true
	}
	w, sent := world{size: 9001}, 0
	passes := w.hears(&sent)
	round := 0
	got := search(least, 9001, func(sizes []int, patient bool) heard {
		round++
		if round == 1 {
			sizes = slices.DeleteFunc(slices.Clone(sizes), func(s int) bool { return s == 9001 })
		}
		return passes(sizes, patient)
	})
	if got != (Found{9001, Whole}) {
		t.Errorf("%+v: the last packet that was asked for had come", got)
	}
}

func TestChoose(t *testing.T) {
	var all []Candidate
	for i := range 300 {
		all = append(all, Candidate{fmt.Sprintf("node-%d", i), []string{"a", "b", "c"}[i%3]})
	}
	picked := map[string]int{}
	for _, self := range all {
		others := slices.DeleteFunc(slices.Clone(all), func(c Candidate) bool { return c == self })
		got := Choose(self.Name, others, 3)
		zones := map[string]bool{}
		for _, c := range got {
			picked[c.Name]++
			zones[c.Zone] = true
		}
		if len(got) != 3 || len(zones) != 3 {
			t.Errorf("%s asks %v", self.Name, got)
		}
		slices.Reverse(others)
		if again := Choose(self.Name, others, 3); !slices.Equal(got, again) {
			t.Errorf("%s asks %v and then %v", self.Name, got, again)
		}
		without := slices.DeleteFunc(others, func(c Candidate) bool { return c == got[2] })
		if again := Choose(self.Name, without, 3); !slices.Equal(got[:2], again[:2]) {
			t.Errorf("one node went and %s asks others: %v, before %v", self.Name, again, got)
		}
	}
	for name, n := range picked {
		if n > 15 {
			t.Errorf("%s is asked by %d of 300 nodes that ask three each", name, n)
		}
	}
	if got := Choose("n", all[:2], 3); len(got) != 2 {
		t.Errorf("of two: %v", got)
	}
}
