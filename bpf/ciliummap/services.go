// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// Services is what Cilium's programs translate Services by, of IPv4 (Cilium bpf/lib/lb.h: cilium_lb4_services_v2, cilium_lb4_backends_v3).
type Services struct {
	// Frontends are the addresses at which Services are called, with how many backends each has.
	Frontends map[Frontend]Counts
	// Slots are the backends of each frontend, from 1 on, by their IDs.
	Slots map[Slot]uint32
	// Backends are what the IDs stand for.
	Backends map[uint32]Backend
}

// NewServices is none yet, with room for so many places.
func NewServices(places int) Services {
	return Services{make(map[Frontend]Counts), make(map[Slot]uint32, places), make(map[uint32]Backend)}
}

// Frontend is an address at which a Service is called.
type Frontend struct {
	Addr  netip.AddrPort
	Proto uint8 // of IP: 6 TCP, 17 UDP; 0 any
	Scope uint8 // 0: from everywhere, 1: from within the cluster
}

func (f Frontend) String() string {
	name, ok := map[uint8]string{6: "TCP", 17: "UDP", 132: "SCTP"}[f.Proto]
	if !ok {
		name = fmt.Sprint("protocol ", f.Proto)
	}
	return fmt.Sprintf("%s/%s", f.Addr, name)
}

// Counts are how many backends of a frontend get new connections, and how many follow that do not.
type Counts struct {
	Active, Inactive uint16
	// Redirected: calls go to a pod of this node (CiliumLocalRedirectPolicy) or to Envoy instead.
	Redirected bool
}

// redirects are SVC_FLAG_LOCALREDIRECT and SVC_FLAG_L7LOADBALANCER of lb4_service.flags2 (Cilium bpf/lib/common.h).
const redirects = 1<<0 | 1<<2

// Slot is a backend's place at a frontend.
type Slot struct {
	Frontend
	Number uint16
}

// Backend is where a Service's packets go.
type Backend struct {
	Addr  netip.AddrPort
	Proto uint8
}

// Gap is a place at a frontend that leads nowhere: it is empty, or names a backend that does not exist.
type Gap struct {
	Slot
	Backend uint32 // 0: the place is empty
}

func (g Gap) String() string {
	if g.Backend == 0 {
		return fmt.Sprintf("%s lacks its backend number %d", g.Frontend, g.Number)
	}
	return fmt.Sprintf("%s has backend %d in place %d, which does not exist", g.Frontend, g.Backend, g.Number)
}

// Gaps are all places that lead nowhere, in order.
func (s Services) Gaps() []Gap {
	var out []Gap
	for f, n := range s.Frontends {
		for i := range int(n.Active) + int(n.Inactive) {
			slot := Slot{f, uint16(i + 1)}
			id := s.Slots[slot]
			if _, ok := s.Backends[id]; !ok || id == 0 {
				out = append(out, Gap{slot, id})
			}
		}
	}
	slices.SortFunc(out, func(a, b Gap) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Number, b.Number))
	})
	return out
}

// ActiveBackends are the addresses to which new connections of a frontend go.
func (s Services) ActiveBackends(f Frontend) []netip.AddrPort {
	var out []netip.AddrPort
	for i := range s.Frontends[f].Active {
		if b, ok := s.Backends[s.Slots[Slot{f, i + 1}]]; ok {
			out = append(out, b.Addr)
		}
	}
	return out
}

// ReadServices reads both maps, one after the other: what Cilium changes in between may look like a gap, so look again before you
// believe one. globalsDir is <bpffs>/tc/globals.
func ReadServices(globalsDir string) (Services, error) {
	var out Services
	err := readAll(globalsDir, ServicesPin, func(n int) { out = NewServices(n) }, func() int { return len(out.Frontends) + len(out.Slots) }, func(key, value *[12]byte) error {
		return out.AddService(key[:], value[:])
	})
	if err != nil {
		return Services{}, err
	}
	err = readAll(globalsDir, BackendsPin, func(n int) { out.Backends = make(map[uint32]Backend, n) },
		func() int { return len(out.Backends) }, func(key *[4]byte, value *[12]byte) error {
			return out.AddBackend(key[:], value[:])
		})
	if err != nil {
		return Services{}, err
	}
	return out, nil
}

// readAll reads a map whose entries are visited by key; held says how many are.
func readAll[K, V any](globalsDir, pin string, reset func(n int), held func() int, visit func(*K, *V) error) error {
	m, err := openMap(globalsDir, pin)
	if err != nil {
		return err
	}
	defer m.Close()
	stats, err := newStats(m, pin)
	if err != nil {
		return err
	}
	reset(0)
	c := collector[K, V]{src: m, stats: &stats, reset: reset, visit: func(k *K, v *V) error {
		if err := visit(k, v); err != nil {
			return fmt.Errorf("reading %s: %w", pin, err)
		}
		return stats.room(held() - 1)
	}}
	return c.run()
}

// AddService decodes one entry of cilium_lb4_services_v2, 12 bytes of key and of value, and adds it.
func (s *Services) AddService(key, value []byte) error {
	slot, id, counts, err := decodeService(key, value)
	switch {
	case err != nil:
		return err
	case slot.Number == 0:
		s.Frontends[slot.Frontend] = counts
	default:
		s.Slots[slot] = id
	}
	return nil
}

// AddBackend decodes one entry of cilium_lb4_backends_v3, a 4-byte key and a 12-byte value, and adds it.
func (s *Services) AddBackend(key, value []byte) error {
	if len(key) != 4 {
		return &DecodeError{"key of a backend", slices.Clone(key), "not 4 bytes"}
	}
	b, err := decodeBackend(value)
	if err != nil {
		return err
	}
	s.Backends[binary.NativeEndian.Uint32(key)] = b
	return nil
}

// lb4_key: 0 address, network order | 4 dport, network order | 6 backend_slot u16 | 8 proto u8 | 9 scope u8 | 10 pad.
// lb4_service: 0 backend_id u32, something else in place 0 | 4 count u16 | 6 rev_nat_index | 8 flags u8 | 9 flags2 u8 | 10 qcount u16.
func decodeService(key, value []byte) (slot Slot, backend uint32, counts Counts, err error) {
	if len(key) != 12 || len(value) != 12 || !zero(key[10:]) || key[9] > 1 {
		return Slot{}, 0, Counts{}, &DecodeError{"lb4_key", slices.Concat(key, value), "not 12 bytes with a scope of 0 or 1 at offset 9 and zeros from offset 10 on, and 12 of lb4_service"}
	}
	slot = Slot{
		Frontend{netip.AddrPortFrom(netip.AddrFrom4([4]byte(key)), binary.BigEndian.Uint16(key[4:])), key[8], key[9]},
		binary.NativeEndian.Uint16(key[6:]),
	}
	return slot, binary.NativeEndian.Uint32(value), Counts{binary.NativeEndian.Uint16(value[4:]), binary.NativeEndian.Uint16(value[10:]), value[9]&redirects != 0}, nil
}

// lb4_backend: 0 address, network order | 4 port, network order | 6 proto u8 | 7 flags u8, its state | 8 cluster_id u16 | 10 zone u8 | 11 pad.
func decodeBackend(b []byte) (Backend, error) {
	if len(b) != 12 || b[11] != 0 {
		return Backend{}, &DecodeError{"lb4_backend", slices.Clone(b), "not 12 bytes with a zero at offset 11"}
	}
	return Backend{netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[4:])), b[6]}, nil
}
