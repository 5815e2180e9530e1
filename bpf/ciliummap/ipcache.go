// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Identities that Cilium reserves. Source: Cilium pkg/identity/numericidentity.go.
const (
	IdentityHost       = 1
	IdentityWorld      = 2
	IdentityHealth     = 4
	IdentityRemoteNode = 6
	IdentityAPIServer  = 7
	IdentityWorldIPv4  = 9 // dual-stack clusters only
	IdentityWorldIPv6  = 10
)

// RemoteFlags are the low bits of the last byte of remote_endpoint_info. Bits without a name here are kept:
// releases add some without moving anything.
type RemoteFlags uint8

// Source: Cilium bpf/lib/eps.h, remote_endpoint_info.
const (
	RemoteSkipTunnel   RemoteFlags = 1 << iota // never encapsulate towards this entry
	RemoteHasTunnel                            // tunnel_endpoint is set
	RemoteIPv6Tunnel                           // tunnel_endpoint is an IPv6 address
	RemoteOtherCluster                         // the entry belongs to another cluster of a mesh
)

// RemoteEndpoint is what Cilium knows of the owner of a prefix.
type RemoteEndpoint struct {
	// Identity is the security identity; on the wire it is the VNI of what its owner sends.
	Identity uint32
	// Tunnel is the address of the node behind which the prefix lives. It is the zero Addr if the entry has none:
	// local prefixes, and the addresses of nodes themselves.
	Tunnel netip.Addr
	// EncryptKey is the index of the encryption key, 0 for none.
	EncryptKey uint8
	Flags      RemoteFlags
}

// IPCacheKey is the key of an entry.
type IPCacheKey struct {
	// Prefix is masked. IPv4 prefixes are plain IPv4, never mapped.
	Prefix netip.Prefix
	// ClusterID is 0 unless a mesh has clusters with overlapping pod CIDRs.
	ClusterID uint16
}

const (
	familyIPv4 = 1 // ENDPOINT_KEY_IPV4
	familyIPv6 = 2 // ENDPOINT_KEY_IPV6

	// ipcacheStaticBits are the key bits between prefixlen and address that every LPM match includes.
	ipcacheStaticBits = 32
)

// DecodeError says that bytes contradict the layout that the sizes of the map promised: another meaning than
// this package knows. Nothing read from the map can be trusted.
type DecodeError struct {
	// Struct is the C structure, in Cilium's bpf/lib/eps.h.
	Struct string
	Bytes  []byte
	// Problem says which field at which offset.
	Problem string
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("decoding %s %x: %s; the layout is not the one its sizes promise, nothing in this map can be trusted",
		e.Struct, e.Bytes, e.Problem)
}

// DecodeIPCacheEntry decodes one entry of cilium_ipcache_v2: a 24-byte key and a 24-byte value as the kernel
// returns them. Source of the offsets: Cilium bpf/lib/eps.h, ipcache_key and remote_endpoint_info.
func DecodeIPCacheEntry(key, value []byte) (IPCacheKey, RemoteEndpoint, error) {
	k, err := decodeIPCacheKey(key)
	if err != nil {
		return IPCacheKey{}, RemoteEndpoint{}, err
	}
	v, err := decodeRemoteEndpoint(value)
	if err != nil {
		return IPCacheKey{}, RemoteEndpoint{}, err
	}
	return k, v, nil
}

// ipcache_key: 0 prefixlen u32 | 4 cluster_id u16 | 6 pad u8 | 7 family u8 | 8 address, network order.
func decodeIPCacheKey(b []byte) (IPCacheKey, error) {
	bad := func(format string, args ...any) (IPCacheKey, error) {
		return IPCacheKey{}, &DecodeError{"ipcache_key", append([]byte(nil), b...), fmt.Sprintf(format, args...)}
	}
	if len(b) != 24 {
		return bad("%d bytes instead of 24", len(b))
	}
	if b[6] != 0 {
		return bad("padding at offset 6 is not zero")
	}
	addr, problem := decodeAddr(b[8:24], b[7])
	if problem != "" {
		return bad("%s", problem)
	}
	prefixlen := binary.NativeEndian.Uint32(b)
	if prefixlen < ipcacheStaticBits || prefixlen > ipcacheStaticBits+uint32(addr.BitLen()) {
		return bad("prefixlen %d at offset 0 is outside %d..%d",
			prefixlen, ipcacheStaticBits, ipcacheStaticBits+addr.BitLen())
	}
	prefix := netip.PrefixFrom(addr, int(prefixlen-ipcacheStaticBits))
	if prefix.Masked() != prefix {
		return bad("address bits beyond prefixlen are set in %s", prefix)
	}
	return IPCacheKey{Prefix: prefix, ClusterID: binary.NativeEndian.Uint16(b[4:])}, nil
}

