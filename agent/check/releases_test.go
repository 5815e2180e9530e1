// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/cniconf"
)

// release is what a node of a release shows otherwise than the captured 1.18.11, as far as any check can see it: the differences that
// the released versions' own sources have (pins: pkg/maps; endpoint_info: bpf/lib/eps.h; conflist: daemon/cmd/cni).
type release struct {
	name  string
	apply func(f *facts.Facts)
	// entry changes a value of cilium_lxc.
	entry func(value []byte)
}

func releases() []release {
	same := func([]byte) {}
	pins := func(f *facts.Facts, more ...string) {
		for _, p := range more {
			if !slices.Contains(f.Pins.Names, p) {
				f.Pins.Names = append(f.Pins.Names, p)
			}
		}
	}
	return []release{
		{"1.18", func(*facts.Facts) {}, same},
		// The source ranges' map is no longer kube-proxy replacement's alone.
		{"1.19", func(f *facts.Facts) { pins(f, "cilium_lb4_source_range", "cilium_subnet_map") }, same},
		{"1.20", func(f *facts.Facts) {
			pins(f, "cilium_lb4_source_range", "cilium_subnet_map", "cilium_devices")
			for i, p := range f.Pins.Names {
				f.Pins.Names[i] = strings.Replace(p, "cilium_policy_v2_", "cilium_policy_v3_", 1)
			}
			for i := range f.ConfDir.Entries {
				f.ConfDir.Entries[i].Bytes = bytes.Replace(f.ConfDir.Entries[i].Bytes, []byte("0.3.1"), []byte("1.0.0"), 1)
			}
		}, func(v []byte) {
			const rtInfo, flags, noSNAT = 12, 8, 4
			binary.NativeEndian.PutUint32(v[rtInfo:], 7)
			binary.NativeEndian.PutUint32(v[flags:], binary.NativeEndian.Uint32(v[flags:])|noSNAT)
		}},
	}
}

// raw is a map's entries as bytes, read anew after every change.
type raw struct{ lxc, ipcache []rawEntry }

type rawEntry struct{ key, value []byte }

func rawMaps(t *testing.T, folder string) *raw {
	t.Helper()
	read := func(file string) (out []rawEntry) {
		entries(t, filepath.Join(folder, file), func(key, value []byte) { out = append(out, rawEntry{key, value}) })
		return out
	}
	return &raw{read("cilium_lxc.hex"), read("cilium_ipcache_v2.hex")}
}

// into decodes the maps as the agent does: what contradicts the layout is of a shape that nobody knows.
func (r *raw) into(f *facts.Facts) {
	f.Endpoints.ByIP, f.Endpoints.Look = map[netip.Addr]ciliummap.Endpoint{}, seen
	for _, e := range r.lxc {
		k, v, err := ciliummap.DecodeEndpointEntry(e.key, e.value)
		if err != nil {
			f.Endpoints.Look = facts.Look{Sight: facts.Alien, Detail: err.Error()}
		}
		f.Endpoints.ByIP[k.Addr] = v
	}
	f.IPCache.Look = seen
	remotes := map[netip.Prefix]ciliummap.RemoteEndpoint{}
	for _, e := range r.ipcache {
		k, v, err := ciliummap.DecodeIPCacheEntry(e.key, e.value)
		if err != nil {
			f.IPCache.Look = facts.Look{Sight: facts.Alien, Detail: err.Error()}
			continue
		}
		remotes[k.Prefix] = v
	}
	f.IPCache.Entries = ciliummap.NewIPCache(remotes)
}

// planted is a fault of the data plane and the check that names it.
type planted struct {
	plant   func(r *raw, f *facts.Facts)
	check   v1alpha1.CheckName
	verdict v1alpha1.Verdict
	reasons []v1alpha1.Reason // any of them: which of two wrong entries is met first is not said
}

