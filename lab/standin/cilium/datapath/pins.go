// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Directories below the root of a bpffs (Cilium pkg/bpf, pkg/datapath/loader).
const (
	globalsDir   = "tc/globals"
	devicesDir   = "cilium/devices"
	endpointsDir = "cilium/endpoints"
)

const (
	noPrealloc  = unix.BPF_F_NO_PREALLOC
	noCommonLRU = unix.BPF_F_NO_COMMON_LRU
	callSlots   = 48
)

// globals is every map that the agent pins at its start, with the sizes of Cilium 1.18.11.
// The original derives the sizes of the connection tables from the machine's memory; here they
// are its lower bounds, since several nodes share one machine.
func globals() []ebpf.MapSpec {
	cpus := uint32(ebpf.MustPossibleCPU())
	return []ebpf.MapSpec{
		{Name: "cilium_ipcache_v2", Type: ebpf.LPMTrie, KeySize: 24, ValueSize: 24, MaxEntries: 512000, Flags: noPrealloc},
		{Name: "cilium_lxc", Type: ebpf.Hash, KeySize: 20, ValueSize: 48, MaxEntries: 65535, Flags: noPrealloc},
		{Name: "cilium_node_map_v2", Type: ebpf.Hash, KeySize: 20, ValueSize: 4, MaxEntries: 16384, Flags: noPrealloc},
		{Name: "cilium_metrics", Type: ebpf.PerCPUHash, KeySize: 8, ValueSize: 16, MaxEntries: 1024, Flags: noPrealloc},
		{Name: "cilium_runtime_config", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 256},
		{Name: "cilium_lb4_services_v2", Type: ebpf.Hash, KeySize: 12, ValueSize: 12, MaxEntries: 65536, Flags: noPrealloc},
		{Name: "cilium_lb4_backends_v3", Type: ebpf.Hash, KeySize: 4, ValueSize: 12, MaxEntries: 65536, Flags: noPrealloc},
		{Name: "cilium_lb4_reverse_nat", Type: ebpf.Hash, KeySize: 2, ValueSize: 6, MaxEntries: 65536, Flags: noPrealloc},
		{Name: "cilium_lb4_reverse_sk", Type: ebpf.LRUHash, KeySize: 16, ValueSize: 8, MaxEntries: 64 << 10},
		{Name: "cilium_lb4_affinity", Type: ebpf.LRUHash, KeySize: 16, ValueSize: 16, MaxEntries: 65536},
		{Name: "cilium_lb_affinity_match", Type: ebpf.Hash, KeySize: 8, ValueSize: 1, MaxEntries: 65536, Flags: noPrealloc},
		{Name: "cilium_ct4_global", Type: ebpf.LRUHash, KeySize: 14, ValueSize: 56, MaxEntries: 128 << 10},
		{Name: "cilium_ct_any4_global", Type: ebpf.LRUHash, KeySize: 14, ValueSize: 56, MaxEntries: 64 << 10},
		{Name: "cilium_policystats", Type: ebpf.LRUCPUHash, KeySize: 12, ValueSize: 16, MaxEntries: 65536, Flags: noCommonLRU},
		{Name: "cilium_call_policy", Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 65535},
		{Name: "cilium_egresscall_policy", Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 65535},
		{Name: "cilium_auth_map", Type: ebpf.Hash, KeySize: 12, ValueSize: 8, MaxEntries: 524288, Flags: noPrealloc},
		{Name: "cilium_events", Type: ebpf.PerfEventArray, KeySize: 4, ValueSize: 4, MaxEntries: cpus},
		{Name: "cilium_signals", Type: ebpf.PerfEventArray, KeySize: 4, ValueSize: 4, MaxEntries: cpus},
		{Name: "cilium_ipv4_frag_datagrams", Type: ebpf.LRUHash, KeySize: 12, ValueSize: 4, MaxEntries: 8192},
		{Name: "cilium_l2_responder_v4", Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 4096, Flags: noPrealloc},
		{Name: "cilium_ratelimit", Type: ebpf.LRUHash, KeySize: 8, ValueSize: 16, MaxEntries: 1024},
		{Name: "cilium_ratelimit_metrics", Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 64, Flags: noPrealloc},
		{Name: "cilium_skip_lb4", Type: ebpf.Hash, KeySize: 16, ValueSize: 1, MaxEntries: 100, Flags: noPrealloc},
	}
}

func callsSpec(name string) ebpf.MapSpec {
	return ebpf.MapSpec{Name: name, Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: callSlots}
}

func policySpec(id uint16) ebpf.MapSpec {
	return ebpf.MapSpec{Name: policyName(id), Type: ebpf.LPMTrie, KeySize: 12, ValueSize: 8, MaxEntries: 16384, Flags: noPrealloc}
}

func policyName(id uint16) string    { return fmt.Sprintf("cilium_policy_v2_%05d", id) }
func callsName(id uint16) string     { return fmt.Sprintf("cilium_calls_%05d", id) }
func hostCallsName(id uint16) string { return fmt.Sprintf("cilium_calls_hostns_%05d", id) }
func netdevCallsName(i int) string   { return fmt.Sprintf("cilium_calls_netdev_%05d", i) }

const overlayCallsName = "cilium_calls_overlay_2"

// pinSet is the set of open global maps of a node, by pin name.
type pinSet struct {
	root string
	open map[string]*ebpf.Map
}

// openMaps opens or creates the global maps below the bpffs mounted at root. The ipcache is always
// a new map under the old name, as at every start of the original: programs loaded earlier keep the
// old one until they are replaced.
func openMaps(root string) (*pinSet, error) {
	for _, dir := range []string{globalsDir, devicesDir, endpointsDir} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return nil, fmt.Errorf("making %s below the bpffs %s (is a bpffs mounted there?): %w", dir, root, err)
		}
	}
	m := &pinSet{root: root, open: map[string]*ebpf.Map{}}
	for _, spec := range globals() {
		if spec.Name == "cilium_ipcache_v2" {
			if err := os.Remove(m.path(spec.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("unpinning the ipcache of the agent before: %w", err)
			}
		}
		opened, err := m.pinned(spec)
		if err != nil {
			return nil, err
		}
		m.open[spec.Name] = opened
	}
	return m, nil
}

func (m *pinSet) path(name string) string { return filepath.Join(m.root, globalsDir, name) }

// pinned opens the pin of that name, or creates the map and pins it. A pin of another shape is replaced.
func (m *pinSet) pinned(spec ebpf.MapSpec) (*ebpf.Map, error) {
	path := m.path(spec.Name)
	existing, err := ebpf.LoadPinnedMap(path, nil)
	if err == nil {
		if spec.Compatible(existing) == nil {
			return existing, nil
		}
		existing.Close()
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing the pin %s of another shape: %w", path, err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("opening the pinned map %s: %w", path, err)
	}
	created, err := ebpf.NewMap(&spec)
	if err != nil {
		return nil, fmt.Errorf("creating map %s: %w", spec.Name, err)
	}
	if err := created.Pin(path); err != nil {
		created.Close()
		return nil, fmt.Errorf("pinning map %s: %w", path, err)
	}
	return created, nil
}

func (m *pinSet) close() {
	for _, opened := range m.open {
		opened.Close()
	}
}
