// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package balancer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience bounds every poll; it is long because the machine may be busy.
const patience = 20 * time.Second

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// backend is a node with one node port: it answers GET /health as told, and
// every other connection with its name, line by line as it is asked to.
type backend struct {
	node    Node
	healthy atomic.Bool
	// accepted counts connections that were not health checks.
	accepted atomic.Int64
}

func startBackend(t *testing.T, name string, address string, port int) (*backend, int) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	b := &backend{node: Node{ID: name, Name: name, Address: address}}
	b.healthy.Store(true)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go b.talk(conn)
		}
	}()
	return b, listener.Addr().(*net.TCPAddr).Port
}

func (b *backend) talk(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	if err != nil {
		return
	}
	if line == "GET /health HTTP/1.1\r\n" {
		status := http.StatusOK
		if !b.healthy.Load() {
			status = http.StatusServiceUnavailable
		}
		fmt.Fprintf(conn, "HTTP/1.1 %d x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status)
		return
	}
	b.accepted.Add(1)
	for err == nil {
		fmt.Fprintf(conn, "%s %s", b.node.Name, line)
		line, err = in.ReadString('\n')
	}
}

// source is a NodeSource that a test sets by hand.
type source struct{ changes chan []Node }

func (s source) Watch(ctx context.Context, changed func([]Node)) error {
	for {
		select {
		case eligible := <-s.changes:
			changed(eligible)
		case <-ctx.Done():
			return nil
		}
	}
}

// rig is a running balancer over backends a and b.
type rig struct {
	*Balancer
	a, b     *backend
	frontend string
	source   source

	mu     sync.Mutex
	events []Event
}

func startRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{source: source{changes: make(chan []Node)}}
	var port int
	r.a, port = startBackend(t, "a", "127.0.0.11", 0)
	r.b, _ = startBackend(t, "b", "127.0.0.12", port)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.frontend = listener.Addr().String()

	config := Defaults()
	config.HealthPath = "/health"
	config.HealthInterval = 5 * time.Millisecond
	config.DeregistrationDelay = time.Hour
	if change != nil {
		change(&config)
	}
	r.Balancer, err = New(config, []Service{{Name: "web", Listener: listener, NodePort: port}}, func(e Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, r.source) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("ending: %v", err)
			}
		case <-time.After(patience):
			t.Error("the balancer did not end")
		}
	})
	return r
}

// set makes the eligible nodes known and waits until they have taken effect:
// the source hands over the second copy only after the first was dealt with.
func (r *rig) set(eligible ...Node) {
	r.source.changes <- eligible
	r.source.changes <- eligible
}

func (r *rig) state(name string) State {
	for _, s := range r.Status() {
		if s.Node == name {
			return s.State
		}
	}
	return Unused
}

func (r *rig) await(t *testing.T, name string, want State) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is %s", name, want), func() bool { return r.state(name) == want })
}

func (r *rig) event(match func(Event) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if match(e) {
			return true
		}
	}
	return false
}

// dial opens one connection through the balancer; ask uses it.
func (r *rig) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", r.frontend)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func ask(conn net.Conn) (who string, err error) {
	if _, err = io.WriteString(conn, "hello\n"); err != nil {
		return "", err
	}
	var what string
	_, err = fmt.Fscanln(conn, &who, &what)
	return who, err
}

