// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"fmt"
	"net/rpc"
	"path/filepath"
	"time"
)

// Conn calls a lab's supervisor. It may be used by many goroutines.
type Conn struct{ client *rpc.Client }

// Connect waits until the supervisor of the state directory answers: its machines that are
// no nodes run then. gone tells that it never will.
func Connect(ctx context.Context, dir string, gone <-chan struct{}) (*Conn, error) {
	path := filepath.Join(dir, Socket)
	for {
		client, err := rpc.Dial("unix", path)
		if err == nil {
			return &Conn{client}, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-gone:
			return nil, fmt.Errorf("connecting to the lab's supervisor: it has ended")
		case <-ctx.Done():
			return nil, fmt.Errorf("connecting to the lab's supervisor: %w: %w", ctx.Err(), err)
		}
	}
}

// AddNodes starts new nodes, numbered in their order, and returns when their kubelets have
// been started.
func (c *Conn) AddNodes(ctx context.Context, nodes []NodeOptions) ([]Host, error) {
	var hosts []Host
	err := c.call(ctx, "AddNodes", nodes, &hosts)
	return hosts, err
}

// Terminate ends a node's machine at once, as an instance's termination does, and returns
// when nothing of it is left. Its Node object stays.
func (c *Conn) Terminate(ctx context.Context, name string) error {
	return c.call(ctx, "Terminate", name, &Nothing{})
}

// Hosts lists all machines, nodes first, in the order they joined.
func (c *Conn) Hosts(ctx context.Context) ([]Host, error) {
	var hosts []Host
	err := c.call(ctx, "Hosts", Nothing{}, &hosts)
	return hosts, err
}

// Close ends the connection; the lab goes on.
func (c *Conn) Close() error { return c.client.Close() }

func (c *Conn) call(ctx context.Context, method string, argument, reply any) error {
	call := c.client.Go(service+"."+method, argument, reply, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		if call.Error != nil {
			return fmt.Errorf("asking the lab's supervisor to %s: %w", method, call.Error)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("asking the lab's supervisor to %s: %w", method, ctx.Err())
	}
}