func plantedFaults() map[string]planted {
	pods := func(r *raw, change func(v []byte)) { // of endpoints that are not the host's
		for _, e := range r.lxc {
			if binary.NativeEndian.Uint32(e.value) != 0 {
				change(e.value)
			}
		}
	}
	tunnels := func(r *raw, change func(v []byte)) {
		for _, e := range r.ipcache {
			if e.value[4] != 0 {
				change(e.value)
			}
		}
	}
	foreign := func(list []rawEntry) {
		for _, e := range list {
			for i := range e.value {
				e.value[i] = byte(0xa0 + i)
			}
		}
	}
	maps, fails, doubts := v1alpha1.CheckOverlayMaps, v1alpha1.VerdictFail, v1alpha1.VerdictUnknown
	wrong := []v1alpha1.Reason{v1alpha1.EndpointWrong}
	alien := []v1alpha1.Reason{v1alpha1.MapLayoutUnknown}
	return map[string]planted{
		"cilium_lxc with its MACs four bytes further": {func(r *raw, _ *facts.Facts) {
			pods(r, func(v []byte) { copy(v[20:36], slices.Clone(v[16:32])); copy(v[16:20], make([]byte, 4)) })
		}, maps, doubts, alien},
		"cilium_lxc with both MACs in each other's place": {func(r *raw, _ *facts.Facts) {
			pods(r, func(v []byte) { m := slices.Clone(v[16:24]); copy(v[16:24], v[24:32]); copy(v[24:32], m) })
		}, maps, fails, wrong},
		"cilium_lxc with the index in the other byte order": {func(r *raw, _ *facts.Facts) {
			pods(r, func(v []byte) { slices.Reverse(v[0:4]) })
		}, maps, fails, wrong},
		"ipcache with endpoints in the other byte order": {func(r *raw, _ *facts.Facts) {
			tunnels(r, func(v []byte) { slices.Reverse(v[4:8]) })
		}, maps, fails, []v1alpha1.Reason{v1alpha1.PeerWrongEndpoint}},
		"ipcache with endpoints four bytes further": {func(r *raw, _ *facts.Facts) {
			tunnels(r, func(v []byte) { copy(v[8:12], v[4:8]); copy(v[4:8], make([]byte, 4)) })
		}, maps, doubts, alien},
		"ipcache with prefix lengths in the other byte order": {func(r *raw, _ *facts.Facts) {
			for _, e := range r.ipcache {
				slices.Reverse(e.key[0:4])
			}
		}, maps, doubts, alien},
		"a foreign map of cilium_lxc's size":           {func(r *raw, _ *facts.Facts) { foreign(r.lxc) }, maps, doubts, alien},
		"a foreign map of the ipcache's size":          {func(r *raw, _ *facts.Facts) { foreign(r.ipcache) }, maps, doubts, alien},
		"an empty ipcache pinned by a restarted agent": {func(r *raw, _ *facts.Facts) { r.ipcache = nil }, maps, fails, []v1alpha1.Reason{v1alpha1.PeerMissing}},
		"a half-filled ipcache": {func(r *raw, _ *facts.Facts) {
			r.ipcache = slices.DeleteFunc(r.ipcache, func(e rawEntry) bool { return bytes.HasPrefix(e.key[8:], []byte{10, 244, 2, 0}) })
		}, maps, fails, []v1alpha1.Reason{v1alpha1.PeerMissing}},
		"a half-filled cilium_lxc": {func(r *raw, _ *facts.Facts) {
			r.lxc = slices.DeleteFunc(r.lxc, func(e rawEntry) bool { return binary.NativeEndian.Uint32(e.value) == 0 })
		}, maps, doubts, []v1alpha1.Reason{v1alpha1.MapIncomplete}},
		"a program that holds an old map": {func(_ *raw, f *facts.Facts) {
			mapsAsked(f)
			held(f, "cil_from_overlay", ciliummap.Uses{Now: []string{ciliummap.EndpointsPin}, Old: []string{ciliummap.IPCachePin}})
		}, v1alpha1.CheckPrograms, fails, []v1alpha1.Reason{v1alpha1.ProgramUsesOldMap}},
		"programs of which none uses the pinned ipcache": {func(_ *raw, f *facts.Facts) {
			mapsAsked(f)
			for id := range f.MapUses.By {
				f.MapUses.By[id] = ciliummap.Uses{Now: []string{ciliummap.EndpointsPin}}
			}
		}, v1alpha1.CheckPrograms, doubts, []v1alpha1.Reason{v1alpha1.MapUsesUnknown}},
		"an agent that is dead": {func(_ *raw, f *facts.Facts) { f.Liveness.Now += facts.MaxSilence }, v1alpha1.CheckCiliumAlive, fails, []v1alpha1.Reason{v1alpha1.CiliumStopped}},
		"no program at the tunnel": {func(_ *raw, f *facts.Facts) {
			f.Programs.List = slices.DeleteFunc(f.Programs.List, func(p facts.Program) bool { return p.Name == "cil_from_overlay" })
		}, v1alpha1.CheckPrograms, fails, []v1alpha1.Reason{v1alpha1.ProgramMissing}},
	}
}

