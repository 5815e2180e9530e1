// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// AlignCheckerFile is the object that Cilium's agent compiles at every start to hold its own Go structures against its C ones, and
// leaves in its runtime directory (Cilium pkg/datapath/loader/base.go, pkg/defaults: StateDir, AlignCheckerName). Cilium's maps carry
// no BTF; this does, of every structure in them.
const AlignCheckerFile = "state/bpf_alignchecker.o"

// maxAlignChecker bounds the object in bytes: it is 40 to 160 KiB with the releases that are known here.
const maxAlignChecker = 8 << 20

// structure is one of Cilium's, and where the decoders of this package find what they read of it. Fields that they do not read are not
// in it: 1.20 gave a hole of endpoint_info a name, and nothing changed for a reader.
type structure struct {
	name   string
	size   uint32 // bytes
	fields []field
}

// field is a field by its name in C, also that of an anonymous structure's or union's in it.
type field struct {
	name         string
	offset, size btf.Bits
}

// structures are as Cilium 1.18.11, 1.19.0 and 1.20.2 compile them (bpf/lib/eps.h, metrics.h, lb.h).
func structures() []structure {
	return []structure{
		{"ipcache_key", 24, []field{{"lpm_key", 0, 32}, {"cluster_id", 32, 16}, {"family", 56, 8}, {"ip6", 64, 128}}},
		{"remote_endpoint_info", 24, []field{
			{"sec_identity", 0, 32}, {"tunnel_endpoint", 32, 128}, {"key", 176, 8},
			{"flag_skip_tunnel", 184, 1}, {"flag_has_tunnel_ep", 185, 1}, {"flag_ipv6_tunnel_ep", 186, 1},
		}},
		{"endpoint_key", 20, []field{{"ip6", 0, 128}, {"family", 128, 8}, {"key", 136, 8}, {"cluster_id", 144, 16}}},
		{"endpoint_info", 48, []field{
			{"ifindex", 0, 32}, {"lxc_id", 48, 16}, {"flags", 64, 32}, {"mac", 128, 64}, {"node_mac", 192, 64}, {"sec_id", 256, 32}, {"parent_ifindex", 288, 32},
		}},
		{"metrics_key", 8, []field{{"reason", 0, 8}, {"dir", 8, 2}}},
		{"metrics_value", 16, []field{{"count", 0, 64}, {"bytes", 64, 64}}},
		{"lb4_key", 12, []field{{"address", 0, 32}, {"dport", 32, 16}, {"backend_slot", 48, 16}, {"proto", 64, 8}, {"scope", 72, 8}}},
		{"lb4_service", 12, []field{{"backend_id", 0, 32}, {"count", 32, 16}, {"qcount", 80, 16}}},
		{"lb4_backend", 12, []field{{"address", 0, 32}, {"port", 32, 16}, {"proto", 48, 8}}},
	}
}

// CompareLayouts holds the offsets that this package decodes by against those of Cilium's own object, and returns a sentence for each
// that differs. An error says that nothing was compared: fs.ErrNotExist and fs.ErrPermission as in the package's documentation, and
// any other that the file is not such an object.
func CompareLayouts(path string) ([]string, error) {
	object, err := readObject(path)
	if err != nil {
		return nil, fmt.Errorf("reading the layouts in %s: %w", path, err)
	}
	differ, err := compareLayouts(object)
	if err != nil {
		return nil, fmt.Errorf("reading the layouts in %s: %w", path, err)
	}
	return differ, nil
}

func compareLayouts(object []byte) ([]string, error) {
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, want := range structures() {
		var found *btf.Struct
		if err := spec.TypeByName(want.name, &found); err != nil {
			return nil, fmt.Errorf("looking for %s: %w", want.name, err)
		}
		if found.Size != want.size {
			out = append(out, fmt.Sprintf("%s has %d bytes and not %d", want.name, found.Size, want.size))
			continue
		}
		fields := flatten(found.Members)
		for _, f := range want.fields {
			at := slices.IndexFunc(fields, func(x field) bool { return x.name == f.name })
			switch {
			case at < 0:
				out = append(out, fmt.Sprintf("%s has no %s", want.name, f.name))
			case fields[at] != f:
				out = append(out, fmt.Sprintf("%s has %s at bit %d of %d bits, and not at %d of %d", want.name, f.name, fields[at].offset, fields[at].size, f.offset, f.size))
			}
		}
	}
	return out, nil
}

// readObject reads the object as a whole: a FIFO in its place would keep us waiting, and what grows while it is read would not end.
func readObject(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.New("it is not a file")
	case st.Size() > maxAlignChecker:
		return nil, fmt.Errorf("it has more than %d MiB", maxAlignChecker>>20)
	}
	return io.ReadAll(io.LimitReader(f, st.Size()))
}

// maxMembers bounds how many members of one structure are looked at, those of anonymous ones in it included: BTF can say that a structure
// lies in itself. Cilium's have fewer than 20.
const maxMembers = 1000

// flatten lists fields as C names them: those of an anonymous structure or union are its parent's.
func flatten(members []btf.Member) []field {
	var out []field
	looked := 0
	var walk func(members []btf.Member, base btf.Bits)
	walk = func(members []btf.Member, base btf.Bits) {
		for _, m := range members {
			if looked++; looked > maxMembers {
				return
			}
			f := field{m.Name, base + m.Offset, m.BitfieldSize}
			switch t := btf.UnderlyingType(m.Type).(type) {
			case *btf.Struct:
				if m.Name == "" {
					walk(t.Members, f.offset)
					continue
				}
			case *btf.Union:
				if m.Name == "" {
					walk(t.Members, f.offset)
					continue
				}
			}
			if f.size == 0 {
				bytes, err := btf.Sizeof(m.Type)
				if err != nil {
					continue // of no size: then it is missing, and that is said
				}
				f.size = btf.Bits(bytes) * 8
			}
			out = append(out, f)
		}
	}
	walk(members, 0)
	return out
}
