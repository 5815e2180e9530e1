// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// pool is the cluster's range of pod addresses, cut into slices of mask bits.
type pool struct {
	cidr netip.Prefix
	mask int
}

func parsePool(cidr string, mask int) (pool, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return pool{}, fmt.Errorf("reading cluster-pool-ipv4-cidr: %w", err)
	}
	if !prefix.Addr().Is4() || mask < prefix.Bits() || mask > 30 {
		return pool{}, fmt.Errorf("reading cluster-pool-ipv4-mask-size %d: want an IPv4 pool and a mask from /%d (the pool %s) to /30", mask, prefix.Bits(), prefix)
	}
	return pool{cidr: prefix.Masked(), mask: mask}, nil
}

// slice returns the nth slice of the pool.
func (p pool) slice(n int) netip.Prefix {
	first := p.cidr.Addr().As4()
	value := binary.BigEndian.Uint32(first[:]) + uint32(n)<<(32-p.mask)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, value))), p.mask)
}

func (p pool) count() int { return 1 << (p.mask - p.cidr.Bits()) }

// member is what the operator looks at in a CiliumNode.
type member struct {
	name    string
	created time.Time
	slices  []netip.Prefix
}

// assignment gives a node a slice.
type assignment struct {
	name  string
	slice netip.Prefix
}

// assign gives every member without a slice a free one, in order of arrival, going round the pool
// from after so that a slice just freed is used last. It returns how far it went. What does not fit
// stays without; full says so.
func assign(p pool, members []member, after int) (given []assignment, last int, full bool) {
	used := map[netip.Prefix]bool{}
	var waiting []member
	for _, m := range members {
		if len(m.slices) == 0 {
			waiting = append(waiting, m)
		}
		for _, s := range m.slices {
			used[s.Masked()] = true
		}
	}
	slices.SortFunc(waiting, func(a, b member) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.name, b.name))
	})
	for _, m := range waiting {
		found := false
		for i := range p.count() {
			n := (after + i) % p.count()
			if s := p.slice(n); !used[s] {
				used[s], found, after = true, true, n+1
				given = append(given, assignment{m.name, s})
				break
			}
		}
		full = full || !found
	}
	return given, after, full
}
