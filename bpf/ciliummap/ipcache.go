// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
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

func decodeIPCacheKey(b []byte) (IPCacheKey, error) {
	if len(b) != 24 {
		return IPCacheKey{}, contradiction("ipcache_key", b, fmt.Sprintf("%d bytes instead of 24", len(b)))
	}
	key := (*[24]byte)(b)
	if problem := wrongIPCacheKey(key); problem != "" {
		return IPCacheKey{}, contradiction("ipcache_key", b, problem)
	}
	return ipcacheKeyOf(key), nil
}

func decodeRemoteEndpoint(b []byte) (RemoteEndpoint, error) {
	if len(b) != 24 {
		return RemoteEndpoint{}, contradiction("remote_endpoint_info", b, fmt.Sprintf("%d bytes instead of 24", len(b)))
	}
	value := (*[24]byte)(b)
	if problem := wrongRemoteEndpoint(value); problem != "" {
		return RemoteEndpoint{}, contradiction("remote_endpoint_info", b, problem)
	}
	return remoteEndpointOf(value), nil
}

func contradiction(structure string, b []byte, problem string) error {
	return &DecodeError{structure, bytes.Clone(b), problem}
}

// place is where a key stands in the order in which the kernel enumerates an LPM trie: a prefix follows all that it covers
// (kernel/bpf/lpm_trie.c, trie_get_next_key), so that it goes by the last address, and of two with the same the narrower is first.
type place struct {
	static uint32 // what precedes the address, compared like it: cluster_id, pad and family
	hi, lo uint64 // the last address of the prefix
	bits   uint32 // length of the prefix
}

func (p place) compare(q place) int {
	switch {
	case p.static != q.static:
		return cmp.Compare(p.static, q.static)
	case p.hi != q.hi:
		return cmp.Compare(p.hi, q.hi)
	case p.lo != q.lo:
		return cmp.Compare(p.lo, q.lo)
	}
	return cmp.Compare(q.bits, p.bits)
}

// ownCluster says whether the cluster_id is 0.
func (p place) ownCluster() bool { return p.static>>16 == 0 }

// placeOf is the place of a key that has been judged.
func placeOf(b *[24]byte) place {
	bits := ipcacheBits(b)
	hi, lo := hostBits(bits)
	return place{
		static: binary.BigEndian.Uint32(b[4:]),
		hi:     binary.BigEndian.Uint64(b[8:]) | hi,
		lo:     binary.BigEndian.Uint64(b[16:]) | lo,
		bits:   bits,
	}
}

// ipcacheBits is the length of the prefix, its family's bits at most in a key that has been judged.
func ipcacheBits(b *[24]byte) uint32 { return binary.NativeEndian.Uint32(b[:]) - ipcacheStaticBits }

// hostBits has the bits set that follow the first so many of 128.
func hostBits(bits uint32) (hi, lo uint64) {
	return ^uint64(0) >> bits, ^uint64(0) >> (max(bits, 64) - 64)
}

// wrongIPCacheKey judges every byte of a key. It is asked of each entry of a map of hundreds of thousands, and looks at words.
//
// ipcache_key: 0 prefixlen u32 | 4 cluster_id u16 | 6 pad u8 | 7 family u8 | 8 address, network order.
func wrongIPCacheKey(b *[24]byte) (problem string) {
	hi, lo, width := binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:]), uint32(128)
	switch b[7] {
	case familyIPv6:
	case familyIPv4:
		if hi<<32|lo != 0 {
			return "bytes after the IPv4 address are not zero"
		}
		width = 32
	default:
		return unknownFamily(b[7])
	}
	if b[6] != 0 {
		return "padding at offset 6 is not zero"
	}
	bits := ipcacheBits(b) // of a prefixlen that is too small: very many
	if bits > width {
		return fmt.Sprintf("prefixlen %d at offset 0 is outside %d..%d", bits+ipcacheStaticBits, ipcacheStaticBits, ipcacheStaticBits+width)
	}
	if hostHi, hostLo := hostBits(bits); hi&hostHi|lo&hostLo != 0 {
		return fmt.Sprintf("address bits beyond prefixlen are set in %s", ipcacheKeyOf(b).Prefix)
	}
	return ""
}

