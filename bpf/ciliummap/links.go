// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Where Cilium pins its links, relative to the bpffs root.
// Source: Cilium pkg/datapath/loader/paths.go, pkg/socketlb/socketlb.go.
const (
	devicesDir   = "cilium/devices"   // <device>/links/<program>
	endpointsDir = "cilium/endpoints" // <endpoint id>/links/<program>
	socketsDir   = "cilium/socketlb/links/cgroup"
)

// PinnedLink is a program that Cilium attached through a BPF link: to a device (tcx, netkit or XDP) or to a cgroup.
type PinnedLink struct {
	Path string
	// Device is the name of the pin's directory: the device's name with "." replaced by "-", see DeviceDir; the ID of an
	// endpoint; or "" for a cgroup.
	Device string
	// Program is the name of the pin, which is the full name of the program, such as cil_from_overlay.
	Program string
	Type    link.Type
	ID      link.ID
	// ProgramID is the kernel's ID of the attached program.
	ProgramID ebpf.ProgramID
	// IfIndex is the device the program is attached to now, in the network namespace of that device.
	// 0 means that the device is gone and the program runs nowhere.
	IfIndex uint32
	// Cgroup is the kernel's ID of the cgroup that a cgroup link is attached to, 0 once it is gone.
	Cgroup uint64
	// Attach says which hook, such as ebpf.AttachTCXIngress.
	Attach ebpf.AttachType
}

// Detached says whether the device or cgroup under the link has been removed: the pin remains, the program runs nowhere.
func (l PinnedLink) Detached() bool { return l.IfIndex == 0 && l.Cgroup == 0 }

// DeviceDir returns the directory name Cilium uses for a device.
func DeviceDir(device string) string { return strings.ReplaceAll(device, ".", "-") }

// ReadLinks returns every link pinned at <bpffsRoot>/cilium/devices/<device>/links/<program>, sorted by path. It needs no
// capability, unlike asking a device for its programs (CAP_NET_ADMIN): a program is attached to a device if a
// link says so and IfIndex is the current index of the device.
//
// With fs.ErrNotExist no device has links: nothing is attached yet, or by classic tc (kernels before 6.6, or
// enable-tcx=false), which leaves no pins and has to be asked for by rtnetlink. Links that cannot be read are
// joined into the error; those that can are returned with it.
func ReadLinks(bpffsRoot string) ([]PinnedLink, error) {
	return readLinksOfEach(filepath.Join(bpffsRoot, devicesDir))
}

// ReadEndpointLinks is ReadLinks for the host's end of every pod's veth pair, lxc_health included.
func ReadEndpointLinks(bpffsRoot string) ([]PinnedLink, error) {
	return readLinksOfEach(filepath.Join(bpffsRoot, endpointsDir))
}

// ReadSocketLinks returns the programs that translate Services at the sockets of processes, which Cilium attaches to a cgroup where
// it replaces kube-proxy. With fs.ErrNotExist there are none.
func ReadSocketLinks(bpffsRoot string) ([]PinnedLink, error) {
	return readLinksIn(filepath.Join(bpffsRoot, socketsDir))
}

func readLinksOfEach(root string) ([]PinnedLink, error) {
	owners, err := os.ReadDir(root)
	if err != nil {
		return nil, explain(root, err)
	}
	var (
		links []PinnedLink
		errs  []error
	)
	for _, owner := range owners {
		if !owner.IsDir() {
			continue
		}
		found, err := readLinksIn(filepath.Join(root, owner.Name(), "links"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the agent makes and removes these directories as devices come and go
			errs = append(errs, err)
		}
		for _, l := range found {
			l.Device = owner.Name()
			links = append(links, l)
		}
	}
	return links, errors.Join(errs...)
}

func readLinksIn(dir string) ([]PinnedLink, error) {
	pins, err := os.ReadDir(dir)
	if err != nil {
		return nil, explain(dir, err)
	}
	var (
		links []PinnedLink
		errs  []error
	)
	for _, pin := range pins {
		l, err := readLink(filepath.Join(dir, pin.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist): // unpinned since the directory was read
		case err != nil:
			errs = append(errs, err)
		default:
			l.Program = pin.Name()
			links = append(links, l)
		}
	}
	return links, errors.Join(errs...)
}

func readLink(path string) (PinnedLink, error) {
	// The kernel refuses to open a link read-only (kernel/bpf/inode.c: bpf_obj_get_user). Nothing is written.
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return PinnedLink{}, explain(path, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return PinnedLink{}, fmt.Errorf("reading the link info of %s: %w", path, err)
	}
	p := PinnedLink{Path: path, Type: info.Type, ID: info.ID, ProgramID: info.Program}
	switch info.Type {
	case link.TCXType:
		tcx := info.TCX()
		p.IfIndex, p.Attach = tcx.Ifindex, ebpf.AttachType(tcx.AttachType)
	case link.NetkitType:
		netkit := info.Netkit()
		p.IfIndex, p.Attach = netkit.Ifindex, ebpf.AttachType(netkit.AttachType)
	case link.XDPType:
		p.IfIndex, p.Attach = info.XDP().Ifindex, ebpf.AttachXDP
	case link.CgroupType:
		cgroup := info.Cgroup()
		p.Cgroup, p.Attach = cgroup.CgroupId, ebpf.AttachType(cgroup.AttachType)
	default:
		return PinnedLink{}, fmt.Errorf("reading link %s: link type %d is bound to no device or cgroup (known: tcx, netkit, XDP, cgroup); "+
			"this Cilium attaches in a way this program does not know", path, info.Type)
	}
	return p, nil
}
