// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package balancer stands in for an AWS load balancer with instance targets:
// in front of each application a listener, behind it one node port on every
// eligible node. It copies bytes (layer 4), so each connection of a client is
// a connection to one node; it never tries a second node for the same client.
//
// What it imitates, because a rolling replacement of nodes depends on it:
// a target gets traffic only after some health checks in a row were good; a
// deregistered target gets no new connection from that moment on, may finish
// what it has for the deregistration delay, and is cut off then; if no target
// is healthy the unhealthy ones get the traffic (AWS calls it fail-open).
// What it leaves out: the seconds the real service takes to hear of a change.
//
// https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-target-groups.html
package balancer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Node is a possible target: one instance.
type Node struct {
	// ID tells a machine from another that took over its name or address.
	ID   string
	Name string
	// Address is the IP address that node ports are reached at.
	Address string
}

// NodeSource knows which nodes may be targets.
type NodeSource interface {
	// Watch calls changed with all eligible nodes, first as soon as they are
	// known and then whenever they may have changed; the same nodes again are
	// allowed. It returns when ctx ends (nil) or when it can not go on.
	Watch(ctx context.Context, changed func(eligible []Node)) error
}

// Service is one listener and the node port behind it.
type Service struct {
	Name string
	// Listener accepts the clients. Run closes it.
	Listener net.Listener
	// NodePort is the TCP port at every node, for traffic and health checks.
	NodePort int
}

// Config is how an AWS target group would be set up. Zero values are not
// defaulted: see [Defaults].
type Config struct {
	// HealthInterval is the time between two health checks of a target, and
	// HealthTimeout how long one may take; it is capped by the interval.
	HealthInterval, HealthTimeout time.Duration
	// HealthPath is asked for with GET at the node port; 200 is good.
	HealthPath string
	// HealthyAfter and UnhealthyAfter are how many results in a row turn a target.
	HealthyAfter, UnhealthyAfter int
	// DeregistrationDelay is how long a leaving target keeps its connections.
	DeregistrationDelay time.Duration
	// ConnectTimeout bounds the one attempt to reach a target.
	ConnectTimeout time.Duration
	// HalfOpen bounds how long one direction of a connection may outlive the other.
	HalfOpen time.Duration
}

// Defaults are AWS's rules at the pace of a lab: AWS checks every 30 s, wants
// 5 good or 2 bad results and drains for 300 s unless told otherwise.
func Defaults() Config {
	return Config{
		HealthInterval:      time.Second,
		HealthTimeout:       time.Second,
		HealthPath:          "/",
		HealthyAfter:        2,
		UnhealthyAfter:      2,
		DeregistrationDelay: 10 * time.Second,
		ConnectTimeout:      time.Second,
		HalfOpen:            10 * time.Second,
	}
}

func (c Config) validate() error {
	if c.HealthInterval <= 0 || c.HealthTimeout <= 0 || c.ConnectTimeout <= 0 || c.HalfOpen <= 0 || c.DeregistrationDelay < 0 ||
		c.HealthyAfter < 1 || c.UnhealthyAfter < 1 || len(c.HealthPath) == 0 || c.HealthPath[0] != '/' {
		return fmt.Errorf("checking the balancer's configuration: %+v has an interval, timeout or threshold that is not positive, or a health path without a leading slash; start from Defaults", c)
	}
	return nil
}

// Event is something the balancer did or saw that a reader of a client's
// losses wants to know. Kind decides which other fields are set.
type Event struct {
	Time    time.Time `json:"time"`
	Kind    EventKind `json:"kind"`
	Service string    `json:"service"`
	Node    string    `json:"node,omitempty"`
	Target  string    `json:"target,omitempty"` // address:port
	From    State     `json:"from,omitempty"`
	To      State     `json:"to,omitempty"`
	// Client is the client's address, to match with its own record of the loss.
	Client string `json:"client,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// EventKind says what an [Event] is about.
type EventKind string

const (
	// TargetChanged: a target went From one state To another, for Reason.
	TargetChanged EventKind = "target"
	// ConnectionFailed: Client got no answer or not all of it, for Reason.
	ConnectionFailed EventKind = "connection"
)

// Balancer is a set of target groups, one for each service.
type Balancer struct {
	config Config
	groups []*group
	// emit serializes events: the caller's function need not be concurrent.
	emit func(Event)
}

// New makes a balancer for services. Each event is given to onEvent, one at a
// time and in an order that never puts an effect before its cause; onEvent has
// to be quick and must not call the balancer.
func New(config Config, services []Service, onEvent func(Event)) (*Balancer, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	if len(services) == 0 {
		return nil, errors.New("making a balancer: no services given; name at least one listener and its node port")
	}
	var mu sync.Mutex
	b := &Balancer{config: config, emit: func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		onEvent(e)
	}}
	for _, s := range services {
		b.groups = append(b.groups, newGroup(s, config, b.emit))
	}
	return b, nil
}

// Run balances until ctx ends, closes every listener and connection and
// returns nil; or returns the first thing that made going on impossible.
func (b *Balancer) Run(ctx context.Context, nodes NodeSource) error {
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error {
		err := nodes.Watch(ctx, func(eligible []Node) {
			for _, g := range b.groups {
				g.register(eligible, time.Now())
			}
		})
		if err == nil && ctx.Err() == nil {
			err = errors.New("the source ended by itself")
		}
		if err != nil {
			return fmt.Errorf("watching nodes to balance over: %w", err)
		}
		return nil
	})
	for _, g := range b.groups {
		tasks.Go(func() error { return g.accept(ctx) })
		tasks.Go(func() error { g.checkHealth(ctx); return nil })
	}
	return tasks.Wait()
}

// Status is every target of every service, by service and node name.
func (b *Balancer) Status() []TargetStatus {
	var all []TargetStatus
	for _, g := range b.groups {
		all = append(all, g.status()...)
	}
	return all
}