// encodeIPCacheKey is the inverse, for lookups. The prefix must be valid; it is masked here.
func encodeIPCacheKey(p netip.Prefix) (b [24]byte) {
	addr := p.Masked().Addr()
	binary.NativeEndian.PutUint32(b[0:], ipcacheStaticBits+uint32(p.Bits()))
	b[7] = encodeAddr(b[8:24], addr)
	return b
}

// remote_endpoint_info: 0 sec_identity u32 | 4 tunnel_endpoint 16 bytes | 20 pad u16 | 22 key u8 | 23 flags u8.
func decodeRemoteEndpoint(b []byte) (RemoteEndpoint, error) {
	bad := func(format string, args ...any) (RemoteEndpoint, error) {
		return RemoteEndpoint{}, &DecodeError{"remote_endpoint_info", append([]byte(nil), b...), fmt.Sprintf(format, args...)}
	}
	if len(b) != 24 {
		return bad("%d bytes instead of 24", len(b))
	}
	if b[20] != 0 || b[21] != 0 {
		return bad("padding at offset 20 is not zero")
	}
	e := RemoteEndpoint{
		Identity:   binary.NativeEndian.Uint32(b),
		EncryptKey: b[22],
		Flags:      RemoteFlags(b[23]),
	}
	tunnel := b[4:20]
	switch {
	case e.Flags&RemoteHasTunnel == 0:
		if !zero(tunnel) {
			return bad("tunnel endpoint at offset 4 is set and flags %#02x say there is none", b[23])
		}
	case e.Flags&RemoteIPv6Tunnel != 0:
		e.Tunnel = netip.AddrFrom16([16]byte(tunnel))
	default:
		if !zero(tunnel[4:]) {
			return bad("tunnel endpoint at offset 4 has more than 4 bytes and flags %#02x say it is IPv4", b[23])
		}
		e.Tunnel = netip.AddrFrom4([4]byte(tunnel))
	}
	return e, nil
}

// ReadIPCache reads the whole ipcache of this node's own cluster. globalsDir is <bpffs>/tc/globals.
// A node's pod CIDR maps to that node's address in Tunnel.
func ReadIPCache(globalsDir string) (map[netip.Prefix]RemoteEndpoint, Stats, error) {
	m, pin, err := openIPCache(globalsDir)
	if err != nil {
		return nil, Stats{Pin: pin}, err
	}
	defer m.Close()
	stats, err := newStats(m, pin)
	if err != nil {
		return nil, stats, err
	}
	entries, err := collectIPCache(m, &stats)
	return entries, stats, err
}

func collectIPCache(src source, stats *Stats) (map[netip.Prefix]RemoteEndpoint, error) {
	entries := make(map[netip.Prefix]RemoteEndpoint)
	others := make(map[IPCacheKey]struct{})
	c := collector[[24]byte, [24]byte]{
		src:   src,
		stats: stats,
		reset: func(n int) { entries = make(map[netip.Prefix]RemoteEndpoint, n); clear(others) },
		visit: func(key, value *[24]byte) error {
			k, v, err := DecodeIPCacheEntry(key[:], value[:])
			switch {
			case err != nil:
				return fmt.Errorf("reading %s: %w", stats.Pin, err)
			case k.ClusterID != 0:
				others[k] = struct{}{}
			default:
				entries[k.Prefix] = v
			}
			return stats.room(len(entries) + len(others) - 1)
		},
	}
	if err := c.run(); err != nil {
		return nil, err
	}
	stats.Entries, stats.OtherClusters = len(entries), len(others)
	return entries, nil
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

// decodeAddr reads 16 bytes of which family says how many count. The rest must be zero.
func decodeAddr(b []byte, family byte) (addr netip.Addr, problem string) {
	switch family {
	case familyIPv4:
		if !zero(b[4:]) {
			return netip.Addr{}, "bytes after the IPv4 address are not zero"
		}
		return netip.AddrFrom4([4]byte(b)), ""
	case familyIPv6:
		return netip.AddrFrom16([16]byte(b)), ""
	default:
		return netip.Addr{}, fmt.Sprintf("address family %d is neither 1 (IPv4) nor 2 (IPv6)", family)
	}
}

// encodeAddr writes the address into 16 zeroed bytes and returns its family.
func encodeAddr(b []byte, addr netip.Addr) byte {
	copy(b, addr.AsSlice())
	if addr.Is4() {
		return familyIPv4
	}
	return familyIPv6
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
