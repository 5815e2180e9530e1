// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/component-base/version"
	apiserveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	controllermanageroptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	"github.com/cni-cutover/cni-cutover/lab/controlplane/pki"
)

// parsed holds the options of the servers to run; those not asked for are nil.
type parsed struct {
	apiServer         *apiserveroptions.ServerRunOptions
	controllerManager *controllermanageroptions.KubeControllerManagerOptions
	scheduler         *scheduleroptions.Options
}

// Run runs the servers o names until ctx ends or one of them does, calls ready once when all of them do
// their work, and returns when they have stopped. It returns nil when it was ctx that ended and every
// server stopped in time. It can be called once in a process.
func Run(ctx context.Context, o Options, ready func()) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if err := os.MkdirAll(string(o.Dir), 0o700); err != nil {
		return fmt.Errorf("creating the directory of the control plane: %w", err)
	}
	// Warnings are meant for people, and the servers' own clients are none.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	logs.InitLogs()
	defer logs.FlushLogs()

	p, err := prepare(o)
	if err != nil {
		return err
	}
	s := newSupervisor(ctx)
	if err := startAll(s, o, p); err == nil {
		ready()
		<-s.ctx.Done()
	} else {
		s.fail(err)
	}
	return s.stop()
}

// prepare listens, writes the files the servers read, and parses all flags before anything is started:
// the feature gates are shared and may be set only once, after the last flag was seen.
func prepare(o Options) (parsed, error) {
	var p parsed
	if o.runs(APIServer) {
		listener, err := net.Listen("tcp", o.Bind.String())
		if err != nil {
			return p, fmt.Errorf("listening for the API server: %w; another one may be running there, choose with --bind", err)
		}
		addr := netip.AddrPortFrom(o.Bind.Addr(), uint16(listener.Addr().(*net.TCPAddr).Port))
		if err := pki.WriteCluster(o.Dir, o.cluster(addr)); err != nil {
			return p, err
		}
		if p.apiServer, err = newAPIServer(o, listener, addr); err != nil {
			return p, err
		}
	}
	var err error
	if o.runs(ControllerManager) {
		if p.controllerManager, err = newControllerManager(o); err != nil {
			return p, err
		}
	}
	if o.runs(Scheduler) {
		if p.scheduler, err = newScheduler(o); err != nil {
			return p, err
		}
	}
	return p, applyGlobals(o)
}

// applyGlobals sets what the whole process has only one of.
func applyGlobals(o Options) error {
	fs := pflag.NewFlagSet("feature gates", pflag.ContinueOnError)
	compatibility.DefaultComponentGlobalsRegistry.AddFlags(fs)
	if err := fs.Set("feature-gates", o.FeatureGates); err != nil {
		return fmt.Errorf("reading the feature gates %q: %w", o.FeatureGates, err)
	}
	if err := compatibility.DefaultComponentGlobalsRegistry.Set(); err != nil {
		return fmt.Errorf("setting feature gates: %w", err)
	}
	logging := logs.NewOptions()
	logging.Verbosity = logsapi.VerbosityLevel(o.Verbosity)
	if err := logsapi.ValidateAndApply(logging, utilfeature.DefaultFeatureGate); err != nil {
		return fmt.Errorf("setting up logging: %w", err)
	}
	return nil
}

// startAll starts the servers, each one when those it needs do their work.
func startAll(s *supervisor, o Options, p parsed) error {
	if o.runs(Etcd) {
		if err := s.start(Etcd, func(ctx context.Context, started func()) error {
			return runEtcd(ctx, o.Dir, started)
		})(); err != nil {
			return err
		}
	}
	if o.runs(APIServer) {
		s.start(APIServer, func(ctx context.Context, _ func()) error {
			return runAPIServer(ctx, p.apiServer)
		})
	}
	if !o.runs(APIServer) && !o.runs(ControllerManager) && !o.runs(Scheduler) {
		return nil
	}
	probe, err := newProbe(o.Dir)
	if err != nil {
		return err
	}
	if err := awaitAPIServer(s.ctx, probe); err != nil {
		return fmt.Errorf("waiting for the API server (version %s): %w", version.Get().GitVersion, err)
	}

	var ready errgroup.Group
	if o.runs(ControllerManager) {
		s.start(ControllerManager, func(ctx context.Context, _ func()) error {
			return runControllerManager(ctx, p.controllerManager)
		})
		ready.Go(func() error { return awaitControllers(s.ctx, probe) })
	}
	if o.runs(Scheduler) {
		ready.Go(s.start(Scheduler, func(ctx context.Context, started func()) error {
			return runScheduler(ctx, p.scheduler, started)
		}))
	}
	return ready.Wait()
}
