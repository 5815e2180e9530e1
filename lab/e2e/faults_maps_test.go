// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/lab"
)

// globals is where Cilium pins its maps.
const globals = "/sys/fs/bpf/tc/globals"

// Layouts (Cilium bpf/lib/eps.h, 1.18). Key of cilium_ipcache_v2: prefix length of 32 static bits and the address's, cluster id,
// padding, family, address; of cilium_lxc: address, family. A remote_endpoint_info has the tunnel's endpoint at 4 and its flags
// at 23, an endpoint_info the interface's index at 0, its flags at 8 and the MAC of the host's end at 24.
const (
	staticBits = 32
	familyIPv4 = 1

	tunnelOffset     = 4
	tunnelFlagOffset = 23
	ifindexOffset    = 0
	flagsOffset      = 8
	nodeMACOffset    = 24
)

func ipcacheKey(cidr netip.Prefix) []byte {
	key := make([]byte, 24)
	key[0], key[7] = byte(staticBits+cidr.Bits()), familyIPv4
	copy(key[8:], cidr.Addr().AsSlice())
	return key
}

func endpointKey(addr netip.Addr) []byte {
	key := make([]byte, 20)
	key[16] = familyIPv4
	copy(key, addr.AsSlice())
	return key
}

// mapFaults are about the maps of a node and say nothing of its peers. Cilium has its maps open and looks at the pins only when
// it starts, so what is done to a pin stays, and an entry stays until it would be another one.
func mapFaults() []fault {
	const c = v1alpha1.CheckOverlayMaps
	const compiled = "/var/run/cilium/state/bpf_alignchecker.o"
	return []fault{
		{"the endpoint map is not pinned", unpinned(ciliummap.EndpointsPin), fails(c, v1alpha1.MapMissing), nil},
		{"the ipcache is not pinned", unpinned(ciliummap.IPCachePin), fails(c, v1alpha1.MapMissing), nil},
		{
			"Cilium compiled what nobody knows", trouble{
				run("cp -p "+compiled+" "+compiled+".aside", "truncate -s 100 "+compiled), run("mv " + compiled + ".aside " + compiled),
			}, doubts(c, v1alpha1.MapLayoutUnknown), nil,
		},
		{"the liveness is not pinned", unpinned(ciliummap.RuntimeConfigPin), fails(v1alpha1.CheckCiliumAlive, v1alpha1.CiliumStopped), nil},
		{"the endpoint map has a layout that nobody knows", reshaped(ciliummap.EndpointsPin, ebpf.Hash, 20, 56), doubts(c, v1alpha1.MapLayoutUnknown), nil},
		{"the ipcache has the layout of Cilium 1.17", reshaped(ciliummap.IPCachePin, ebpf.LPMTrie, 24, 12), doubts(c, v1alpha1.MapLayoutUnknown), nil},
		{"the ipcache of a newer Cilium lies beside", pinned("cilium_ipcache_v3", ebpf.LPMTrie, 24, 32), doubts(c, v1alpha1.MapLayoutUnknown), nil},
		{"the endpoint map is half filled: the host's own are missing", entries(ciliummap.EndpointsPin, theHosts), doubts(c, v1alpha1.MapIncomplete), nil},
	}
}

// dropFaults is about what Cilium's programs count.
func dropFaults() []fault {
	return []fault{{
		"Cilium's programs find no tunnel endpoint for fifty packets",
		trouble{dropped(50), func(context.Context, *scene, lab.Host) error { return nil }}, // it passes by itself
		warns(v1alpha1.CheckDrops, v1alpha1.ForwardingDrops), nil,
	}}
}

// dropped adds packets to a counter of Cilium's: reason 160, no tunnel endpoint; egress (Cilium bpf/lib/metrics.h: metrics_key).
func dropped(packets uint64) hand {
	return func(_ context.Context, _ *scene, host lab.Host) error {
		return onMap(host, ciliummap.CountersPin, func(m *ebpf.Map) error {
			key := []byte{160, 2, 35, 0, 112, 0, 0, 0}
			var perCPU []struct{ Packets, Bytes uint64 }
			err := m.Lookup(key, &perCPU)
			if errors.Is(err, ebpf.ErrKeyNotExist) {
				cpus, failed := ebpf.PossibleCPU()
				perCPU, err = make([]struct{ Packets, Bytes uint64 }, cpus), failed
			}
			if err != nil {
				return err
			}
			perCPU[0].Packets += packets
			return m.Put(key, perCPU)
		})
	}
}

// peerFaults are about what a node's ipcache says of its peers. Cilium writes what changed, and nothing has.
func peerFaults() []fault {
	const c = v1alpha1.CheckOverlayMaps
	return []fault{
		{"a peer's pod CIDR leads to another node", peerEntry(toAnother), fails(c, v1alpha1.PeerWrongEndpoint), nil},
		{"a peer's health endpoint leads to another node", entries(ciliummap.IPCachePin, healthToAnother), fails(c, v1alpha1.PeerWrongEndpoint), nil},
		{"the ipcache is half filled: it knows one peer", entries(ciliummap.IPCachePin, allPeersButOne), fails(c, v1alpha1.PeerMissing), nil},
	}
}

// change says what becomes of one entry of a map: another value, the same, or nil for no entry.
type change func(key, value []byte) []byte

// entries changes the entries of a map and puts them back as they were. which finds out what to change on a node.
func entries(pin string, which func(ctx context.Context, s *scene, host lab.Host) (change, error)) trouble {
	was := map[string][]byte{}
	return trouble{
		plant: func(ctx context.Context, s *scene, host lab.Host) error {
			to, err := which(ctx, s, host)
			if err != nil {
				return err
			}
			return onMap(host, pin, func(m *ebpf.Map) error {
				var key, value []byte
				all := m.Iterate()
				for all.Next(&key, &value) {
					if !bytes.Equal(to(key, value), value) {
						was[string(key)] = slices.Clone(value)
					}
				}
				if all.Err() != nil || len(was) == 0 {
					return errors.Join(fmt.Errorf("looking through %s of %s: %d entries to change", pin, host.Name, len(was)), all.Err())
				}
				for key, value := range was {
					if err := set(m, []byte(key), to([]byte(key), value)); err != nil {
						return err
					}
				}
				return nil
			})
		},
		cure: func(_ context.Context, _ *scene, host lab.Host) error {
			return onMap(host, pin, func(m *ebpf.Map) error {
				for key, value := range was {
					if err := m.Put([]byte(key), value); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

func set(m *ebpf.Map, key, value []byte) error {
	if value == nil {
		return m.Delete(key)
	}
	return m.Put(key, value)
}

func onMap(host lab.Host, pin string, do func(*ebpf.Map) error) error {
	m, err := ebpf.LoadPinnedMap(inNode(host, filepath.Join(globals, pin)), nil)
	if err != nil {
		return err
	}
	defer m.Close()
	return do(m)
}

// only changes one entry.
func only(key []byte, to func(value []byte) []byte) change {
	return func(k, value []byte) []byte {
		if !bytes.Equal(k, key) {
			return value
		}
		return to(slices.Clone(value))
	}
}

func nothing([]byte) []byte { return nil }

// peerEntry changes the entry of the first peer's pod CIDR, or takes it away; value is changed in place.
func peerEntry(to func(value []byte, others []peer)) trouble {
	x := entries(ciliummap.IPCachePin, func(ctx context.Context, s *scene, host lab.Host) (change, error) {
		peers, err := s.peersOf(ctx, host.Name)
		if err != nil {
			return nil, err
		}
		return only(ipcacheKey(peers[0].cidr), func(value []byte) []byte {
			if to == nil {
				return nil
			}
			to(value, peers[1:])
			return value
		}), nil
	})
	return trouble{x.plant, rememberPeer}
}

// rememberPeer writes the entry of the first peer's pod CIDR as Cilium does: identity world, the tunnel's endpoint, and the flag
// that there is one.
func rememberPeer(ctx context.Context, s *scene, host lab.Host) error {
	peers, err := s.peersOf(ctx, host.Name)
	if err != nil {
		return err
	}
	value := make([]byte, 24)
	value[0], value[tunnelFlagOffset] = ciliummap.IdentityWorld, byte(ciliummap.RemoteHasTunnel)
	toAnother(value, peers)
	return onMap(host, ciliummap.IPCachePin, func(m *ebpf.Map) error { return m.Put(ipcacheKey(peers[0].cidr), value) })
}

// toAnother makes the first of some nodes the tunnel's endpoint.
func toAnother(value []byte, others []peer) { copy(value[tunnelOffset:], others[0].ip.AsSlice()) }

func healthToAnother(ctx context.Context, s *scene, host lab.Host) (change, error) {
	peers, err := s.peersOf(ctx, host.Name)
	if err != nil {
		return nil, err
	}
	return only(ipcacheKey(netip.PrefixFrom(peers[0].health, 32)), func(value []byte) []byte {
		toAnother(value, peers[1:])
		return value
	}), nil
}

func allPeersButOne(ctx context.Context, s *scene, host lab.Host) (change, error) {
	peers, err := s.peersOf(ctx, host.Name)
	if err != nil {
		return nil, err
	}
	return func(key, value []byte) []byte {
		if slices.ContainsFunc(peers[1:], func(p peer) bool { return bytes.Equal(key, ipcacheKey(p.cidr)) }) {
			return nil
		}
		return value
	}, nil
}

func theHosts(context.Context, *scene, lab.Host) (change, error) {
	return func(_, value []byte) []byte {
		if ciliummap.EndpointFlags(binary.NativeEndian.Uint32(value[flagsOffset:]))&ciliummap.EndpointHost != 0 {
			return nil
		}
		return value
	}, nil
}

// unpinned moves a pin to a name that nobody looks for.
func unpinned(pin string) trouble {
	move := func(from, to string) hand {
		return func(_ context.Context, _ *scene, host lab.Host) error {
			return os.Rename(inNode(host, filepath.Join(globals, from)), inNode(host, filepath.Join(globals, to)))
		}
	}
	return trouble{move(pin, "aside_"+pin), move("aside_"+pin, pin)}
}

// pinned pins an empty map of a shape.
func pinned(pin string, kind ebpf.MapType, key, value uint32) trouble {
	return trouble{
		plant: func(_ context.Context, _ *scene, host lab.Host) error {
			spec := &ebpf.MapSpec{Type: kind, KeySize: key, ValueSize: value, MaxEntries: 16, Flags: 1} // BPF_F_NO_PREALLOC
			m, err := ebpf.NewMap(spec)
			if err != nil {
				return err
			}
			defer m.Close()
			return m.Pin(inNode(host, filepath.Join(globals, pin)))
		},
		cure: func(_ context.Context, _ *scene, host lab.Host) error {
			return os.Remove(inNode(host, filepath.Join(globals, pin)))
		},
	}
}

// reshaped puts an empty map of another shape in the place of a pin.
func reshaped(pin string, kind ebpf.MapType, key, value uint32) trouble {
	away, other := unpinned(pin), pinned(pin, kind, key, value)
	return trouble{inOrder(away.plant, other.plant), inOrder(other.cure, away.cure)}
}
