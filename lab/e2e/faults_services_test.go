// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/lab"
)

// socketLinks is where Cilium pins what it attaches to cgroups.
const socketLinks = "/sys/fs/bpf/cilium/socketlb"

// serviceFaults are about a node on which Cilium translates Services at sockets, which it does nowhere else in the lab. Its programs there are
// ours, and let everything pass; the maps hold all Services. The first row is such a node without a fault.
func serviceFaults() []fault {
	const c = v1alpha1.CheckServices
	return []fault{
		{"Services are translated at sockets, and all is well", translated(func(*services) {}), said{c, v1alpha1.VerdictPass, v1alpha1.AsWanted}, nil},
		{"no Service is known where they are translated", translated(func(s *services) { s.places, s.backends = nil, nil }), fails(c, v1alpha1.ServiceMissing), nil},
		{"a place of a Service leads to no backend", translated(func(s *services) { s.backends = nil }), fails(c, v1alpha1.ServiceBroken), nil},
		{"default/kubernetes leads to no API server", translated(func(s *services) {
			for _, backend := range s.backends {
				backend[0]++
			}
		}), fails(c, v1alpha1.ServiceWrong), nil},
		{"UDP is not translated at sockets", translated(func(s *services) {
			delete(s.programs, "cil_sock4_sendmsg")
			delete(s.programs, "cil_sock4_recvmsg")
		}), fails(v1alpha1.CheckPrograms, v1alpha1.ProgramMissing), nil},
	}
}

// services is what is planted, raw as Cilium 1.18 has it (bpf/lib/lb.h: lb4_key, lb4_service, lb4_backend).
type services struct {
	places   map[[12]byte][]byte
	backends map[uint32][]byte
	programs map[string]ebpf.AttachType
}

// translated makes a node one whose Services are translated at sockets, spoilt in some way.
func translated(spoil func(*services)) trouble {
	var x services
	return trouble{
		plant: func(ctx context.Context, s *scene, host lab.Host) error {
			var err error
			if x, err = s.allServices(ctx); err != nil {
				return err
			}
			spoil(&x)
			err = onMap(host, ciliummap.ServicesPin, func(m *ebpf.Map) error { return putAll(m, x.places) })
			err = errors.Join(err, onMap(host, ciliummap.BackendsPin, func(m *ebpf.Map) error { return putAll(m, x.backends) }))
			for name, attach := range x.programs {
				err = errors.Join(err, onSockets(host, name, attach))
			}
			return err
		},
		cure: func(_ context.Context, _ *scene, host lab.Host) error {
			err := os.RemoveAll(inNode(host, socketLinks))
			err = errors.Join(err, onMap(host, ciliummap.ServicesPin, func(m *ebpf.Map) error { return deleteAll(m, x.places) }))
			return errors.Join(err, onMap(host, ciliummap.BackendsPin, func(m *ebpf.Map) error { return deleteAll(m, x.backends) }))
		},
	}
}

func putAll[K comparable](m *ebpf.Map, entries map[K][]byte) error {
	for key, value := range entries {
		if err := m.Put(key, value); err != nil {
			return err
		}
	}
	return nil
}

func deleteAll[K comparable](m *ebpf.Map, entries map[K][]byte) error {
	for key := range entries {
		if err := m.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// allServices are those of IPv4 with a cluster IP, as the API server has them.
func (s *scene) allServices(ctx context.Context) (services, error) {
	out := services{
		places: map[[12]byte][]byte{}, backends: map[uint32][]byte{},
		programs: map[string]ebpf.AttachType{
			"cil_sock4_connect": ebpf.AttachCGroupInet4Connect, "cil_sock4_sendmsg": ebpf.AttachCGroupUDP4Sendmsg, "cil_sock4_recvmsg": ebpf.AttachCGroupUDP4Recvmsg,
		},
	}
	var all corev1.ServiceList
	if err := s.env.Client.List(ctx, &all); err != nil {
		return out, err
	}
	for _, service := range all.Items {
		ip, err := netip.ParseAddr(service.Spec.ClusterIP)
		if err != nil { // headless
			continue
		}
		slices, err := s.env.Kube.DiscoveryV1().EndpointSlices(service.Namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service.Name})
		if err != nil {
			return out, err
		}
		for _, port := range service.Spec.Ports {
			out.add(ip, port, slices.Items)
		}
	}
	return out, nil
}

// add adds a Service's port with its ready endpoints.
func (x *services) add(ip netip.Addr, port corev1.ServicePort, slices []discoveryv1.EndpointSlice) {
	const (
		revNAT  = 1 // big endian, at 6
		slotAt  = 6
		countAt = 4
	)
	proto := map[corev1.Protocol]byte{corev1.ProtocolTCP: 6, corev1.ProtocolUDP: 17}[port.Protocol]
	place := func(slot uint16) (key [12]byte) {
		copy(key[:], endpoint(ip, uint16(port.Port)))
		binary.LittleEndian.PutUint16(key[slotAt:], slot)
		key[8] = proto
		return key
	}
	count := uint16(0)
	for _, slice := range slices {
		for _, p := range slice.Ports {
			if *p.Name != port.Name {
				continue
			}
			for _, e := range slice.Endpoints {
				if e.Conditions.Ready != nil && !*e.Conditions.Ready {
					continue
				}
				count++
				id := uint32(len(x.backends) + 1)
				x.places[place(count)] = append(binary.LittleEndian.AppendUint32(nil, id), 0, 0, 0, revNAT, 0, 0, 0, 0)
				x.backends[id] = append(endpoint(netip.MustParseAddr(e.Addresses[0]), uint16(*p.Port)), proto, 0, 0, 0, 0, 0)
			}
		}
	}
	master := []byte{0, 0, 0, 0, 0, 0, 0, revNAT, 0, 0, 0, 0}
	binary.LittleEndian.PutUint16(master[countAt:], count)
	x.places[place(0)] = master
}

func endpoint(addr netip.Addr, port uint16) []byte {
	return binary.BigEndian.AppendUint16(addr.AsSlice(), port)
}

// onSockets attaches a program that lets everything pass to the node's cgroup, and pins it where Cilium does. The pin is all that holds it.
func onSockets(host lab.Host, name string, attach ebpf.AttachType) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSockAddr, AttachType: attach, License: "Apache-2.0", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		return err
	}
	defer program.Close()
	cgroup, err := cgroupOf(host)
	if err != nil {
		return err
	}
	defer cgroup.Close()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: fmt.Sprintf("/proc/self/fd/%d", cgroup.Fd()), Attach: attach, Program: program})
	if err != nil {
		return err
	}
	defer l.Close()
	dir := inNode(host, filepath.Join(socketLinks, "links/cgroup"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return l.Pin(filepath.Join(dir, name))
}

// cgroupOf opens the node's cgroup in the unified hierarchy, which is its root where the machine has the older ones. It is mounted nowhere,
// so that nothing is left behind.
func cgroupOf(host lab.Host) (*os.File, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", host.PID))
	if err != nil {
		return nil, err
	}
	at := "/"
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			at = strings.TrimSpace(path)
		}
	}
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("opening cgroup2: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("opening cgroup2: %w", err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening cgroup2: %w", err)
	}
	defer unix.Close(root)
	return os.Open(fmt.Sprintf("/proc/self/fd/%d%s", root, at))
}
