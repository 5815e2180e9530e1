// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"net/netip"
	"slices"
)

// Path is how large a packet may be on the way to a node and back.
type Path struct {
	There, Back Found
	// Answers is how many packets were received from the node in order to find that.
	Answers int
}

// Measure asks the agent at an address. Most is the largest packet that is wanted, in bytes. Where nobody answers, There is Silent and
// nothing is known of either way. What the context leaves no time for is Unclear.
func Measure(ctx context.Context, to netip.AddrPort, keys Keys, most int) (Path, error) {
	if len(keys) == 0 {
		return Path{}, errors.New("probing " + to.String() + ": there is no key to sign with")
	}
	there, answers, err := one(ctx, to, keys, short, most)
	out := Path{There: there, Back: Found{How: Unclear}, Answers: answers}
	if err != nil || there.Size == 0 {
		return out, err
	}
	// What does not get there cannot come back, so the way back is known only up to that.
	out.Back, answers, err = one(ctx, to, keys, echo, there.Size)
	out.Answers += answers
	return out, err
}

// one finds one way, and says how many answers came.
func one(ctx context.Context, to netip.AddrPort, keys Keys, k kind, most int) (Found, int, error) {
	l, err := dial(to, keys, k)
	if err != nil {
		return Found{}, 0, err
	}
	found := search(min(least, most), most, l.ask(ctx))
	if ctx.Err() != nil {
		found = Found{How: Unclear}
	}
	return found, l.answers, l.close()
}

// Candidate is a node that may be asked.
type Candidate struct{ Name, Zone string }

// Choose picks some of the candidates for a node: always the same ones, others for every node, so that each is picked by about as many
// as it picks (rendezvous hashing), and a node that joins or goes changes nobody's choice but its own place. Zones take turns.
func Choose(self string, from []Candidate, n int) []Candidate {
	weigh := func(c Candidate) uint64 {
		h := fnv.New64a()
		h.Write([]byte(self))
		h.Write([]byte{0})
		h.Write([]byte(c.Name))
		x := h.Sum64() // FNV's high bits barely depend on the last bytes; so they are mixed (Murmur3's finalizer)
		x = (x ^ x>>33) * 0xff51afd7ed558ccd
		x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
		return x ^ x>>33
	}
	sorted := slices.Clone(from)
	slices.SortFunc(sorted, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(weigh(b), weigh(a)), cmp.Compare(a.Name, b.Name))
	})
	turn, turns := map[string]int{}, make(map[string]int, len(sorted))
	for _, c := range sorted {
		turns[c.Name] = turn[c.Zone]
		turn[c.Zone]++
	}
	slices.SortStableFunc(sorted, func(a, b Candidate) int { return cmp.Compare(turns[a.Name], turns[b.Name]) })
	return sorted[:min(n, len(sorted))]
}
