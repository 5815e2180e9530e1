// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func put[K, V any](tb testing.TB, m *ebpf.Map, key K, value V) {
	tb.Helper()
	if err := m.Put(key, value); err != nil {
		tb.Fatal(err)
	}
}

func replay(tb testing.TB, m *ebpf.Map, path string) {
	tb.Helper()
	for _, e := range rawEntries(tb, path) {
		put(tb, m, e.key, e.value)
	}
}

func TestReadersReturnWhatARealCiliumPinned(t *testing.T) {
	for _, capture := range captures(t) {
		t.Run(filepath.Base(capture), func(t *testing.T) {
			dir := globals(t)
			ipcache := pin(t, dir, IPCachePin, ipcacheLayout(), 512000)
			lxc := pin(t, dir, EndpointsPin, endpointsLayout(), 65535)
			config := pin(t, dir, RuntimeConfigPin, configLayout(), 256)
			replay(t, ipcache, filepath.Join(capture, "cilium_ipcache_v2.hex"))
			replay(t, lxc, filepath.Join(capture, "cilium_lxc.hex"))
			replay(t, config, filepath.Join(capture, "cilium_runtime_config.hex"))

			wantIP := make(map[netip.Prefix]RemoteEndpoint)
			for _, e := range rawEntries(t, filepath.Join(capture, "cilium_ipcache_v2.hex")) {
				k, v, err := DecodeIPCacheEntry(e.key, e.value)
				if err != nil {
					t.Fatal(err)
				}
				wantIP[k.Prefix] = v
			}
			gotIP, stats, err := ReadIPCache(dir)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(wantIP, maps.Collect(gotIP.All()), cmp.Comparer(netipEqual[netip.Addr])); d != "" {
				t.Errorf("ReadIPCache (-want +got):\n%s", d)
			}
			info, err := ipcache.Info()
			if err != nil {
				t.Fatal(err)
			}
			id, _ := info.ID()
			want := Stats{Pin: IPCachePin, MapID: id, MaxEntries: 512000, Entries: 16, Visited: 16, Batched: true}
			if stats != want || id == 0 {
				t.Errorf("stats = %+v, want %+v", stats, want)
			}

			wantEP := make(map[netip.Addr]Endpoint)
			for _, e := range rawEntries(t, filepath.Join(capture, "cilium_lxc.hex")) {
				k, v, err := DecodeEndpointEntry(e.key, e.value)
				if err != nil {
					t.Fatal(err)
				}
				wantEP[k.Addr] = v
			}
			gotEP, _, err := ReadEndpoints(dir)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(wantEP, gotEP); d != "" {
				t.Errorf("ReadEndpoints (-want +got):\n%s", d)
			}
			if got, err := ReadRuntimeConfig(dir); err != nil || got.AgentLiveness < 5971*time.Second || got.AgentLiveness > 6080*time.Second {
				t.Errorf("ReadRuntimeConfig = %+v, %v; want about 6000 s", got, err)
			}
		})
	}
}

func netipEqual[T comparable](a, b T) bool { return a == b }

func TestReadersReturnEmptyMapsAsEmpty(t *testing.T) {
	dir := globals(t)
	pin(t, dir, IPCachePin, ipcacheLayout(), 16)
	pin(t, dir, EndpointsPin, endpointsLayout(), 16)
	pin(t, dir, RuntimeConfigPin, configLayout(), 256)
	if got, stats, err := ReadIPCache(dir); err != nil || got.Len() != 0 || stats.Entries != 0 {
		t.Errorf("ReadIPCache = %v, %+v, %v", got, stats, err)
	}
	if got, stats, err := ReadEndpoints(dir); err != nil || got == nil || len(got) != 0 || stats.Entries != 0 {
		t.Errorf("ReadEndpoints = %v, %+v, %v", got, stats, err)
	}
	if got, err := ReadRuntimeConfig(dir); err != nil || got.AgentLiveness != 0 {
		t.Errorf("ReadRuntimeConfig = %v, %v; want a liveness of 0, never stamped", got, err)
	}
}

