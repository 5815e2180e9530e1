// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package load is an honest open-loop client. Requests are sent at the
// instants of a schedule that was fixed beforehand, each on a connection of its
// own and whatever became of the others; a server that stalls can not slow it
// down and so hide what it did. The time limit and the latency count from the
// scheduled instant, not from when the client got round to it. There is no
// second attempt, and everything but a wholly read 200 within the limit is lost.
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Target is one URL that requests go to, in turn with the others.
type Target struct {
	App string
	URL string
}

// Network names a range of pod addresses.
type Network struct {
	Name   string
	Prefix netip.Prefix
}

// Config is what to send and how to count. There are no defaults but
// Transport's: see [Defaults].
type Config struct {
	Targets []Target
	// Rate is in requests a second, over all targets.
	Rate float64
	// Timeout is the limit from a request's scheduled instant.
	Timeout time.Duration
	// Requests ends the run after that many; 0 runs until the context ends.
	Requests uint64
	// MaxFailures bounds the failures that are described one by one.
	MaxFailures int
	// Networks sorts answers by the pod address they name; the first that
	// contains it counts.
	Networks []Network
	// Progress is the time between two lines of progress.
	Progress time.Duration
	// Transport sends one request, once; nil is a new connection for each.
	Transport http.RoundTripper
}

// Defaults is the demo's load without its targets: 120 requests a second, a
// limit of 1 s, the lab's two pod networks.
func Defaults() Config {
	return Config{
		Rate:        120,
		Timeout:     time.Second,
		MaxFailures: 100,
		Networks: []Network{
			{Name: "overlay", Prefix: netip.MustParsePrefix("10.244.0.0/16")},
			{Name: "vpc", Prefix: netip.MustParsePrefix("10.0.0.0/16")},
		},
		Progress: time.Second,
	}
}

func (c Config) validate() error {
	switch {
	case len(c.Targets) == 0:
		return errors.New("checking the load's configuration: no targets; name at least one URL")
	case c.Rate <= 0 || c.Timeout <= 0 || c.Progress <= 0 || c.MaxFailures < 0:
		return fmt.Errorf("checking the load's configuration: rate %g, timeout %s, progress %s and failures %d; the first three have to be positive and the last not negative", c.Rate, c.Timeout, c.Progress, c.MaxFailures)
	}
	for _, t := range c.Targets {
		if _, err := http.NewRequest(http.MethodGet, t.URL, nil); err != nil {
			return fmt.Errorf("checking the load's target %s: %w", t.App, err)
		}
	}
	return nil
}

// newConnections is a transport that never uses a connection twice. On such
// connections net/http makes no second attempt either: it has one only for a
// connection that was reused.
func newConnections() *http.Transport {
	return &http.Transport{DisableKeepAlives: true, DisableCompression: true}
}

// Run sends until ctx ends or config.Requests are sent, waits for what is
// outstanding (at most config.Timeout) and returns the sum of it. It writes a
// [Progress] as a line of JSON to out each config.Progress, and the [Summary]
// as the last line. The error is about the configuration or out, never about
// the servers; an unwritable out ends the run, and the summary is still whole.
func Run(ctx context.Context, config Config, out io.Writer) (Summary, error) {
	if err := config.validate(); err != nil {
		return Summary{}, err
	}
	if config.Transport == nil {
		config.Transport = newConnections()
	}
	start := time.Now()
	tally := newTally(config, start)
	lines := json.NewEncoder(out)

	ctx, end := context.WithCancel(ctx)
	defer end()
	sent := make(chan struct{})
	var reporting sync.WaitGroup
	var unwritable error
	reporting.Go(func() {
		tick := time.NewTicker(config.Progress)
		defer tick.Stop()
		for {
			select {
			case <-sent:
				return
			case now := <-tick.C:
				if err := lines.Encode(tally.progress(now)); err != nil {
					unwritable = fmt.Errorf("writing a line of progress: %w", err)
					end()
					return
				}
			}
		}
	})
	send(ctx, config, start, tally)
	close(sent)
	reporting.Wait()

	summary := tally.summary(time.Now())
	if unwritable != nil {
		return summary, unwritable
	}
	if err := lines.Encode(summary); err != nil {
		return summary, fmt.Errorf("writing the summary: %w", err)
	}
	return summary, nil
}

// send follows the schedule and returns when all its requests have ended.
func send(ctx context.Context, config Config, start time.Time, tally *tally) {
	var outstanding sync.WaitGroup
	defer outstanding.Wait()
	// What is outstanding when the run ends gets its full time: ending a run is
	// not a loss.
	requests := context.WithoutCancel(ctx)
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for i := uint64(0); config.Requests == 0 || i < config.Requests; i++ {
		due := start.Add(time.Duration(float64(i) / config.Rate * float64(time.Second)))
		alarm.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return
		case <-alarm.C:
		}
		target := config.Targets[i%uint64(len(config.Targets))]
		tally.sending(target.App, time.Since(due))
		outstanding.Go(func() {
			limit, cancel := context.WithDeadline(requests, due.Add(config.Timeout))
			defer cancel()
			tally.ended(attempt(limit, config.Transport, target, due))
		})
	}
}
