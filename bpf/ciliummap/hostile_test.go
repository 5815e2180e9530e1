// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// endless is an ipcache that has always one more pod, as far as there are addresses.
type endless struct {
	next   int
	single bool // no batches
}

func (e *endless) entry(key, value *[24]byte) {
	p, remote := remotePod(e.next)
	*key, *value = ipcacheKeyBytes(IPCacheKey{Prefix: p}), remoteEndpointBytes(remote)
	e.next++
}

func (e *endless) BatchLookup(_ *ebpf.MapBatchCursor, keysOut, valuesOut any, _ *ebpf.BatchOptions) (int, error) {
	if e.single {
		return 0, ebpf.ErrNotSupported
	}
	keys, values := keysOut.([][24]byte), valuesOut.([][24]byte)
	for i := range keys {
		e.entry(&keys[i], &values[i])
	}
	return len(keys), nil
}

func (e *endless) NextKey(_, nextKeyOut any) error {
	var value [24]byte
	e.entry(nextKeyOut.(*[24]byte), &value)
	return nil
}

func (e *endless) Lookup(_, valueOut any) error {
	_, remote := remotePod(e.next - 1)
	*valueOut.(*[24]byte) = remoteEndpointBytes(remote)
	return nil
}

// TestMapsLargerThanAnyCiliumsAreNotRead: ten times the entries of the largest ipcache there is would take a gigabyte here.
func TestMapsLargerThanAnyCiliumsAreNotRead(t *testing.T) {
	for name, src := range map[string]*endless{"in batches": {}, "key by key": {single: true}} {
		t.Run(name, func(t *testing.T) {
			got, stats, err := read(src, 10*512_000)
			if !errors.Is(err, ErrTooLarge) || got != nil {
				t.Fatalf("%d entries, %v; want ErrTooLarge and no half of a map", len(got), err)
			}
			if src.next > MaxEntries+batchSize {
				t.Errorf("%d entries were taken before it was noticed", src.next)
			}
			for _, says := range []string{stats.Pin, "5120000", "1048576", "see who fills it"} {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%q does not say %q", err, says)
				}
			}
		})
	}
}

// TestTenTimesTheEndpointsAreReadWhole, in a real map: cilium_lxc has room for 65,535 (Cilium pkg/maps/lxcmap).
func TestTenTimesTheEndpointsAreReadWhole(t *testing.T) {
	const n = 10 * math.MaxUint16
	dir := globals(t)
	fillEndpoints(t, dir, n, n)
	got, stats, err := ReadEndpoints(dir)
	if err != nil || len(got) != n || stats.Entries != n {
		t.Fatalf("%d entries, %+v, %v", len(got), stats, err)
	}
	for _, i := range []int{0, n / 2, n - 1} {
		if addr, want := localPod(i); got[addr] != want {
			t.Errorf("%s: %+v, want %+v", addr, got[addr], want)
		}
	}
}

// bucketful wants a larger buffer for ever.
type bucketful struct {
	endless
	largest int
}

func (b *bucketful) BatchLookup(_ *ebpf.MapBatchCursor, keysOut, _ any, _ *ebpf.BatchOptions) (int, error) {
	b.largest = max(b.largest, len(keysOut.([][24]byte)))
	return 0, unix.ENOSPC
}

func TestABatchDoesNotGrowForEver(t *testing.T) {
	b := &bucketful{}
	if _, _, err := read(b, math.MaxUint32); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v, want ENOSPC", err)
	}
	if b.largest > maxBatchSize {
		t.Errorf("a batch of %d entries", b.largest)
	}
}
