// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/internal/btfobject"
)

// compiled reads what one release's own alignment checker compiles to: a structure's name and bytes, and below it its fields with
// offset and size in bits.
func compiled(t testing.TB, release string) []structure {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/alignchecker", release+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	var out []structure
	for line := range strings.Lines(string(data)) {
		var s structure
		var f field
		if n, _ := fmt.Sscanf(line, "%s %d %d", &f.name, &f.offset, &f.size); n == 3 {
			last := &out[len(out)-1]
			last.fields = append(last.fields, f)
			continue
		}
		if _, err := fmt.Sscanf(line, "%s %d", &s.name, &s.size); err != nil {
			t.Fatalf("%s: %q: %v", release, line, err)
		}
		out = append(out, s)
	}
	return out
}

// object writes an ELF object whose BTF has these structures, as clang names the section, and returns its path.
func object(t testing.TB, structures []structure) string {
	t.Helper()
	var types []btf.Type
	for _, s := range structures {
		out := &btf.Struct{Name: s.name, Size: s.size}
		for _, f := range s.fields {
			m := btf.Member{Name: f.name, Offset: f.offset, Type: &btf.Int{Name: fmt.Sprint("u", f.size), Size: uint32(f.size+7) / 8}}
			if f.size%8 != 0 {
				m.BitfieldSize = f.size
			}
			if f.size > 64 { // more than an integer: an array of bytes
				m.Type = &btf.Array{Index: &btf.Int{Name: "index", Size: 4}, Type: &btf.Int{Name: "byte", Size: 1}, Nelems: uint32(f.size / 8)}
			}
			out.Members = append(out.Members, m)
		}
		types = append(types, out)
	}
	return objectOf(t, types...)
}

func objectOf(t testing.TB, types ...btf.Type) string {
	t.Helper()
	data, err := btfobject.Of(types...)
	if err != nil {
		t.Fatal(err)
	}
	return written(t, data)
}

func written(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(AlignCheckerFile))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheTableIsWhatEveryReleaseCompiles(t *testing.T) {
	for _, release := range []string{"cilium-1.18.11", "cilium-1.19.0", "cilium-1.20.2"} {
		differ, err := CompareLayouts(object(t, compiled(t, release)))
		if err != nil || len(differ) > 0 {
			t.Errorf("%s: %q, %v", release, differ, err)
		}
	}
}

// TestEveryFieldThatMovesIsNamed moves each field that is read, by itself, in every way.
func TestEveryFieldThatMovesIsNamed(t *testing.T) {
	names := func(change func(s *structure, f *field), says func(s structure, f field) string) {
		for i, s := range structures() {
			for j, f := range s.fields {
				all := structures()
				all[i].fields = append([]field(nil), s.fields...)
				change(&all[i], &all[i].fields[j])
				differ, err := CompareLayouts(object(t, all))
				if want := says(s, f); err != nil || len(differ) == 0 || !strings.Contains(strings.Join(differ, "; "), want) {
					t.Errorf("%s.%s: %q, %v; want %q", s.name, f.name, differ, err, want)
				}
			}
		}
	}
	at := func(s structure, f field) string { return s.name + " has " + f.name + " at bit" }
	names(func(_ *structure, f *field) { f.offset += 8 }, at)
	names(func(_ *structure, f *field) { f.size *= 2 }, at)
	names(func(_ *structure, f *field) { f.name = "renamed" }, func(s structure, f field) string { return s.name + " has no " + f.name })
	names(func(s *structure, _ *field) { s.size += 8 }, func(s structure, _ field) string { return fmt.Sprintf("and not %d", s.size) })
}