func (r *rig) mustAsk(t *testing.T, conn net.Conn) string {
	t.Helper()
	who, err := ask(conn)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

// mustBeReset is a client that is turned away, before or after its connect
// returns: the balancer's kernel accepts before the balancer does.
func (r *rig) mustBeReset(t *testing.T) {
	t.Helper()
	conn, err := net.Dial("tcp", r.frontend)
	if err == nil {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("ended with %v, want a reset", err)
	}
}

func TestConnectionsGoRoundHealthyTargets(t *testing.T) {
	r := startRig(t, nil)
	r.set(r.a.node, r.b.node)
	r.await(t, "a", Healthy)
	r.await(t, "b", Healthy)
	count := map[string]int{}
	for range 10 {
		count[r.mustAsk(t, r.dial(t))]++
	}
	if count["a"] != 5 || count["b"] != 5 {
		t.Errorf("answers %v, want 5 of each", count)
	}
}

func TestExclusionStopsNewConnectionsAtOnceAndKeepsOldOnes(t *testing.T) {
	r := startRig(t, nil)
	r.set(r.a.node, r.b.node)
	r.await(t, "a", Healthy)
	r.await(t, "b", Healthy)
	var old net.Conn
	for old == nil { // round robin: the second attempt at the latest
		if conn := r.dial(t); r.mustAsk(t, conn) == "a" {
			old = conn
		}
	}

	r.set(r.b.node)
	before := r.a.accepted.Load()
	for range 20 {
		if who := r.mustAsk(t, r.dial(t)); who != "b" {
			t.Fatalf("a new connection went to %s, which is excluded", who)
		}
	}
	if got := r.a.accepted.Load(); got != before {
		t.Errorf("%d new connections reached the excluded node", got-before)
	}
	if who := r.mustAsk(t, old); who != "a" {
		t.Errorf("the old connection is answered by %s", who)
	}
	if got := r.state("a"); got != Draining {
		t.Errorf("a is %s", got)
	}
}

func TestDrainingTargetIsCutOffAfterTheDelayAndNotBefore(t *testing.T) {
	const delay = 200 * time.Millisecond
	r := startRig(t, func(c *Config) { c.DeregistrationDelay = delay })
	r.set(r.a.node)
	r.await(t, "a", Healthy)
	old := r.dial(t)
	r.mustAsk(t, old)

	excluded := time.Now()
	r.set()
	_, err := old.Read(make([]byte, 1))
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ended with %v, want a reset", err)
	}
	if lasted := time.Since(excluded); lasted < delay {
		t.Errorf("cut off after %s, before the delay of %s", lasted, delay)
	}
	r.await(t, "a", Unused)
	client := old.LocalAddr().String()
	eventually(t, "the cut connection is told of", func() bool {
		return r.event(func(e Event) bool { return e.Kind == ConnectionFailed && e.Client == client && e.Node == "a" })
	})
}

func TestTargetIsUsedOnlyWhileItsHealthChecksPass(t *testing.T) {
	r := startRig(t, nil)
	r.b.healthy.Store(false)
	r.set(r.a.node, r.b.node)
	r.await(t, "a", Healthy)
	r.await(t, "b", Unhealthy)
	for range 6 {
		if who := r.mustAsk(t, r.dial(t)); who != "a" {
			t.Fatalf("answered by %s, which is unhealthy", who)
		}
	}
	r.b.healthy.Store(true)
	r.await(t, "b", Healthy)
	r.a.healthy.Store(false)
	r.await(t, "a", Unhealthy)
	for range 6 {
		if who := r.mustAsk(t, r.dial(t)); who != "b" {
			t.Fatalf("answered by %s, which is unhealthy", who)
		}
	}
}

func TestClientOfADeadTargetSeesItAndNobodyElseIsTried(t *testing.T) {
	r := startRig(t, nil)
	dead := Node{ID: "dead", Name: "dead", Address: "127.0.0.13"} // nobody listens there
	r.set(dead)
	r.await(t, "dead", Unhealthy) // and so gets the traffic: there is nobody else

	r.mustBeReset(t)
	eventually(t, "the failure is told of", func() bool {
		return r.event(func(e Event) bool { return e.Kind == ConnectionFailed && e.Client != "" && e.Node == "dead" })
	})
	if got := r.Status()[0]; got.Failed != 1 || got.Total != 1 || got.Open != 0 {
		t.Errorf("status %+v, want one failed connection of one", got)
	}
}

func TestClientWithoutAnyTargetIsReset(t *testing.T) {
	r := startRig(t, nil)
	r.mustBeReset(t)
}

func TestClientThatGivesUpIsToldOfWithTheTarget(t *testing.T) {
	r := startRig(t, nil)
	r.set(r.a.node)
	r.await(t, "a", Healthy)
	conn := r.dial(t)
	client := conn.LocalAddr().String()
	eventually(t, "the connection is carried", func() bool { return r.Status()[0].Open == 1 })
	conn.Close()
	eventually(t, "the client's leaving is told of", func() bool {
		return r.event(func(e Event) bool { return e.Kind == ConnectionFailed && e.Client == client && e.Node == "a" })
	})
}

func TestNewRefusesWhatCanNotWork(t *testing.T) {
	bad := Defaults()
	bad.HealthyAfter = 0
	if _, err := New(bad, []Service{{}}, func(Event) {}); err == nil {
		t.Error("accepted a threshold of 0")
	}
	if _, err := New(Defaults(), nil, func(Event) {}); err == nil {
		t.Error("accepted no services")
	}
}
