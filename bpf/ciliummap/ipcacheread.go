// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sort"

	"github.com/cilium/ebpf"
)

// IPCache is what an ipcache said of this node's own cluster. The zero value is empty. Nothing changes it, so it may be shared.
//
// It keeps the bytes that were read, each of them judged, in the kernel's order, which is one that can be searched: 48 bytes an entry,
// and no pointer for the garbage collector to follow.
type IPCache struct {
	batches []ipcacheBatch // in order, no place twice, none empty
	entries int
	tunnels []netip.Addr
}

type ipcacheBatch = batch[[24]byte, [24]byte]

// NewIPCache is what reading a map with these entries gives: for entries from elsewhere than a kernel, each with a valid prefix, masked.
// The flags of an entry's tunnel follow from the tunnel.
func NewIPCache(entries map[netip.Prefix]RemoteEndpoint) IPCache {
	t := ipcacheTable{unsorted: true}
	var b ipcacheBatch
	for p, e := range entries {
		b.keys, b.values = append(b.keys, encodeIPCacheKey(p)), append(b.values, encodeRemoteEndpoint(e))
	}
	t.add(b)
	cache, _ := t.finish()
	return cache
}

// Len is the number of entries.
func (c IPCache) Len() int { return c.entries }

// Tunnels are the nodes behind which any prefix lies, each once, in order. They must not be changed.
func (c IPCache) Tunnels() []netip.Addr { return c.tunnels }

// Get returns the entry of exactly this prefix. A node's pod CIDR has that node's address in Tunnel.
func (c IPCache) Get(p netip.Prefix) (e RemoteEndpoint, ok bool) {
	if !p.IsValid() || p != p.Masked() {
		return RemoteEndpoint{}, false
	}
	key := encodeIPCacheKey(p)
	want := placeOf(&key)
	reached := func(k *[24]byte) bool { return placeOf(k).compare(want) >= 0 }
	i := sort.Search(len(c.batches), func(i int) bool { return reached(&c.batches[i].keys[len(c.batches[i].keys)-1]) })
	if i == len(c.batches) {
		return RemoteEndpoint{}, false
	}
	b := c.batches[i]
	j := sort.Search(len(b.keys), func(j int) bool { return reached(&b.keys[j]) })
	if b.keys[j] != key {
		return RemoteEndpoint{}, false
	}
	return remoteEndpointOf(&b.values[j]), true
}

// All returns the entries, prefixes after those that they cover.
func (c IPCache) All() iter.Seq2[netip.Prefix, RemoteEndpoint] {
	return func(yield func(netip.Prefix, RemoteEndpoint) bool) {
		for _, b := range c.batches {
			for i := range b.keys {
				if !yield(ipcacheKeyOf(&b.keys[i]).Prefix, remoteEndpointOf(&b.values[i])) {
					return
				}
			}
		}
	}
}

// ipcacheTable is an IPCache that is being read. As long as every key comes after the one before it there is no duplicate among them.
// When the kernel starts over, one comes that does not: then all are sorted, and the newest of each key is kept.
type ipcacheTable struct {
	batches  []ipcacheBatch
	count    int   // of entries in batches
	last     place // of the last of them
	unsorted bool
}

// judge says what is wrong with a batch, and whether it continues the order.
func (t *ipcacheTable) judge(b ipcacheBatch) error {
	for i := range b.keys {
		if problem := wrongIPCacheKey(&b.keys[i]); problem != "" {
			return contradiction("ipcache_key", b.keys[i][:], problem)
		}
		if problem := wrongRemoteEndpoint(&b.values[i]); problem != "" {
			return contradiction("remote_endpoint_info", b.values[i][:], problem)
		}
		p := placeOf(&b.keys[i])
		if p.compare(t.last) <= 0 {
			t.unsorted = true
		}
		t.last = p
	}
	return nil
}

func (t *ipcacheTable) add(b ipcacheBatch) {
	if len(b.keys) > 0 {
		t.batches, t.count = append(t.batches, b), t.count+len(b.keys)
	}
}