// TestFieldsOfAnonymousStructuresCount: Cilium's addresses lie in a structure in a union in the structure.
func TestFieldsOfAnonymousStructuresCount(t *testing.T) {
	u32 := &btf.Int{Name: "u32", Size: 4}
	inner := &btf.Struct{Size: 8, Members: []btf.Member{{Name: "pad", Type: u32}, {Name: "ip4", Type: &btf.Typedef{Name: "be32", Type: u32}, Offset: 32}}}
	union := &btf.Union{Size: 8, Members: []btf.Member{{Type: inner}, {Name: "both", Type: inner}}}
	got := flatten([]btf.Member{{Name: "first", Type: u32}, {Type: union, Offset: 64}})
	want := []field{{"first", 0, 32}, {"pad", 64, 32}, {"ip4", 96, 32}, {"both", 64, 64}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	knot := &btf.Struct{Size: 8}
	for range 50 {
		knot.Members = append(knot.Members, btf.Member{Type: knot})
	}
	if got := flatten(knot.Members); len(got) > 0 {
		t.Errorf("a structure in itself: %v", got)
	}
}

func TestWhatIsNoAlignmentCheckerIsNotCompared(t *testing.T) {
	lacks := structures()[1:]
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(object(t, structures()), link); err != nil {
		t.Fatal(err)
	}
	large := written(t, nil)
	if err := os.Truncate(large, maxAlignChecker+1); err != nil {
		t.Fatal(err)
	}
	whole, err := btfobject.Around([]byte("no BTF"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		is   error
		says string
	}{
		"missing":              {filepath.Join(t.TempDir(), "x"), fs.ErrNotExist, "no such file"},
		"a directory":          {t.TempDir(), nil, "not a file"},
		"a FIFO":               {fifo, nil, "not a file"},
		"a link":               {link, unix.ELOOP, ""},
		"too large":            {large, nil, "more than 8 MiB"},
		"empty":                {written(t, nil), nil, "layouts"},
		"half written":         {written(t, whole[:100]), nil, "layouts"},
		"without BTF":          {written(t, whole), nil, "layouts"},
		"without a structure":  {object(t, lacks), btf.ErrNotFound, "looking for ipcache_key"},
		"a union in its place": {objectOf(t, &btf.Union{Name: "ipcache_key", Size: 24}), btf.ErrNotFound, "looking for ipcache_key"},
	} {
		differ, err := CompareLayouts(c.path)
		if err == nil || len(differ) > 0 || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q, %v; want %v and %q", name, differ, err, c.is, c.says)
		}
	}
}

// assemble writes values where the table says that their fields are; all of a structure's fields are wanted.
func assemble(t *testing.T, name string, values map[string]any) []byte {
	t.Helper()
	at := slices.IndexFunc(structures(), func(s structure) bool { return s.name == name })
	s := structures()[at]
	out := make([]byte, s.size)
	for _, f := range s.fields {
		v, ok := values[f.name]
		if !ok {
			t.Fatalf("no value for %s.%s", name, f.name)
		}
		delete(values, f.name)
		if n, ok := v.(int); ok && f.size < 8 {
			out[f.offset/8] |= byte(n << (f.offset % 8))
			continue
		}
		to := out[f.offset/8 : (f.offset+f.size)/8]
		switch v := v.(type) {
		case []byte:
			copy(to, v)
		case int:
			var word [8]byte
			binary.NativeEndian.PutUint64(word[:], uint64(v))
			copy(to, word[:len(to)]) // little-endian, as every node is
		}
	}
	if len(values) > 0 {
		t.Fatalf("the table of %s has none of %v", name, values)
	}
	return out
}

func TestTheDecodersReadWhereTheTableSays(t *testing.T) {
	pod, node, node6 := netip.MustParseAddr("10.244.1.0"), netip.MustParseAddr("10.0.1.9"), netip.MustParseAddr("fd00::9")
	same := func(what string, got, want any, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", what, got, err, want)
		}
	}
	key, err := decodeIPCacheKey(assemble(t, "ipcache_key", map[string]any{"lpm_key": ipcacheStaticBits + 24, "cluster_id": 7, "family": familyIPv4, "ip6": pod.AsSlice()}))
	same("ipcache_key", key, IPCacheKey{Prefix: netip.PrefixFrom(pod, 24), ClusterID: 7}, err)

	remote := func(tunnel netip.Addr, has, six, skip int) (RemoteEndpoint, error) {
		return decodeRemoteEndpoint(assemble(t, "remote_endpoint_info", map[string]any{
			"sec_identity": 4711, "tunnel_endpoint": tunnel.AsSlice(), "key": 3, "flag_skip_tunnel": skip, "flag_has_tunnel_ep": has, "flag_ipv6_tunnel_ep": six,
		}))
	}
	v, err := remote(node, 1, 0, 0)
	same("remote_endpoint_info", v, RemoteEndpoint{Identity: 4711, Tunnel: node, EncryptKey: 3, Flags: RemoteHasTunnel}, err)
	v, err = remote(node6, 1, 1, 0)
	same("remote_endpoint_info of IPv6", v, RemoteEndpoint{Identity: 4711, Tunnel: node6, EncryptKey: 3, Flags: RemoteHasTunnel | RemoteIPv6Tunnel}, err)
	v, err = remote(netip.Addr{}, 0, 0, 1)
	same("remote_endpoint_info past the tunnel", v, RemoteEndpoint{Identity: 4711, EncryptKey: 3, Flags: RemoteSkipTunnel}, err)

	ek, err := decodeEndpointKey(assemble(t, "endpoint_key", map[string]any{"ip6": pod.AsSlice(), "family": familyIPv4, "key": 0, "cluster_id": 7}))
	same("endpoint_key", ek, EndpointKey{Addr: pod, ClusterID: 7}, err)
	e, err := decodeEndpoint(assemble(t, "endpoint_info", map[string]any{
		"ifindex": 9, "lxc_id": 1101, "flags": 2, "mac": []byte{1, 2, 3, 4, 5, 6}, "node_mac": []byte{6, 5, 4, 3, 2, 1}, "sec_id": 4711, "parent_ifindex": 8,
	}))
	same("endpoint_info", e, Endpoint{IfIndex: 9, ID: 1101, Flags: 2, PodMAC: MAC{1, 2, 3, 4, 5, 6}, NodeMAC: MAC{6, 5, 4, 3, 2, 1}, SecID: 4711, ParentIfIndex: 8}, err)
	c, err := DecodeCounter(assemble(t, "metrics_key", map[string]any{"reason": 133, "dir": 2}))
	same("metrics_key", c, Counter{Reason: 133, Direction: 2}, err)
	var n Count // which the library reads as a structure of Go's
	_, err = binary.Decode(assemble(t, "metrics_value", map[string]any{"count": 5, "bytes": 6000}), binary.NativeEndian, &n)
	slot, _, _, err2 := decodeService(
		assemble(t, "lb4_key", map[string]any{"address": node.AsSlice(), "dport": []byte{1, 0xbb}, "backend_slot": 3, "proto": 6, "scope": 1}), make([]byte, 12))
	same("lb4_key", slot, Slot{Frontend{netip.AddrPortFrom(node, 443), 6, 1}, 3}, err2)
	_, id, counts, err2 := decodeService(make([]byte, 12), assemble(t, "lb4_service", map[string]any{"backend_id": 4711, "count": 2, "qcount": 1}))
	same("lb4_service", []any{id, counts}, []any{uint32(4711), Counts{Active: 2, Inactive: 1}}, err2)
	be, err2 := decodeBackend(assemble(t, "lb4_backend", map[string]any{"address": node.AsSlice(), "port": []byte{1, 0xbb}, "proto": 6}))
	same("lb4_backend", be, Backend{netip.AddrPortFrom(node, 443), 6}, err2)
	same("metrics_value", n, Count{Packets: 5, Bytes: 6000}, err)
}

// FuzzAlignChecker reads whatever may lie in the file's place. BTF without an ELF object around it is read as well, and is what a change
// of one byte reaches far into.
func FuzzAlignChecker(f *testing.F) {
	whole, err := os.ReadFile(object(f, structures()))
	if err != nil {
		f.Fatal(err)
	}
	few, err := os.ReadFile(object(f, structures()[:1]))
	if err != nil {
		f.Fatal(err)
	}
	at := bytes.Index(few, binary.NativeEndian.AppendUint16(nil, 0xeb9f)) // BTF's magic (include/uapi/linux/btf.h)
	if _, err := compareLayouts(few[at:]); !errors.Is(err, btf.ErrNotFound) {
		f.Fatalf("BTF by itself, of one structure: %v", err)
	}
	for _, b := range [][]byte{nil, whole, few, few[:len(few)/2], few[at:], []byte("\x7fELF")} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if differ, err := compareLayouts(b); err != nil && differ != nil {
			t.Errorf("%q with %v", differ, err)
		}
	})
}
