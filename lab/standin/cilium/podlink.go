// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/datapath"
)

// podLink is a pod's way out: a veth, its address as a /32, and everything via the node's router address.
type podLink struct {
	Host, Pod string // names of the two ends
	Namespace netns.NsHandle
	Address   netip.Addr
	Router    netip.Addr
	DeviceMTU int // bytes
	RouteMTU  int // bytes
}

// create makes the link in the caller's namespace and the pod's. On error nothing of it is left.
func (p podLink) create() (datapath.Endpoint, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = p.Host, p.DeviceMTU
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: p.Pod, PeerMTU: uint32(p.DeviceMTU), PeerNamespace: netlink.NsFd(int(p.Namespace))}
	if err := netlink.LinkAdd(veth); err != nil {
		return datapath.Endpoint{}, fmt.Errorf("creating %s with its end %s in the pod: %w", p.Host, p.Pod, err)
	}
	ep, err := p.configure()
	if err != nil {
		return datapath.Endpoint{}, errors.Join(err, netlink.LinkDel(veth))
	}
	return ep, nil
}

func (p podLink) configure() (datapath.Endpoint, error) {
	host, err := netlink.LinkByName(p.Host)
	if err != nil {
		return datapath.Endpoint{}, fmt.Errorf("looking for %s just made: %w", p.Host, err)
	}
	if err := netlink.LinkSetUp(host); err != nil {
		return datapath.Endpoint{}, fmt.Errorf("setting %s up: %w", p.Host, err)
	}
	pod, err := netlink.NewHandleAt(p.Namespace)
	if err != nil {
		return datapath.Endpoint{}, fmt.Errorf("entering the pod's namespace: %w", err)
	}
	defer pod.Close()
	link, err := pod.LinkByName(p.Pod)
	if err != nil {
		return datapath.Endpoint{}, fmt.Errorf("looking for %s in the pod: %w", p.Pod, err)
	}
	if err := pod.AddrAdd(link, &netlink.Addr{IPNet: hostNet(p.Address)}); err != nil {
		return datapath.Endpoint{}, fmt.Errorf("giving %s the address %s: %w", p.Pod, p.Address, err)
	}
	if err := pod.LinkSetUp(link); err != nil {
		return datapath.Endpoint{}, fmt.Errorf("setting %s in the pod up: %w", p.Pod, err)
	}
	index := link.Attrs().Index
	routes := []netlink.Route{
		{LinkIndex: index, Dst: hostNet(p.Router), Scope: netlink.SCOPE_LINK},
		{LinkIndex: index, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: p.Router.AsSlice(), MTU: p.RouteMTU},
	}
	for _, route := range routes {
		if err := pod.RouteAdd(&route); err != nil {
			return datapath.Endpoint{}, fmt.Errorf("adding the pod's route to %s: %w", route.Dst, err)
		}
	}
	return datapath.Endpoint{
		IP: p.Address, Interface: p.Host, IfIndex: host.Attrs().Index,
		MAC: link.Attrs().HardwareAddr, HostMAC: host.Attrs().HardwareAddr,
	}, nil
}

func hostNet(addr netip.Addr) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
}
