// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package meddler stands between one program and a real API server, counts what it writes, and meddles: as a network, a
// load balancer and an API server do on a bad day, but at a request that the test chooses.
//
//	p := meddler.Start(t, server.Config())
//	p.Meddle(func(r meddler.Request) meddler.Fate {
//		if r.Write == 17 {
//			return meddler.Fate{Before: kill, Lost: true}
//		}
//		return meddler.Fate{}
//	})
//	cmd.Env = append(os.Environ(), "KUBECONFIG="+p.Kubeconfig())
//
// The program speaks plain HTTP on loopback and needs no credentials: the proxy adds those of the configuration that it was
// started with. One proxy stands before one program, so that its writes are that program's.
package meddler

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// Fate is what becomes of one request. The zero Fate is to be forwarded and answered as by the API server itself.
type Fate struct {
	// Delay before anything else.
	Delay time.Duration
	// Before is called before the request is forwarded.
	Before func()
	// Lost: the request is not forwarded, and its connection breaks.
	Lost bool
	// Answer is the status that is answered in place of the API server's; the request is not forwarded. 429 and 503 ask to
	// come back after RetryAfter.
	Answer     int
	RetryAfter time.Duration
	// After is called when the API server has answered, before the program hears of it.
	After func()
	// Unheard: the answer is not passed on, and the connection breaks.
	Unheard bool
	// Cut breaks the connection after so many bytes of the answer, wherever in an object that is; 0 for never.
	Cut int64
}

// Proxy is a proxy before an API server. Its methods may be called by many goroutines.
type Proxy struct {
	tb         testing.TB
	address    string
	kubeconfig string
	forward    *httputil.ReverseProxy

	inside sync.WaitGroup // requests on their way

	mu      sync.Mutex
	server  *http.Server
	fate    func(Request) Fate
	witness func(r Request, status int)
	writes  int
}

// Start starts a proxy that forwards with the credentials of a configuration, until the test ends.
func Start(tb testing.TB, to *rest.Config) *Proxy {
	tb.Helper()
	target, err := url.Parse(to.Host)
	if err != nil {
		tb.Fatalf("reading the API server's address: %v", err)
	}
	transport, err := rest.TransportFor(to)
	if err != nil {
		tb.Fatalf("making the proxy's transport: %v", err)
	}
	p := &Proxy{tb: tb, kubeconfig: filepath.Join(tb.TempDir(), "kubeconfig")}
	p.forward = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1, // events of a watch are passed on one by one
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listening for the program under test: %v", err)
	}
	p.address = listener.Addr().String()
	p.serve(listener)
	tb.Cleanup(func() {
		p.GoAway()
		p.inside.Wait()
	})
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: "http://%s"}}], contexts: [{name: c, context: {cluster: c}}]}`, p.address)
	if err := os.WriteFile(p.kubeconfig, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return p
}

// Kubeconfig is the path of a kubeconfig that leads to the proxy.
func (p *Proxy) Kubeconfig() string { return p.kubeconfig }

// Meddle decides about every request from now on; nil for an honest proxy.
func (p *Proxy) Meddle(fate func(Request) Fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fate = fate
}

// Witness is shown every counted write from now on: before it is forwarded with status 0, and with the API server's status
// before the program hears of it. It sees nothing of writes that never reach the API server.
func (p *Proxy) Witness(see func(r Request, status int)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.witness = see
}

// Writes is how many writes were counted.
func (p *Proxy) Writes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writes
}

// GoAway breaks every connection and refuses new ones, as an API server that has died.
func (p *Proxy) GoAway() {
	p.mu.Lock()
	server := p.server
	p.server = nil
	p.mu.Unlock()
	if server != nil {
		_ = server.Close() // of its listener; the connections are gone either way
	}
}

// ComeBack listens again where the proxy was.
func (p *Proxy) ComeBack() {
	p.tb.Helper()
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		p.tb.Fatalf("coming back to %s: %v", p.address, err)
	}
	p.serve(listener)
}

func (p *Proxy) serve(listener net.Listener) {
	server := &http.Server{Handler: p, ErrorLog: log.New(io.Discard, "", 0)}
	p.mu.Lock()
	p.server = server
	p.mu.Unlock()
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			p.tb.Errorf("serving the program under test: %v", err)
		}
	}()
}

// ServeHTTP lets one request meet its fate.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.inside.Add(1)
	defer p.inside.Done()
	request, err := p.read(r)
	if err != nil {
		panic(http.ErrAbortHandler) // the program has died in the middle of its request
	}
	p.mu.Lock()
	decide, see := p.fate, p.witness
	p.mu.Unlock()
	var fate Fate
	if decide != nil {
		fate = decide(request)
	}
	if see == nil || request.Write == 0 {
		see = func(Request, int) {}
	}
	pause(r, fate.Delay)
	call(fate.Before)
	switch {
	case fate.Lost:
		panic(http.ErrAbortHandler)
	case fate.Answer != 0:
		refuse(w, fate.Answer, fate.RetryAfter)
		return
	}
	see(request, 0)
	p.pass(w, r, fate, func(status int) { see(request, status) })
}

// pass forwards a request and passes the answer on, as far as its fate lets it.
func (p *Proxy) pass(w http.ResponseWriter, r *http.Request, fate Fate, answered func(status int)) {
	if fate.Cut > 0 {
		w = &cutter{ResponseWriter: w, left: fate.Cut}
	}
	forward := *p.forward
	forward.ModifyResponse = func(answer *http.Response) error {
		answered(answer.StatusCode)
		call(fate.After)
		if fate.Unheard {
			_ = answer.Body.Close() // nobody reads it
			panic(http.ErrAbortHandler)
		}
		return nil
	}
	forward.ServeHTTP(w, r)
}

// read reads a request whole, so that one that a dying program did not finish is never forwarded, and counts it.
func (p *Proxy) read(r *http.Request) (Request, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return Request{}, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	request := parse(r)
	request.Body = body
	if request.counts() {
		p.mu.Lock()
		p.writes++
		request.Write = p.writes
		p.mu.Unlock()
	}
	return request, nil
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// pause waits, unless the program gives up before.
func pause(r *http.Request, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// cutter breaks a connection after so many bytes.
type cutter struct {
	http.ResponseWriter
	left int64
}

// Write passes on what is left to pass on.
func (c *cutter) Write(p []byte) (int, error) {
	if int64(len(p)) < c.left {
		c.left -= int64(len(p))
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left]) // it breaks now in any case
	c.Flush()
	panic(http.ErrAbortHandler)
}

// Flush sends what was written.
func (c *cutter) Flush() {
	if f, ok := c.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}
