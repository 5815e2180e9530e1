// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
)

// GlobalsDir is where Cilium pins its maps, relative to the bpffs root (normally /sys/fs/bpf).
// Source: Cilium pkg/defaults/defaults.go (TCGlobalsPath).
const GlobalsDir = "tc/globals"

// Names of pins below GlobalsDir. They are the full names: the kernel's own map name is cut at 15 characters
// and cannot tell cilium_ipcache_v2 from a later version.
const (
	// IPCachePin is the newest ipcache layout this package decodes (Cilium >= 1.18).
	IPCachePin = "cilium_ipcache_v2"
	// EndpointsPin holds the endpoints of this node, by address.
	EndpointsPin = "cilium_lxc"
	// RuntimeConfigPin holds the agent's liveness stamp.
	RuntimeConfigPin = "cilium_runtime_config"
	// CountersPin counts what Cilium's programs did with packets.
	CountersPin = "cilium_metrics"
	// ServicesPin holds the frontends of Services and, by their places, the IDs of their backends; BackendsPin what the IDs stand for.
	ServicesPin = "cilium_lb4_services_v2"
	BackendsPin = "cilium_lb4_backends_v3"
	// NATPin is there where Cilium's programs translate at the NIC: with kube-proxy replacement, from 1.19 on also with BPF
	// masquerade alone. Cilium unpins it where they do not (Cilium pkg/maps/nat/cell.go).
	NATPin = "cilium_snat_v4_external"
	// NeighborsPin is made with kube-proxy replacement and stays pinned when a node is switched out of it (seen with 1.18.11).
	NeighborsPin = "cilium_nodeport_neigh4"

	ipcacheBase = "cilium_ipcache"
)

// Layout is what the kernel knows of a map's shape: Cilium's maps carry no BTF, so nothing finer can be asked.
// Sizes are in bytes.
type Layout struct {
	Type      ebpf.MapType
	KeySize   uint32
	ValueSize uint32
}

func (l Layout) String() string {
	return fmt.Sprintf("%s with %d-byte keys and %d-byte values", l.Type, l.KeySize, l.ValueSize)
}

// KnownLayout is one row of what has been released.
type KnownLayout struct {
	Pin string
	Layout
	// Releases are the minor versions of Cilium that use the row.
	Releases string
	// Source says where the offsets come from, in Cilium's tree.
	Source string
	// Supported is false for a row that is recognised in order to be refused by name.
	Supported bool
}

// KnownLayouts returns the table that decides what is decoded. Flags and max_entries are not part of it:
// flags gained RDONLY_PROG in 1.19 without any change for readers, sizes depend on memory and settings.
func KnownLayouts() []KnownLayout {
	return []KnownLayout{
		{IPCachePin, Layout{ebpf.LPMTrie, 24, 24}, "1.18, 1.19, 1.20",
			"bpf/lib/eps.h: ipcache_key, remote_endpoint_info", true},
		{ipcacheBase, Layout{ebpf.LPMTrie, 24, 12}, "1.16, 1.17",
			"bpf/lib/eps.h before 1.18: remote_endpoint_info with a 4-byte tunnel_endpoint", false},
		{EndpointsPin, Layout{ebpf.Hash, 20, 48}, "1.18, 1.19, 1.20",
			"bpf/lib/eps.h: endpoint_key, endpoint_info", true},
		{RuntimeConfigPin, Layout{ebpf.Array, 4, 8}, "1.18, 1.19, 1.20",
			"pkg/maps/configmap: index 1 is AgentLiveness", true},
		{CountersPin, Layout{ebpf.PerCPUHash, 8, 16}, "1.18, 1.19, 1.20",
			"bpf/lib/metrics.h: metrics_key, metrics_value", true},
		{ServicesPin, Layout{ebpf.Hash, 12, 12}, "1.18, 1.19, 1.20",
			"bpf/lib/lb.h: lb4_key, lb4_service", true},
		{BackendsPin, Layout{ebpf.Hash, 4, 12}, "1.18, 1.19, 1.20",
			"bpf/lib/lb.h: lb4_backend", true},
	}
}

// UnknownLayoutError says that a pin holds a map whose shape no known release of Cilium gives it.
// Nothing was read from the map. Compare with errors.As.
type UnknownLayoutError struct {
	Path  string
	Pin   string
	Found Layout
	// Known are the supported rows for maps of this purpose.
	Known []KnownLayout
}

func (e *UnknownLayoutError) Error() string {
	var known []string
	for _, k := range e.Known {
		known = append(known, fmt.Sprintf("%s %s (Cilium %s)", k.Pin, k.Layout, k.Releases))
	}
	return fmt.Sprintf("recognising the layout of %s: found %s; known: %s; "+
		"this Cilium is newer than this program, or the pin is not Cilium's: nothing was read from it, "+
		"use a release of cni-cutover that lists this version of Cilium",
		e.Path, e.Found, strings.Join(known, ", "))
}

// UnsupportedReleaseError says that a pin has the layout of a release of Cilium that is recognised and refused.
type UnsupportedReleaseError struct {
	Path  string
	Found KnownLayout
}

func (e *UnsupportedReleaseError) Error() string {
	return fmt.Sprintf("recognising the layout of %s: %s is the layout of Cilium %s; "+
		"a migration needs Cilium 1.18 or later, because earlier releases remove the VPC CNI's iptables rules: "+
		"upgrade Cilium first", e.Path, e.Found.Layout, e.Found.Releases)
}

// recognise returns nil if the table has a supported row for this pin and shape.
func recognise(path, pin string, found Layout) error {
	e := &UnknownLayoutError{Path: path, Pin: pin, Found: found}
	for _, k := range KnownLayouts() {
		if purpose(k.Pin) != purpose(pin) {
			continue
		}
		if k.Pin == pin && k.Layout == found {
			if k.Supported {
				return nil
			}
			return &UnsupportedReleaseError{Path: path, Found: k}
		}
		if k.Supported {
			e.Known = append(e.Known, k)
		}
	}
	return e
}

// purpose folds the versions of a map into one name.
func purpose(pin string) string {
	if _, ok := ipcacheVersion(pin); ok {
		return ipcacheBase
	}
	return pin
}

// ipcacheVersion reads N out of cilium_ipcache_vN; cilium_ipcache itself is version 1.
func ipcacheVersion(pin string) (int, bool) {
	rest, ok := strings.CutPrefix(pin, ipcacheBase)
	if !ok {
		return 0, false
	}
	if rest == "" {
		return 1, true
	}
	digits, ok := strings.CutPrefix(rest, "_v")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || digits[0] == '0' {
		return 0, false
	}
	return int(n), true
}

// newestIPCache picks the pin that the running Cilium uses. After an upgrade an older pin can remain for a while
// beside the new one. With none at all it names the pin that should be there, so that opening it says so.
func newestIPCache(pins []string) string {
	newest, best := IPCachePin, 0
	for _, pin := range pins {
		if v, ok := ipcacheVersion(pin); ok && v > best {
			newest, best = pin, v
		}
	}
	return newest
}
