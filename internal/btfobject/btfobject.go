// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package btfobject makes ELF objects that hold BTF and nothing else: what is left of an object of clang's for whoever looks only for
// the layout of structures in it. Tests and the lab's Cilium need one, and neither has a compiler.
package btfobject

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// Of returns an object with these types, in the byte order of this machine.
func Of(types ...btf.Type) ([]byte, error) {
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		return nil, fmt.Errorf("gathering types: %w", err)
	}
	raw, err := b.Marshal(nil, &btf.MarshalOptions{Order: binary.NativeEndian})
	if err != nil {
		return nil, fmt.Errorf("writing types as BTF: %w", err)
	}
	return Around(raw)
}

// Around returns an object whose section .BTF is these bytes. Names and an empty table of symbols belong to any object.
func Around(raw []byte) ([]byte, error) {
	const header, section, symbol, sections = 64, 64, 24, 4
	const names = "\x00.BTF\x00.shstrtab\x00.symtab\x00"
	content := uint64(header + sections*section)
	namesAt := content + uint64(len(raw))
	order := elf.ELFDATA2LSB
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		order = elf.ELFDATA2MSB
	}
	var out bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(order), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_BPF), Version: uint32(elf.EV_CURRENT),
			Shoff: header, Ehsize: header, Shentsize: section, Shnum: sections, Shstrndx: 2,
		},
		elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: content, Size: uint64(len(raw))},
		elf.Section64{Name: 6, Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))},
		elf.Section64{Name: 16, Type: uint32(elf.SHT_SYMTAB), Off: namesAt + uint64(len(names)), Size: symbol, Link: 2, Entsize: symbol},
		raw, []byte(names), make([]byte, symbol),
	} {
		if err := binary.Write(&out, binary.NativeEndian, part); err != nil {
			return nil, fmt.Errorf("writing an object: %w", err)
		}
	}
	return out.Bytes(), nil
}
