// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type rawEntry struct{ key, value []byte }

func captures(tb testing.TB) []string {
	tb.Helper()
	dirs, err := filepath.Glob("testdata/cilium-*")
	if err != nil || len(dirs) == 0 {
		tb.Fatalf("no captures in testdata: %v", err)
	}
	return dirs
}

func rawEntries(tb testing.TB, path string) []rawEntry {
	tb.Helper()
	var entries []rawEntry
	for _, line := range lines(tb, path) {
		k, v, _ := strings.Cut(line, " ")
		key, err1 := hex.DecodeString(k)
		value, err2 := hex.DecodeString(v)
		if err := errors.Join(err1, err2); err != nil {
			tb.Fatalf("%s: %v", path, err)
		}
		entries = append(entries, rawEntry{key, value})
	}
	if len(entries) == 0 {
		tb.Fatalf("%s is empty", path)
	}
	return entries
}

func lines(tb testing.TB, path string) []string {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		out = append(out, s.Text())
	}
	return out
}

// diffWords compares lines irrespective of order and of blanks.
func diffWords(want, got []string) string {
	norm := func(in []string) []string {
		out := make([]string, len(in))
		for i, l := range in {
			out[i] = strings.Join(strings.Fields(l), " ")
		}
		slices.Sort(out)
		return out
	}
	return cmp.Diff(norm(want), norm(got))
}

// The expectation is what Cilium's own tool printed, not what an earlier run of this package did.
func TestDecodeIPCacheEntryAgreesWithCilium(t *testing.T) {
	for _, dir := range captures(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			got := []string{"IP PREFIX/ADDRESS IDENTITY"}
			for _, e := range rawEntries(t, filepath.Join(dir, "cilium_ipcache_v2.hex")) {
				k, v, err := DecodeIPCacheEntry(e.key, e.value)
				if err != nil {
					t.Fatal(err)
				}
				tunnel, flags := "0.0.0.0", "<none>"
				if v.Tunnel.IsValid() {
					tunnel = v.Tunnel.String()
				}
				if v.Flags == RemoteHasTunnel {
					flags = "hastunnel"
				} else if v.Flags != 0 {
					t.Errorf("%s has flags %#x, which these captures do not have", k.Prefix, v.Flags)
				}
				got = append(got, fmt.Sprintf("%s identity=%d encryptkey=%d tunnelendpoint=%s flags=%s",
					k.Prefix, v.Identity, v.EncryptKey, tunnel, flags))
			}
			if d := diffWords(lines(t, filepath.Join(dir, "ipcache_list.txt")), got); d != "" {
				t.Errorf("decoded entries differ from cilium-dbg bpf ipcache list (-cilium +ours):\n%s", d)
			}
		})
	}
}

func TestDecodeEndpointEntryAgreesWithCilium(t *testing.T) {
	for _, dir := range captures(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			got := []string{"IP ADDRESS LOCAL ENDPOINT INFO"}
			for _, e := range rawEntries(t, filepath.Join(dir, "cilium_lxc.hex")) {
				k, v, err := DecodeEndpointEntry(e.key, e.value)
				if err != nil {
					t.Fatal(err)
				}
				line := fmt.Sprintf("%s:%d ", k.Addr, k.ClusterID)
				if v.IsHost() {
					line += "(localhost)"
				} else {
					line += fmt.Sprintf("id=%d sec_id=%d flags=0x%04x ifindex=%d mac=%s nodemac=%s parent_ifindex=%d", v.ID, v.SecID,
						uint32(v.Flags), v.IfIndex, strings.ToUpper(v.PodMAC.String()), strings.ToUpper(v.NodeMAC.String()), v.ParentIfIndex)
				}
				got = append(got, line)
			}
			if d := diffWords(lines(t, filepath.Join(dir, "endpoint_list.txt")), got); d != "" {
				t.Errorf("decoded entries differ from cilium-dbg bpf endpoint list (-cilium +ours):\n%s", d)
			}
		})
	}
}

func TestDecodeAgentLivenessIsTheUptimeOfTheCapturedHost(t *testing.T) {
	want := map[string]time.Duration{
		"cilium-1.18.11-kpr-false": 5971323001481,
		"cilium-1.18.11-kpr-true":  6079991753703,
	}
	for _, dir := range captures(t) {
		e := rawEntries(t, filepath.Join(dir, "cilium_runtime_config.hex"))[0]
		got, err := DecodeAgentLiveness(e.value)
		if err != nil || got != want[filepath.Base(dir)] {
			t.Errorf("%s: DecodeAgentLiveness = %v, %v; want %v", dir, got, err, want[filepath.Base(dir)])
		}
	}
	for _, b := range [][]byte{nil, make([]byte, 4), bytes.Repeat([]byte{0xff}, 8)} {
		if got, err := DecodeAgentLiveness(b); err == nil {
			t.Errorf("DecodeAgentLiveness(%x) = %v, want an error", b, got)
		}
	}
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func littleEndianOnly(tb testing.TB) {
	tb.Helper()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		tb.Skip("the vectors of this test are of little-endian hosts")
	}
}

