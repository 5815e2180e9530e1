// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package balancer

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// TargetStatus is one target now.
type TargetStatus struct {
	Service string `json:"service"`
	Node    string `json:"node"`
	Target  string `json:"target"` // address:port
	State   State  `json:"state"`
	// Open is how many connections are being carried or attempted.
	Open int `json:"open"`
	// Total and Failed count connections since the target was first registered;
	// failed ones are those of [ConnectionFailed].
	Total  uint64 `json:"total"`
	Failed uint64 `json:"failed"`
}

// load is what a target carries.
type load struct {
	cuts          map[*connection]struct{}
	total, failed uint64
}

// group is one service: its targets, and what they carry.
type group struct {
	service Service
	config  Config
	emit    func(Event)
	client  *http.Client // for health checks

	mu      sync.Mutex
	targets targets
	loads   map[*target]*load
}

func newGroup(service Service, config Config, emit func(Event)) *group {
	return &group{
		service: service,
		config:  config,
		emit:    emit,
		client: &http.Client{
			Timeout: min(config.HealthTimeout, config.HealthInterval),
			// A new connection each: a kept one would go on passing at a node
			// that accepts nothing new. No proxy: the environment is not asked.
			Transport:     &http.Transport{DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		targets: targets{healthyAfter: config.HealthyAfter, unhealthyAfter: config.UnhealthyAfter, delay: config.DeregistrationDelay},
		loads:   map[*target]*load{},
	}
}

func (g *group) address(m *target) string {
	return net.JoinHostPort(m.node.Address, strconv.Itoa(g.service.NodePort))
}

// apply does something to the targets and tells of the changes, in order:
// events leave under the lock, so that no later one can overtake them.
func (g *group) apply(do func(*targets) []change) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range do(&g.targets) {
		switch c.to {
		case Initial:
			if g.loads[c.target] == nil {
				g.loads[c.target] = &load{cuts: map[*connection]struct{}{}}
			}
		case Unused:
			for conn := range g.loads[c.target].cuts {
				conn.cut()
			}
			delete(g.loads, c.target)
		}
		g.emit(Event{
			Time: time.Now(), Kind: TargetChanged, Service: g.service.Name,
			Node: c.target.node.Name, Target: g.address(c.target), From: c.from, To: c.to, Reason: c.reason,
		})
	}
}

func (g *group) register(eligible []Node, now time.Time) {
	g.apply(func(t *targets) []change { return t.register(eligible, now) })
}

// checkHealth looks at every registered target each interval until ctx ends,
// and cuts off those that have drained long enough.
func (g *group) checkHealth(ctx context.Context) {
	tick := time.NewTicker(g.config.HealthInterval)
	defer tick.Stop()
	for {
		g.mu.Lock()
		due := g.targets.registered()
		g.mu.Unlock()

		var checks sync.WaitGroup
		for _, m := range due {
			checks.Go(func() {
				err := g.check(ctx, m)
				if ctx.Err() != nil {
					return // the end of the program is no news of the target
				}
				g.apply(func(t *targets) []change {
					if err != nil {
						return t.observe(m, false, err.Error())
					}
					return t.observe(m, true, "")
				})
			})
		}
		checks.Wait()

		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			g.apply(func(t *targets) []change { return t.expire(now) })
		}
	}
}

func (g *group) check(ctx context.Context, m *target) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.address(m)+g.config.HealthPath, nil)
	if err != nil {
		return fmt.Errorf("asking for health: %w", err)
	}
	response, err := g.client.Do(request)
	if err != nil {
		return fmt.Errorf("asking for health: %w", err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return fmt.Errorf("reading the answer about health: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("asking for health: answered %s, want 200", response.Status)
	}
	return nil
}

// choose takes a target for conn and notes that it carries it, in one step: a
// deregistration is before it (not chosen) or after it (counted and cut in time).
func (g *group) choose(conn *connection) *target {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.targets.next()
	if m != nil {
		load := g.loads[m]
		load.cuts[conn] = struct{}{}
		load.total++
	}
	return m
}

// done takes conn off its target; failure is what [ConnectionFailed] says, or nil.
func (g *group) done(m *target, conn *connection, failure error) {
	g.mu.Lock()
	if load := g.loads[m]; load != nil { // nil: cut off and forgotten meanwhile
		delete(load.cuts, conn)
		if failure != nil {
			load.failed++
		}
	}
	g.mu.Unlock()
	if failure != nil {
		g.emit(Event{
			Time: time.Now(), Kind: ConnectionFailed, Service: g.service.Name,
			Node: m.node.Name, Target: g.address(m), Client: conn.client.RemoteAddr().String(), Reason: failure.Error(),
		})
	}
}

func (g *group) status() []TargetStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []TargetStatus
	for _, m := range g.targets.sorted() {
		load := g.loads[m]
		all = append(all, TargetStatus{
			Service: g.service.Name, Node: m.node.Name, Target: g.address(m), State: m.state,
			Open: len(load.cuts), Total: load.total, Failed: load.failed,
		})
	}
	return all
}
