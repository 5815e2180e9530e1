// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/datapath"
)

// lease is the agent's answer to a plugin that asks for an address.
type lease struct {
	Address   netip.Addr `json:"address"`
	Router    netip.Addr `json:"router"`    // gateway of the pod
	DeviceMTU int        `json:"deviceMTU"` // of both ends of the veth, bytes
	RouteMTU  int        `json:"routeMTU"`  // of the pod's default route, bytes
}

// containerPath is where the API keeps the endpoint of a container.
const containerPath = "/v1/endpoint/container-id:"

// api serves the agent's socket: the few paths of the original that are of use here, under the same names.
func (a *agent) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.status()) })
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, _ *http.Request) {
		device, route := a.datapath.MTU()
		answer(w, map[string]any{"status": map[string]any{
			"deviceMTU": device, "routeMTU": route, "ipam-mode": "cluster-pool", "datapathMode": "veth",
		}})
	})
	mux.HandleFunc("GET /v1/endpoint", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.endpoints()) })
	mux.HandleFunc("POST /v1/ipam", a.serve(func(r *http.Request) (any, error) {
		address, err := a.registry.allocate(r.URL.Query().Get("owner"), netip.Addr{})
		if err != nil {
			return nil, err
		}
		device, route := a.datapath.MTU()
		return lease{Address: address, Router: a.self.Router, DeviceMTU: device, RouteMTU: route}, nil
	}))
	mux.HandleFunc("PUT /v1/endpoint/{id}", a.serve(func(r *http.Request) (any, error) {
		var ep datapath.Endpoint
		if err := json.NewDecoder(r.Body).Decode(&ep); err != nil {
			return nil, fmt.Errorf("reading the endpoint: %w", err)
		}
		namespace, _, _ := strings.Cut(ep.Name, "/")
		ep.Identity = podIdentity(namespace)
		return a.addEndpoint(containerID(r), ep)
	}))
	mux.HandleFunc("DELETE /v1/endpoint/{id}", a.serve(func(r *http.Request) (any, error) {
		return struct{}{}, a.removeEndpoint(containerID(r))
	}))
	return mux
}

func containerID(r *http.Request) string {
	return strings.TrimPrefix(r.PathValue("id"), "container-id:")
}

// serve answers once the data path carries packets: a pod must not start before.
func (a *agent) serve(handle func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-a.ready:
		case <-r.Context().Done():
			return
		}
		result, err := handle(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer(w, result)
	}
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	// The client is gone if this fails; it asks again or gives up by itself.
	_ = json.NewEncoder(w).Encode(value)
}

// status is the original's StatusResponse. Like there, it is fine long before the programs are attached.
func (a *agent) status() map[string]any {
	cni := map[string]string{"state": "Disabled", "msg": "CNI configuration management disabled"}
	if a.settings.conflist != "" {
		cni = map[string]string{"state": "Ok", "msg": "CNI configuration file written to " + a.settings.conflist}
	}
	return map[string]any{
		"cilium":                 map[string]string{"state": "Ok", "msg": "1.18.11 (v1.18.11-standin)"},
		"cni-file":               cni,
		"kubernetes":             map[string]string{"state": "Ok"},
		"attach-mode":            "tcx",
		"datapath-mode":          "veth",
		"routing":                map[string]string{"inter-host-routing-mode": "Tunnel", "intra-host-routing-mode": "Legacy", "tunnel-protocol": "vxlan"},
		"kube-proxy-replacement": map[string]any{"mode": "False", "features": map[string]any{"socketLB": map[string]any{}}},
		"masquerading":           map[string]any{"enabled": true, "mode": "iptables"},
	}
}

func (a *agent) endpoints() []map[string]any {
	var list []map[string]any
	for owner, ep := range a.registry.all() {
		list = append(list, map[string]any{
			"id": ep.ID,
			"status": map[string]any{
				"state":                "ready",
				"identity":             map[string]any{"id": ep.Identity},
				"external-identifiers": map[string]string{"container-id": owner, "k8s-pod-name": ep.Name},
				"networking": map[string]any{
					"addressing": []map[string]string{{"ipv4": ep.IP.String()}}, "interface-name": ep.Interface,
					"interface-index": ep.IfIndex, "mac": ep.MAC.String(), "host-mac": ep.HostMAC.String(),
				},
			},
		})
	}
	return list
}

// podIdentity derives a security identity from the namespace. The original derives it from all labels.
func podIdentity(namespace string) uint32 {
	const first, count = 256, 65536 - 256
	sum := fnv.New32a()
	sum.Write([]byte(namespace))
	return first + sum.Sum32()%count
}

// listenUnix serves handler on a socket that a killed agent may have left behind.
func listenUnix(ctx context.Context, path string, handler http.Handler) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the socket %s of the agent before: %w", path, err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("listening on the socket %s: %w", path, err)
	}
	return serveHTTP(ctx, listener, handler)
}

// serveHTTP serves until ctx ends.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s: %w", listener.Addr(), err)
	}
	return nil
}