// ipcacheKeyOf reads a key that has been judged.
func ipcacheKeyOf(b *[24]byte) IPCacheKey {
	addr := netip.AddrFrom16([16]byte(b[8:]))
	if b[7] == familyIPv4 {
		addr = netip.AddrFrom4([4]byte(b[8:]))
	}
	return IPCacheKey{Prefix: netip.PrefixFrom(addr, int(ipcacheBits(b))), ClusterID: binary.NativeEndian.Uint16(b[4:])}
}

// encodeIPCacheKey is the inverse, for lookups. The prefix must be valid; it is masked here.
func encodeIPCacheKey(p netip.Prefix) (b [24]byte) {
	addr := p.Masked().Addr()
	binary.NativeEndian.PutUint32(b[0:], ipcacheStaticBits+uint32(p.Bits()))
	b[7] = encodeAddr(b[8:24], addr)
	return b
}

// wrongRemoteEndpoint judges every byte of a value, as wrongIPCacheKey does a key's.
//
// remote_endpoint_info: 0 sec_identity u32 | 4 tunnel_endpoint 16 bytes | 20 pad u16 | 22 key u8 | 23 flags u8.
func wrongRemoteEndpoint(b *[24]byte) (problem string) {
	if b[20]|b[21] != 0 {
		return "padding at offset 20 is not zero"
	}
	first, rest := binary.NativeEndian.Uint32(b[4:]), uint64(binary.NativeEndian.Uint32(b[8:]))|binary.NativeEndian.Uint64(b[12:])
	switch flags := RemoteFlags(b[23]); {
	case flags&RemoteHasTunnel == 0 && uint64(first)|rest != 0:
		return fmt.Sprintf("tunnel endpoint at offset 4 is set and flags %#02x say there is none", b[23])
	case flags&RemoteHasTunnel != 0 && flags&RemoteIPv6Tunnel == 0 && rest != 0:
		return fmt.Sprintf("tunnel endpoint at offset 4 has more than 4 bytes and flags %#02x say it is IPv4", b[23])
	}
	return ""
}

// remoteEndpointOf reads a value that has been judged.
func remoteEndpointOf(b *[24]byte) RemoteEndpoint {
	return RemoteEndpoint{Identity: binary.NativeEndian.Uint32(b[:]), Tunnel: tunnelOf(b), EncryptKey: b[22], Flags: RemoteFlags(b[23])}
}

func tunnelOf(b *[24]byte) netip.Addr {
	switch flags := RemoteFlags(b[23]); {
	case flags&RemoteHasTunnel == 0:
		return netip.Addr{}
	case flags&RemoteIPv6Tunnel != 0:
		return netip.AddrFrom16([16]byte(b[4:]))
	}
	return netip.AddrFrom4([4]byte(b[4:]))
}

// encodeRemoteEndpoint is the inverse. The flags of the tunnel follow from the tunnel.
func encodeRemoteEndpoint(e RemoteEndpoint) (b [24]byte) {
	e.Flags &^= RemoteHasTunnel | RemoteIPv6Tunnel
	if e.Tunnel.IsValid() {
		e.Flags |= RemoteHasTunnel
	}
	if e.Tunnel.Is6() {
		e.Flags |= RemoteIPv6Tunnel
	}
	binary.NativeEndian.PutUint32(b[:], e.Identity)
	copy(b[4:20], e.Tunnel.AsSlice())
	b[22], b[23] = e.EncryptKey, byte(e.Flags)
	return b
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
		return netip.Addr{}, unknownFamily(family)
	}
}

func unknownFamily(family byte) string {
	return fmt.Sprintf("address family %d is neither 1 (IPv4) nor 2 (IPv6)", family)
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
