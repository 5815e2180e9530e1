// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// stopTimeout is how long one server may take to stop; the API server lets requests finish.
const stopTimeout = 15 * time.Second

// supervisor owns the servers of this process: they start in one order and stop in the opposite one,
// and when one ends on its own, all must.
type supervisor struct {
	// ctx ends when the caller's does or when a server ends on its own; its cause tells which.
	ctx   context.Context
	fail  context.CancelCauseFunc
	asked context.Context
	tasks []task
}

type task struct {
	name string
	stop context.CancelFunc
	done <-chan struct{}
}

func newSupervisor(asked context.Context) *supervisor {
	ctx, fail := context.WithCancelCause(asked)
	return &supervisor{ctx: ctx, fail: fail, asked: asked}
}

// start runs a server in the background. The function it returns waits until the server has called
// started, or until that can no longer happen.
func (s *supervisor) start(name string, run func(ctx context.Context, started func()) error) func() error {
	ctx, stop := context.WithCancel(context.WithoutCancel(s.ctx))
	done, started := make(chan struct{}), make(chan struct{})
	s.tasks = append(s.tasks, task{name: name, stop: stop, done: done})
	go func() {
		defer close(done)
		err := run(ctx, sync.OnceFunc(func() { close(started) }))
		switch {
		case err != nil:
			s.fail(err)
		case ctx.Err() == nil:
			s.fail(errors.New("the " + name + " ended on its own; its log on stderr says why"))
		}
	}()
	return func() error {
		select {
		case <-started:
			return nil
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

// stop stops the servers in the opposite order of their start, each when those that need it are gone.
// It returns why they had to stop, unless the caller asked for it, and which did not stop in time.
func (s *supervisor) stop() error {
	var errs []error
	if s.asked.Err() == nil {
		errs = append(errs, context.Cause(s.ctx))
	}
	for _, t := range slices.Backward(s.tasks) {
		t.stop()
		select {
		case <-t.done:
		case <-time.After(stopTimeout):
			errs = append(errs, fmt.Errorf("stopping the %s: still running after %s", t.name, stopTimeout))
		}
	}
	return errors.Join(errs...)
}
