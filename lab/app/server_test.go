// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a net.Listener whose connections are in memory, so that a bubble
// of synctest owns the server's clock.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func TestServeNamesItselfAndEchoReflects(t *testing.T) {
	for _, flavour := range []string{"nginx", "httpd", "echo"} {
		t.Run(flavour, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				listener := newPipes()
				id := Identity{Flavour: flavour, Pod: "p-1", Namespace: "ns", Node: "n-1", PodIP: "10.244.1.7"}
				done := make(chan error, 1)
				go func() { done <- Serve(ctx, listener, id, Grace{}) }()
				client := &http.Client{Transport: &http.Transport{DialContext: listener.dial, DisableKeepAlives: true}}

				resp, err := client.Post("http://app/some?where", "text/plain", strings.NewReader("hello"))
				if err != nil {
					t.Fatal(err)
				}
				var answer Answer
				err = json.NewDecoder(resp.Body).Decode(&answer)
				// To the end, because a pipe holds nothing back: with no Finish at
				// all, an answer whose last chunk nobody has read is one under way.
				_, drained := io.Copy(io.Discard, resp.Body)
				if err := errors.Join(err, drained, resp.Body.Close()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if resp.StatusCode != http.StatusOK || answer.Identity != id || answer.Remote == "" {
					t.Errorf("answered %d %+v", resp.StatusCode, answer)
				}
				switch {
				case flavour != "echo" && answer.Request != nil:
					t.Errorf("%s reflected the request", flavour)
				case flavour == "echo" && (answer.Request == nil || answer.Request.Body != "hello" || answer.Request.URL != "/some?where"):
					t.Errorf("echo reflected %+v", answer.Request)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestServeLeavesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		listener := newPipes()
		grace := Grace{Linger: 2 * time.Second, Finish: 4 * time.Second}
		var ended time.Time
		done := make(chan error, 1)
		go func() {
			err := Serve(ctx, listener, Identity{Flavour: "nginx"}, grace)
			ended = time.Now()
			done <- err
		}()
		transport := &http.Transport{DialContext: listener.dial}
		client := &http.Client{Transport: transport}
		get := func(path string) *http.Response {
			t.Helper()
			resp, err := client.Get("http://app" + path)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return resp
		}

		if resp := get("/readyz"); resp.StatusCode != http.StatusOK || resp.Close {
			t.Errorf("before: ready %d, closing %t", resp.StatusCode, resp.Close)
		}
		asked := time.Now()
		stop()
		synctest.Wait()
		if resp := get("/readyz"); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("leaving: ready %d, want 503", resp.StatusCode)
		}
		<-time.After(grace.Linger - time.Millisecond)
		if resp := get("/"); resp.StatusCode != http.StatusOK || !resp.Close {
			t.Errorf("just before deaf: %d, closing %t; want 200 and no keep-alive", resp.StatusCode, resp.Close)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := ended.Sub(asked); got < grace.Linger || got > grace.Linger+grace.Finish {
			t.Errorf("ended %s after it was asked to", got)
		}
		if _, err := client.Get("http://app/"); err == nil {
			t.Error("still accepting after the end")
		}
		transport.CloseIdleConnections()
	})
}
