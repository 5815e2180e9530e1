// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
)

// The expected bytes are those of a node that ran Cilium 1.18.11.
func TestEncodesAsARealNodeDoes(t *testing.T) {
	mac := func(s string) net.HardwareAddr {
		m, err := net.ParseMAC(s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	for _, test := range []struct {
		name string
		got  []byte
		want string
	}{
		{"ipcache key of a peer's slice", ipcacheKey(prefix("10.244.1.0/24")), "38000000000000010af40100000000000000000000000000"},
		{"ipcache key of an address", ipcacheKey(prefix("172.18.0.12/32")), "4000000000000001ac12000c000000000000000000000000"},
		{"ipcache key of the world", ipcacheKey(prefix("0.0.0.0/0")), "200000000000000100000000000000000000000000000000"},
		{"ipcache value behind a tunnel", ipcacheValue(Remote{IdentityWorld, addr("172.18.0.12")}), "02000000ac12000c00000000000000000000000000000002"},
		{"ipcache value without a tunnel", ipcacheValue(Remote{Identity: 46964}), "74b700000000000000000000000000000000000000000000"},
		{"endpoint key", endpointKey(addr("10.244.0.147")), "0af4009300000000000000000000000001000000"},
		{"endpoint value of a pod", endpointValue(9, 73, 46964, mac("f2:b0:cb:a4:94:da"), mac("ae:81:92:2b:33:89")), "09000000000049000000000000000000f2b0cba494da0000ae81922b3389000074b70000000000000000000000000000"},
		{"endpoint value of the host", hostEndpointValue(), "000000000000000001000000000000000000000000000000000000000000000000000000000000000000000000000000"},
		{"node key", nodeKey(addr("172.18.0.12")), "00000001ac12000c000000000000000000000000"},
		{"node value", nodeValue(0x0548), "48050000"},
		{"policy of a pod, from the host", policyEntries(false)[2], "280000000100000000000000"},
		{"policy of the host, out", policyEntries(true)[1], "280000000000000001000000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := hex.EncodeToString(test.got); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func FuzzIPCacheKeyOfIPv4(f *testing.F) {
	f.Add([]byte{10, 244, 1, 0}, 24)
	f.Fuzz(func(t *testing.T, raw []byte, bits int) {
		if len(raw) != 4 || bits < 0 || bits > 32 {
			return
		}
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte(raw)), bits)
		key := ipcacheKey(p)
		if got := netip.AddrFrom4([4]byte(key[8:12])); got != p.Masked().Addr() || int(key[0]) != 32+bits {
			t.Errorf("%s: got %x", p, key)
		}
	})
}
