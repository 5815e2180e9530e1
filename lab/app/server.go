// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// maxEcho bounds what the echo flavour reads of a request's body, in bytes.
const maxEcho = 64 << 10

// Identity is who answers.
type Identity struct {
	Flavour   string `json:"flavour"`
	Pod       string `json:"pod"`
	Namespace string `json:"namespace"`
	Node      string `json:"node"`
	// PodIP is the address the kubelet reported for the pod: its network.
	PodIP string `json:"podIP"`
}

// Answer is the JSON body of every answer but that of /readyz.
type Answer struct {
	Identity
	// Remote is the peer's address as the server sees it: after every SNAT.
	Remote string `json:"remote"`
	// Request is there for the echo flavour only.
	Request *Echo `json:"request,omitempty"`
}

// Echo is a request, reflected.
type Echo struct {
	Method string      `json:"method"`
	URL    string      `json:"url"`
	Host   string      `json:"host"`
	Header http.Header `json:"header"`
	Body   string      `json:"body"`
}

// Grace is how a server ends. Both together, and the pod's preStop delay, have
// to fit into its terminationGracePeriodSeconds.
type Grace struct {
	// Linger is how long new connections are still served after the end was
	// asked for: somewhere a kube-proxy may not have heard of it yet.
	Linger time.Duration
	// Finish is how long answers under way may take after that.
	Finish time.Duration
}

// Serve answers on listener until ctx ends and then leaves as [Grace] says:
// not ready and without keep-alive at once, deaf only after Linger. It closes
// the listener. An ordered end is nil.
func Serve(ctx context.Context, listener net.Listener, id Identity, grace Grace) error {
	var leaving atomic.Bool
	server := &http.Server{
		Handler:           handler(id, &leaving),
		ReadHeaderTimeout: 5 * time.Second,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	select {
	case err := <-served:
		return fmt.Errorf("serving %s on %s: %w", id.Flavour, listener.Addr(), err)
	case <-ctx.Done():
	}

	leaving.Store(true)
	server.SetKeepAlivesEnabled(false)
	select {
	case err := <-served:
		return fmt.Errorf("serving %s on %s while leaving: %w", id.Flavour, listener.Addr(), err)
	case <-time.After(grace.Linger):
	}

	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace.Finish)
	defer cancel()
	if err := server.Shutdown(finish); err != nil {
		return errors.Join(fmt.Errorf("finishing answers under way within %s: %w", grace.Finish, err), server.Close())
	}
	return nil
}

func handler(id Identity, leaving *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if leaving.Load() {
			http.Error(w, "leaving", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer := Answer{Identity: id, Remote: r.RemoteAddr}
		if id.Flavour == "echo" {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEcho))
			if err != nil {
				http.Error(w, fmt.Sprintf("reading a body to echo (at most %d bytes): %v", maxEcho, err), http.StatusBadRequest)
				return
			}
			answer.Request = &Echo{Method: r.Method, URL: r.URL.String(), Host: r.Host, Header: r.Header, Body: string(body)}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Server", id.Flavour)
		// An error here is the client's end of the connection: it knows already.
		_ = json.NewEncoder(w).Encode(answer)
	})
	return mux
}
