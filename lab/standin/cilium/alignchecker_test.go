// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// TestTheAlignCheckerIsTheOriginals holds the object against what Cilium 1.18.11's own compiles to: a structure and its bytes, and below it
// its fields with offset and size in bits. Padding has no name here.
func TestTheAlignCheckerIsTheOriginals(t *testing.T) {
	dir := t.TempDir()
	must(t, writeAlignChecker(dir))
	spec, err := btf.LoadSpec(filepath.Join(dir, "state/bpf_alignchecker.o"))
	must(t, err)
	compiled, err := os.ReadFile("../../../bpf/ciliummap/testdata/alignchecker/cilium-1.18.11.txt")
	must(t, err)
	fields, named := map[string]string{}, 0
	for line := range strings.Lines(string(compiled)) {
		var name string
		var offset, size int
		if n, _ := fmt.Sscanf(line, "%s %d %d", &name, &offset, &size); n == 3 {
			if got, ok := fields[name]; ok && got != fmt.Sprint(offset) {
				t.Errorf("%s is at bit %s, want %d", name, got, offset)
			} else if ok {
				named++
			}
			continue
		}
		var found *btf.Struct
		must(t, spec.TypeByName(name, &found))
		if found.Size != uint32(offset) {
			t.Errorf("%s has %d bytes, want %d", name, found.Size, offset)
		}
		fields = map[string]string{}
		place(fields, found.Members, 0)
	}
	if named < 30 {
		t.Errorf("%d fields were compared", named)
	}
}

func place(fields map[string]string, members []btf.Member, base btf.Bits) {
	for _, m := range members {
		if m.Name != "" {
			fields[m.Name] = fmt.Sprint(base + m.Offset)
			continue
		}
		switch t := m.Type.(type) {
		case *btf.Struct:
			place(fields, t.Members, base+m.Offset)
		case *btf.Union:
			place(fields, t.Members, base+m.Offset)
		}
	}
}
