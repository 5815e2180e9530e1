// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/bpf"
)

// AddEndpoint makes a pod reachable. Doing it again for the same endpoint replaces its programs.
func (d *Datapath) AddEndpoint(ep Endpoint) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endpoints[ep.ID] = ep
	if err := d.installEndpoint(ep); err != nil {
		delete(d.endpoints, ep.ID)
		return errors.Join(err, d.removeEndpoint(ep))
	}
	return d.sync()
}

// RemoveEndpoint forgets a pod. Removing what is not there is no error.
func (d *Datapath) RemoveEndpoint(ep Endpoint) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.endpoints, ep.ID)
	if err := d.removeEndpoint(ep); err != nil {
		return err
	}
	return d.sync()
}

func (d *Datapath) installEndpoint(ep Endpoint) error {
	if err := podSysctls(ep.Interface); err != nil {
		return err
	}
	if err := d.policyMap(ep.ID, false); err != nil {
		return err
	}
	slots := map[uint32]string{bpf.CallDropNotify: "tail_drop_notify", bpf.CallIPv4: "tail_handle_ipv4"}
	collection, err := d.load(callsSpec(callsName(ep.ID)), slots, "cil_from_container", "cil_lxc_policy", "cil_lxc_policy_egress")
	if err != nil {
		return err
	}
	defer collection.Close()
	for array, program := range map[string]string{"cilium_call_policy": "cil_lxc_policy", "cilium_egresscall_policy": "cil_lxc_policy_egress"} {
		if err := d.pins.open[array].Update(uint32(ep.ID), collection.Programs[program], ebpf.UpdateAny); err != nil {
			return fmt.Errorf("registering %s of endpoint %d: %w", program, ep.ID, err)
		}
	}
	value := endpointValue(ep.IfIndex, ep.ID, ep.Identity, ep.MAC, ep.HostMAC)
	if err := d.pins.open["cilium_lxc"].Put(endpointKey(ep.IP), value); err != nil {
		return fmt.Errorf("entering endpoint %d, %s: %w", ep.ID, ep.IP, err)
	}
	links := filepath.Join(d.pins.endpointDir(ep.ID), "links")
	return attach(hook{"cil_from_container", ebpf.AttachTCXIngress, ep.IfIndex, links}, collection)
}

func (d *Datapath) removeEndpoint(ep Endpoint) error {
	if err := ignoreMissing(d.pins.open["cilium_lxc"].Delete(endpointKey(ep.IP))); err != nil {
		return fmt.Errorf("removing the entry of endpoint %d, %s: %w", ep.ID, ep.IP, err)
	}
	for _, array := range []string{"cilium_call_policy", "cilium_egresscall_policy"} {
		if err := ignoreMissing(d.pins.open[array].Delete(uint32(ep.ID))); err != nil {
			return fmt.Errorf("removing endpoint %d from %s: %w", ep.ID, array, err)
		}
	}
	for _, name := range []string{policyName(ep.ID), callsName(ep.ID)} {
		if err := ignoreMissing(os.Remove(d.pins.path(name))); err != nil {
			return fmt.Errorf("unpinning %s: %w", name, err)
		}
	}
	if err := os.RemoveAll(d.pins.endpointDir(ep.ID)); err != nil {
		return fmt.Errorf("unpinning the links of endpoint %d: %w", ep.ID, err)
	}
	return nil
}

func (d *Datapath) policyMap(id uint16, host bool) error {
	policy, err := d.pins.pinned(policySpec(id))
	if err != nil {
		return err
	}
	defer policy.Close()
	for _, key := range policyEntries(host) {
		if err := policy.Put(key, make([]byte, 8)); err != nil {
			return fmt.Errorf("filling the policy map of endpoint %d: %w", id, err)
		}
	}
	return nil
}

// ignoreMissing turns "it is not there" into success, whichever call says so.
func ignoreMissing(err error) error {
	for _, missing := range []error{ebpf.ErrKeyNotExist, os.ErrNotExist, unix.ESRCH} {
		if errors.Is(err, missing) {
			return nil
		}
	}
	return err
}
