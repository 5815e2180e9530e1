// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"net/netip"
)

// TunnelOverhead is what VXLAN over IPv4 adds to each packet, in bytes (Cilium pkg/mtu).
const TunnelOverhead = 50

// Node is a member of the overlay, as its CiliumNode object describes it.
type Node struct {
	Name    string
	IP      netip.Addr     // InternalIP: the end of its tunnel
	Router  netip.Addr     // CiliumInternalIP: the address of its cilium_host; may be invalid
	Health  netip.Addr     // its health endpoint; may be invalid
	PodCIDR []netip.Prefix // its slices of the pool; empty before the operator has given it one
}

// Endpoint is a pod, or the health endpoint, of this node.
type Endpoint struct {
	ID        uint16           `json:"id"`
	Container string           `json:"containerID"` // empty for the health endpoint
	Name      string           `json:"name"`        // namespace/name of the pod
	IP        netip.Addr       `json:"ip"`
	Interface string           `json:"interface"` // on the host's side
	IfIndex   int              `json:"ifindex"`
	MAC       net.HardwareAddr `json:"mac"`     // the pod's
	HostMAC   net.HardwareAddr `json:"hostMAC"` // of Interface
	Identity  uint32           `json:"identity"`
}

// IPCache computes the whole content of cilium_ipcache_v2 on the node self.
func IPCache(self Node, peers []Node, endpoints []Endpoint) map[netip.Prefix]Remote {
	cache := map[netip.Prefix]Remote{
		netip.PrefixFrom(netip.IPv4Unspecified(), 0): {Identity: IdentityWorld},
		single(self.IP): {Identity: IdentityHost},
	}
	if self.Router.IsValid() {
		cache[single(self.Router)] = Remote{Identity: IdentityHost}
	}
	for _, peer := range peers {
		for _, cidr := range peer.PodCIDR {
			cache[cidr.Masked()] = Remote{Identity: IdentityWorld, TunnelEndpoint: peer.IP}
		}
		if peer.Router.IsValid() {
			cache[single(peer.Router)] = Remote{Identity: IdentityRemoteNode, TunnelEndpoint: peer.IP}
		}
		if peer.Health.IsValid() {
			cache[single(peer.Health)] = Remote{Identity: IdentityHealth, TunnelEndpoint: peer.IP}
		}
		cache[single(peer.IP)] = Remote{Identity: IdentityRemoteNode}
	}
	for _, ep := range endpoints {
		cache[single(ep.IP)] = Remote{Identity: ep.Identity}
	}
	return cache
}

// Route is a route over cilium_host. MTU 0 means the device's.
type Route struct {
	Dst netip.Prefix
	MTU int
}

// Routes computes the routes over cilium_host on the node self: its own slice, and each peer's
// with room for the tunnel's header below the base MTU (bytes).
func Routes(self Node, peers []Node, baseMTU int) map[Route]bool {
	routes := map[Route]bool{}
	for _, cidr := range self.PodCIDR {
		routes[Route{Dst: cidr.Masked()}] = true
	}
	for _, peer := range peers {
		for _, cidr := range peer.PodCIDR {
			routes[Route{Dst: cidr.Masked(), MTU: baseMTU - TunnelOverhead}] = true
		}
	}
	return routes
}

// NodeAddresses names the owner of every address that belongs in cilium_node_map_v2.
func NodeAddresses(self Node, peers []Node) map[netip.Addr]string {
	owner := map[netip.Addr]string{}
	for _, node := range append([]Node{self}, peers...) {
		for _, addr := range []netip.Addr{node.IP, node.Router} {
			if addr.IsValid() {
				owner[addr] = node.Name
			}
		}
	}
	return owner
}

func single(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }
