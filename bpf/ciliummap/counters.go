// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// Counter is what became of packets (Cilium bpf/lib/metrics.h: metrics_key). Where in Cilium's sources that was decided is left out:
// the same reason stands under several files and lines, which change with every release.
type Counter struct {
	// Reason is 0 for packets that were forwarded and 3 for packets received in the clear, the tunnel's among them; from 130 on
	// it says why they were dropped (Cilium pkg/monitor/api/drop.go).
	Reason uint8
	// Direction is 1 for ingress, 2 for egress and 3 for Services.
	Direction uint8
}

// firstDrop is the smallest reason of a drop (Cilium pkg/monitor/api: DropMin).
const firstDrop = 130

// Dropped says whether the packets were dropped.
func (c Counter) Dropped() bool { return c.Reason >= firstDrop }

// Count is how many packets, and how many bytes of them, since Cilium made the map.
type Count struct{ Packets, Bytes uint64 }

// iterationTries bounds how often a read begins again whose keys changed under it. Keys are only ever added, one for each place
// in Cilium's sources.
const iterationTries = 5

// ReadCounters reads cilium_metrics, summed over CPUs and places. globalsDir is <bpffs>/tc/globals.
func ReadCounters(globalsDir string) (map[Counter]Count, error) {
	m, err := openMap(globalsDir, CountersPin)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	for range iterationTries {
		var out map[Counter]Count
		if out, err = readCounters(m); !errors.Is(err, ebpf.ErrIterationAborted) {
			return out, err
		}
	}
	return nil, fmt.Errorf("reading %s: %w: %w", CountersPin, ErrUnstable, err)
}

func readCounters(m *ebpf.Map) (map[Counter]Count, error) {
	byPlace := map[[8]byte]Count{} // an iteration may show a key again
	var (
		key    [8]byte
		perCPU []struct{ Packets, Bytes uint64 }
	)
	entries := m.Iterate()
	for entries.Next(&key, &perCPU) {
		var sum Count
		for _, v := range perCPU {
			sum.Packets += v.Packets
			sum.Bytes += v.Bytes
		}
		byPlace[key] = sum
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", CountersPin, err)
	}
	out := map[Counter]Count{}
	for key, n := range byPlace {
		c, err := DecodeCounter(key[:])
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", CountersPin, err)
		}
		sum := out[c]
		out[c] = Count{sum.Packets + n.Packets, sum.Bytes + n.Bytes}
	}
	return out, nil
}

// DecodeCounter decodes an 8-byte key: 0 reason u8 | 1 direction, two bits | 2 line u16 | 4 file u8 | 5 reserved.
func DecodeCounter(b []byte) (Counter, error) {
	const directionBits = 3
	if len(b) != 8 || b[1]&^directionBits != 0 || b[5] != 0 || b[6] != 0 || b[7] != 0 {
		return Counter{}, &DecodeError{"metrics_key", slices.Clone(b), "not 8 bytes with a direction of two bits at offset 1 and zeros from offset 5 on"}
	}
	return Counter{Reason: b[0], Direction: b[1]}, nil
}
