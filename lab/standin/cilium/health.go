// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/datapath"
)

const (
	healthInterface = "lxc_health"
	healthPort      = ":4240"
)

// healthEndpoint is a little pod of the agent's own: a network namespace that has no name and goes
// with the process, as the original's does. Other nodes reach it through the overlay only.
type healthEndpoint struct {
	listener net.Listener
	endpoint datapath.Endpoint
}

func startHealth(ip, router netip.Addr, deviceMTU, routeMTU int) (*healthEndpoint, error) {
	space, listener, err := listenInNewNamespace()
	if err != nil {
		return nil, err
	}
	defer space.Close() // the listening socket keeps the namespace
	if old, err := netlink.LinkByName(healthInterface); err == nil {
		if err := netlink.LinkDel(old); err != nil {
			return nil, fmt.Errorf("deleting the %s of the agent before: %w", healthInterface, err)
		}
	}
	pod := podLink{
		Host: healthInterface, Pod: "cilium", Namespace: space, Address: ip, Router: router,
		DeviceMTU: deviceMTU, RouteMTU: routeMTU,
	}
	ep, err := pod.create()
	if err != nil {
		listener.Close()
		return nil, err
	}
	ep.Name, ep.Identity = healthOwner, datapath.IdentityHealth
	return &healthEndpoint{listener: listener, endpoint: ep}, nil
}

// listenInNewNamespace opens the health port inside a new network namespace. The thread returns to
// its own namespace before anything else may run on it; if it cannot, it is never given back.
func listenInNewNamespace() (netns.NsHandle, net.Listener, error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return netns.None(), nil, fmt.Errorf("opening the node's network namespace: %w", err)
	}
	defer home.Close()
	space, err := netns.New()
	if err != nil {
		runtime.UnlockOSThread()
		return netns.None(), nil, fmt.Errorf("making the health endpoint's network namespace: %w", err)
	}
	listener, listenErr := net.Listen("tcp4", healthPort)
	if err := netns.Set(home); err != nil {
		return netns.None(), nil, fmt.Errorf("returning to the node's network namespace: %w", err)
	}
	runtime.UnlockOSThread()
	if listenErr != nil {
		space.Close()
		return netns.None(), nil, fmt.Errorf("listening on the health endpoint's port: %w", listenErr)
	}
	return space, listener, nil
}

// helloHandler answers what cilium-health asks of a peer.
func helloHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}

// serveLocalHealth serves the node-local probe target: 200 without a body.
func serveLocalHealth(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:9879")
	if err != nil {
		return fmt.Errorf("listening for health probes (is another agent running on this node?): %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return serveHTTP(ctx, listener, mux)
}

// serveHostHealth serves the port on which peers probe the node itself.
func serveHostHealth(ctx context.Context, node netip.Addr) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", node.String()+healthPort)
	if err != nil {
		return fmt.Errorf("listening for the peers' probes: %w", err)
	}
	return serveHTTP(ctx, listener, helloHandler())
}