// sort puts the entries in order, and of those with the same key keeps the one that was read last.
func (t *ipcacheTable) sort() {
	if !t.unsorted {
		return
	}
	type entry struct{ key, value [24]byte }
	entries := make([]entry, 0, t.count)
	for _, b := range t.batches {
		for i := range b.keys {
			entries = append(entries, entry{b.keys[i], b.values[i]})
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return placeOf(&a.key).compare(placeOf(&b.key)) })
	var sorted ipcacheBatch
	for i, e := range entries {
		if i+1 == len(entries) || entries[i+1].key != e.key {
			sorted.keys, sorted.values = append(sorted.keys, e.key), append(sorted.values, e.value)
		}
	}
	*t = ipcacheTable{}
	if t.add(sorted); t.count > 0 {
		t.last = placeOf(&sorted.keys[t.count-1])
	}
}

// finish also says how many entries belong to other clusters of a mesh. They stand behind those of the own one.
func (t *ipcacheTable) finish() (c IPCache, others int) {
	t.sort()
	for _, b := range t.batches {
		own := sort.Search(len(b.keys), func(i int) bool { return !placeOf(&b.keys[i]).ownCluster() })
		others += len(b.keys) - own
		if own > 0 {
			c.batches, c.entries = append(c.batches, ipcacheBatch{b.keys[:own], b.values[:own]}), c.entries+own
		}
	}
	c.tunnels = tunnels(c.batches)
	return c, others
}

// tunnels are the tunnel endpoints in order, each once. Most entries have that of the entry before.
func tunnels(batches []ipcacheBatch) []netip.Addr {
	const family = byte(RemoteHasTunnel | RemoteIPv6Tunnel)
	all := map[netip.Addr]struct{}{}
	var last [24]byte // of no tunnel
	for _, b := range batches {
		for _, v := range b.values {
			if [16]byte(v[4:]) == [16]byte(last[4:]) && v[23]&family == last[23]&family {
				continue
			}
			last = v
			if a := tunnelOf(&v); a.IsValid() {
				all[a] = struct{}{}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(all), netip.Addr.Compare)
}

// ReadIPCache reads the whole ipcache of this node's own cluster. globalsDir is <bpffs>/tc/globals.
func ReadIPCache(globalsDir string) (IPCache, Stats, error) {
	m, pin, err := openIPCache(globalsDir)
	if err != nil {
		return IPCache{}, Stats{Pin: pin}, err
	}
	defer m.Close()
	stats, err := newStats(m, pin)
	if err != nil {
		return IPCache{}, stats, err
	}
	cache, err := collectIPCache(m, &stats)
	return cache, stats, err
}

func collectIPCache(src source, stats *Stats) (IPCache, error) {
	var t ipcacheTable
	r := reader[[24]byte, [24]byte]{
		src:     src,
		stats:   stats,
		restart: func() { t = ipcacheTable{} },
		take: func(b ipcacheBatch) error {
			if err := t.judge(b); err != nil {
				return fmt.Errorf("reading %s: %w", stats.Pin, err)
			}
			t.add(b)
			if t.unsorted && t.count <= 2*MaxEntries { // with duplicates, as far as is known
				return nil
			}
			t.sort()
			return stats.room(t.count - 1)
		},
	}
	if err := r.run(); err != nil {
		return IPCache{}, err
	}
	cache, others := t.finish()
	if err := stats.room(cache.Len() + others - 1); err != nil {
		return IPCache{}, err
	}
	stats.Entries, stats.OtherClusters = cache.Len(), others
	return cache, nil
}

// LookupIPCache asks for single prefixes: about 1 to 4 us each whatever the size of the map, so cheaper than
// ReadIPCache up to a quarter of the entries. The answer to a prefix is the entry of the longest prefix that
// covers all of it, as the datapath would find it: to know that the entry itself exists, compare
// Identity and Tunnel with what it must hold, or use ReadIPCache. Prefixes that nothing covers are absent.
func LookupIPCache(globalsDir string, prefixes []netip.Prefix) (map[netip.Prefix]RemoteEndpoint, error) {
	m, pin, err := openIPCache(globalsDir)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	found := make(map[netip.Prefix]RemoteEndpoint, len(prefixes))
	for _, p := range prefixes {
		if !p.IsValid() {
			return nil, fmt.Errorf("looking up in %s: %q is not a prefix", pin, p)
		}
		key := encodeIPCacheKey(p)
		var value [24]byte
		err := m.Lookup(&key, &value)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking up %s in %s: %w", p, pin, err)
		}
		if found[p], err = decodeRemoteEndpoint(value[:]); err != nil {
			return nil, fmt.Errorf("looking up %s in %s: %w", p, pin, err)
		}
	}
	return found, nil
}
