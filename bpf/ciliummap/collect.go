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
// pkg/maps/ipcache: MaxEntries). Held in memory they take about 200 MiB.
const MaxEntries = 1 << 20

// ErrTooLarge says that a map holds more than MaxEntries entries. Nothing of it is used: half of a map proves nothing.
var ErrTooLarge = errors.New("map holds more entries than are read")

// ErrUnstable says that a map was changed so fast that enumerating it kept starting over.
// The content is unknown; look again later.
var ErrUnstable = errors.New("map changed faster than it could be read")

const (
	// batchSize is entries per system call. Measured on LPM tries of 10k to 512k entries: 256 is nearly as good,
	// much larger buffers are slower.
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

// collector reads all of a map with keys K and values V, both plain byte arrays.
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
	spent   int
}

// batch is what one system call returned.
type batch[K, V any] struct {
	keys   []K
	values []V
}

func (c *collector[K, V]) run() error {
	err := c.batches()
	if errors.Is(err, ebpf.ErrNotSupported) {
		c.restart()
		c.stats.Batched = false
		return c.steps()
	}
	return err
}

// batches enumerates with BPF_MAP_LOOKUP_BATCH, and visits the entries once their number is known: growing a Go map by
// doubling costs as much as the kernel's part. Without CAP_BPF the library reports any failure of a batch as ErrNotSupported (its
// probe wants to create a map), which leads to the slow way: correct all the same.
func (c *collector[K, V]) batches() error {
	c.stats.Batched = true
	size := max(1, min(batchSize, int(c.stats.MaxEntries)))
	cursor := new(ebpf.MapBatchCursor)
	for {
		next := batch[K, V]{make([]K, size), make([]V, size)}
		n, err := c.src.BatchLookup(cursor, next.keys, next.values, nil)
		done := errors.Is(err, ebpf.ErrKeyNotExist)
		switch {
		case err == nil || done:
		case errors.Is(err, unix.EINTR):
			// Some kernels give up a batch when keys keep vanishing under it (generic_map_lookup_batch). What the
			// batch had is lost, and the cursor may have moved past it.
			n, cursor = 0, new(ebpf.MapBatchCursor)
			c.restart()
		case errors.Is(err, unix.ENOSPC) && size < min(int(c.stats.MaxEntries), maxBatchSize):
			// A hash bucket larger than the batch.
			n, cursor = 0, new(ebpf.MapBatchCursor)
			size *= 2
			c.restart()
		default:
			return fmt.Errorf("reading a batch of %s: %w", c.stats.Pin, err)
		}
		c.fetched = append(c.fetched, batch[K, V]{next.keys[:n], next.values[:n]})
		c.count += n
		if done || c.count > MaxEntries { // duplicates, or more than are read: visiting tells
			if err := c.visitFetched(); err != nil {
				return err
			}
		}
		if done {
			c.stats.Visited += n
			return nil
		}
		if err := c.spend(n); err != nil {
			return err
		}
	}
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

// steps enumerates key by key. A key that vanishes makes the next step start over: duplicates, no loss.
func (c *collector[K, V]) steps() error {
	var (
		key, next K
		value     V
		from      any // untyped nil asks for the first key
	)
	for {
		err := c.src.NextKey(from, &next)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the next key of %s: %w", c.stats.Pin, err)
		}
		key, from = next, &key
		err = c.src.Lookup(&key, &value)
		switch {
		case err == nil:
			if err := c.visit(&key, &value); err != nil {
				return err
			}
		case !errors.Is(err, ebpf.ErrKeyNotExist):
			return fmt.Errorf("reading an entry of %s: %w", c.stats.Pin, err)
		}
		if err := c.spend(1); err != nil {
			return err
		}
	}
}

func (c *collector[K, V]) restart() {
	c.stats.Restarts++
	c.fetched, c.count, c.begun = nil, 0, false
	c.reset(0)
}

// spend charges at least one for a system call, so that even calls that return nothing come to an end.
func (c *collector[K, V]) spend(n int) error {
	c.stats.Visited += n
	c.spent += max(n, 1)
	if limit := budgetFactor * max(int(c.stats.MaxEntries), 1); c.spent > limit {
		return fmt.Errorf("reading %s (max_entries %d): %d entries seen, %d restarts, and no end: %w; look again",
			c.stats.Pin, c.stats.MaxEntries, c.stats.Visited, c.stats.Restarts, ErrUnstable)
	}
	return nil
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
