// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// fillIPCache makes an ipcache with remote pods 0..n-1.
func fillIPCache(tb testing.TB, dir string, n int, maxEntries uint32) *ebpf.Map {
	tb.Helper()
	m := pin(tb, dir, IPCachePin, ipcacheLayout(), maxEntries)
	keys, values := make([][24]byte, n), make([][24]byte, n)
	for i := range n {
		p, e := remotePod(i)
		keys[i], values[i] = ipcacheKeyBytes(IPCacheKey{Prefix: p}), remoteEndpointBytes(e)
	}
	if _, err := m.BatchUpdate(keys, values, nil); err != nil {
		tb.Fatal(err)
	}
	return m
}

func fillEndpoints(tb testing.TB, dir string, n int, maxEntries uint32) *ebpf.Map {
	tb.Helper()
	m := pin(tb, dir, EndpointsPin, endpointsLayout(), maxEntries)
	keys, values := make([][20]byte, n), make([][48]byte, n)
	for i := range n {
		addr, e := localPod(i)
		keys[i], values[i] = endpointKeyBytes(EndpointKey{Addr: addr}), endpointBytes(e)
	}
	if _, err := m.BatchUpdate(keys, values, nil); err != nil {
		tb.Fatal(err)
	}
	return m
}

func read(src source, maxEntries uint32) (map[netip.Prefix]RemoteEndpoint, Stats, error) {
	stats := Stats{Pin: IPCachePin, MaxEntries: maxEntries}
	cache, err := collectIPCache(src, &stats)
	if err != nil && cache.Len() == 0 {
		return nil, stats, err
	}
	got := maps.Collect(cache.All())
	if len(got) != cache.Len() {
		err = errors.Join(err, fmt.Errorf("%d entries, %d of them different ones", cache.Len(), len(got)))
	}
	return got, stats, err
}

// checkStable says which of the pods first..first+n-1 are missing or wrong.
func checkStable(got map[netip.Prefix]RemoteEndpoint, first, n int) error {
	for i := first; i < first+n; i++ {
		p, want := remotePod(i)
		if e, ok := got[p]; !ok || e != want {
			return fmt.Errorf("%s: got %+v (there: %v), want %+v", p, e, ok, want)
		}
	}
	return nil
}

// noBatch is a kernel without batched lookups for this type of map.
type noBatch struct{ *ebpf.Map }

func (noBatch) BatchLookup(*ebpf.MapBatchCursor, any, any, *ebpf.BatchOptions) (int, error) {
	return 0, fmt.Errorf("batch: %w", ebpf.ErrNotSupported)
}

func TestReadingWithoutBatchesReturnsTheSame(t *testing.T) {
	const n = 10_000
	m := fillIPCache(t, globals(t), n, 512000)
	got, stats, err := read(noBatch{m}, 512000)
	if err != nil || len(got) != n || stats.Batched || stats.Visited != n {
		t.Fatalf("%d entries, %+v, %v", len(got), stats, err)
	}
	if err := checkStable(got, 0, n); err != nil {
		t.Error(err)
	}
}

// cursorEater deletes the key an LPM enumeration stands on, so that the kernel starts over without a word.
type cursorEater struct {
	*ebpf.Map
	batches   int // how many cursors to eat
	giveBack  bool
	eaten     *[24]byte
	eatenKeys map[[24]byte]bool
}

func (c *cursorEater) BatchLookup(cursor *ebpf.MapBatchCursor, keysOut, valuesOut any, opts *ebpf.BatchOptions) (int, error) {
	n, err := c.Map.BatchLookup(cursor, keysOut, valuesOut, opts)
	if c.eaten != nil && c.giveBack {
		if err := c.Put(c.eaten, make([]byte, 24)); err != nil {
			return 0, err
		}
		c.eaten = nil
	}
	if err == nil && c.batches != 0 && n > 0 {
		c.batches--
		key := keysOut.([][24]byte)[n-1]
		if err := c.Delete(&key); err != nil {
			return 0, err
		}
		c.eaten = &key
		c.eatenKeys[key] = true
	}
	return n, err
}

func TestSilentRestartsGiveNoDuplicateAndLoseNothing(t *testing.T) {
	const n = 20_000
	eater := &cursorEater{Map: fillIPCache(t, globals(t), n, 512000), batches: 5, eatenKeys: map[[24]byte]bool{}}
	got, stats, err := read(eater, 512000)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Visited <= n {
		t.Errorf("%d entries visited: the kernel did not start over, so this test shows nothing", stats.Visited)
	}
	if stats.Entries != len(got) || len(got) > n {
		t.Errorf("%d entries, stats say %d", len(got), stats.Entries)
	}
	for i := range n {
		p, want := remotePod(i)
		if eater.eatenKeys[ipcacheKeyBytes(IPCacheKey{Prefix: p})] {
			continue
		}
		if got[p] != want {
			t.Fatalf("%s: got %+v, want %+v", p, got[p], want)
		}
	}
}

