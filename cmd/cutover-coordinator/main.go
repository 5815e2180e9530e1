// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Command cutover-coordinator drives a cutover from the VPC CNI to Cilium through its phases. It runs in the cluster, on
// the host network, because it must outlive the change it makes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator"
)

// version is set when a release is built.
var version = "dev"

// Limits on our own requests, for 64 slots at once (docs/figures.md): one node's cutover is about 60 requests, and a phase
// that begins makes one or two for each node. What an API server can bear it says itself (priority and fairness).
const (
	requestsPerSecond = 200
	requestBurst      = 400
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "cutover-coordinator:", err)
		os.Exit(1)
	}
}

type options struct {
	metrics, probes, pprof string
	cniNamespace, leaseIn  string
	name, node             string
	dryRun, elect, version bool
	verbose                int
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("cutover-coordinator", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.metrics, "metrics-bind-address", ":9792", "address on which /metrics is served")
	f.StringVar(&o.probes, "health-probe-bind-address", ":9793", "address on which /healthz and /readyz are served")
	f.StringVar(&o.pprof, "pprof-bind-address", "", "address on which profiles are served below /debug/pprof; empty for nowhere")
	f.StringVar(&o.cniNamespace, "cni-namespace", "kube-system", "namespace of both CNIs' DaemonSets; spec.legacy and spec.cilium must name DaemonSets of this namespace")
	f.StringVar(&o.leaseIn, "leader-election-namespace", "cni-cutover", "namespace of the lease by which one coordinator leads")
	f.StringVar(&o.name, "pod-name", os.Getenv("POD_NAME"), "name of this coordinator, written into every slot that it grants (default: $POD_NAME, or the host name)")
	f.StringVar(&o.node, "node-name", os.Getenv("NODE_NAME"), "name of the node on which this coordinator runs; that node is rolled last")
	f.BoolVar(&o.elect, "leader-elect", true, "act only while holding the lease")
	f.BoolVar(&o.dryRun, "dry-run", false, "print every action that would be taken now, and take none")
	f.IntVar(&o.verbose, "v", 0, "how much to log: 0 what changes, 1 every action as well")
	f.BoolVar(&o.version, "version", false, "print the version and end")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: all settings are flags; see --help", f.Arg(0))
	}
	if o.name == "" {
		host, err := os.Hostname()
		if err != nil {
			return o, fmt.Errorf("finding a name for this coordinator: set --pod-name: %w", err)
		}
		o.name = host
	}
	return o, nil
}

func run(args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if o.version {
		_, err := fmt.Fprintln(stdout, version)
		return err
	}
	level := slog.LevelInfo
	if o.verbose > 0 {
		level = slog.LevelDebug
	}
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level})))
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding a cluster: run in one, or set KUBECONFIG: %w", err)
	}
	config.QPS, config.Burst = requestsPerSecond, requestBurst
	sight := &coordinator.Sight{}
	setup := coordinator.Options{Holder: o.name, OwnNode: o.node, Sight: sight}
	manage := managerOptions(o, sight)
	if manage.LeaderElection {
		lease, err := coordinator.NewLease(config, manage.Scheme, o.leaseIn, o.name)
		if err != nil {
			return err
		}
		manage.LeaderElectionResourceLockInterface, setup.Leads = lease, lease.Certain
	}
	mgr, err := ctrl.NewManager(config, manage)
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	if o.dryRun {
		setup.DryRun = stdout
	}
	if err := coordinator.Setup(mgr, setup); err != nil {
		return fmt.Errorf("setting the coordinator up: %w", err)
	}
	if err := errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("sight", sight.Ready)); err != nil {
		return fmt.Errorf("adding health checks: %w", err)
	}
	return mgr.Start(ctrl.SetupSignalHandler())
}

// managerOptions says what is cached and how leadership is held.
func managerOptions(o options, sight *coordinator.Sight) ctrl.Options {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err) // only possible if two of these packages define the same kind differently
		}
	}
	lease, renew, retry := coordinator.LeaseDuration, coordinator.RenewDeadline, coordinator.RetryPeriod
	return ctrl.Options{
		Scheme:                        scheme,
		Metrics:                       metricsserver.Options{BindAddress: o.metrics},
		HealthProbeBindAddress:        o.probes,
		PprofBindAddress:              o.pprof,
		LeaderElection:                o.elect && !o.dryRun,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &lease,
		RenewDeadline:                 &renew,
		RetryPeriod:                   &retry,
		Cache:                         sight.Cache(o.cniNamespace),
	}
}
