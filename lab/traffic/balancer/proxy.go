// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package balancer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// connection is one client and what is needed to end it early.
type connection struct {
	client net.Conn
	// ctx ends when the connection is cut; it bounds dialling as well.
	ctx context.Context
	cut context.CancelFunc
}

// errNoTarget is the one failure that no node is to blame for.
var errNoTarget = errors.New("choosing a target: none is healthy or unhealthy; wait until a node passes its health checks")

// accept serves clients until ctx ends, then cuts them all and waits for it.
func (g *group) accept(ctx context.Context) error {
	listener := g.service.Listener
	unblock := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer unblock()
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		client, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accepting clients of %s on %s: %w", g.service.Name, listener.Addr(), err)
		}
		clients.Go(func() { g.serve(ctx, client) })
	}
}

// serve carries one client to one target: no second attempt anywhere else.
func (g *group) serve(ctx context.Context, client net.Conn) {
	conn := &connection{client: client}
	conn.ctx, conn.cut = context.WithCancel(ctx)
	defer conn.cut()

	m := g.choose(conn)
	if m == nil {
		abort(client)
		g.emit(Event{
			Time: time.Now(), Kind: ConnectionFailed, Service: g.service.Name,
			Client: client.RemoteAddr().String(), Reason: errNoTarget.Error(),
		})
		return
	}
	failure := g.carry(conn, g.address(m))
	if ctx.Err() != nil {
		failure = nil // our own end is no failure of the target's
	}
	g.done(m, conn, failure)
}

// carry connects to address and copies both ways until both are through. The
// error says why the client got no answer or, as far as one who copies bytes
// can tell, not all of it. A client that left before the first byte is one too:
// whoever gave up waiting counts that as a loss and looks for it here.
func (g *group) carry(conn *connection, address string) error {
	began := time.Now()
	dialer := net.Dialer{Timeout: g.config.ConnectTimeout}
	server, err := dialer.DialContext(conn.ctx, "tcp", address)
	if err != nil {
		abort(conn.client)
		return fmt.Errorf("connecting to the target: %w", err)
	}
	uncut := context.AfterFunc(conn.ctx, func() {
		abort(conn.client)
		abort(server)
	})
	defer uncut()

	var pipes sync.WaitGroup
	var answered int64
	var failure error
	var first endpoint
	pipes.Go(func() { _, _ = g.pipe(server, conn.client, func() { first.is(clientSide) }) })
	pipes.Go(func() { answered, failure = g.pipe(conn.client, server, func() { first.is(serverSide) }) })
	pipes.Wait()
	cut := conn.ctx.Err() != nil
	_ = conn.client.Close()
	_ = server.Close()

	waited := time.Since(began).Round(time.Millisecond)
	switch {
	case cut:
		return fmt.Errorf("carrying the connection: cut off after %s, at the end of the deregistration delay", waited)
	case answered == 0 && first.side == clientSide:
		return fmt.Errorf("waiting for the target's answer: the client closed first, after %s", waited)
	case first.side == clientSide:
		return nil
	case failure != nil:
		return fmt.Errorf("reading the target's answer after %d bytes and %s: %w", answered, waited, failure)
	case answered == 0:
		return fmt.Errorf("waiting for the target's answer: closed without one after %s", waited)
	}
	return nil
}

// endpoint remembers which side of a connection ended first.
type endpoint struct {
	once sync.Once
	side side
}

type side string

const (
	clientSide side = "client"
	serverSide side = "server"
)

func (e *endpoint) is(s side) { e.once.Do(func() { e.side = s }) }

// pipe copies one direction and says that it ended before it passes that on:
// a close as a close, a reset as a reset. The other direction may take
// HalfOpen longer.
func (g *group) pipe(to, from net.Conn, ended func()) (int64, error) {
	n, err := io.Copy(to, from)
	ended()
	if err != nil {
		abort(to)
		abort(from)
		return n, err
	}
	if half, ok := to.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
	_ = to.SetReadDeadline(time.Now().Add(g.config.HalfOpen))
	return n, nil
}

// abort closes with a reset, so that nobody takes the end for an orderly one.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