func TestEndlessRestartsEndAsUnstable(t *testing.T) {
	const n, maxEntries = 10_000, 12_000
	m := fillIPCache(t, globals(t), n, maxEntries)
	got, stats, err := read(&cursorEater{Map: m, batches: -1, giveBack: true, eatenKeys: map[[24]byte]bool{}}, maxEntries)
	if !errors.Is(err, ErrUnstable) || got != nil {
		t.Fatalf("%d entries, %v; want ErrUnstable", len(got), err)
	}
	if limit := budgetFactor*maxEntries + batchSize; stats.Visited > limit {
		t.Errorf("visited %d entries, more than %d", stats.Visited, limit)
	}
}

// script answers BatchLookup from a list of errors, then from the map.
type script struct {
	*ebpf.Map
	errs  []error
	sizes []int
}

func (s *script) BatchLookup(cursor *ebpf.MapBatchCursor, keysOut, valuesOut any, opts *ebpf.BatchOptions) (int, error) {
	s.sizes = append(s.sizes, len(keysOut.([][24]byte)))
	n, err := s.Map.BatchLookup(cursor, keysOut, valuesOut, opts)
	if len(s.errs) > 0 {
		scripted := s.errs[0]
		s.errs = s.errs[1:]
		if scripted != nil {
			return 0, scripted // after the cursor has moved, as the kernel does
		}
	}
	return n, err
}

func TestFailedBatchesStartOver(t *testing.T) {
	const n = 10_000
	m := fillIPCache(t, globals(t), n, 512000)
	for name, tc := range map[string]struct {
		errs     []error
		restarts int
		grows    bool
		batched  bool
	}{
		"interrupted at first":          {[]error{unix.EINTR}, 1, false, true},
		"interrupted in the middle":     {[]error{nil, unix.EINTR, nil, unix.EINTR}, 2, false, true},
		"bucket larger than the batch":  {[]error{unix.ENOSPC}, 1, true, true},
		"not supported in the middle":   {[]error{nil, ebpf.ErrNotSupported}, 1, false, false},
		"interrupted and not supported": {[]error{nil, unix.EINTR, ebpf.ErrNotSupported}, 2, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{Map: m, errs: tc.errs}
			got, stats, err := read(s, 512000)
			if err != nil {
				t.Fatal(err)
			}
			if err := checkStable(got, 0, n); err != nil || len(got) != n {
				t.Errorf("%d entries, %v", len(got), err)
			}
			if stats.Restarts != tc.restarts || stats.Batched != tc.batched {
				t.Errorf("stats = %+v", stats)
			}
			if grew := s.sizes[len(s.sizes)-1] > batchSize; grew != tc.grows {
				t.Errorf("batch sizes %v", s.sizes)
			}
		})
	}
	t.Run("interrupted for ever", func(t *testing.T) {
		if _, _, err := read(alwaysInterrupted{m}, 16); !errors.Is(err, ErrUnstable) {
			t.Errorf("%v, want ErrUnstable", err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		got, _, err := read(&script{Map: m, errs: []error{nil, unix.EPERM}}, 512000)
		if !errors.Is(err, unix.EPERM) || got != nil {
			t.Errorf("%d entries, %v; want EPERM and no half of a map", len(got), err)
		}
	})
}

type alwaysInterrupted struct{ *ebpf.Map }

func (alwaysInterrupted) BatchLookup(*ebpf.MapBatchCursor, any, any, *ebpf.BatchOptions) (int, error) {
	return 0, unix.EINTR
}

// churn adds and deletes pods first..first+n-1 until stopped.
func churn(tb testing.TB, m *ebpf.Map, first, n int) (stop func()) {
	tb.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			for _, i := range rand.Perm(n) {
				select {
				case <-done:
					return
				default:
				}
				p, e := remotePod(first + i)
				key := ipcacheKeyBytes(IPCacheKey{Prefix: p})
				var err error
				if rand.IntN(2) == 0 {
					value := remoteEndpointBytes(e)
					err = m.Put(&key, &value)
				} else if err = m.Delete(&key); errors.Is(err, ebpf.ErrKeyNotExist) {
					err = nil
				}
				if err != nil {
					tb.Errorf("churning: %v", err)
					return
				}
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

func TestReadingDuringChurnLosesAndInventsNothing(t *testing.T) {
	const stable, moving, reads = 20_000, 20_000, 20
	m := fillIPCache(t, globals(t), stable, 512000)
	cover := RemoteEndpoint{Identity: IdentityWorld}
	world := mustPrefix("0.0.0.0/0")
	put(t, m, ipcacheKeyBytes(IPCacheKey{Prefix: world}), remoteEndpointBytes(cover))
	defer churn(t, m, stable, moving)()

	for name, src := range map[string]source{"batches": m, "key by key": noBatch{m}} {
		var most Stats
		for range reads {
			got, stats, err := read(src, 512000)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := checkStable(got, 0, stable); err != nil || got[world] != cover {
				t.Fatalf("%s: %v, %+v", name, err, got[world])
			}
			known := stable + 1
			for i := stable; i < stable+moving; i++ {
				p, want := remotePod(i)
				e, ok := got[p]
				if !ok {
					continue
				}
				known++
				if e != want && e != cover { // cover: deleted between key and value, see the package comment
					t.Fatalf("%s: %s = %+v, want %+v", name, p, e, want)
				}
			}
			if known != len(got) {
				t.Fatalf("%s: %d entries that nobody wrote", name, len(got)-known)
			}
			if stats.Visited > most.Visited {
				most = stats
			}
		}
		t.Logf("%s: most visited in one read: %+v", name, most)
	}
}

func TestReadingEndpointsDuringChurnLosesNothing(t *testing.T) {
	const stable, moving, reads = 5_000, 5_000, 50
	dir := globals(t)
	m := fillEndpoints(t, dir, stable, 65535)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i = (i + 1) % moving {
			select {
			case <-done:
				return
			default:
			}
			addr, e := localPod(stable + i)
			key, value := endpointKeyBytes(EndpointKey{Addr: addr}), endpointBytes(e)
			if err := m.Put(&key, &value); err != nil {
				t.Errorf("churning: %v", err)
				return
			}
			old, _ := localPod(stable + (i+moving/2)%moving)
			key = endpointKeyBytes(EndpointKey{Addr: old})
			if err := m.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				t.Errorf("churning: %v", err)
				return
			}
		}
	})
	defer func() { close(done); wg.Wait() }()
	for range reads {
		got, _, err := ReadEndpoints(dir)
		if err != nil {
			t.Fatal(err)
		}
		known := 0
		for i := range stable + moving {
			addr, want := localPod(i)
			e, ok := got[addr]
			if ok && e != want || !ok && i < stable {
				t.Fatalf("%s = %+v (there: %v), want %+v", addr, e, ok, want)
			}
			if ok {
				known++
			}
		}
		if known != len(got) {
			t.Fatalf("%d entries that nobody wrote", len(got)-known)
		}
	}
}

// BenchmarkReadIPCache reads ipcaches of three sizes, each beside the ways that others read them: bpftool's dump, and the least that
// a program can do, which is to fetch all batches and look at none of their bytes.
func BenchmarkReadIPCache(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 512_000} {
		dir := globals(b)
		m := fillIPCache(b, dir, n, 512000)
		perEntry := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		}
		b.Run(fmt.Sprintf("LPM/%d/this package", n), func(b *testing.B) {
			for b.Loop() {
				if got, _, err := ReadIPCache(dir); err != nil || got.Len() != n {
					b.Fatal(got.Len(), err)
				}
			}
			perEntry(b)
		})
		b.Run(fmt.Sprintf("LPM/%d/bare batches", n), func(b *testing.B) {
			keys, values := make([][24]byte, batchSize), make([][24]byte, batchSize)
			for b.Loop() {
				if got, err := bareBatches(m, keys, values); err != nil || got != n {
					b.Fatal(got, err)
				}
			}
			perEntry(b)
		})
		b.Run(fmt.Sprintf("LPM/%d/bpftool map dump -j", n), func(b *testing.B) {
			bpftool, err := exec.LookPath("bpftool")
			if err != nil {
				b.Fatal("looking for bpftool, beside which this is measured (tools/apt bench installs it): ", err)
			}
			for b.Loop() {
				dump := exec.Command(bpftool, "-j", "map", "dump", "pinned", filepath.Join(dir, IPCachePin))
				if err := dump.Run(); err != nil { // its output goes nowhere
					b.Fatal(err)
				}
			}
			perEntry(b)
		})
		if n > 100_000 {
			continue
		}
		b.Run(fmt.Sprintf("LPM/%d/key by key", n), func(b *testing.B) {
			for b.Loop() {
				if got, _, err := read(noBatch{m}, 512000); err != nil || len(got) != n {
					b.Fatal(len(got), err)
				}
			}
			perEntry(b)
		})
		b.Run(fmt.Sprintf("LPM/%d/lookup of 1000", n), func(b *testing.B) {
			var ask []netip.Prefix
			for i := range 1000 {
				p, _ := remotePod(i * n / 1000)
				ask = append(ask, p)
			}
			for b.Loop() {
				if got, err := LookupIPCache(dir, ask); err != nil || len(got) != 1000 {
					b.Fatal(len(got), err)
				}
			}
		})
	}
}

// bareBatches counts the entries of a map that nobody changes.
func bareBatches(m *ebpf.Map, keys, values [][24]byte) (int, error) {
	cursor, sum := new(ebpf.MapBatchCursor), 0
	for {
		n, err := m.BatchLookup(cursor, keys, values, nil)
		sum += n
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			return sum, nil
		case err != nil:
			return sum, err
		}
	}
}

func BenchmarkReadEndpoints(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		dir := globals(b)
		fillEndpoints(b, dir, n, 131072)
		b.Run(fmt.Sprintf("HASH/batch/%d", n), func(b *testing.B) {
			for b.Loop() {
				if got, _, err := ReadEndpoints(dir); err != nil || len(got) != n {
					b.Fatal(len(got), err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		})
	}
}
