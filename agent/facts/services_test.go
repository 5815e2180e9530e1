// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/cilium/ebpf"

	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// pinServices pins both maps of Services, with one that has one backend, and returns them.
func pinServices(t *testing.T, root string) (services, backends *ebpf.Map) {
	t.Helper()
	dir := filepath.Join(root, ciliummap.GlobalsDir)
	must(t, os.MkdirAll(dir, 0o700))
	pinned := func(name string, key uint32) *ebpf.Map {
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: key, ValueSize: 12, MaxEntries: 64})
		must(t, err)
		t.Cleanup(func() { m.Close() })
		must(t, m.Pin(filepath.Join(dir, name)))
		return m
	}
	services, backends = pinned(ciliummap.ServicesPin, 12), pinned(ciliummap.BackendsPin, 4)
	// 10.96.0.1:443/TCP with one backend, whose ID is 1; as raw as Cilium 1.18.11 has them.
	must(t, services.Put([]byte{10, 96, 0, 1, 1, 0xbb, 0, 0, 6, 0, 0, 0}, []byte{0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0}))
	must(t, services.Put([]byte{10, 96, 0, 1, 1, 0xbb, 1, 0, 6, 0, 0, 0}, []byte{1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}))
	must(t, backends.Put([]byte{1, 0, 0, 0}, []byte{10, 0, 0, 5, 0x19, 0x2b, 6, 0, 0, 0, 0, 0}))
	return services, backends
}

func TestServicesAreReadWhereCiliumTranslatesThem(t *testing.T) {
	needsRoot(t)
	root := bpffs(t)
	translating := Programs{Sockets: []SocketProgram{{Name: "cil_sock4_connect"}}}
	if s := lookServices(root, Programs{}); s.Sight != NotLooked || s.Detail == "" {
		t.Errorf("kube-proxy's: %+v", s)
	}
	if s := lookServices(root, translating); s.Sight != Absent {
		t.Errorf("nothing is pinned: %+v", s)
	}
	_, backends := pinServices(t, root)
	var s Services
	withoutCapabilities(t, func() { s = lookServices(root, translating) })
	if s.Sight != Seen || len(s.Frontends) != 1 || len(s.Gaps) > 0 {
		t.Errorf("%+v", s)
	}
	must(t, backends.Delete([]byte{1, 0, 0, 0}))
	if s := lookServices(root, translating); s.Sight != Seen || len(s.Gaps) != 1 || s.Gaps[0].Backend != 1 {
		t.Errorf("without its backend: %+v", s)
	}
}

// TestAGapThatClosesIsNone: Cilium deletes a backend before it rewrites the places that name it, here one after the other of many.
func TestAGapThatClosesIsNone(t *testing.T) {
	f := ciliummap.Frontend{Addr: netip.MustParseAddrPort("10.96.0.1:443"), Proto: 6}
	for name, c := range map[string]struct {
		missing []uint16 // the place that is empty in each read; 0 none
		gaps    int
		reads   int
	}{
		"never":           {[]uint16{0}, 0, 1},
		"closed at once":  {[]uint16{1, 0}, 0, 2},
		"closed at last":  {[]uint16{1, 1, 1, 1, 0}, 0, 5},
		"never the same":  {[]uint16{1, 2, 1, 2, 1}, 0, 2},
		"always the same": {[]uint16{3, 3, 3, 3, 3}, 1, 5},
	} {
		synctest.Test(t, func(t *testing.T) {
			reads := 0
			_, gaps, err := lastingGaps(func() (ciliummap.Services, error) {
				s := ciliummap.NewServices(0)
				s.Frontends[f], s.Backends[7] = ciliummap.Counts{Active: 3}, ciliummap.Backend{}
				for n := uint16(1); n <= 3; n++ {
					if n != c.missing[reads] {
						s.Slots[ciliummap.Slot{Frontend: f, Number: n}] = 7
					}
				}
				reads++
				return s, nil
			})
			if err != nil || len(gaps) != c.gaps || reads != c.reads {
				t.Errorf("%s: %v, %v after %d reads; want %d after %d", name, gaps, err, reads, c.gaps, c.reads)
			}
		})
	}
	if _, _, err := lastingGaps(func() (ciliummap.Services, error) { return ciliummap.Services{}, io.EOF }); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}
