// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/probe"
)

const (
	// freshKeys is how long keys are used before they are read again: the kubelet brings a Secret's new ones within a minute or two.
	freshKeys = 10 * time.Second
	// deafFor is how long an agent whose port is taken waits before it tries again.
	deafFor = 30 * time.Second
)

// probes are the questions between agents. Nothing about them ever ends the agent: a path that is not measured is not claimed.
type probes struct {
	port int
	dir  string
	log  *slog.Logger

	lock sync.Mutex
	keys probe.Keys
	read time.Time
	err  error
}

// current returns the keys, and no keys with an error.
func (p *probes) current() (probe.Keys, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if time.Since(p.read) > freshKeys {
		before := p.err
		p.keys, p.err = probe.ReadKeys(p.dir)
		p.read = time.Now()
		if p.err != nil && (before == nil || before.Error() != p.err.Error()) {
			p.log.Warn("no path between agents is measured", "error", p.err)
		}
	}
	return p.keys, p.err
}

// ask is how the loop asks another agent, nil where there are no keys to be.
func (p *probes) ask() func(context.Context, netip.Addr, int) (probe.Path, error) {
	if p.dir == "" {
		return nil
	}
	return func(ctx context.Context, to netip.Addr, most int) (probe.Path, error) {
		keys, err := p.current()
		if err != nil {
			return probe.Path{}, err
		}
		return probe.Measure(ctx, netip.AddrPortFrom(to, uint16(p.port)), keys, most)
	}
}

// answer answers other agents until ctx ends.
func (p *probes) answer(ctx context.Context) {
	if p.dir == "" {
		return
	}
	tick := time.NewTicker(deafFor)
	defer tick.Stop()
	for ctx.Err() == nil {
		err := probe.Respond(ctx, p.port, func() probe.Keys {
			keys, _ := p.current() // said there; without keys nobody is answered
			return keys
		})
		if err == nil {
			return
		}
		p.log.Warn("other agents are not answered; trying again", "error", err)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}
