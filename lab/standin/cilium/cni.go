// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	defaultSocket = "/var/run/cilium/cilium.sock"
	addTimeout    = 40 * time.Second
	delTimeout    = 20 * time.Second
)

// CNI is the plugin cilium-cni: it asks the node's agent for an address, makes the pod's link and
// hands it to the agent. The variable CILIUM_SOCK names another socket, as with the original.
func CNI() {
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    addPod,
		Del:    delPod,
		Check:  func(*skel.CmdArgs) error { return nil },
		GC:     func(*skel.CmdArgs) error { return nil },
		Status: func(*skel.CmdArgs) error { return nil },
	}, version.PluginSupports("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"), "cilium-cni of the stand-in")
}

// podArgs is what the runtime says of the pod.
type podArgs struct {
	types.CommonArgs
	K8S_POD_NAME      types.UnmarshallableString //nolint:revive,staticcheck // the name is the protocol
	K8S_POD_NAMESPACE types.UnmarshallableString //nolint:revive,staticcheck // the name is the protocol
}

func addPod(args *skel.CmdArgs) error {
	var conf types.NetConf
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return fmt.Errorf("reading the network configuration: %w", err)
	}
	var pod podArgs
	if err := types.LoadArgs(args.Args, &pod); err != nil {
		return fmt.Errorf("reading CNI_ARGS: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), addTimeout)
	defer cancel()
	agent := newClient(cmp.Or(os.Getenv("CILIUM_SOCK"), defaultSocket))
	got, err := agent.allocate(ctx, args.ContainerID)
	if err != nil {
		return err
	}
	space, err := netns.GetFromPath(args.Netns)
	if err != nil {
		return fmt.Errorf("opening the pod's network namespace: %w", err)
	}
	defer space.Close()
	link := podLink{
		Host: hostInterface(args.ContainerID), Pod: args.IfName, Namespace: space,
		Address: got.Address, Router: got.Router, DeviceMTU: got.DeviceMTU, RouteMTU: got.RouteMTU,
	}
	ep, err := link.create()
	if err == nil {
		ep.Container, ep.Name = args.ContainerID, fmt.Sprintf("%s/%s", pod.K8S_POD_NAMESPACE, pod.K8S_POD_NAME)
		err = agent.putEndpoint(ctx, args.ContainerID, ep)
	}
	if err != nil {
		return errors.Join(err, deleteLink(link.Host), agent.deleteEndpoint(ctx, args.ContainerID))
	}
	return types.PrintResult(result(link, ep.MAC, ep.HostMAC, args.Netns), conf.CNIVersion)
}

func result(link podLink, mac, hostMAC net.HardwareAddr, path string) *current.Result {
	inPod := 1
	router := net.IP(link.Router.AsSlice())
	return &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{
			{Name: link.Host, Mac: hostMAC.String()},
			{Name: link.Pod, Mac: mac.String(), Sandbox: path},
		},
		IPs: []*current.IPConfig{{Interface: &inPod, Address: *hostNet(link.Address), Gateway: router}},
		Routes: []*types.Route{
			{Dst: *hostNet(link.Router)},
			{Dst: net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, GW: router, MTU: link.RouteMTU},
		},
	}
}

// delPod always succeeds once the link is gone: an agent that does not answer forgets the endpoint
// at its next start, when it misses the link.
func delPod(args *skel.CmdArgs) error {
	if err := deleteLink(hostInterface(args.ContainerID)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), delTimeout)
	defer cancel()
	err := newClient(cmp.Or(os.Getenv("CILIUM_SOCK"), defaultSocket)).deleteEndpoint(ctx, args.ContainerID)
	if errors.Is(err, errNoAgent) {
		return nil
	}
	return err
}

func deleteLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for %s: %w", name, err)
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("deleting %s: %w", name, err)
	}
	return nil
}

// hostInterface names the host's end of a pod's link: "lxc" and twelve hex digits, 15 characters in all.
func hostInterface(containerID string) string {
	sum := sha256.Sum256([]byte(containerID))
	return "lxc" + hex.EncodeToString(sum[:6])
}
