// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf/btf"

	"github.com/cni-cutover/cni-cutover/internal/btfobject"
)

// writeAlignChecker leaves in the state directory what the original compiles bpf_alignchecker.c to: the layout of the structures in its maps.
func writeAlignChecker(runDir string) error {
	object, err := btfobject.Of(structures()...)
	if err != nil {
		return fmt.Errorf("making bpf_alignchecker.o: %w", err)
	}
	state := filepath.Join(runDir, "state")
	if err := os.MkdirAll(state, 0o770); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	return replaceFile(filepath.Join(state, "bpf_alignchecker.o"), object, 0o600)
}

// structures are those of the maps that the stand-in fills, as Cilium 1.18 has them (bpf/lib/eps.h, metrics.h).
func structures() []btf.Type {
	u8, u16, u32, u64 := &btf.Int{Name: "__u8", Size: 1}, &btf.Int{Name: "__u16", Size: 2}, &btf.Int{Name: "__u32", Size: 4}, &btf.Int{Name: "__u64", Size: 8}
	bytes16 := &btf.Array{Index: u32, Type: u8, Nelems: 16}
	v6addr := &btf.Union{Name: "v6addr", Size: 16, Members: []btf.Member{{Name: "addr", Type: bytes16}}}
	v4addr := &btf.Struct{Size: 16, Members: []btf.Member{at(0, "ip4", u32), at(4, "pad4", u32), at(8, "pad5", u32), at(12, "pad6", u32)}}
	address := &btf.Union{Size: 16, Members: []btf.Member{at(0, "", v4addr), at(0, "ip6", v6addr)}}
	mac := &btf.Typedef{Name: "mac_t", Type: u64}
	lpm := &btf.Struct{Name: "bpf_lpm_trie_key", Size: 4, Members: []btf.Member{at(0, "prefixlen", u32)}}
	return []btf.Type{
		&btf.Struct{Name: "ipcache_key", Size: 24, Members: []btf.Member{at(0, "lpm_key", lpm), at(4, "cluster_id", u16), at(6, "pad1", u8), at(7, "family", u8), at(8, "", address)}},
		&btf.Struct{Name: "remote_endpoint_info", Size: 24, Members: []btf.Member{
			at(0, "sec_identity", u32), at(4, "tunnel_endpoint", address), at(20, "pad", u16), at(22, "key", u8),
			bits(184, 1, "flag_skip_tunnel", u8), bits(185, 1, "flag_has_tunnel_ep", u8), bits(186, 1, "flag_ipv6_tunnel_ep", u8), bits(187, 1, "flag_remote_cluster", u8),
		}},
		&btf.Struct{Name: "endpoint_key", Size: 20, Members: []btf.Member{at(0, "", address), at(16, "family", u8), at(17, "key", u8), at(18, "cluster_id", u16)}},
		&btf.Struct{Name: "endpoint_info", Size: 48, Members: []btf.Member{
			at(0, "ifindex", u32), at(4, "unused", u16), at(6, "lxc_id", u16), at(8, "flags", u32),
			at(16, "mac", mac), at(24, "node_mac", mac), at(32, "sec_id", u32), at(36, "parent_ifindex", u32),
		}},
		&btf.Struct{Name: "metrics_key", Size: 8, Members: []btf.Member{at(0, "reason", u8), bits(8, 2, "dir", u8), at(2, "line", u16), at(4, "file", u8)}},
		// Of Services, whose maps are empty here.
		&btf.Struct{Name: "lb4_key", Size: 12, Members: []btf.Member{at(0, "address", u32), at(4, "dport", u16), at(6, "backend_slot", u16), at(8, "proto", u8), at(9, "scope", u8), at(10, "pad", u16)}},
		&btf.Struct{Name: "lb4_service", Size: 12, Members: []btf.Member{
			at(0, "backend_id", u32), at(4, "count", u16), at(6, "rev_nat_index", u16), at(8, "flags", u8), at(9, "flags2", u8), at(10, "qcount", u16),
		}},
		&btf.Struct{Name: "lb4_backend", Size: 12, Members: []btf.Member{
			at(0, "address", u32), at(4, "port", u16), at(6, "proto", u8), at(7, "flags", u8), at(8, "cluster_id", u16), at(10, "zone", u8), at(11, "pad", u8),
		}},
		&btf.Struct{Name: "metrics_value", Size: 16, Members: []btf.Member{at(0, "count", u64), at(8, "bytes", u64)}},
	}
}

// at is a member so many bytes from the start of its structure.
func at(offset int, name string, kind btf.Type) btf.Member {
	return btf.Member{Name: name, Type: kind, Offset: btf.Bits(offset * 8)}
}

func bits(offset, size int, name string, kind btf.Type) btf.Member {
	return btf.Member{Name: name, Type: kind, Offset: btf.Bits(offset), BitfieldSize: btf.Bits(size)}
}
