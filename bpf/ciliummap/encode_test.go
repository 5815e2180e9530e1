// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Encoders for the tests, written from the offsets and not from the decoders.

func ipcacheKeyBytes(k IPCacheKey) [24]byte {
	b := encodeIPCacheKey(k.Prefix)
	binary.NativeEndian.PutUint16(b[4:], k.ClusterID)
	return b
}

func remoteEndpointBytes(e RemoteEndpoint) (b [24]byte) {
	binary.NativeEndian.PutUint32(b[0:], e.Identity)
	copy(b[4:20], e.Tunnel.AsSlice())
	b[22] = e.EncryptKey
	b[23] = byte(e.Flags)
	return b
}

func endpointKeyBytes(k EndpointKey) [20]byte {
	b := encodeEndpointKey(k.Addr)
	binary.NativeEndian.PutUint16(b[18:], k.ClusterID)
	return b
}

func endpointBytes(e Endpoint) (b [48]byte) {
	binary.NativeEndian.PutUint32(b[0:], e.IfIndex)
	binary.NativeEndian.PutUint16(b[6:], e.ID)
	binary.NativeEndian.PutUint32(b[8:], uint32(e.Flags))
	copy(b[16:], e.PodMAC[:])
	copy(b[24:], e.NodeMAC[:])
	binary.NativeEndian.PutUint32(b[32:], e.SecID)
	binary.NativeEndian.PutUint32(b[36:], e.ParentIfIndex)
	return b
}

// remotePod is the i-th pod of a large cluster: distinct address, value a function of i.
func remotePod(i int) (netip.Prefix, RemoteEndpoint) {
	addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	return netip.PrefixFrom(addr, 32), RemoteEndpoint{
		Identity: uint32(i) + 256,
		Tunnel:   netip.AddrFrom4([4]byte{172, 18, byte(i >> 16), byte(i >> 8)}),
		Flags:    RemoteHasTunnel,
	}
}

func localPod(i int) (netip.Addr, Endpoint) {
	p, _ := remotePod(i)
	return p.Addr(), Endpoint{
		IfIndex: uint32(i) + 2,
		ID:      uint16(i),
		PodMAC:  MAC{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)},
		NodeMAC: MAC{6, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)},
		SecID:   uint32(i) + 256,
	}
}

func mustPrefix(s string) netip.Prefix {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		panic(fmt.Sprintf("test vector: %v", err))
	}
	return p
}
