// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/cni-cutover/cni-cutover/agent"
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/bpf/tunnelmeter"
)

func runCommand(o *options) *cobra.Command {
	address, measuring := ":9791", string(agent.WhileAsked)
	var probes probes
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Watch this node, answer the coordinator and serve metrics, until told to stop",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), o, address, agent.Measuring(measuring), &probes)
		},
	}
	cmd.Flags().StringVar(&address, "metrics-address", address, "where to serve /metrics, /healthz and /readyz")
	cmd.Flags().StringVar(&measuring, "tunnel-meter", measuring, "when the tunnel is measured at the NIC: WhileAsked, Always or Never; needs CAP_BPF and CAP_NET_ADMIN")
	cmd.Flags().IntVar(&probes.port, "probe-port", 9794, "UDP port on which agents ask each other how large a packet may be between them")
	cmd.Flags().StringVar(&probes.dir, "probe-keys", "", "folder with the keys by which agents of one cluster know each other; without it nobody is asked and nobody answered")
	return cmd
}

// measure makes the meter and its check one switch, and says at once what it lacks and what that costs.
func measure(when agent.Measuring, off map[v1alpha1.CheckName]bool, log *slog.Logger) (agent.Measuring, error) {
	switch {
	case when != agent.WhileAsked && when != agent.Always && when != agent.Never:
		return "", fmt.Errorf("reading --tunnel-meter: %q is none of WhileAsked, Always and Never", when)
	case when == agent.Never || off[v1alpha1.CheckTunnelMeter]:
		off[v1alpha1.CheckTunnelMeter] = true
		return agent.Never, nil
	}
	if err := tunnelmeter.Allowed(); err != nil {
		log.Warn("the tunnel will not be measured, and MTU rests on devices and routes alone", "error", err)
	}
	return when, nil
}

func run(ctx context.Context, o *options, address string, measuring agent.Measuring, probes *probes) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	klog.SetLogger(logr.FromSlogHandler(log.Handler())) // client-go's own words
	node, err := o.nodeName()
	if err != nil {
		return err
	}
	off, err := o.switchedOff()
	if err != nil {
		return err
	}
	if measuring, err = measure(measuring, off, log); err != nil {
		return err
	}
	if o.host.MapUses {
		if err := ciliummap.MayAskUses(); err != nil {
			log.Warn("which maps Cilium's programs use cannot be asked, so Programs will be Unknown", "error", err)
		}
	}
	fallback, err := o.fallback()
	if err != nil {
		return err
	}
	config, err := o.rest()
	if err != nil {
		return err
	}
	probes.log = log
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a := agent.New(agent.Config{
		Version: version, Interval: o.interval, Off: off, Fallback: fallback,
		Look: o.host.Look, LookAsked: o.host.LookAsked, LookServices: o.host.LookServices, Measuring: measuring, StartMeter: agent.StartMeter, Probe: probes.ask(),
		Received: func() (uint64, error) { return facts.ReceivedBy(facts.TunnelLink) }, Metrics: agent.NewMetrics(registry, version), Log: log,
	})
	api, err := agent.NewAPI(config, node, func(question bool) {
		if question {
			a.Asked()
			return
		}
		a.Changed()
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening for metrics (another program may hold the port; see --metrics-address): %w", err)
	}
	server := &http.Server{Handler: a.Handler(registry, api.Synced), ReadHeaderTimeout: 10 * time.Second}

	log.Info("agent started", "version", version, "node", node, "metrics", listener.Addr().String())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { api.Watch(ctx); return nil })
	group.Go(func() error { agent.Notice(ctx, o.confDir(), a.Changed, log); return nil })
	group.Go(func() error { a.Run(ctx, api); return nil })
	group.Go(func() error { probes.answer(ctx); return nil })
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving metrics: %w", err)
		}
		return nil
	})
	group.Go(func() error { <-ctx.Done(); return server.Close() })
	return group.Wait()
}
