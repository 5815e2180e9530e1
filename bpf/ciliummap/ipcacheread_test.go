// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// crowded is one of few prefixes that cover one another often, of either family and of three clusters.
func crowded(kind, a, b, bits byte) IPCacheKey {
	addr, width := netip.AddrFrom4([4]byte{10, a, b, a}), 33
	if kind&1 != 0 {
		addr, width = netip.AddrFrom16([16]byte{0: 0xfd, 7: a, 8: b, 15: a}), 129
	}
	return IPCacheKey{netip.PrefixFrom(addr, int(bits)%width).Masked(), uint16(kind&6) << 7} // 0, 256, 512, 768
}

// TestTheKernelEnumeratesInTheOrderThatIsSearched: else each read would be sorted, which takes as long again.
func TestTheKernelEnumeratesInTheOrderThatIsSearched(t *testing.T) {
	m := pin(t, globals(t), IPCachePin, ipcacheLayout(), 512000)
	want := map[netip.Prefix]RemoteEndpoint{}
	for i := range 20_000 {
		n := rand.Uint32()
		k := crowded(byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
		_, e := remotePod(i)
		put(t, m, ipcacheKeyBytes(k), remoteEndpointBytes(e))
		if k.ClusterID == 0 {
			want[k.Prefix] = e
		}
	}
	var table ipcacheTable
	stats := Stats{Pin: IPCachePin, MaxEntries: 512000}
	r := reader[[24]byte, [24]byte]{src: m, stats: &stats, take: func(b ipcacheBatch) error {
		table.add(b)
		return table.judge(b)
	}}
	if err := r.run(); err != nil || table.unsorted || table.count != stats.Visited {
		t.Fatalf("%d entries of %+v, out of order: %t, %v", table.count, stats, table.unsorted, err)
	}
	cache, others := table.finish()
	if others == 0 || cache.Len()+others != stats.Visited || !maps.Equal(maps.Collect(cache.All()), want) {
		t.Errorf("%d entries and %d of other clusters, of %d", cache.Len(), others, stats.Visited)
	}
	for p, e := range want {
		if got, ok := cache.Get(p); !ok || got != e {
			t.Fatalf("%s: %+v (there: %t), want %+v", p, got, ok, e)
		}
	}
}

func TestAnIPCacheAnswersForExactlyThePrefix(t *testing.T) {
	node, node6 := netip.MustParseAddr("172.18.0.12"), netip.MustParseAddr("fd00::b")
	entries := map[netip.Prefix]RemoteEndpoint{
		mustPrefix("0.0.0.0/0"):     {Identity: IdentityWorld},
		mustPrefix("10.244.1.0/24"): {Identity: IdentityWorld, Tunnel: node, EncryptKey: 3, Flags: RemoteHasTunnel | RemoteSkipTunnel},
		mustPrefix("10.244.1.5/32"): {Identity: IdentityHealth, Tunnel: node, Flags: RemoteHasTunnel},
		mustPrefix("fd00:1::/64"):   {Identity: 272, Tunnel: node6, Flags: RemoteHasTunnel | RemoteIPv6Tunnel},
	}
	cache := NewIPCache(entries)
	if got := maps.Collect(cache.All()); !maps.Equal(got, entries) || cache.Len() != len(entries) {
		t.Errorf("%v, want %v", got, entries)
	}
	if got, want := cache.Tunnels(), []netip.Addr{node, node6}; !slices.Equal(got, want) {
		t.Errorf("tunnels %v, want %v", got, want)
	}
	for p, want := range entries {
		if e, ok := cache.Get(p); !ok || e != want {
			t.Errorf("%s: %+v, %t", p, e, ok)
		}
	}
	for _, p := range []netip.Prefix{
		{}, mustPrefix("10.244.1.7/32"), mustPrefix("10.244.0.0/16"), mustPrefix("10.244.1.0/25"), mustPrefix("255.255.255.255/32"),
		mustPrefix("::/0"), mustPrefix("fd00:1::/65"), mustPrefix("ffff::/16"), netip.PrefixFrom(netip.MustParseAddr("10.244.1.5"), 24),
	} {
		if e, ok := cache.Get(p); ok {
			t.Errorf("%s, which is not there: %+v", p, e)
		}
	}
	if e, ok := (IPCache{}).Get(mustPrefix("0.0.0.0/0")); ok || (IPCache{}).Len() != 0 {
		t.Errorf("of nothing: %+v", e)
	}
}

// FuzzIPCacheTable reads entries in any order, any of them any number of times, and holds the result against a Go map.
func FuzzIPCacheTable(f *testing.F) {
	f.Add([]byte{0, 1, 1, 24, 0, 1, 1, 32, 0, 1, 0, 16})             // as they lie on a line
	f.Add([]byte{0, 1, 1, 24, 8, 2, 2, 32, 0, 1, 1, 24})             // the kernel starts over behind a batch
	f.Add([]byte{1, 1, 1, 64, 2, 1, 1, 24, 4, 1, 1, 24, 0, 0, 0, 0}) // other clusters, IPv6, everything
	f.Fuzz(func(t *testing.T, ops []byte) {
		var (
			table ipcacheTable
			b     ipcacheBatch
			want  = map[IPCacheKey]RemoteEndpoint{}
		)
		flush := func() {
			if err := table.judge(b); err != nil {
				t.Fatal(err)
			}
			table.add(b)
			b = ipcacheBatch{}
		}
		for ; len(ops) >= 4; ops = ops[4:] {
			k := crowded(ops[0], ops[1], ops[2], ops[3])
			e := RemoteEndpoint{Identity: uint32(len(ops)), EncryptKey: ops[0]}
			switch {
			case ops[0]&16 != 0:
				e.Tunnel, e.Flags = netip.AddrFrom4([4]byte{172, 18, 0, ops[1]}), RemoteHasTunnel
			case ops[0]&32 != 0:
				e.Tunnel, e.Flags = netip.AddrFrom16([16]byte{172, 18, 0, ops[1]}), RemoteHasTunnel|RemoteIPv6Tunnel
			}
			want[k] = e
			b.keys, b.values = append(b.keys, ipcacheKeyBytes(k)), append(b.values, remoteEndpointBytes(e))
			if ops[0]&8 != 0 {
				flush()
			}
		}
		flush()
		cache, others := table.finish()
		ends, own := map[netip.Addr]bool{}, 0
		for k, e := range want {
			if k.ClusterID != 0 {
				continue
			}
			own++
			if got, ok := cache.Get(k.Prefix); !ok || got != e {
				t.Errorf("%s: %+v (there: %t), want %+v", k.Prefix, got, ok, e)
			}
			if e.Tunnel.IsValid() {
				ends[e.Tunnel] = true
			}
		}
		if cache.Len() != own || others != len(want)-own || len(maps.Collect(cache.All())) != own {
			t.Errorf("%d entries and %d of other clusters; want %d and %d", cache.Len(), others, own, len(want)-own)
		}
		if got := slices.SortedFunc(maps.Keys(ends), netip.Addr.Compare); !slices.Equal(cache.Tunnels(), got) {
			t.Errorf("tunnels %v, want %v", cache.Tunnels(), got)
		}
	})
}
