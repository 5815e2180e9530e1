// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// MaxEntries is how many entries of one map are read, twice what any release of Cilium makes room for (512,000 in its ipcache,
// pkg/maps/ipcache: MaxEntries). Held in Go maps they take about 200 MiB.
const MaxEntries = 1 << 20

// ErrTooLarge says that a map holds more than MaxEntries entries. Nothing of it is used: half of a map proves nothing.
var ErrTooLarge = errors.New("map holds more entries than are read")

// ErrUnstable says that a map was changed so fast that enumerating it kept starting over.
// The content is unknown; look again later.
var ErrUnstable = errors.New("map changed faster than it could be read")

const (
	// batchSize is entries per system call. What the kernel takes for an entry does not depend on it: measured from 64 to 65,536, on LPM
	// tries of 100k and 512k entries.
	batchSize = 4096
	// maxBatchSize bounds what a hash bucket may make it grow to.
	maxBatchSize = 1 << 16
	// budgetFactor bounds a read to this many times max_entries, counting duplicates. One clean read needs at most
	// one; restarts under churn were seen to add less than one.
	budgetFactor = 4
)

// Stats tells how a map was read.
type Stats struct {
	// Pin is the file name of the pin.
	Pin string
	// MapID is the kernel's ID of the map that was pinned at the time of the read.
	MapID ebpf.MapID
	// MaxEntries is the map's capacity.
	MaxEntries uint32
	// Entries is the number of entries returned.
	Entries int
	// OtherClusters is the number of entries left out because they carry the ID of another cluster
	// (a mesh with overlapping pod CIDRs).
	OtherClusters int
	// Visited is the number of entries the kernel handed out, duplicates included.
	Visited int
	// Restarts is how often the read had to begin again.
	Restarts int
	// Batched is false if the kernel has no batched lookup for this type of map (LPM before 5.13).
	Batched bool
}

// source is the part of *ebpf.Map that a read uses.
type source interface {
	BatchLookup(cursor *ebpf.MapBatchCursor, keysOut, valuesOut any, opts *ebpf.BatchOptions) (int, error)
	NextKey(key, nextKeyOut any) error
	Lookup(key, valueOut any) error
}

// batch is what one system call returned.
type batch[K, V any] struct {
	keys   []K
	values []V
}

// reader enumerates a map with keys K and values V, both plain byte arrays.
type reader[K, V any] struct {
	src   source
	stats *Stats
	// take is given every batch, for good. Keys may come again, the later value is the newer one.
	take func(batch[K, V]) error
	// restart forgets what was taken, because the read begins again.
	restart func()

	spent int
}

func (r *reader[K, V]) run() error {
	err := r.batches()
	if errors.Is(err, ebpf.ErrNotSupported) {
		r.begin()
		r.stats.Batched = false
		return r.steps()
	}
	return err
}

// batches enumerates with BPF_MAP_LOOKUP_BATCH. Without CAP_BPF the library reports any failure of a batch as ErrNotSupported (its
// probe wants to create a map), which leads to the slow way: correct all the same.
func (r *reader[K, V]) batches() error {
	r.stats.Batched = true
	size := r.batchSize()
	cursor := new(ebpf.MapBatchCursor)
	for {
		next := batch[K, V]{make([]K, size), make([]V, size)}
		n, err := r.src.BatchLookup(cursor, next.keys, next.values, nil)
		done := errors.Is(err, ebpf.ErrKeyNotExist)
		switch {
		case err == nil || done:
		case errors.Is(err, unix.EINTR):
			// Some kernels give up a batch when keys keep vanishing under it (generic_map_lookup_batch). What the
			// batch had is lost, and the cursor may have moved past it.
			n, cursor = 0, new(ebpf.MapBatchCursor)
			r.begin()
		case errors.Is(err, unix.ENOSPC) && size < min(int(r.stats.MaxEntries), maxBatchSize):
			// A hash bucket larger than the batch.
			n, cursor = 0, new(ebpf.MapBatchCursor)
			size *= 2
			r.begin()
		default:
			return fmt.Errorf("reading a batch of %s: %w", r.stats.Pin, err)
		}
		if err := r.takeFirst(next, n); err != nil {
			return err
		}
		if done {
			r.stats.Visited += n
			return nil
		}
		if err := r.spend(n); err != nil {
			return err
		}
	}
}

