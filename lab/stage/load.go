// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cni-cutover/cni-cutover/lab"
	"github.com/cni-cutover/cni-cutover/lab/app"
	"github.com/cni-cutover/cni-cutover/lab/traffic/balancer"
	"github.com/cni-cutover/cni-cutover/lab/traffic/load"
)

// Traffic is how the balancer is set up and what clients send.
type Traffic struct {
	// Rate is in requests a second over all applications, each on a new connection.
	Rate float64
	// Timeout is the limit of a request from its scheduled instant.
	Timeout time.Duration
	// DeregistrationDelay is how long the balancer lets an excluded node keep its connections.
	// What is in front of a drain has to take longer.
	DeregistrationDelay time.Duration
}

// healthyAfter is how many good health checks in a row, one a second, a node needs before clients
// reach it: the number that AWS recommends and starts from. It matters: a node is Ready, and
// answers a check by a pod that happens to be near, seconds before its CNI can reach every pod.
const healthyAfter = 5

// DefaultTraffic is the demo's.
func DefaultTraffic() Traffic {
	return Traffic{Rate: 120, Timeout: time.Second, DeregistrationDelay: 3 * time.Second}
}

// Load is a balancer in front of the applications and a client of it, both in the network of the
// lab's client machine.
type Load struct {
	balancer, client *process

	mu       sync.Mutex
	progress load.Progress
	targets  []balancer.TargetStatus
	failures []balancer.Event
	summary  *load.Summary
}

// Progress is the client's newest count.
func (l *Load) Progress() load.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.progress
}

// Targets are the balancer's newest targets, one for each application and node.
func (l *Load) Targets() []balancer.TargetStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.targets
}

// Failures are the connections that the balancer saw fail: where and why a request was lost.
func (l *Load) Failures() []balancer.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]balancer.Event(nil), l.failures...)
}

// StartLoad starts balancer and client and returns when every Ready node is a healthy target of
// every application and the first second of requests has been counted.
func (e *Env) StartLoad(ctx context.Context) error {
	what := fmt.Sprintf("a load balancer and a client: %.0f requests a second, each on a new connection", e.options.Traffic.Rate)
	return e.step(ctx, what, func(ctx context.Context) error {
		kubeconfig, address, err := e.outside(ctx)
		if err != nil {
			return err
		}
		l := &Load{}
		e.Load = l
		l.balancer, err = e.outsideProcess(ctx, l.balancerLine, "balancer", "--kubeconfig="+kubeconfig, "--address="+address,
			"--deregistration-delay="+e.options.Traffic.DeregistrationDelay.String(), fmt.Sprintf("--healthy-after=%d", healthyAfter))
		if err != nil {
			return err
		}
		if err := e.waitTargets(ctx); err != nil {
			return err
		}
		l.client, err = e.outsideProcess(ctx, l.clientLine, "load", "--address="+address,
			fmt.Sprintf("--rate=%g", e.options.Traffic.Rate), "--timeout="+e.options.Traffic.Timeout.String())
		if err != nil {
			return err
		}
		return poll(ctx, func(context.Context) (string, error) {
			if l.Progress().Total.Sent == 0 {
				return "the first count of requests", l.client.ended()
			}
			return "", nil
		})
	})
}

// outside writes a kubeconfig for processes in the VPC and returns the client machine's address.
func (e *Env) outside(ctx context.Context) (kubeconfig, address string, err error) {
	control, err := e.Cluster.Host(ctx, lab.ControlPlane)
	if err != nil {
		return "", "", err
	}
	client, err := e.Cluster.Host(ctx, lab.Client)
	if err != nil {
		return "", "", err
	}
	config, err := clientcmd.LoadFromFile(e.Cluster.Kubeconfig())
	if err != nil {
		return "", "", fmt.Errorf("reading the lab's kubeconfig: %w", err)
	}
	for _, cluster := range config.Clusters {
		cluster.Server = "https://" + net.JoinHostPort(control.Instance.Interfaces[0].Primary.String(), "6443")
	}
	kubeconfig = filepath.Join(e.Cluster.State(), "vpc.kubeconfig")
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		return "", "", fmt.Errorf("writing a kubeconfig for the VPC: %w", err)
	}
	return kubeconfig, client.Instance.Interfaces[0].Primary.String(), nil
}

// waitTargets waits until every Ready node gets traffic of every application.
func (e *Env) waitTargets(ctx context.Context) error {
	return poll(ctx, func(ctx context.Context) (string, error) {
		if err := e.Load.balancer.ended(); err != nil {
			return "", err
		}
		var nodes corev1.NodeList
		if err := e.Client.List(ctx, &nodes); err != nil {
			return "", fmt.Errorf("listing nodes: %w", err)
		}
		healthy := 0
		for _, target := range e.Load.Targets() {
			if target.State == balancer.Healthy {
				healthy++
			}
		}
		if want := len(nodes.Items) * len(app.Apps()); healthy < want {
			return fmt.Sprintf("%d of %d targets healthy", healthy, want), nil
		}
		return "", nil
	})
}

func (l *Load) balancerLine(line []byte) error {
	var said struct {
		balancer.Event
		Targets []balancer.TargetStatus `json:"targets"`
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return fmt.Errorf("reading what the balancer says: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch said.Kind {
	case "targets":
		l.targets = said.Targets
	case balancer.ConnectionFailed:
		l.failures = append(l.failures, said.Event)
	}
	return nil
}

func (l *Load) clientLine(line []byte) error {
	var said struct {
		Final bool `json:"final"`
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return fmt.Errorf("reading what the client says: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if said.Final {
		l.summary = &load.Summary{}
		return json.Unmarshal(line, l.summary)
	}
	l.progress = load.Progress{}
	return json.Unmarshal(line, &l.progress)
}

// Ended is an error if balancer or client have ended by themselves, as neither should.
func (l *Load) Ended() error { return errors.Join(l.balancer.ended(), l.client.ended()) }

// Finish ends the client, which gets the answers it waits for, and then the balancer. It returns
// the client's own sum.
func (l *Load) Finish() (load.Summary, error) {
	if l == nil || l.client == nil {
		return load.Summary{}, errors.New("ending the load: it was never started")
	}
	if err := l.stop(); err != nil {
		return load.Summary{}, err
	}
	if l.summary == nil {
		return load.Summary{}, errors.New("ending the load: the client ended without its summary")
	}
	return *l.summary, nil
}

// stop ends what runs; it may be called many times.
func (l *Load) stop() error {
	if l == nil {
		return nil
	}
	return errors.Join(l.client.stop(syscall.SIGTERM), l.balancer.stop(syscall.SIGTERM))
}
