// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// lease is the owner's word that it still lives. The program compares its end with bpf_ktime_get_ns, which is
// CLOCK_MONOTONIC of the host; a container in a time namespace of its own would be off by that offset.
type lease struct {
	until  *ebpf.Variable
	length time.Duration
	stop   chan struct{}
	done   sync.WaitGroup
}

// holdLease renews until end is called. A stopped process (SIGSTOP, a starved container) loses it for a while, and the
// packets of that time; one that was killed loses it for good.
func holdLease(until *ebpf.Variable, length time.Duration) (*lease, error) {
	l := &lease{until: until, length: length, stop: make(chan struct{})}
	if err := l.renew(); err != nil {
		return nil, err
	}
	l.done.Go(func() {
		tick := time.NewTicker(length / 4)
		defer tick.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-tick.C:
				_ = l.renew() // a store to memory; the first one has shown that it works
			}
		}
	})
	return l, nil
}

func (l *lease) renew() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("reading the clock for the lease of a tc filter: %w", err)
	}
	if err := l.until.Set(uint64(now.Nano() + l.length.Nanoseconds())); err != nil {
		return fmt.Errorf("renewing the lease of a tc filter: %w", err)
	}
	return nil
}

func (l *lease) end() {
	close(l.stop)
	l.done.Wait()
}