func TestDecodeIPCacheEntry(t *testing.T) {
	littleEndianOnly(t)
	const (
		v4key   = "38000000 0000 00 01 0af40100 000000000000000000000000"
		v4value = "02000000 ac12000c 000000000000000000000000 0000 00 02"
	)
	for name, tc := range map[string]struct {
		key, value string
		wantKey    IPCacheKey
		want       RemoteEndpoint
		wantErr    string
	}{
		"pod CIDR of a peer": {v4key, v4value,
			IPCacheKey{Prefix: mustPrefix("10.244.1.0/24")},
			RemoteEndpoint{Identity: 2, Tunnel: netip.MustParseAddr("172.18.0.12"), Flags: RemoteHasTunnel}, ""},
		"IPv6 pod behind an IPv6 underlay, encrypted": {
			"a0000000 0000 00 02 fd000000000000000000000000000001",
			"10010000 fd00000000000000000000000000000b 0000 03 0e",
			IPCacheKey{Prefix: mustPrefix("fd00::1/128")},
			RemoteEndpoint{Identity: 272, Tunnel: netip.MustParseAddr("fd00::b"), EncryptKey: 3,
				Flags: RemoteHasTunnel | RemoteIPv6Tunnel | RemoteOtherCluster}, ""},
		"IPv6 pod behind an IPv4 underlay": {
			"a0000000 0000 00 02 fd000000000000000000000000000001", v4value,
			IPCacheKey{Prefix: mustPrefix("fd00::1/128")},
			RemoteEndpoint{Identity: 2, Tunnel: netip.MustParseAddr("172.18.0.12"), Flags: RemoteHasTunnel}, ""},
		"default route": {"20000000 0000 00 01 00000000 000000000000000000000000",
			"02000000 00000000 000000000000000000000000 0000 00 00",
			IPCacheKey{Prefix: mustPrefix("0.0.0.0/0")}, RemoteEndpoint{Identity: 2}, ""},
		"other cluster and a flag of a later release": {"40000000 0700 00 01 0af40105 000000000000000000000000",
			"02000000 00000000 000000000000000000000000 0000 00 10",
			IPCacheKey{Prefix: mustPrefix("10.244.1.5/32"), ClusterID: 7}, RemoteEndpoint{Identity: 2, Flags: 0x10}, ""},
		"short key":             {v4key[:8], v4value, IPCacheKey{}, RemoteEndpoint{}, "instead of 24"},
		"1.17 value":            {v4key, "02000000 ac12000c 0000 00 00", IPCacheKey{}, RemoteEndpoint{}, "12 bytes instead of 24"},
		"key padding":           {"38000000 0000 01 01 0af40100 000000000000000000000000", v4value, IPCacheKey{}, RemoteEndpoint{}, "offset 6"},
		"family 0":              {"38000000 0000 00 00 0af40100 000000000000000000000000", v4value, IPCacheKey{}, RemoteEndpoint{}, "family 0"},
		"family 3":              {"38000000 0000 00 03 0af40100 000000000000000000000000", v4value, IPCacheKey{}, RemoteEndpoint{}, "family 3"},
		"IPv4 with a tail":      {"38000000 0000 00 01 0af40100 000000000000000000000001", v4value, IPCacheKey{}, RemoteEndpoint{}, "after the IPv4 address"},
		"prefixlen below 32":    {"1f000000 0000 00 01 00000000 000000000000000000000000", v4value, IPCacheKey{}, RemoteEndpoint{}, "outside 32..64"},
		"IPv4 prefixlen over":   {"41000000 0000 00 01 0af40100 000000000000000000000000", v4value, IPCacheKey{}, RemoteEndpoint{}, "outside 32..64"},
		"IPv6 prefixlen over":   {"a1000000 0000 00 02 fd000000000000000000000000000001", v4value, IPCacheKey{}, RemoteEndpoint{}, "outside 32..160"},
		"host bits":             {"38000000 0000 00 01 0af40101 000000000000000000000000", v4value, IPCacheKey{}, RemoteEndpoint{}, "beyond prefixlen"},
		"value padding":         {v4key, "02000000 ac12000c 000000000000000000000000 0100 00 02", IPCacheKey{}, RemoteEndpoint{}, "offset 20"},
		"tunnel without flag":   {v4key, "02000000 ac12000c 000000000000000000000000 0000 00 00", IPCacheKey{}, RemoteEndpoint{}, "say there is none"},
		"IPv4 tunnel with tail": {v4key, "02000000 ac12000c 000000000000000000000001 0000 00 02", IPCacheKey{}, RemoteEndpoint{}, "more than 4 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			k, v, err := DecodeIPCacheEntry(unhex(t, tc.key), unhex(t, tc.value))
			checkDecode(t, err, tc.wantErr)
			if k != tc.wantKey || v != tc.want {
				t.Errorf("got %+v, %+v; want %+v, %+v", k, v, tc.wantKey, tc.want)
			}
		})
	}
}

