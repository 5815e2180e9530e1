// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// RunDir is where the checkpoint and the socket are, on the host and in the container.
const RunDir = "/var/run/aws-node"

// SocketFile is the address manager's socket, relative to the run directory. The original
// speaks gRPC there; this one HTTP with JSON: POST /assign, /lookup and /release.
const SocketFile = "ipamd.sock"

// request is the body of all three calls; lookup and release use the sandbox only.
type request struct {
	sandbox
	Pod podName `json:"pod"`
}

// ipamd answers the plugin. It writes the checkpoint before it answers.
type ipamd struct {
	mu         sync.Mutex
	pool       *pool
	checkpoint string
	log        *slog.Logger
	healthy    atomic.Bool // set once plugins and conflist are in place
}

func (d *ipamd) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /assign", d.serve(d.assign))
	mux.HandleFunc("POST /lookup", d.serve(d.lookup))
	mux.HandleFunc("POST /release", d.serve(d.release))
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	return mux
}

// healthHandler answers the kubelet's probes and shows the counters that tell how full the
// instance is, under the original's names.
func (d *ipamd) healthHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !d.healthy.Load() {
			http.Error(w, "plugins and conflist are not installed yet", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		assigned, total := len(d.pool.allocations), d.pool.capacity()
		d.mu.Unlock()
		fmt.Fprintf(w, "# TYPE awscni_assigned_ip_addresses gauge\nawscni_assigned_ip_addresses %d\n", assigned)
		fmt.Fprintf(w, "# TYPE awscni_total_ip_addresses gauge\nawscni_total_ip_addresses %d\n", total)
	})
	return mux
}

func (d *ipamd) serve(call func(request) (address, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req request
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&req); err != nil {
			http.Error(w, "reading the request: "+err.Error(), http.StatusBadRequest)
			return
		}
		d.mu.Lock()
		answer, err := call(req)
		d.mu.Unlock()
		d.log.Info("ipamd", "call", r.URL.Path, "pod", req.Pod, "sandbox", req.ContainerID, "address", answer.IP, "device", answer.DeviceNumber, "error", err)
		switch {
		case errors.Is(err, errUnknownSandbox):
			http.Error(w, err.Error(), http.StatusNotFound)
		case errors.Is(err, errNoAddress):
			http.Error(w, err.Error(), http.StatusInsufficientStorage)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(answer); err != nil {
				d.log.Error("answering the plugin", "error", err)
			}
		}
	}
}

// errUnknownSandbox answers for a sandbox that has no address.
var errUnknownSandbox = errors.New("no address is assigned to this sandbox")

func (d *ipamd) assign(req request) (address, error) {
	before, known := d.pool.lookup(req.sandbox)
	if known {
		return before, nil
	}
	answer, err := d.pool.assign(req.sandbox, req.Pod, time.Now())
	if err != nil {
		return address{}, err
	}
	if err := writeCheckpoint(d.checkpoint, d.pool.list()); err != nil {
		d.pool.release(req.sandbox, time.Now())
		return address{}, err
	}
	return answer, nil
}

func (d *ipamd) lookup(req request) (address, error) {
	answer, found := d.pool.lookup(req.sandbox)
	if !found {
		return address{}, errUnknownSandbox
	}
	return answer, nil
}

func (d *ipamd) release(req request) (address, error) {
	answer, err := d.lookup(req)
	if err != nil {
		return address{}, err
	}
	d.pool.release(req.sandbox, time.Now())
	return answer, writeCheckpoint(d.checkpoint, d.pool.list())
}

// listenUnix removes the socket of a daemon that was killed; nobody else listens there,
// because the DaemonSet runs one daemon a node.
func listenUnix(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing the old socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening for the plugin: %w", err)
	}
	return listener, nil
}
