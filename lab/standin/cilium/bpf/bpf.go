// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the kernel side of the Cilium stand-in: its C sources and the compiled object.
package bpf

import (
	"bytes"
	_ "embed"
	"fmt"

	"github.com/cilium/ebpf"
)

//go:embed cilium.o
var object []byte

// Slots of a cilium_calls_* array that the programs of this object use (layout.h CALL_*).
const (
	CallDropNotify = 1
	CallIPv4       = 7
)

// Subset returns a spec that holds only the named programs, ready to be loaded with the pinned maps
// as replacements. Loading all programs for each device would attach nothing more, but would fill
// the kernel with copies that nobody runs.
func Subset(names ...string) (*ebpf.CollectionSpec, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, fmt.Errorf("reading the embedded object (run make generate and commit cilium.o): %w", err)
	}
	wanted := make(map[string]*ebpf.ProgramSpec, len(names))
	for _, name := range names {
		program, ok := spec.Programs[name]
		if !ok {
			return nil, fmt.Errorf("looking for program %q in the embedded object: not there, run make generate", name)
		}
		wanted[name] = program
	}
	spec.Programs = wanted
	return spec, nil
}
