// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/datapath"
)

// clusterName is cluster-name of cilium-config, which goes before the name of every node.
const clusterName = "default"

const (
	// probeInterval is the time between two rounds of probes. The original's is a minute and more; a node of the lab lives for minutes.
	probeInterval = 5 * time.Second
	// probePatience is how long a probe waits for its answer.
	probePatience = 2 * time.Second
)

// prober asks the health ports of all nodes, of their hosts and of their health endpoints behind the tunnel, and keeps what it found: the
// original's cilium-health without ICMP.
type prober struct {
	self   string
	client http.Client

	mu    sync.Mutex
	nodes []datapath.Node // to probe, this one among them
	began time.Time
	found []map[string]any // NodeStatus of each that was probed
}

func newProber(self string) *prober {
	return &prober{self: self, client: http.Client{Timeout: probePatience, Transport: &http.Transport{DisableKeepAlives: true}}}
}

func (p *prober) probe(nodes []datapath.Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes = nodes
}

// run probes until ctx ends.
func (p *prober) run(ctx context.Context) error {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		p.round(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (p *prober) round(ctx context.Context) {
	p.mu.Lock()
	nodes, began := p.nodes, time.Now()
	p.mu.Unlock()
	found := make([]map[string]any, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			found[i] = map[string]any{"name": clusterName + "/" + n.Name, "host": map[string]any{"primary-address": p.ask(ctx, n.IP)}}
			if n.Health.IsValid() {
				found[i]["endpoint"] = p.ask(ctx, n.Health)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return // what was cut off says nothing
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began, p.found = began, found
}

// ask returns the PathStatus of one address. A status that is not empty says why there was no answer.
func (p *prober) ask(ctx context.Context, ip netip.Addr) map[string]any {
	path := map[string]string{"lastProbed": time.Now().Format(time.RFC3339)}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ip.String()+healthPort+"/hello", nil)
	if err == nil {
		var response *http.Response
		if response, err = p.client.Do(request); err == nil {
			response.Body.Close()
		}
	}
	if err != nil {
		path["status"] = err.Error()
	}
	return map[string]any{"ip": ip.String(), "http": path}
}

// api serves the health socket: the one path of the original that probes nobody.
func (p *prober) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1beta/status", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		answer(w, map[string]any{
			"local": map[string]string{"name": clusterName + "/" + p.self}, "nodes": p.found,
			"probeInterval": probeInterval.String(), "timestamp": p.began.Format(time.RFC3339),
		})
	})
	return mux
}
