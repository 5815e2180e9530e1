// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

const tcp = 6

// capturedServices decodes what one node of a real Cilium held.
func capturedServices(t *testing.T, dir string) Services {
	t.Helper()
	out := NewServices(0)
	for _, e := range rawEntries(t, filepath.Join(dir, ServicesPin+".hex")) {
		if err := out.AddService(e.key, e.value); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range rawEntries(t, filepath.Join(dir, BackendsPin+".hex")) {
		if err := out.AddBackend(e.key, e.value); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestServicesOfARealCiliumAreWhatItSaysThemselves: every line of `cilium-dbg bpf lb list` and no other, and no place that leads nowhere.
func TestServicesOfARealCiliumAreWhatItSaysThemselves(t *testing.T) {
	for _, dir := range captures(t) {
		s := capturedServices(t, dir)
		want := map[string]bool{}
		for _, line := range lines(t, filepath.Join(dir, "lb_list.txt"))[1:] {
			f := strings.Fields(line) // address (slot) backend (revnat) (slot) [flags]
			want[f[0]+" "+f[1]+" "+f[2]] = true
		}
		got := map[string]bool{}
		for f := range s.Frontends {
			got[fmt.Sprintf("%s (0) 0.0.0.0:0", f)] = true
		}
		for slot, id := range s.Slots {
			got[fmt.Sprintf("%s (%d) %s/TCP", slot.Frontend, slot.Number, s.Backends[id].Addr)] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -Cilium +decoded:\n%s", dir, diff)
		}
		if gaps := s.Gaps(); len(gaps) > 0 {
			t.Errorf("%s: %v", dir, gaps)
		}
		kubernetes := Frontend{Addr: netip.MustParseAddrPort("10.96.0.1:443"), Proto: tcp}
		if got := s.ActiveBackends(kubernetes); !slices.Equal(got, []netip.AddrPort{netip.MustParseAddrPort("172.18.0.1:6443")}) {
			t.Errorf("%s: %s has %v", dir, kubernetes, got)
		}
	}
}

// TestEveryPlaceThatLeadsNowhereIsFound takes each place, and each backend, of a real node away in turn.
func TestEveryPlaceThatLeadsNowhereIsFound(t *testing.T) {
	for _, dir := range captures(t) {
		whole := capturedServices(t, dir)
		if len(whole.Slots) == 0 || len(whole.Backends) == 0 {
			t.Fatalf("%s holds nothing to take away", dir)
		}
		for slot, id := range whole.Slots {
			s := capturedServices(t, dir)
			delete(s.Slots, slot)
			if gaps := s.Gaps(); !slices.Equal(gaps, []Gap{{slot, 0}}) || !strings.Contains(gaps[0].String(), "lacks its backend number 1") {
				t.Errorf("%s without %v: %v", dir, slot, gaps)
			}
			s = capturedServices(t, dir)
			delete(s.Backends, id)
			if gaps := s.Gaps(); !slices.Contains(gaps, Gap{slot, id}) || !strings.Contains(gaps[0].String(), "does not exist") {
				t.Errorf("%s without backend %d: %v", dir, id, gaps)
			}
		}
		for f := range whole.Frontends {
			s := capturedServices(t, dir)
			s.Frontends[f] = Counts{Active: s.Frontends[f].Active, Inactive: 1}
			if gaps := s.Gaps(); len(gaps) != 1 || gaps[0].Frontend != f || gaps[0].Number != s.Frontends[f].Active+1 {
				t.Errorf("%s with one more place at %s: %v", dir, f, gaps)
			}
		}
	}
}

// TestTellsWhereCiliumRedirects: SVC_FLAG_LOCALREDIRECT is 1 and SVC_FLAG_L7LOADBALANCER is 4 of flags2 (Cilium bpf/lib/common.h), and
// no other flag redirects, nor any of flags, which is the byte before.
func TestTellsWhereCiliumRedirects(t *testing.T) {
	for at := range 2 {
		for bit := range 8 {
			value := make([]byte, 12)
			value[4], value[8+at] = 2, 1<<bit
			s, f := NewServices(0), Frontend{Addr: netip.MustParseAddrPort("10.96.0.7:80"), Proto: tcp}
			if err := s.AddService([]byte{10, 96, 0, 7, 0, 80, 0, 0, tcp, 0, 0, 0}, value); err != nil {
				t.Fatal(err)
			}
			if want := (Counts{Active: 2, Redirected: at == 1 && (bit == 0 || bit == 2)}); s.Frontends[f] != want {
				t.Errorf("bit %d of byte %d: %+v, want %+v", bit, 8+at, s.Frontends[f], want)
			}
		}
	}
}

func TestReadsServicesOfPinnedMaps(t *testing.T) {
	dir := globals(t)
	if _, err := ReadServices(dir); err == nil {
		t.Fatal("nothing is pinned, and it was read")
	}
	services := pin(t, dir, ServicesPin, Layout{ebpf.Hash, 12, 12}, 1<<16)
	backends := pin(t, dir, BackendsPin, Layout{ebpf.Hash, 4, 12}, 1<<16)
	want := NewServices(0)
	put := func(m *ebpf.Map, key, value []byte) {
		t.Helper()
		if err := m.Put(key, value); err != nil {
			t.Fatal(err)
		}
	}
	const many = 3000
	for i := range many {
		address := netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})
		f := Frontend{Addr: netip.AddrPortFrom(address, 80), Proto: tcp}
		key := func(place int) []byte {
			return assemble(t, "lb4_key", map[string]any{"address": address.AsSlice(), "dport": []byte{0, 80}, "backend_slot": place, "proto": tcp, "scope": 0})
		}
		put(services, key(0), assemble(t, "lb4_service", map[string]any{"backend_id": 9999, "count": 1, "qcount": 0}))
		put(services, key(1), assemble(t, "lb4_service", map[string]any{"backend_id": i + 1, "count": 0, "qcount": 0}))
		put(backends, assemble(t, "lb4_service", map[string]any{"backend_id": i + 1, "count": 0, "qcount": 0})[:4],
			assemble(t, "lb4_backend", map[string]any{"address": []byte{10, 244, byte(i >> 8), byte(i)}, "port": []byte{0x1f, 0x90}, "proto": tcp}))
		want.Frontends[f], want.Slots[Slot{f, 1}] = Counts{Active: 1}, uint32(i+1)
		want.Backends[uint32(i+1)] = Backend{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)}), 8080), tcp}
	}
	got, err := ReadServices(dir)
	if err != nil || !maps.Equal(got.Frontends, want.Frontends) || !maps.Equal(got.Slots, want.Slots) || !maps.Equal(got.Backends, want.Backends) {
		t.Errorf("%d frontends, %d places, %d backends, %v; want %d of each", len(got.Frontends), len(got.Slots), len(got.Backends), err, many)
	}
	put(backends, make([]byte, 4), []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	decode := new(DecodeError)
	if got, err := ReadServices(dir); !errors.As(err, &decode) || got.Frontends != nil {
		t.Errorf("a backend of a foreign map: %v", err)
	}
}

// FuzzServices: whatever is read, gaps are found without an end in sight of 65,535 places.
func FuzzServices(f *testing.F) {
	for _, s := range []string{"0a60000101bb000006000000 000000000100000100000000", "0a60000101bb000006010000 ffffffffffffffffffffffff"} {
		e := strings.Fields(s)
		f.Add(unhex(f, e[0]), unhex(f, e[1]))
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		slot, _, counts, err := decodeService(key, value)
		if err != nil {
			return
		}
		s := Services{Frontends: map[Frontend]Counts{slot.Frontend: counts}}
		if got := len(s.Gaps()); got != int(counts.Active)+int(counts.Inactive) {
			t.Errorf("%d gaps of %+v", got, counts)
		}
	})
}
