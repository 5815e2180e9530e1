// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"

	"github.com/cni-cutover/cni-cutover/internal/capability"
)

// object is meter.c compiled (make generate); little endian, which is what amd64 and arm64 are.
//
//go:embed meter.o
var object []byte

// Access is how the program reads a packet.
type Access string

// The two programs. They count the same; see the package comment for what each costs.
const (
	Direct Access = "direct" // in place; a kernel may want CAP_PERFMON for it
	Copied Access = "copied" // by bpf_skb_load_bytes; CAP_BPF and CAP_NET_ADMIN are enough
)

// loaded is the kernel's side of a meter: two programs and their maps, which end with this process.
type loaded struct {
	programs [2]*ebpf.Program // by Direction
	flows    *ebpf.Map
	strays   *ebpf.Map
	leaseEnd *ebpf.Variable
	all      *ebpf.Collection
}

// variant is what is decided before a program is loaded, and then part of it.
type variant struct {
	access  Access
	port    uint16
	entries uint32 // of the flows
	leased  bool   // counts only while somebody renews its lease
	coarse  bool   // by the cheap clock, which came with 5.11
}

func haveCoarseClock() bool {
	return features.HaveProgramHelper(ebpf.SchedCLS, asm.FnKtimeGetCoarseNs) == nil
}

// load asks the kernel for one variant.
func load(v variant) (*loaded, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, fmt.Errorf("reading the embedded object (run make generate and commit meter.o): %w", err)
	}
	names := [2]string{"in_" + string(v.access), "out_" + string(v.access)}
	for name := range spec.Programs {
		if name != names[Ingress] && name != names[Egress] {
			delete(spec.Programs, name)
		}
	}
	spec.Maps["meter_flows"].MaxEntries = v.entries
	err = errors.Join(
		spec.Variables["tunnel_port"].Set([2]byte{byte(v.port >> 8), byte(v.port)}),
		spec.Variables["leased"].Set(v.leased),
		spec.Variables["coarse"].Set(v.coarse),
	)
	if err != nil {
		return nil, fmt.Errorf("setting the program's constants: %w", err)
	}
	all, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, err
	}
	return &loaded{
		programs: [2]*ebpf.Program{all.Programs[names[Ingress]], all.Programs[names[Egress]]},
		flows:    all.Maps["meter_flows"],
		strays:   all.Maps["meter_strays"],
		leaseEnd: all.Variables["lease_end"],
		all:      all,
	}, nil
}

// loadBest prefers the cheaper program. With the other one it also says why.
func loadBest(v variant, load func(variant) (*loaded, error)) (*loaded, Access, string, error) {
	v.access = Direct
	l, direct := load(v)
	if direct == nil {
		return l, Direct, "", nil
	}
	v.access = Copied
	l, copied := load(v)
	if copied != nil {
		return nil, "", "", errors.Join(copied, direct)
	}
	why := "the kernel refuses to let a program read packets in place: " + direct.Error()
	if !capability.Held(capability.Perfmon) {
		why += " (CAP_PERFMON may cure it)"
	}
	return l, Copied, why, nil
}
