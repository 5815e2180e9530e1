// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

func TestNewestIPCache(t *testing.T) {
	for name, tc := range map[string]struct {
		pins []string
		want string
	}{
		"none":                   {nil, "cilium_ipcache_v2"},
		"1.18":                   {[]string{"cilium_lxc", "cilium_ipcache_v2"}, "cilium_ipcache_v2"},
		"just upgraded":          {[]string{"cilium_ipcache_v2", "cilium_ipcache"}, "cilium_ipcache_v2"},
		"1.17":                   {[]string{"cilium_ipcache"}, "cilium_ipcache"},
		"to come, two digits":    {[]string{"cilium_ipcache_v9", "cilium_ipcache_v10", "cilium_ipcache_v2"}, "cilium_ipcache_v10"},
		"look-alikes":            {[]string{"cilium_ipcache_vX", "cilium_ipcache_v", "cilium_ipcache_old", "cilium_ipcache_v03"}, "cilium_ipcache_v2"},
		"look-alike beside 1.17": {[]string{"cilium_ipcache_v-3", "cilium_ipcache"}, "cilium_ipcache"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := newestIPCache(tc.pins); got != tc.want {
				t.Errorf("newestIPCache(%q) = %s, want %s", tc.pins, got, tc.want)
			}
		})
	}
}

func TestRecogniseAcceptsThePinsOfARealCilium(t *testing.T) {
	types := map[string]ebpf.MapType{"LPMTrie": ebpf.LPMTrie, "Hash": ebpf.Hash, "Array": ebpf.Array, "PerCPUHash": ebpf.PerCPUHash}
	for _, dir := range captures(t) {
		seen := 0
		for _, line := range lines(t, filepath.Join(dir, "pins.txt")) {
			var name, typ string
			var l Layout
			if _, err := fmt.Sscan(line, &name, &typ, &l.KeySize, &l.ValueSize); err != nil {
				t.Fatal(err)
			}
			l.Type = types[typ]
			if err := recognise("/sys/fs/bpf/tc/globals/"+name, name, l); err != nil {
				t.Error(err)
			}
			seen++
		}
		if seen != 6 {
			t.Errorf("%s has %d pins, want 6", dir, seen)
		}
	}
}

func TestRecogniseRefusesEveryOtherCombination(t *testing.T) {
	for _, known := range KnownLayouts() {
		if !known.Supported {
			continue
		}
		for _, l := range []Layout{
			{ebpf.LRUHash, known.KeySize, known.ValueSize},
			{known.Type, known.KeySize + 4, known.ValueSize},
			{known.Type, known.KeySize, known.ValueSize + 8},
			{known.Type, known.KeySize, known.ValueSize - 1},
		} {
			err := recognise("/x/"+known.Pin, known.Pin, l)
			e, ok := errors.AsType[*UnknownLayoutError](err)
			if !ok {
				t.Fatalf("%s %s: %v, want an UnknownLayoutError", known.Pin, l, err)
			}
			if e.Found != l || len(e.Known) != 1 || e.Known[0] != known {
				t.Errorf("error carries %+v", e)
			}
			for _, part := range []string{"/x/" + known.Pin, l.String(), known.Layout.String(), known.Releases} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		}
	}
	// The right shape under the name of another version is not known either.
	if _, ok := errors.AsType[*UnknownLayoutError](recognise("/x", "cilium_ipcache_v3", ipcacheLayout())); !ok {
		t.Error("cilium_ipcache_v3 was accepted because it has the size of v2")
	}
	if _, ok := errors.AsType[*UnknownLayoutError](recognise("/x", "cilium_ipcache", ipcacheLayout())); !ok {
		t.Error("cilium_ipcache was accepted because it has the size of v2")
	}
}

func TestRecogniseNamesTheReleaseItDoesNotSupport(t *testing.T) {
	err := recognise("/x/cilium_ipcache", "cilium_ipcache", Layout{ebpf.LPMTrie, 24, 12})
	if _, ok := errors.AsType[*UnsupportedReleaseError](err); !ok {
		t.Fatalf("got %v, want an UnsupportedReleaseError", err)
	}
	for _, part := range []string{"1.16, 1.17", "upgrade Cilium first"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

// FuzzNewestIPCache: of whatever is pinned, the ipcache of the highest version is taken, and without one the name that should
// be there.
func FuzzNewestIPCache(f *testing.F) {
	for _, pins := range []string{"", "cilium_ipcache", "cilium_ipcache_v2\ncilium_ipcache", "cilium_ipcache_v10\ncilium_ipcache_v9", "cilium_ipcache_v\ncilium_ipcache_v0\ncilium_ipcache_v01", "cilium_ipcache_v99999999999", "cilium_ipcache_v2 ", "cilium_ipcache_v+2", "cilium_ipcache_v65536"} {
		f.Add(pins)
	}
	shape := regexp.MustCompile(`^cilium_ipcache(?:_v([1-9][0-9]{0,4}))?$`)
	f.Fuzz(func(t *testing.T, pins string) {
		newest, best := IPCachePin, 0
		for _, pin := range strings.Split(pins, "\n") {
			m := shape.FindStringSubmatch(pin)
			if m == nil {
				continue
			}
			version := 1
			if m[1] != "" {
				version, _ = strconv.Atoi(m[1])
			}
			if version > best && version <= math.MaxUint16 {
				newest, best = pin, version
			}
		}
		if got := newestIPCache(strings.Split(pins, "\n")); got != newest {
			t.Errorf("of %q %q is taken, want %q", pins, got, newest)
		}
	})
}

// FuzzDecodeAgentLiveness: what decodes encodes to the same bytes.
func FuzzDecodeAgentLiveness(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, value []byte) {
		d, err := DecodeAgentLiveness(value)
		if err != nil {
			if _, ok := errors.AsType[*DecodeError](err); !ok || d != 0 {
				t.Errorf("%d with %v", d, err)
			}
			return
		}
		if d < 0 || !bytes.Equal(binary.NativeEndian.AppendUint64(nil, uint64(d)), value) {
			t.Errorf("%x is %d", value, d)
		}
	})
}
