// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/coordinator"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
	"github.com/cni-cutover/cni-cutover/internal/meddler"
	"github.com/cni-cutover/cni-cutover/internal/program"
)

// gate is a channel that is closed by open, or by the end of the test, and may be opened many times.
func gate(t *testing.T) (closed <-chan struct{}, open func()) {
	c := make(chan struct{})
	open = sync.OnceFunc(func() { close(c) })
	t.Cleanup(open)
	return c, open
}

// await waits for a value, or for the end of a channel, or fails the test with what is missing.
func await[T any](t *testing.T, from <-chan T, within time.Duration, missing string) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(within):
		t.Fatalf("after %s still: %s", within, missing)
	}
	return got
}

// TestTwoCoordinatorsLead: the first is stopped with a write of its own on the way, the second leads and goes on, then the
// write arrives and the first wakes and believes for up to 10 s that it leads as well. The limits hold for both together.
func TestTwoCoordinatorsLead(t *testing.T) {
	for name, at := range map[string]func(meddler.Request) bool{
		"at the grant of a slot": func(q meddler.Request) bool {
			return q.Resource == "cutovers" && strings.Contains(string(q.Body), `"grantedAt"`)
		},
		"at an eviction": func(q meddler.Request) bool { return q.Subresource == "eviction" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoll(t)
			first, second := r.proxy(), r.proxy()
			arrive, open := gate(t)
			a := r.runUntil(first, func(q meddler.Request, stop func()) (f meddler.Fate) {
				if at(q) {
					f.Before = func() {
						stop()
						<-arrive
					}
				}
				return f
			})
			r.freeLease()
			r.run(second, "second")
			fleet.Eventually(t, 30*time.Second, func() string {
				if second.Writes() >= 5 {
					return ""
				}
				return "the second coordinator does not go on"
			})
			open()
			a.Continue()
			r.ends(time.Minute)
			r.oracle.judged(10, 2)
			t.Logf("%d and %d writes", first.Writes(), second.Writes())
		})
	}
}

// runUntil starts a coordinator and returns it stopped, by SIGSTOP, at the first request that meddle gives a Fate in which it
// calls stop; later requests go through.
func (r *roll) runUntil(p *meddler.Proxy, meddle func(q meddler.Request, stop func()) meddler.Fate) *program.Process {
	r.t.Helper()
	born, stopped := make(chan *program.Process, 1), make(chan struct{})
	stop := func() {
		(<-born).Stop()
		close(stopped)
	}
	var mu sync.Mutex
	done := false
	p.Meddle(func(q meddler.Request) (f meddler.Fate) {
		mu.Lock()
		defer mu.Unlock()
		if !done {
			f = meddle(q, stop)
			done = f.Before != nil || f.After != nil
		}
		return f
	})
	c := r.run(p, "first")
	born <- c
	await(r.t, stopped, time.Minute, "the first coordinator does not come so far")
	return c
}

// TestALeaderThatSleptThroughItsLeaseDoesNothingMore: it is stopped in the middle of its actions, between one answer and the
// next action, and another one leads when it wakes. It ends, and nothing of it reaches the API server.
func TestALeaderThatSleptThroughItsLeaseDoesNothingMore(t *testing.T) {
	r := newRoll(t)
	first, second := r.proxy(), r.proxy()
	wake, open := gate(t)
	a := r.runUntil(first, func(q meddler.Request, stop func()) (f meddler.Fate) {
		// The first of two labels: the second is due as soon as this is answered.
		if q.Resource == "nodes" && q.Verb == "patch" {
			f.After = func() {
				stop()
				<-wake
			}
		}
		return f
	})
	slept := time.Now()
	r.freeLease()
	r.run(second, "second")
	fleet.Eventually(t, 30*time.Second, func() string {
		if second.Writes() > 0 && time.Since(slept) > coordinator.LeaseDuration {
			return ""
		}
		return fmt.Sprintf("the lease of the first coordinator has not expired, or nobody leads: the second one has written %d times", second.Writes())
	})
	before := first.Writes() // with what was on its way when it was stopped: nodes are labelled side by side
	open()
	a.Continue()
	await(t, a.Ended, 15*time.Second, "the first coordinator runs, though it does not lead")
	if more := first.Writes() - before; more != 0 {
		t.Errorf("%d writes by a coordinator that no longer leads", more)
	}
	r.ends(time.Minute)
}
