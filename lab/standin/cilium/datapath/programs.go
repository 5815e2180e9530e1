// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/bpf"
)

// hook is one program at one place. The pin of its link survives the agent.
type hook struct {
	program string
	attach  ebpf.AttachType
	ifindex int
	pinDir  string
}

func (m *pinSet) deviceLinks(device string) string {
	return filepath.Join(m.root, devicesDir, strings.ReplaceAll(device, ".", "-"), "links")
}

func (m *pinSet) endpointDir(id uint16) string {
	return filepath.Join(m.root, endpointsDir, strconv.Itoa(int(id)))
}

// load loads the named programs against the pinned maps, with calls as their array of tail calls,
// and fills that array. The caller closes the collection: links and arrays keep what they hold.
func (d *Datapath) load(calls ebpf.MapSpec, slots map[uint32]string, names ...string) (*ebpf.Collection, error) {
	for _, name := range slots {
		names = append(names, name)
	}
	spec, err := bpf.Subset(names...)
	if err != nil {
		return nil, err
	}
	if err := d.configure(spec); err != nil {
		return nil, err
	}
	array, err := d.pins.pinned(calls)
	if err != nil {
		return nil, err
	}
	defer array.Close()
	replacements := map[string]*ebpf.Map{"cilium_calls": array}
	for _, name := range []string{"cilium_ipcache_v2", "cilium_lxc", "cilium_metrics", "cilium_call_policy"} {
		replacements[name] = d.pins.open[name]
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replacements})
	if err != nil {
		return nil, fmt.Errorf("loading programs %v: %w", names, err)
	}
	for slot, name := range slots {
		if err := array.Update(slot, collection.Programs[name], ebpf.UpdateAny); err != nil {
			collection.Close()
			return nil, fmt.Errorf("filling slot %d of %s: %w", slot, calls.Name, err)
		}
	}
	return collection, nil
}

func (d *Datapath) configure(spec *ebpf.CollectionSpec) error {
	values := map[string]any{"encap_ifindex": uint32(d.vxlanIndex)}
	if len(d.self.PodCIDR) > 0 {
		own := d.self.PodCIDR[0].Masked()
		ip := own.Addr().As4()
		mask := ^uint32(0) << (32 - own.Bits())
		values["own_net"] = binary.NativeEndian.Uint32(ip[:])
		values["own_mask"] = binary.NativeEndian.Uint32(binary.BigEndian.AppendUint32(nil, mask))
	}
	for name, value := range values {
		variable, ok := spec.Variables[name]
		if !ok {
			continue // the compiler drops what no program of the object reads
		}
		if err := variable.Set(value); err != nil {
			return fmt.Errorf("setting constant %s of the programs: %w", name, err)
		}
	}
	return nil
}

// attach puts the program at its place through the pinned link that is there, or through a new one.
// Through an existing link the change is atomic: no packet passes without a program.
func attach(h hook, collection *ebpf.Collection) error {
	program := collection.Programs[h.program]
	path := filepath.Join(h.pinDir, h.program)
	if existing, err := link.LoadPinnedLink(path, nil); err == nil {
		defer existing.Close()
		if info, err := existing.Info(); err == nil && info.TCX() != nil && int(info.TCX().Ifindex) == h.ifindex {
			if err := existing.Update(program); err == nil {
				return nil
			}
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("removing the pin %s of a link that cannot be updated: %w", path, err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("opening the pinned link %s: %w", path, err)
	}
	if err := os.MkdirAll(h.pinDir, 0o755); err != nil {
		return fmt.Errorf("making the directory of link pins: %w", err)
	}
	created, err := link.AttachTCX(link.TCXOptions{Interface: h.ifindex, Program: program, Attach: h.attach})
	if err != nil {
		return fmt.Errorf("attaching %s to interface %d: %w", h.program, h.ifindex, err)
	}
	defer created.Close()
	if err := created.Pin(path); err != nil {
		return fmt.Errorf("pinning the link %s: %w", path, err)
	}
	return nil
}

// attachBase loads and attaches the programs of cilium_host, cilium_net and cilium_vxlan.
func (d *Datapath) attachBase() error {
	drop := map[uint32]string{bpf.CallDropNotify: "tail_drop_notify"}
	overlay := map[uint32]string{bpf.CallDropNotify: "tail_drop_notify", bpf.CallIPv4: "tail_handle_ipv4_from_overlay"}
	vxlan, host, net := d.pins.deviceLinks(vxlanName), d.pins.deviceLinks(hostName), d.pins.deviceLinks(netName)
	sets := []struct {
		calls ebpf.MapSpec
		slots map[uint32]string
		extra []string
		hooks []hook
	}{
		{callsSpec(overlayCallsName), overlay, nil, []hook{
			{"cil_from_overlay", ebpf.AttachTCXIngress, d.vxlanIndex, vxlan},
			{"cil_to_overlay", ebpf.AttachTCXEgress, d.vxlanIndex, vxlan},
		}},
		{callsSpec(hostCallsName(d.hostID)), drop, []string{"cil_host_policy"}, []hook{
			{"cil_to_host", ebpf.AttachTCXIngress, d.hostIndex, host},
			{"cil_from_host", ebpf.AttachTCXEgress, d.hostIndex, host},
		}},
		{callsSpec(netdevCallsName(d.netIndex)), drop, nil, []hook{
			{"cil_to_host", ebpf.AttachTCXIngress, d.netIndex, net},
		}},
	}
	for _, set := range sets {
		if err := d.attachSet(set.calls, set.slots, set.extra, set.hooks); err != nil {
			return err
		}
	}
	return nil
}

func (d *Datapath) attachSet(calls ebpf.MapSpec, slots map[uint32]string, extra []string, hooks []hook) error {
	names := append([]string{}, extra...)
	for _, h := range hooks {
		names = append(names, h.program)
	}
	collection, err := d.load(calls, slots, names...)
	if err != nil {
		return err
	}
	defer collection.Close()
	if policy, ok := collection.Programs["cil_host_policy"]; ok {
		if err := d.pins.open["cilium_call_policy"].Update(uint32(d.hostID), policy, ebpf.UpdateAny); err != nil {
			return fmt.Errorf("registering the host endpoint's program: %w", err)
		}
	}
	for _, h := range hooks {
		if err := attach(h, collection); err != nil {
			return err
		}
	}
	return nil
}

// attachNative puts cil_from_netdev on a device that carries the node's own traffic.
func (d *Datapath) attachNative(name string, ifindex int) error {
	slots := map[uint32]string{bpf.CallDropNotify: "tail_drop_notify"}
	return d.attachSet(callsSpec(netdevCallsName(ifindex)), slots, nil, []hook{
		{"cil_from_netdev", ebpf.AttachTCXIngress, ifindex, d.pins.deviceLinks(name)},
	})
}
