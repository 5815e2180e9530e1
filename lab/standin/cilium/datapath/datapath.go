// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Config is what does not change while an agent runs.
type Config struct {
	BPFRoot    string   // where the node's bpffs is mounted
	HostRoot   string   // the node's root directory: its iptables programs are run from there
	Devices    []string // patterns of native devices (eth+); empty: those with a default route
	TunnelPort int      // UDP
	HostID     uint16   // endpoint id of the host itself, kept over restarts
}

// Datapath is the kernel's side of one node. Its methods may be called from several goroutines.
type Datapath struct {
	pins       *pinSet
	hostRoot   string
	devices    []string
	tunnelPort int
	hostID     uint16
	mtu        int // of the native devices and so of every device made here, in bytes

	hostIndex, netIndex, vxlanIndex int

	mu        sync.Mutex
	self      Node
	peers     []Node
	endpoints map[uint16]Endpoint
	native    map[int]string // ifindex to name, of the devices that have their program
	cache     map[netip.Prefix]Remote
	routes    map[Route]bool
	nodes     map[netip.Addr]string
}

// Open does what an agent does before it knows its slice of the pool: it pins the maps (a fresh
// ipcache among them) and makes cilium_host and cilium_net. There is no tunnel and no program yet.
func Open(c Config) (*Datapath, error) {
	native, err := nativeDevices(c.Devices)
	if err != nil {
		return nil, err
	}
	mtu, err := baseMTU(native)
	if err != nil {
		return nil, err
	}
	opened, err := openMaps(c.BPFRoot)
	if err != nil {
		return nil, err
	}
	d := &Datapath{
		pins: opened, hostRoot: c.HostRoot, devices: c.Devices, tunnelPort: c.TunnelPort, hostID: c.HostID, mtu: mtu,
		endpoints: map[uint16]Endpoint{}, native: map[int]string{},
		cache: map[netip.Prefix]Remote{}, routes: map[Route]bool{}, nodes: map[netip.Addr]string{},
	}
	if err := d.ensureHostPair(); err != nil {
		opened.close()
		return nil, err
	}
	if err := d.policyMap(d.hostID, true); err != nil {
		opened.close()
		return nil, err
	}
	return d, nil
}

// Close lets go of the maps. Everything on the node stays, and keeps carrying packets.
func (d *Datapath) Close() { d.pins.close() }

// MTU returns the MTU of every device, and of routes that lead into the tunnel, in bytes.
func (d *Datapath) MTU() (device, route int) { return d.mtu, d.mtu - TunnelOverhead }

// Install makes everything that needs the node's slice and router address: tunnel, addresses,
// routes, rules, iptables; then the content of the maps; and the programs last, so that an updated
// program finds its new ipcache filled.
func (d *Datapath) Install(ctx context.Context, self Node, peers []Node, restored []Endpoint) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.self, d.peers = self, peers
	for _, ep := range restored {
		d.endpoints[ep.ID] = ep
	}
	for _, step := range []func() error{
		nodeSysctls,
		d.ensureTunnel,
		func() error { return d.setRouterAddress(self.Router) },
		d.ensureRouterRoute,
		func() error { return d.dropForeignRoutes(Routes(self, peers, d.mtu)) },
		ensureRules,
		func() error { return d.applyIptables(ctx) },
		d.fillHostEndpoints,
		d.adoptNodeMap,
		d.sync,
		d.attachBase,
		d.attachNewNative,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	for _, ep := range restored {
		if err := d.installEndpoint(ep); err != nil {
			return err
		}
	}
	return nil
}

// SetPeers replaces the set of peers.
func (d *Datapath) SetPeers(peers []Node) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.peers = peers
	return d.sync()
}

// Beat writes the sign of life: the monotonic clock in nanoseconds at index 1 of cilium_runtime_config.
func (d *Datapath) Beat() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("reading the monotonic clock: %w", err)
	}
	const agentLiveness = uint32(1)
	if err := d.pins.open["cilium_runtime_config"].Put(agentLiveness, uint64(now.Nano())); err != nil {
		return fmt.Errorf("writing the sign of life: %w", err)
	}
	return nil
}

