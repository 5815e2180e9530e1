// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/cni-cutover/cni-cutover/internal/capability"
)

// figure is what one program costs for one packet, net of a program that does nothing.
type figure struct {
	Name string
	NS   float64
}

// BenchmarkMeter measures what the meter adds to a packet by BPF_PROG_TEST_RUN, beside an empty program in the same
// round: as this process may load it, and in a child without CAP_PERFMON, where the kernel hardens the program
// against speculation. Medians over rounds; a round is as long as the benchmark asks.
func BenchmarkMeter(b *testing.B) {
	needsRoot(b)
	for _, access := range []Access{Direct, Copied} {
		b.Run(string(access), func(b *testing.B) { report(b, measure(b, access, false)) })
		b.Run(string(access)+"-without-perfmon", func(b *testing.B) {
			var figures []figure
			child(b, "measure-"+string(access), &figures)
			report(b, figures)
		})
	}
	b.Run("direct-by-classic-tc", func(b *testing.B) { report(b, measure(b, Direct, true)) }) // looks at the clock
}

// BenchmarkRead reads every counter of 5,000 peers, both ways.
func BenchmarkRead(b *testing.B) {
	m := programFor(b, DefaultPeers, variant{access: Direct})
	for i := range DefaultPeers {
		m.visit(b, Ingress, i)
		m.visit(b, Egress, i)
	}
	for b.Loop() {
		if got := len(m.read(b).Flows); got != 2*DefaultPeers {
			b.Fatalf("%d flows", got)
		}
	}
}

// BenchmarkEnsure finds both programs of one NIC where they should be.
func BenchmarkEnsure(b *testing.B) {
	for _, hook := range []Hook{TCX, Classic} {
		b.Run(string(hook), func(b *testing.B) {
			n := newNIC(b)
			m := n.meter(on(hook))
			n.do(func() {
				for b.Loop() {
					if _, err := m.Ensure(); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

func report(b *testing.B, figures []figure) {
	for range b.N { //nolint:revive // a test run has its own repetition; the figures do not depend on b.N
	}
	b.ReportMetric(0, "ns/op")
	for _, f := range figures {
		b.ReportMetric(f.NS, f.Name+"-ns/packet")
	}
}

// rounds alternate, so that both programs meet the same neighbours on this machine.
const (
	rounds     = 15
	repetition = 200_000
)

func measure(tb testing.TB, access Access, leased bool) []figure {
	tb.Helper()
	empty, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	must(tb, err)
	defer empty.Close()
	n, err := entries(DefaultPeers)
	must(tb, err)
	l, err := load(variant{access, testPort, n, leased, leased && haveCoarseClock()})
	must(tb, err)
	defer l.all.Close()
	must(tb, l.leaseEnd.Set(uint64(math.MaxUint64)))
	var out []figure
	for _, shape := range shapes() {
		var with, without []float64
		for range rounds {
			without = append(without, perPacket(tb, empty, shape.packet))
			with = append(with, perPacket(tb, l.programs[Ingress], shape.packet))
		}
		slices.Sort(with)
		slices.Sort(without)
		out = append(out, figure{shape.name, with[rounds/2] - without[rounds/2]})
	}
	return out
}

type shape struct {
	name   string
	packet packet
}

func shapes() []shape {
	plain := ip4{src: peer(), dst: local(), protocol: 6, payload: 1000}
	other := ip4{src: peer(), dst: local(), protocol: 17, payload: 1000}
	return []shape{
		{"vxlan", tunnelled(Ingress, innerTCP(1300), ip4{})},
		{"tcp", ethernet(0x0800).ip4(plain).tcp(12).zeros(968)},
		{"udp", ethernet(0x0800).ip4(other).udp(53, 992).zeros(992)},
		{"ipv6-tcp", ethernet(0x86dd).ip6(6, 1000).zeros(1000)},
		{"arp", ethernet(0x0806).zeros(46)},
	}
}

func perPacket(tb testing.TB, p *ebpf.Program, data packet) float64 {
	tb.Helper()
	_, took, err := p.Benchmark(data, repetition, nil)
	must(tb, err)
	return float64(took) / float64(time.Nanosecond)
}

// measureWithoutPerfmon is the child of BenchmarkMeter.
func measureWithoutPerfmon(access Access) func() {
	return func() {
		t := &failing{}
		must(t, keepOnly(capability.BPF, capability.NetAdmin))
		if capability.Held(capability.Perfmon) {
			t.Fatal("CAP_PERFMON is still there")
		}
		must(t, json.NewEncoder(os.Stdout).Encode(measure(t, access, false)))
	}
}

// failing is a testing.TB for children, whose parent reads their complaint.
type failing struct{ testing.TB }

func (failing) Helper()           {}
func (failing) Fatal(args ...any) { fmt.Fprintln(os.Stderr, args...); os.Exit(1) }
