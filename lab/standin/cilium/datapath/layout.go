// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Reserved identities of Cilium (pkg/identity).
const (
	IdentityHost       = 1
	IdentityWorld      = 2
	IdentityHealth     = 4
	IdentityRemoteNode = 6
)

const (
	familyIPv4      = 1
	ipcacheStatic   = 32 // prefix bits of the LPM key before the address
	flagHasTunnel   = 0x02
	endpointFlagHst = 0x01
)

// Remote is what the ipcache says of an address: whose it is and behind which node it lives.
// An invalid TunnelEndpoint means that the address is reached without the tunnel.
type Remote struct {
	Identity       uint32
	TunnelEndpoint netip.Addr
}

func ipcacheKey(p netip.Prefix) []byte {
	key := make([]byte, 24)
	binary.LittleEndian.PutUint32(key[0:], uint32(ipcacheStatic+p.Bits()))
	key[7] = familyIPv4
	ip := p.Masked().Addr().As4()
	copy(key[8:], ip[:])
	return key
}

func ipcacheValue(r Remote) []byte {
	value := make([]byte, 24)
	binary.LittleEndian.PutUint32(value[0:], r.Identity)
	if r.TunnelEndpoint.IsValid() {
		ip := r.TunnelEndpoint.As4()
		copy(value[4:], ip[:])
		value[23] = flagHasTunnel
	}
	return value
}

func endpointKey(addr netip.Addr) []byte {
	key := make([]byte, 20)
	ip := addr.As4()
	copy(key, ip[:])
	key[16] = familyIPv4
	return key
}

func hostEndpointValue() []byte {
	value := make([]byte, 48)
	binary.LittleEndian.PutUint32(value[8:], endpointFlagHst)
	return value
}

func endpointValue(ifindex int, id uint16, identity uint32, mac, hostMAC net.HardwareAddr) []byte {
	value := make([]byte, 48)
	binary.LittleEndian.PutUint32(value[0:], uint32(ifindex))
	binary.LittleEndian.PutUint16(value[6:], id)
	copy(value[16:22], mac)
	copy(value[24:30], hostMAC)
	binary.LittleEndian.PutUint32(value[32:], identity)
	return value
}

func nodeKey(addr netip.Addr) []byte {
	key := make([]byte, 20)
	key[3] = familyIPv4
	ip := addr.As4()
	copy(key[4:], ip[:])
	return key
}

func nodeValue(id uint16) []byte {
	value := make([]byte, 4)
	binary.LittleEndian.PutUint16(value, id)
	return value
}

// policyEntries is the policy map of an endpoint on which nothing is enforced: everything is
// allowed in and out, and, for endpoints other than the host, so is the host.
func policyEntries(host bool) [][]byte {
	const prefixOfLabelOnly = 0x28
	in, out, fromHost := make([]byte, 12), make([]byte, 12), make([]byte, 12)
	for _, key := range [][]byte{in, out, fromHost} {
		key[0] = prefixOfLabelOnly
	}
	out[8] = 1
	fromHost[4] = IdentityHost
	if host {
		return [][]byte{in, out}
	}
	return [][]byte{in, out, fromHost}
}