// WatchDevices gives native devices that appear later their program, until ctx ends.
func (d *Datapath) WatchDevices(ctx context.Context, complain func(error)) error {
	updates := make(chan netlink.LinkUpdate, 16)
	if err := netlink.LinkSubscribe(updates, ctx.Done()); err != nil {
		return fmt.Errorf("subscribing to link changes: %w", err)
	}
	for range updates {
		d.mu.Lock()
		err := d.attachNewNative()
		d.mu.Unlock()
		if err != nil {
			complain(err)
		}
	}
	return nil
}

func (d *Datapath) attachNewNative() error {
	links, err := nativeDevices(d.devices)
	if err != nil {
		return err
	}
	present := map[int]string{}
	for _, l := range links {
		name, index := l.Attrs().Name, l.Attrs().Index
		if d.native[index] == "" {
			if err := d.attachNative(name, index); err != nil {
				return err
			}
		}
		present[index] = name
	}
	d.native = present
	return nil
}

// sync writes what changed between the last computation and this one.
func (d *Datapath) sync() error {
	endpoints := make([]Endpoint, 0, len(d.endpoints))
	for _, ep := range d.endpoints {
		endpoints = append(endpoints, ep)
	}
	cache := IPCache(d.self, d.peers, endpoints)
	err := difference(d.cache, cache, func(prefix netip.Prefix, remote Remote) error {
		return d.pins.open["cilium_ipcache_v2"].Put(ipcacheKey(prefix), ipcacheValue(remote))
	}, func(prefix netip.Prefix) error {
		return ignoreMissing(d.pins.open["cilium_ipcache_v2"].Delete(ipcacheKey(prefix)))
	})
	if err != nil {
		return fmt.Errorf("writing the ipcache: %w", err)
	}
	nodes := NodeAddresses(d.self, d.peers)
	err = difference(d.nodes, nodes, func(addr netip.Addr, name string) error {
		return d.pins.open["cilium_node_map_v2"].Put(nodeKey(addr), nodeValue(nodeID(name)))
	}, func(addr netip.Addr) error {
		return ignoreMissing(d.pins.open["cilium_node_map_v2"].Delete(nodeKey(addr)))
	})
	if err != nil {
		return fmt.Errorf("writing the node map: %w", err)
	}
	routes := Routes(d.self, d.peers, d.mtu)
	err = difference(d.routes, routes, func(r Route, _ bool) error {
		return netlink.RouteReplace(d.netlinkRoute(r))
	}, func(r Route) error {
		return ignoreMissing(netlink.RouteDel(d.netlinkRoute(r)))
	})
	if err != nil {
		return fmt.Errorf("writing the routes over %s: %w", hostName, err)
	}
	return nil
}

func (d *Datapath) fillHostEndpoints() error {
	for _, addr := range []netip.Addr{d.self.IP, d.self.Router} {
		if err := d.pins.open["cilium_lxc"].Update(endpointKey(addr), hostEndpointValue(), ebpf.UpdateAny); err != nil {
			return fmt.Errorf("entering the host's address %s: %w", addr, err)
		}
	}
	return nil
}

// adoptNodeMap takes over what an earlier agent wrote, so that the next sync removes what is stale.
func (d *Datapath) adoptNodeMap() error {
	var key, value []byte
	entries := d.pins.open["cilium_node_map_v2"].Iterate()
	for entries.Next(&key, &value) {
		d.nodes[netip.AddrFrom4([4]byte(key[4:8]))] = ""
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("reading the node map: %w", err)
	}
	return nil
}

// difference brings was to become, calling put and drop for what differs, and remembers in was what
// was done: after an error the next call goes on from there.
func difference[K comparable, V comparable](was, become map[K]V, put func(K, V) error, drop func(K) error) error {
	for key := range was {
		if _, wanted := become[key]; wanted {
			continue
		}
		if err := drop(key); err != nil {
			return fmt.Errorf("removing %v: %w", key, err)
		}
		delete(was, key)
	}
	for key, value := range become {
		if old, there := was[key]; there && old == value {
			continue
		}
		if err := put(key, value); err != nil {
			return fmt.Errorf("setting %v: %w", key, err)
		}
		was[key] = value
	}
	return nil
}

// nodeID gives a node's number. The original draws it at random on each node; any stable one does.
func nodeID(name string) uint16 {
	sum := fnv.New32a()
	sum.Write([]byte(name))
	return binary.LittleEndian.Uint16(sum.Sum(nil)) | 1
}
