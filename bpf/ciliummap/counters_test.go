// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

func countersLayout() Layout { return Layout{ebpf.PerCPUHash, 8, 16} }

// perCPU is a value for each possible CPU: packets and bytes on the first ones, nothing on the others.
func perCPU(tb testing.TB, values ...[2]uint64) [][2]uint64 {
	tb.Helper()
	n, err := ebpf.PossibleCPU()
	if err != nil {
		tb.Fatal(err)
	}
	out := make([][2]uint64, n)
	for i, v := range values { // on fewer CPUs than the capture's some share one
		out[i%n][0] += v[0]
		out[i%n][1] += v[1]
	}
	return out
}

// TestReadCountersAgreesWithCilium pins the entries that a real Cilium's map held, and compares their sums with what Cilium's own tool
// printed of the same map moments later or earlier: a packet or two came in between. The reasons' names are Cilium's
// (pkg/monitor/api/drop.go).
func TestReadCountersAgreesWithCilium(t *testing.T) {
	for _, capture := range captures(t) {
		t.Run(filepath.Base(capture), func(t *testing.T) {
			var entries []struct {
				Key    string
				Values [][2]uint64 // packets and bytes, by CPU
			}
			decodeFile(t, filepath.Join(capture, "cilium_metrics.json"), &entries)
			dir := globals(t)
			m := pin(t, dir, CountersPin, countersLayout(), 1024)
			for _, e := range entries {
				key, err := hex.DecodeString(e.Key)
				if err != nil {
					t.Fatal(err)
				}
				put(t, m, key, perCPU(t, e.Values...))
			}

			var printed []struct {
				Reason, Direction string
				Packets, Bytes    uint64
			}
			decodeFile(t, filepath.Join(capture, "metrics_list.json"), &printed)
			reasons := map[string]uint8{"Success": 0, "Interface": 3, "LB: sock cgroup: Reverse entry delete succeeded": 14, "Unsupported L3 protocol": 139}
			directions := map[string]uint8{"ingress": 1, "egress": 2}
			want := map[Counter]Count{}
			for _, p := range printed {
				reason, known := reasons[p.Reason]
				if !known {
					t.Fatalf("the capture has a reason %q that this test does not know", p.Reason)
				}
				c := Counter{reason, directions[p.Direction]}
				want[c] = Count{want[c].Packets + p.Packets, want[c].Bytes + p.Bytes}
			}
			got, err := ReadCounters(dir)
			if err != nil {
				t.Fatal(err)
			}
			const between = 2 // packets
			if len(got) != len(want) || len(want) == 0 {
				t.Errorf("ReadCounters = %v, want %v", got, want)
			}
			for c, n := range want {
				if d := int64(got[c].Packets) - int64(n.Packets); d < -between || d > between {
					t.Errorf("%+v: %+v, want %+v", c, got[c], n)
				}
			}
		})
	}
}

func decodeFile(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestCountersOfSeveralPlacesAreSummed(t *testing.T) {
	dir := globals(t)
	m := pin(t, dir, CountersPin, countersLayout(), 1024)
	put(t, m, []byte{160, 2, 1, 0, 2, 0, 0, 0}, perCPU(t, [2]uint64{3, 300}))
	put(t, m, []byte{160, 2, 9, 9, 3, 0, 0, 0}, perCPU(t, [2]uint64{4, 400}, [2]uint64{5, 500}))
	put(t, m, []byte{160, 1, 1, 0, 2, 0, 0, 0}, perCPU(t, [2]uint64{7, 700}))
	got, err := ReadCounters(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[Counter]Count{{160, 2}: {12, 1200}, {160, 1}: {7, 700}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ReadCounters (-want +got):\n%s", d)
	}
}

func TestCountersOfAnotherShapeAreRefused(t *testing.T) {
	dir := globals(t)
	m := pin(t, dir, CountersPin, countersLayout(), 1024)
	put(t, m, []byte{160, 2, 1, 0, 2, 0, 1, 0}, perCPU(t))
	if got, err := ReadCounters(dir); !errors.As(err, new(*DecodeError)) {
		t.Errorf("%v, %v", got, err)
	}
	other := globals(t)
	pin(t, other, CountersPin, Layout{ebpf.PerCPUHash, 8, 24}, 1024)
	if got, err := ReadCounters(other); !errors.As(err, new(*UnknownLayoutError)) {
		t.Errorf("%v, %v", got, err)
	}
}

func FuzzDecodeCounter(f *testing.F) {
	f.Add([]byte{160, 2, 0x5b, 5, 2, 0, 0, 0})
	f.Add([]byte{0, 4, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCounter(b)
		if (err == nil) != (len(b) == 8 && b[1] < 4 && b[5]|b[6]|b[7] == 0) {
			t.Errorf("%x: %+v, %v", b, c, err)
		}
		if err == nil && (c.Reason != b[0] || c.Direction != b[1] || c.Dropped() != (b[0] >= 130)) {
			t.Errorf("%x: %+v", b, c)
		}
	})
}