// TestEveryReleaseInEveryModeIsJudged plants every fault on a node of every release, without and with kube-proxy replacement: each is named
// by the check whose it is, and the node without one passes everything.
func TestEveryReleaseInEveryModeIsJudged(t *testing.T) {
	modes := map[string]string{"cilium-1.18.11-kpr-false": "10.244.0.52", "cilium-1.18.11-kpr-true": "10.244.0.118"}
	for _, r := range releases() {
		for capture, podIP := range modes {
			folder := filepath.Join("testdata", capture)
			node := func(t *testing.T) (*raw, *facts.Facts) {
				f, m := captured(t, folder), rawMaps(t, folder)
				f.Pods.List[0].IPs = []netip.Addr{ip(podIP)}
				f.Own.HealthIP, f.Own.CiliumIPs = netip.Addr{}, nil // of another run than the maps
				for i := range f.Peers.List {
					f.Peers.List[i].Node = facts.PeerNode{Look: seen, Created: longAgo, Ready: true}
				}
				r.apply(f)
				for _, e := range m.lxc {
					if binary.NativeEndian.Uint32(e.value) != 0 {
						r.entry(e.value)
					}
				}
				return m, f
			}
			name := r.name + "/" + strings.TrimPrefix(capture, "cilium-1.18.11-")
			t.Run(name+"/well", func(t *testing.T) {
				m, f := node(t)
				m.into(f)
				if o := f.ConfDir.Judge(); o.State != cniconf.Ready {
					t.Fatalf("net.d: %s", o.Why)
				}
				for _, proved := range []bool{false, true} {
					if proved {
						mapsAsked(f)
					}
					for _, x := range Judge(f, v1alpha1.RoleOverlay, nil) {
						if x.Verdict != v1alpha1.VerdictPass && x.Reason != v1alpha1.MeterAtRest { // nobody asks
							t.Errorf("%s: %s %s: %s", x.Check, x.Verdict, x.Reason, x.Message)
						}
						if x.Check == v1alpha1.CheckPrograms && strings.Contains(x.Message, "is not proved") == proved {
							t.Errorf("asked for maps: %t: %s", proved, x.Message)
						}
					}
				}
			})
			for fault, p := range plantedFaults() {
				t.Run(name+"/"+fault, func(t *testing.T) {
					m, f := node(t)
					p.plant(m, f)
					m.into(f)
					if x := find(t, Judge(f, v1alpha1.RoleOverlay, nil), p.check); x.Verdict != p.verdict || !slices.Contains(p.reasons, x.Reason) {
						t.Errorf("%s %s (%s), want %s %v", x.Verdict, x.Reason, x.Message, p.verdict, p.reasons)
					}
				})
			}
		}
	}
}