func TestDecodeEndpointEntry(t *testing.T) {
	littleEndianOnly(t)
	const (
		key   = "0af40034 000000000000000000000000 01 00 0000"
		value = "09000000 0000 4900 00000000 00000000 f2b0cba494da 0000 ae81922b3389 0000 74b70000 03000000 0000000000000000"
	)
	pod := Endpoint{IfIndex: 9, ID: 73, PodMAC: MAC{0xf2, 0xb0, 0xcb, 0xa4, 0x94, 0xda},
		NodeMAC: MAC{0xae, 0x81, 0x92, 0x2b, 0x33, 0x89}, SecID: 46964, ParentIfIndex: 3}
	pod20 := pod
	pod20.Flags = EndpointNoSNATv4
	for name, tc := range map[string]struct {
		key, value string
		wantKey    EndpointKey
		want       Endpoint
		wantErr    string
	}{
		"pod": {key, value, EndpointKey{Addr: netip.MustParseAddr("10.244.0.52")}, pod, ""},
		"IPv6 pod of 1.20 with rt_info": {"fd000000000000000000000000000001 02 00 0000",
			"09000000 0000 4900 04000000 2a000000" + value[36:], EndpointKey{Addr: netip.MustParseAddr("fd00::1")}, pod20, ""},
		"short value":      {key, value[:len(value)-2], EndpointKey{}, Endpoint{}, "47 bytes instead of 48"},
		"short key":        {key[:8], value, EndpointKey{}, Endpoint{}, "instead of 20"},
		"family 0":         {"0af40034 000000000000000000000000 00 00 0000", value, EndpointKey{}, Endpoint{}, "family 0"},
		"key byte":         {"0af40034 000000000000000000000000 01 01 0000", value, EndpointKey{}, Endpoint{}, "offset 17"},
		"IPv4 with a tail": {"0af40034 010000000000000000000000 01 00 0000", value, EndpointKey{}, Endpoint{}, "after the IPv4 address"},
		"unused field":     {key, strings.Replace(value, " 0000 4900", " 0100 4900", 1), EndpointKey{}, Endpoint{}, "offset 4"},
		"mac padding":      {key, strings.Replace(value, "94da 0000", "94da 0001", 1), EndpointKey{}, Endpoint{}, "offset 22"},
		"node mac padding": {key, strings.Replace(value, "3389 0000", "3389 0001", 1), EndpointKey{}, Endpoint{}, "offset 30"},
		"tail":             {key, value[:len(value)-1] + "1", EndpointKey{}, Endpoint{}, "offset 40"},
	} {
		t.Run(name, func(t *testing.T) {
			k, v, err := DecodeEndpointEntry(unhex(t, tc.key), unhex(t, tc.value))
			checkDecode(t, err, tc.wantErr)
			if k != tc.wantKey || v != tc.want {
				t.Errorf("got %+v, %+v; want %+v, %+v", k, v, tc.wantKey, tc.want)
			}
		})
	}
}

func checkDecode(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if _, ok := errors.AsType[*DecodeError](err); !ok || !strings.Contains(err.Error(), want) {
		t.Fatalf("got error %v, want a DecodeError with %q", err, want)
	}
}

// What decodes is exactly what encodes back: nothing in the bytes is dropped or invented.
func FuzzDecodeIPCacheEntry(f *testing.F) {
	for _, dir := range captures(f) {
		for _, e := range rawEntries(f, filepath.Join(dir, "cilium_ipcache_v2.hex")) {
			f.Add(e.key, e.value)
		}
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		k, v, err := DecodeIPCacheEntry(key, value)
		if err != nil {
			if _, ok := errors.AsType[*DecodeError](err); !ok {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		kb, vb := ipcacheKeyBytes(k), remoteEndpointBytes(v)
		if !bytes.Equal(kb[:], key) || !bytes.Equal(vb[:], value) {
			t.Fatalf("%x %x decodes to %+v %+v, which encodes to %x %x", key, value, k, v, kb, vb)
		}
	})
}

func FuzzDecodeEndpointEntry(f *testing.F) {
	for _, dir := range captures(f) {
		for _, e := range rawEntries(f, filepath.Join(dir, "cilium_lxc.hex")) {
			f.Add(e.key, e.value)
		}
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		k, v, err := DecodeEndpointEntry(key, value)
		if err != nil {
			if _, ok := errors.AsType[*DecodeError](err); !ok {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		kb, vb := endpointKeyBytes(k), endpointBytes(v)
		copy(vb[12:16], value[12:16]) // rt_info since 1.20, not decoded
		if !bytes.Equal(kb[:], key) || !bytes.Equal(vb[:], value) {
			t.Fatalf("%x %x decodes to %+v %+v, which encodes to %x %x", key, value, k, v, kb, vb)
		}
	})
}