// steps enumerates key by key. A key that vanishes makes the next step start over: duplicates, no loss.
func (r *reader[K, V]) steps() error {
	var (
		key  K
		from any // untyped nil asks for the first key
		size = r.batchSize()
		next = batch[K, V]{make([]K, size), make([]V, size)}
		n    int
	)
	for {
		err := r.src.NextKey(from, &next.keys[n])
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return r.takeFirst(next, n)
		}
		if err != nil {
			return fmt.Errorf("reading the next key of %s: %w", r.stats.Pin, err)
		}
		key, from = next.keys[n], &key
		err = r.src.Lookup(&key, &next.values[n])
		switch {
		case err == nil:
			n++
		case !errors.Is(err, ebpf.ErrKeyNotExist):
			return fmt.Errorf("reading an entry of %s: %w", r.stats.Pin, err)
		}
		if n == size {
			if err := r.takeFirst(next, n); err != nil {
				return err
			}
			next, n = batch[K, V]{make([]K, size), make([]V, size)}, 0
		}
		if err := r.spend(1); err != nil {
			return err
		}
	}
}

func (r *reader[K, V]) batchSize() int { return max(1, min(batchSize, int(r.stats.MaxEntries))) }

func (r *reader[K, V]) takeFirst(b batch[K, V], n int) error {
	if n == 0 {
		return nil
	}
	return r.take(batch[K, V]{b.keys[:n], b.values[:n]})
}

func (r *reader[K, V]) begin() {
	r.stats.Restarts++
	r.restart()
}

// spend charges at least one for a system call, so that even calls that return nothing come to an end.
func (r *reader[K, V]) spend(n int) error {
	r.stats.Visited += n
	r.spent += max(n, 1)
	if limit := budgetFactor * max(int(r.stats.MaxEntries), 1); r.spent > limit {
		return fmt.Errorf("reading %s (max_entries %d): %d entries seen, %d restarts, and no end: %w; look again",
			r.stats.Pin, r.stats.MaxEntries, r.stats.Visited, r.stats.Restarts, ErrUnstable)
	}
	return nil
}

// collector reads all of a map into Go maps. It visits the entries once their number is known: growing a Go map by doubling costs as
// much as the kernel's part.
type collector[K, V any] struct {
	src   source
	stats *Stats
	// visit takes one entry; it may see a key again, the later value is the newer one.
	visit func(*K, *V) error
	// reset forgets what was visited, because the read begins again, and makes room for n entries.
	reset func(n int)

	fetched []batch[K, V] // and not visited yet
	count   int           // of entries in fetched
	begun   bool          // something was visited since the last reset
}

func (c *collector[K, V]) run() error {
	r := reader[K, V]{src: c.src, stats: c.stats, take: c.take, restart: c.restart}
	if err := r.run(); err != nil {
		return err
	}
	return c.visitFetched()
}

func (c *collector[K, V]) take(b batch[K, V]) error {
	c.fetched, c.count = append(c.fetched, b), c.count+len(b.keys)
	if c.count > MaxEntries { // duplicates, or more than are read: visiting tells
		return c.visitFetched()
	}
	return nil
}

func (c *collector[K, V]) visitFetched() error {
	if !c.begun {
		c.reset(c.count)
		c.begun = true
	}
	for _, b := range c.fetched {
		for i := range b.keys {
			if err := c.visit(&b.keys[i], &b.values[i]); err != nil {
				return err
			}
		}
	}
	c.fetched, c.count = nil, 0
	return nil
}

func (c *collector[K, V]) restart() {
	c.fetched, c.count, c.begun = nil, 0, false
	c.reset(0)
}

// room says whether one more entry may be kept beside n.
func (s *Stats) room(n int) error {
	if n < MaxEntries {
		return nil
	}
	return fmt.Errorf("reading %s (max_entries %d): more than %d entries, and no release of Cilium has room for half of that: %w; see who fills it",
		s.Pin, s.MaxEntries, MaxEntries, ErrTooLarge)
}

// newStats describes a map before it is read.
func newStats(m *ebpf.Map, pin string) (Stats, error) {
	info, err := m.Info()
	if err != nil {
		return Stats{}, fmt.Errorf("reading the map info of %s: %w", pin, err)
	}
	id, _ := info.ID()
	return Stats{Pin: pin, MapID: id, MaxEntries: m.MaxEntries()}, nil
}
