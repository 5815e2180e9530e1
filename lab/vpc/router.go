// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Router forwards between the interfaces attached to it. It lives in the network namespace
// of the process that made it, which must be a fresh one.
type Router struct{ mtu int }

// services is the cluster's Service range, which no interface owns.
func services() netip.Prefix { return netip.MustParsePrefix("10.96.0.0/12") }

// NewRouter turns the calling process's network namespace into the VPC's router. Every
// port checks sources strictly (rp_filter against one /32 route per address, as EC2's
// source check) and answers ARP for the rest of the VPC; whatever has no owner is dropped.
func NewRouter(mtu int) (*Router, error) {
	for key, value := range map[string]string{
		"net/ipv4/ip_forward":                  "1",
		"net/ipv4/conf/all/rp_filter":          "1",
		"net/ipv4/conf/default/rp_filter":      "1",
		"net/ipv4/conf/default/proxy_arp":      "1",
		"net/ipv4/conf/all/send_redirects":     "0",
		"net/ipv4/conf/default/send_redirects": "0",
		"net/ipv6/conf/default/disable_ipv6":   "1",
	} {
		if err := setSysctl(key, value); err != nil {
			return nil, err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("finding the router's loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return nil, fmt.Errorf("raising the router's loopback: %w", err)
	}
	if err := netlink.RouteAdd(&netlink.Route{Dst: network(netip.MustParsePrefix("0.0.0.0/0")), Type: unix.RTN_BLACKHOLE}); err != nil {
		return nil, fmt.Errorf("adding the router's blackhole default: %w", err)
	}
	// The one thing that EC2 would drop in silence and this router refuses: a node asks for a
	// Service before its kube-proxy has written the rules, and would then wait 30 s for its dial to
	// time out, since the kernel remembers the connection as one that is not translated.
	if err := netlink.RouteAdd(&netlink.Route{Dst: network(services()), Type: unix.RTN_UNREACHABLE}); err != nil {
		return nil, fmt.Errorf("refusing Services in the router: %w", err)
	}
	return &Router{mtu: mtu}, nil
}

// Attach gives the machine whose first process is pid its interfaces: loopback, eth0 with
// its primary address and the default route, and further ones up but without an address
// (the VPC CNI configures those itself).
func (r *Router) Attach(pid int, enis []Interface) error {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("opening the network namespace of process %d: %w", pid, err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("talking to the network namespace of process %d: %w", pid, err)
	}
	defer inside.Close()
	lo, err := inside.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding loopback of process %d: %w", pid, err)
	}
	if err := inside.LinkSetUp(lo); err != nil {
		return fmt.Errorf("raising loopback of process %d: %w", pid, err)
	}
	for _, eni := range enis {
		if err := r.plug(ns, inside, eni); err != nil {
			return fmt.Errorf("attaching %s (%s): %w", eni.Name, eni.Primary, err)
		}
	}
	return nil
}

// Detach removes the router's side of the interfaces; the machine's side goes with it.
func (r *Router) Detach(enis []Interface) error {
	var errs []error
	for _, eni := range enis {
		link, err := netlink.LinkByName(port(eni))
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue // went with the machine's namespace
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("removing router port %s: %w", port(eni), err))
		}
	}
	return errors.Join(errs...)
}

func (r *Router) plug(ns netns.NsHandle, inside *netlink.Handle, eni Interface) error {
	mac, err := net.ParseMAC(eni.MAC)
	if err != nil {
		return fmt.Errorf("reading its hardware address: %w", err)
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.MTU = port(eni), r.mtu
	veth := &netlink.Veth{LinkAttrs: attributes, PeerName: eni.Name, PeerMTU: uint32(r.mtu), PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(ns)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("adding the veth pair: %w", err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("raising the router's side: %w", err)
	}
	// Proxied ARP answers wait a random time of up to 0.8 s by default.
	if err := setSysctl("net/ipv4/neigh/"+port(eni)+"/proxy_delay", "0"); err != nil {
		return err
	}
	if err := route(veth.Attrs().Index, eni, mac); err != nil {
		return err
	}
	link, err := inside.LinkByName(eni.Name)
	if err != nil {
		return fmt.Errorf("finding it in the machine: %w", err)
	}
	if err := inside.LinkSetUp(link); err != nil {
		return fmt.Errorf("raising it in the machine: %w", err)
	}
	if eni.DeviceNumber != 0 {
		return nil
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: eni.Primary.AsSlice(), Mask: net.CIDRMask(eni.Subnet.Bits(), 32)}}
	if err := inside.AddrAdd(link, address); err != nil {
		return fmt.Errorf("adding the primary address: %w", err)
	}
	if err := inside.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: eni.Gateway.AsSlice()}); err != nil {
		return fmt.Errorf("adding the default route: %w", err)
	}
	return nil
}

// route makes the router own the subnet's gateway and know the interface's addresses. As
// in a VPC nobody is asked who has an address: pods' addresses are not the machine's own,
// and it would not answer.
func route(index int, eni Interface, mac net.HardwareAddr) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding the router's loopback: %w", err)
	}
	gateway := &netlink.Addr{IPNet: network(netip.PrefixFrom(eni.Gateway, 32))}
	if err := netlink.AddrReplace(lo, gateway); err != nil {
		return fmt.Errorf("adding gateway %s: %w", eni.Gateway, err)
	}
	for _, address := range eni.Addresses() {
		route := &netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: network(netip.PrefixFrom(address, 32))}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("adding the route to %s: %w", address, err)
		}
		neighbor := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: address.AsSlice(), HardwareAddr: mac}
		if err := netlink.NeighSet(neighbor); err != nil {
			return fmt.Errorf("adding the hardware address of %s: %w", address, err)
		}
	}
	return nil
}

// port names the router's side of an interface; a link's name has at most 15 bytes.
func port(eni Interface) string {
	bytes := eni.Primary.As4()
	return fmt.Sprintf("eni-%d-%d", bytes[2], bytes[3])
}

func network(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), 32)}
}

func setSysctl(key, value string) error {
	if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0o644); err != nil {
		return fmt.Errorf("setting sysctl %s to %s in the router's namespace: %w", key, value, err)
	}
	return nil
}
