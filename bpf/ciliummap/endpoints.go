// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
)

// EndpointFlags are the flags of endpoint_info. Bits without a name here are kept.
type EndpointFlags uint32

// Source: Cilium bpf/lib/eps.h.
const (
	EndpointHost     EndpointFlags = 1 << iota // an address of the node itself
	EndpointAtHostNS                           // delivered to the host's network namespace
	EndpointNoSNATv4                           // since 1.20
	EndpointNoSNATv6                           // since 1.20
)

// MAC is an Ethernet address. The zero MAC means "none" (the node's own addresses have none).
type MAC [6]byte

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// Endpoint is a local owner of an address: a pod, Cilium's health endpoint, or the node.
type Endpoint struct {
	// IfIndex is the host's side of the pod's veth, 0 for the node's own addresses.
	IfIndex uint32
	// ID is Cilium's endpoint ID on this node, 0 for the node's own addresses.
	ID    uint16
	Flags EndpointFlags
	// PodMAC is the address of the pod's side, NodeMAC that of the host's side.
	PodMAC  MAC
	NodeMAC MAC
	// SecID is the security identity.
	SecID uint32
	// ParentIfIndex is the device behind a pod with an interface of its own (ENI modes), else 0.
	ParentIfIndex uint32
}

// IsHost says whether the datapath delivers the address to the host: the node's own addresses, for which every other
// field is zero, and endpoints that live in the host's network namespace.
func (e Endpoint) IsHost() bool { return e.Flags&(EndpointHost|EndpointAtHostNS) != 0 }

// EndpointKey is the key of an entry.
type EndpointKey struct {
	Addr netip.Addr
	// ClusterID is 0 for this cluster.
	ClusterID uint16
}

// DecodeEndpointEntry decodes one entry of cilium_lxc: a 20-byte key and a 48-byte value as the kernel returns
// them. Source of the offsets: Cilium bpf/lib/eps.h, endpoint_key and endpoint_info.
func DecodeEndpointEntry(key, value []byte) (EndpointKey, Endpoint, error) {
	k, err := decodeEndpointKey(key)
	if err != nil {
		return EndpointKey{}, Endpoint{}, err
	}
	v, err := decodeEndpoint(value)
	if err != nil {
		return EndpointKey{}, Endpoint{}, err
	}
	return k, v, nil
}

// endpoint_key: 0 address, network order | 16 family u8 | 17 key u8, always 0 here | 18 cluster_id u16.
func decodeEndpointKey(b []byte) (EndpointKey, error) {
	bad := func(problem string) (EndpointKey, error) {
		return EndpointKey{}, &DecodeError{"endpoint_key", append([]byte(nil), b...), problem}
	}
	if len(b) != 20 {
		return bad(fmt.Sprintf("%d bytes instead of 20", len(b)))
	}
	if b[17] != 0 {
		return bad("key at offset 17 is not zero")
	}
	addr, problem := decodeAddr(b[:16], b[16])
	if problem != "" {
		return bad(problem)
	}
	return EndpointKey{Addr: addr, ClusterID: binary.NativeEndian.Uint16(b[18:])}, nil
}

// encodeEndpointKey is the inverse, for lookups.
func encodeEndpointKey(addr netip.Addr) (b [20]byte) {
	b[16] = encodeAddr(b[:16], addr)
	return b
}

// endpoint_info: 0 ifindex u32 | 4 unused u16 | 6 lxc_id u16 | 8 flags u32 | 12 hole, rt_info since 1.20 |
// 16 mac, 6 of 8 bytes | 24 node_mac, 6 of 8 | 32 sec_id u32 | 36 parent_ifindex u32 | 40 pad.
func decodeEndpoint(b []byte) (Endpoint, error) {
	bad := func(problem string) (Endpoint, error) {
		return Endpoint{}, &DecodeError{"endpoint_info", append([]byte(nil), b...), problem}
	}
	switch {
	case len(b) != 48:
		return bad(fmt.Sprintf("%d bytes instead of 48", len(b)))
	case !zero(b[4:6]):
		return bad("unused field at offset 4 is not zero")
	case !zero(b[22:24]):
		return bad("padding of mac at offset 22 is not zero")
	case !zero(b[30:32]):
		return bad("padding of node_mac at offset 30 is not zero")
	case !zero(b[40:48]):
		return bad("padding at offset 40 is not zero")
	}
	return Endpoint{
		IfIndex:       binary.NativeEndian.Uint32(b[0:]),
		ID:            binary.NativeEndian.Uint16(b[6:]),
		Flags:         EndpointFlags(binary.NativeEndian.Uint32(b[8:])),
		PodMAC:        MAC(b[16:22]),
		NodeMAC:       MAC(b[24:30]),
		SecID:         binary.NativeEndian.Uint32(b[32:]),
		ParentIfIndex: binary.NativeEndian.Uint32(b[36:]),
	}, nil
}

// ReadEndpoints reads all local endpoints, the node's own addresses included. globalsDir is <bpffs>/tc/globals.
func ReadEndpoints(globalsDir string) (map[netip.Addr]Endpoint, Stats, error) {
	m, err := openMap(globalsDir, EndpointsPin)
	if err != nil {
		return nil, Stats{Pin: EndpointsPin}, err
	}
	defer m.Close()
	stats, err := newStats(m, EndpointsPin)
	if err != nil {
		return nil, stats, err
	}
	endpoints, err := collectEndpoints(m, &stats)
	return endpoints, stats, err
}

func collectEndpoints(src source, stats *Stats) (map[netip.Addr]Endpoint, error) {
	endpoints := make(map[netip.Addr]Endpoint)
	others := make(map[EndpointKey]struct{})
	c := collector[[20]byte, [48]byte]{
		src:   src,
		stats: stats,
		reset: func(n int) { endpoints = make(map[netip.Addr]Endpoint, n); clear(others) },
		visit: func(key *[20]byte, value *[48]byte) error {
			k, v, err := DecodeEndpointEntry(key[:], value[:])
			switch {
			case err != nil:
				return fmt.Errorf("reading %s: %w", stats.Pin, err)
			case k.ClusterID != 0:
				others[k] = struct{}{}
			default:
				endpoints[k.Addr] = v
			}
			return stats.room(len(endpoints) + len(others) - 1)
		},
	}
	if err := c.run(); err != nil {
		return nil, err
	}
	stats.Entries, stats.OtherClusters = len(endpoints), len(others)
	return endpoints, nil
}

// LookupEndpoints asks for single addresses, exactly. Addresses that are not there are absent from the result.
func LookupEndpoints(globalsDir string, addrs []netip.Addr) (map[netip.Addr]Endpoint, error) {
	m, err := openMap(globalsDir, EndpointsPin)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	found := make(map[netip.Addr]Endpoint, len(addrs))
	for _, addr := range addrs {
		if !addr.IsValid() {
			return nil, fmt.Errorf("looking up in %s: %q is not an address", EndpointsPin, addr)
		}
		key := encodeEndpointKey(addr)
		var value [48]byte
		err := m.Lookup(&key, &value)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking up %s in %s: %w", addr, EndpointsPin, err)
		}
		if found[addr], err = decodeEndpoint(value[:]); err != nil {
			return nil, fmt.Errorf("looking up %s in %s: %w", addr, EndpointsPin, err)
		}
	}
	return found, nil
}