func TestReadersLeaveOtherClustersOut(t *testing.T) {
	dir := globals(t)
	ipcache := pin(t, dir, IPCachePin, ipcacheLayout(), 16)
	lxc := pin(t, dir, EndpointsPin, endpointsLayout(), 16)
	p, mine := remotePod(1)
	_, theirs := remotePod(2)
	put(t, ipcache, ipcacheKeyBytes(IPCacheKey{Prefix: p}), remoteEndpointBytes(mine))
	put(t, ipcache, ipcacheKeyBytes(IPCacheKey{Prefix: p, ClusterID: 7}), remoteEndpointBytes(theirs))
	addr, local := localPod(1)
	put(t, lxc, endpointKeyBytes(EndpointKey{Addr: addr}), endpointBytes(local))
	put(t, lxc, endpointKeyBytes(EndpointKey{Addr: addr, ClusterID: 7}), endpointBytes(Endpoint{IfIndex: 99}))

	got, stats, err := ReadIPCache(dir)
	e, _ := got.Get(p)
	if err != nil || got.Len() != 1 || e != mine || stats.OtherClusters != 1 || stats.Entries != 1 {
		t.Errorf("ReadIPCache = %+v, %+v, %v", got, stats, err)
	}
	eps, stats, err := ReadEndpoints(dir)
	if err != nil || len(eps) != 1 || eps[addr] != local || stats.OtherClusters != 1 {
		t.Errorf("ReadEndpoints = %+v, %+v, %v", eps, stats, err)
	}
}

func TestReadIPCacheTakesTheNewestPinAfterAnUpgrade(t *testing.T) {
	dir := globals(t)
	pin(t, dir, "cilium_ipcache", Layout{ebpf.LPMTrie, 24, 12}, 16)
	if _, _, err := ReadIPCache(dir); !as[*UnsupportedReleaseError](err) {
		t.Errorf("with 1.17's pin only: %v, want an UnsupportedReleaseError", err)
	}
	m := pin(t, dir, IPCachePin, ipcacheLayout(), 16)
	p, e := remotePod(1)
	put(t, m, ipcacheKeyBytes(IPCacheKey{Prefix: p}), remoteEndpointBytes(e))
	got, stats, err := ReadIPCache(dir)
	if found, _ := got.Get(p); err != nil || found != e || stats.Pin != IPCachePin {
		t.Errorf("with both pins: %v, %+v, %v", got, stats, err)
	}
	pin(t, dir, "cilium_ipcache_v3", Layout{ebpf.LPMTrie, 24, 32}, 16)
	_, _, err = ReadIPCache(dir)
	if !as[*UnknownLayoutError](err) || !strings.Contains(err.Error(), "cilium_ipcache_v3") {
		t.Errorf("with a pin of a release to come: %v, want an UnknownLayoutError for v3", err)
	}
}

func as[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// readers are all ways in, for what must hold for each.
func readers() map[string]func(globalsDir string) error {
	return map[string]func(string) error{
		"ReadIPCache": func(d string) error { _, _, err := ReadIPCache(d); return err },
		"LookupIPCache": func(d string) error {
			_, err := LookupIPCache(d, []netip.Prefix{mustPrefix("10.0.0.1/32")})
			return err
		},
		"ReadEndpoints": func(d string) error { _, _, err := ReadEndpoints(d); return err },
		"LookupEndpoints": func(d string) error {
			_, err := LookupEndpoints(d, []netip.Addr{netip.MustParseAddr("10.0.0.1")})
			return err
		},
		"ReadServices":      func(d string) error { _, err := ReadServices(d); return err },
		"ReadRuntimeConfig": func(d string) error { _, err := ReadRuntimeConfig(d); return err },
		"ReadLinks":         func(d string) error { _, err := ReadLinks(filepath.Dir(filepath.Dir(d))); return err },
	}
}

func TestMissingPinsSayWhetherTheBPFFSOrCiliumIsMissing(t *testing.T) {
	onBPFFS, elsewhere := globals(t), t.TempDir()
	for name, read := range readers() {
		t.Run(name, func(t *testing.T) {
			for dir, part := range map[string]string{onBPFFS: "cilium-agent", elsewhere: "no bpffs is visible"} {
				err := read(dir)
				if !errors.Is(err, fs.ErrNotExist) || !as[*OpenError](err) || !strings.Contains(err.Error(), part) {
					t.Errorf("in %s: %v; want an OpenError, fs.ErrNotExist, that says %q", dir, err, part)
				}
			}
		})
	}
}

func TestRegularFilesAreNotPins(t *testing.T) {
	bpffs(t) // root only
	dir := t.TempDir()
	for _, name := range []string{IPCachePin, EndpointsPin, RuntimeConfigPin} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"ReadIPCache", "ReadEndpoints", "ReadRuntimeConfig"} {
		if err := readers()[name](dir); err == nil || !strings.Contains(err.Error(), "not on a bpffs") {
			t.Errorf("%s: %v, want a sentence about the bpffs", name, err)
		}
	}
}

func TestUnknownLayoutsAreRefusedByEveryReader(t *testing.T) {
	dir := globals(t)
	pin(t, dir, IPCachePin, Layout{ebpf.LPMTrie, 24, 32}, 16)
	pin(t, dir, EndpointsPin, Layout{ebpf.Hash, 20, 56}, 16)
	pin(t, dir, RuntimeConfigPin, Layout{ebpf.Hash, 4, 8}, 16)
	pin(t, dir, ServicesPin, Layout{ebpf.Hash, 12, 16}, 16)
	for name, read := range readers() {
		if name == "ReadLinks" {
			continue
		}
		if err := read(dir); !as[*UnknownLayoutError](err) {
			t.Errorf("%s: %v, want an UnknownLayoutError", name, err)
		}
	}
}

