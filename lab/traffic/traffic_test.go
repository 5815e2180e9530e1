// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package traffic_test runs the application, the balancer and the client
// together, to show what the rig as a whole can and can not be blind to.
package traffic_test

import (
	"context"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/lab/app"
	"github.com/cni-cutover/cni-cutover/lab/traffic/balancer"
	"github.com/cni-cutover/cni-cutover/lab/traffic/load"
)

const patience = 20 * time.Second

// machine is a node that runs one pod behind its node port.
type machine struct {
	balancer.Node
	listener net.Listener
	stop     context.CancelFunc
	ended    chan error
}

func startMachine(t *testing.T, address string, port int, podIP string) *machine {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{Node: balancer.Node{ID: address, Name: address, Address: address}, listener: listener, ended: make(chan error, 1)}
	var ctx context.Context
	ctx, m.stop = context.WithCancel(context.Background())
	t.Cleanup(func() { m.stop(); listener.Close() })
	go func() {
		m.ended <- app.Serve(ctx, listener, app.Identity{Flavour: "nginx", Node: address, PodIP: podIP}, app.Grace{Finish: patience})
	}()
	return m
}

type nodes chan []balancer.Node

func (n nodes) Watch(ctx context.Context, changed func([]balancer.Node)) error {
	for {
		select {
		case eligible := <-n:
			changed(eligible)
		case <-ctx.Done():
			return nil
		}
	}
}

// replaceUnderLoad sends load through a balancer, has replace take the old
// machine out in favour of the new one, and returns what the client counted.
func replaceUnderLoad(t *testing.T, replace func(b *balancer.Balancer, source nodes, old, fresh *machine)) load.Summary {
	t.Helper()
	old := startMachine(t, "127.0.0.21", 0, "10.0.1.20")
	port := old.listener.Addr().(*net.TCPAddr).Port
	fresh := startMachine(t, "127.0.0.22", port, "10.244.2.20")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	config := balancer.Defaults()
	config.HealthInterval = 20 * time.Millisecond
	config.DeregistrationDelay = 500 * time.Millisecond
	config.UnhealthyAfter = 1000 // exclusion, not a health check, ends a target here
	b, err := balancer.New(config, []balancer.Service{{Name: "nginx", Listener: listener, NodePort: port}}, func(balancer.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	source := make(nodes)
	ctx, stop := context.WithCancel(t.Context())
	balanced := make(chan error, 1)
	go func() { balanced <- b.Run(ctx, source) }()
	source <- []balancer.Node{old.Node}
	await(t, b, "127.0.0.21", balancer.Healthy)

	c := load.Defaults()
	c.Rate, c.Timeout = 200, patience
	c.Targets = []load.Target{{App: "nginx", URL: "http://" + listener.Addr().String() + "/"}}
	loading, enough := context.WithCancel(ctx)
	summaries := make(chan load.Summary, 1)
	go func() {
		summary, err := load.Run(loading, c, io.Discard)
		if err != nil {
			t.Error(err)
		}
		summaries <- summary
	}()
	served(t, b, "127.0.0.21", 20)
	source <- []balancer.Node{old.Node, fresh.Node}
	await(t, b, "127.0.0.22", balancer.Healthy)
	replace(b, source, old, fresh)
	await(t, b, "127.0.0.21", balancer.Unused)
	served(t, b, "127.0.0.22", 100)
	enough()
	summary := <-summaries
	stop()
	if err := <-balanced; err != nil {
		t.Error(err)
	}
	if summary.Total.Sent != summary.Total.OK+summary.Total.Lost {
		t.Errorf("accounts do not add up: %+v", summary.Total.Counts)
	}
	if n := summary.Total.Networks; n["vpc"] == 0 || n["overlay"] == 0 {
		t.Errorf("networks %v, want answers of both", n)
	}
	return summary
}

func status(b *balancer.Balancer, name string) balancer.TargetStatus {
	for _, s := range b.Status() {
		if s.Node == name {
			return s
		}
	}
	return balancer.TargetStatus{State: balancer.Unused}
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
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

func await(t *testing.T, b *balancer.Balancer, name string, want balancer.State) {
	t.Helper()
	until(t, name+" is "+string(want), func() bool { return status(b, name).State == want })
}

func served(t *testing.T, b *balancer.Balancer, name string, n uint64) {
	t.Helper()
	until(t, name+" has served", func() bool { return status(b, name).Total >= n })
}

func TestAnOrderlyReplacementLosesNothing(t *testing.T) {
	summary := replaceUnderLoad(t, func(b *balancer.Balancer, source nodes, old, fresh *machine) {
		source <- []balancer.Node{fresh.Node}
		await(t, b, old.Name, balancer.Unused) // only a drained machine may go
		old.stop()
		if err := <-old.ended; err != nil {
			t.Error(err)
		}
	})
	if summary.Total.Lost != 0 {
		t.Errorf("lost %d: %+v", summary.Total.Lost, summary.Failures)
	}
}

func TestAMachineThatDiesBeforeItIsExcludedIsSeen(t *testing.T) {
	summary := replaceUnderLoad(t, func(b *balancer.Balancer, source nodes, old, fresh *machine) {
		old.stop()
		if err := <-old.ended; err != nil {
			t.Error(err)
		}
		until(t, "a client met the dead machine", func() bool { return status(b, old.Name).Failed > 0 })
		source <- []balancer.Node{fresh.Node}
	})
	if summary.Total.Lost == 0 {
		t.Error("nothing lost: the rig is blind to a dead node behind the balancer")
	}
}
