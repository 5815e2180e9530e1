// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// programPrefix begins the name of every program that Cilium attaches to an interface (Cilium bpf/bpf_*.c).
const programPrefix = "cil_"

// PodLinkPrefix begins the name of the host's end of every pod's veth pair that Cilium made, lxc_health included.
const PodLinkPrefix = "lxc"

// lookPrograms looks in both places: Cilium attaches by tcx links, which it pins, or, on kernels before 6.6 and with
// enable-tcx=false, by classic filters on a clsact qdisc, which leave no pin. Programs on cgroups are always links. Lists hold
// what was found even if one of the places could not be read, which the Look then says.
func lookPrograms(bpffs string, links Links) Programs {
	out := Programs{Look: Look{Sight: Seen}}
	pinned := func(read func(string) ([]ciliummap.PinnedLink, error)) ([]ciliummap.PinnedLink, bool) {
		found, err := read(bpffs)
		missing := errors.Is(err, fs.ErrNotExist)
		// A missing directory means no links only where the bpffs is to be seen; elsewhere it means nothing.
		if err != nil && (!missing || !isBPFFS(bpffs)) {
			out.Look = failed(err)
		}
		return found, !missing
	}
	devices, _ := pinned(ciliummap.ReadLinks)
	endpoints, _ := pinned(ciliummap.ReadEndpointLinks)
	for _, l := range append(devices, endpoints...) {
		if p, ok := tcxProgram(l); ok {
			out.List = append(out.List, p)
		}
	}
	sockets, once := pinned(ciliummap.ReadSocketLinks)
	out.SocketsOnce = once
	for _, l := range sockets {
		if !l.Detached() {
			out.Sockets = append(out.Sockets, SocketProgram{Name: l.Program, ID: uint32(l.ProgramID)})
		}
	}
	if links.Sight != Seen {
		out.Look = links.Look
		return out
	}
	for _, l := range links.List {
		found, look := classicPrograms(l)
		out.List = append(out.List, found...)
		if look.Sight != Seen && out.Sight == Seen {
			out.Look = look
		}
	}
	return out
}

// tcxProgram leaves out what is attached to no interface any more, and hooks that carry no packets of the overlay.
func tcxProgram(l ciliummap.PinnedLink) (Program, bool) {
	if l.Detached() || !strings.HasPrefix(l.Program, programPrefix) {
		return Program{}, false
	}
	switch l.Attach {
	case ebpf.AttachTCXIngress, ebpf.AttachTCXEgress:
		return Program{Name: l.Program, ID: uint32(l.ProgramID), Link: int(l.IfIndex), Egress: l.Attach == ebpf.AttachTCXEgress, Via: "tcx"}, true
	}
	return Program{}, false
}

// classicPrograms lists the filters of one interface. Cilium names them <program>-<device>.
func classicPrograms(l Link) ([]Program, Look) {
	var out []Program
	hooks := []bool{false, true}
	if strings.HasPrefix(l.Name, PodLinkPrefix) {
		hooks = hooks[:1] // hundreds on a full node, and only what their pods send must go through a program
	}
	for _, egress := range hooks {
		parent := uint32(netlink.HANDLE_MIN_INGRESS)
		if egress {
			parent = netlink.HANDLE_MIN_EGRESS
		}
		found, look := dump("tc filters of "+l.Name, func() ([]netlink.Filter, error) {
			f, err := netlink.FilterList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index}}, parent)
			// No clsact qdisc, or the interface has gone meanwhile: no filters either way.
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) {
				return nil, nil
			}
			return f, err
		})
		if look.Sight != Seen {
			return out, Look{look.Sight, fmt.Sprintf("%s: %s", l.Name, look.Detail)}
		}
		for _, filter := range found {
			bpf, ok := filter.(*netlink.BpfFilter)
			// Without direct-action the program only classifies, and the packet goes on as if it were not there.
			if !ok || !bpf.DirectAction || !strings.HasPrefix(bpf.Name, programPrefix) {
				continue
			}
			name, _, _ := strings.Cut(bpf.Name, "-")
			out = append(out, Program{Name: name, ID: uint32(bpf.Id), Link: l.Index, Egress: egress, Via: "tc"})
		}
	}
	return out, Look{Sight: Seen}
}

// lookMapUses asks of every attached program which of the pinned maps it uses, itself or by tail calls.
func lookMapUses(bpffs string, p Programs) MapUses {
	var ids []ebpf.ProgramID
	for _, x := range p.List {
		ids = append(ids, ebpf.ProgramID(x.ID))
	}
	for _, x := range p.Sockets {
		ids = append(ids, ebpf.ProgramID(x.ID))
	}
	uses, err := ciliummap.ReadUses(filepath.Join(bpffs, ciliummap.GlobalsDir), ids)
	if err != nil {
		return MapUses{Look: mapLook(bpffs, err), NotAllowed: errors.As(err, new(ciliummap.NotAllowedError))}
	}
	out := MapUses{Look: Look{Sight: Seen}, By: make(map[uint32]ciliummap.Uses, len(uses))}
	for id, u := range uses {
		out.By[uint32(id)] = u
	}
	return out
}

func isBPFFS(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.BPF_FS_MAGIC
}