func TestContradictingBytesAreRefused(t *testing.T) {
	dir := globals(t)
	ipcache := pin(t, dir, IPCachePin, ipcacheLayout(), 16)
	lxc := pin(t, dir, EndpointsPin, endpointsLayout(), 16)
	p, e := remotePod(1)
	bad := remoteEndpointBytes(e)
	bad[20] = 1
	put(t, ipcache, ipcacheKeyBytes(IPCacheKey{Prefix: p}), bad)
	addr, local := localPod(1)
	badEP := endpointBytes(local)
	badEP[47] = 1
	put(t, lxc, endpointKeyBytes(EndpointKey{Addr: addr}), badEP)
	if got, _, err := ReadIPCache(dir); !as[*DecodeError](err) || got.Len() != 0 {
		t.Errorf("ReadIPCache = %v, %v", got, err)
	}
	if _, err := LookupIPCache(dir, []netip.Prefix{p}); !as[*DecodeError](err) {
		t.Errorf("LookupIPCache: %v", err)
	}
	if got, _, err := ReadEndpoints(dir); !as[*DecodeError](err) || got != nil {
		t.Errorf("ReadEndpoints = %v, %v", got, err)
	}
	if _, err := LookupEndpoints(dir, []netip.Addr{addr}); !as[*DecodeError](err) {
		t.Errorf("LookupEndpoints: %v", err)
	}
}

func TestLookups(t *testing.T) {
	dir := globals(t)
	ipcache := pin(t, dir, IPCachePin, ipcacheLayout(), 16)
	lxc := pin(t, dir, EndpointsPin, endpointsLayout(), 16)
	cidr := RemoteEndpoint{Identity: IdentityWorld, Tunnel: netip.MustParseAddr("172.18.0.12"), Flags: RemoteHasTunnel}
	pod := RemoteEndpoint{Identity: 9491, Tunnel: netip.MustParseAddr("172.18.0.12"), Flags: RemoteHasTunnel}
	v6 := RemoteEndpoint{Identity: 272, Tunnel: netip.MustParseAddr("fd00::b"), Flags: RemoteHasTunnel | RemoteIPv6Tunnel}
	for p, e := range map[string]RemoteEndpoint{"10.244.1.0/24": cidr, "10.244.1.155/32": pod, "fd00:1::/64": v6} {
		put(t, ipcache, ipcacheKeyBytes(IPCacheKey{Prefix: mustPrefix(p)}), remoteEndpointBytes(e))
	}
	ask := []netip.Prefix{mustPrefix("10.244.1.0/24"), mustPrefix("10.244.1.155/32"), mustPrefix("10.244.1.7/32"),
		mustPrefix("10.244.2.0/24"), mustPrefix("10.244.0.0/16"), mustPrefix("fd00:1::5/128")}
	got, err := LookupIPCache(dir, ask)
	if err != nil {
		t.Fatal(err)
	}
	want := map[netip.Prefix]RemoteEndpoint{
		ask[0]: cidr, ask[1]: pod,
		ask[2]: cidr, // covered
		ask[5]: v6,   // covered
	}
	if d := cmp.Diff(want, got, cmp.Comparer(netipEqual[netip.Addr])); d != "" {
		t.Errorf("LookupIPCache (-want +got):\n%s", d)
	}
	if _, err := LookupIPCache(dir, []netip.Prefix{{}}); err == nil {
		t.Error("LookupIPCache took the zero prefix")
	}

	addr, local := localPod(1)
	other, _ := localPod(2)
	put(t, lxc, endpointKeyBytes(EndpointKey{Addr: addr}), endpointBytes(local))
	eps, err := LookupEndpoints(dir, []netip.Addr{addr, other})
	if err != nil || len(eps) != 1 || eps[addr] != local {
		t.Errorf("LookupEndpoints = %v, %v", eps, err)
	}
	if _, err := LookupEndpoints(dir, []netip.Addr{{}}); err == nil {
		t.Error("LookupEndpoints took the zero address")
	}
}

func TestMonotonicIsTheClockTheAgentStampsWith(t *testing.T) {
	dir := globals(t)
	config := pin(t, dir, RuntimeConfigPin, configLayout(), 256)
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	put(t, config, agentLivenessIndex, uint64(ts.Nano()))
	got, err := ReadRuntimeConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	now, err := Monotonic()
	if err != nil {
		t.Fatal(err)
	}
	if age := now - got.AgentLiveness; age < 0 || age > time.Minute {
		t.Errorf("a stamp of just now is %v old", age)
	}
}
