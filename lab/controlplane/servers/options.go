// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package servers runs etcd, kube-apiserver, kube-controller-manager and kube-scheduler in this process.
//
// Their own commands cannot be used for that: each installs a signal handler, and the second one panics.
// So their options are taken, their flags parsed, the feature gates they share applied once, and each
// server's Run is called. All of it lives in process-wide registries: Run works once per process.
package servers

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/cni-cutover/cni-cutover/lab/controlplane/pki"
)

// The servers, in the order in which they start.
const (
	Etcd              = "etcd"
	APIServer         = "apiserver"
	ControllerManager = "controller-manager"
	Scheduler         = "scheduler"
)

// All returns every server's name.
func All() []string { return []string{Etcd, APIServer, ControllerManager, Scheduler} }

// Options say what to run and where.
type Options struct {
	// Dir keeps everything that is written: certificates, etcd's data, the audit log.
	Dir pki.Dir
	// Servers are the names of those to run in this process.
	Servers []string
	// Bind is where the API server listens; port 0 takes a free one.
	Bind netip.AddrPort
	// Advertise is the endpoint of the kubernetes Service, unless it is a loopback address: Kubernetes
	// refuses those as endpoints, and the Service then has none.
	Advertise netip.Addr
	// AdminServer is the server of the admin kubeconfig; empty means the address listened on.
	AdminServer string
	// ServiceCIDR is the range of Service addresses; its first is the kubernetes Service.
	ServiceCIDR netip.Prefix
	// FeatureGates are set for all servers, in the form "A=true,B=false".
	FeatureGates string
	// Verbosity is the log level of the Kubernetes servers, 0 to 10.
	Verbosity uint32
	// APIServerFlags, ControllerManagerFlags and SchedulerFlags are appended to each server's own flags
	// and override them.
	APIServerFlags, ControllerManagerFlags, SchedulerFlags []string
}

// maxSocketPath is the room of sockaddr_un.sun_path without its final zero, unix(7).
const maxSocketPath = 107

// Validate returns every reason why o cannot work.
func (o Options) Validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("no directory given: set --dir to where the control plane may keep its files"))
	}
	if len(o.Servers) == 0 {
		errs = append(errs, errors.New("no server to run"))
	}
	for _, s := range o.Servers {
		if !slices.Contains(All(), s) {
			errs = append(errs, fmt.Errorf("unknown server %q, want one of %q", s, All()))
		}
	}
	if o.Advertise.IsUnspecified() || !o.Advertise.Is4() {
		errs = append(errs, fmt.Errorf("cannot advertise %s: nodes must be able to dial it, give an IPv4 address of this host", o.Advertise))
	}
	if !o.ServiceCIDR.Addr().Is4() || o.ServiceCIDR.Bits() > 28 {
		errs = append(errs, fmt.Errorf("the Service range %s is not an IPv4 range of at least 16 addresses", o.ServiceCIDR))
	}
	if socket := etcdSocket(o.Dir); len(socket) > maxSocketPath {
		errs = append(errs, fmt.Errorf("etcd's socket %s is %d bytes long and a socket's path may have %d: choose a shorter --dir",
			socket, len(socket), maxSocketPath))
	}
	return errors.Join(errs...)
}

func (o Options) runs(server string) bool { return slices.Contains(o.Servers, server) }

// cluster describes the API server that listens on addr.
func (o Options) cluster(addr netip.AddrPort) pki.Cluster {
	internal := "https://" + dialable(addr).String()
	admin := o.AdminServer
	if admin == "" {
		admin = internal
	}
	// The kubernetes Service has the first address of the range.
	addrs := []netip.Addr{loopback, dialable(addr).Addr(), o.Advertise, o.ServiceCIDR.Masked().Addr().Next()}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	ips := make([]net.IP, 0, len(addrs))
	for _, a := range addrs {
		ips = append(ips, net.IP(a.AsSlice()))
	}
	return pki.Cluster{InternalURL: internal, AdminURL: admin, IPs: ips}
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// dialable turns "all addresses" into the loopback address.
func dialable(addr netip.AddrPort) netip.AddrPort {
	if addr.Addr().IsUnspecified() {
		return netip.AddrPortFrom(loopback, addr.Port())
	}
	return addr
}
