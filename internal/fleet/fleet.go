// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package fleet gives a real API server (internal/apiserver) the nodes that it lacks, a handful or thousands: it plays
// their kubelets, the agents on them, and whoever replaces nodes. The API server, the scheduler, the DaemonSet controller,
// the garbage collector and evictions are real.
//
//	f := fleet.Start(t, server.Config())
//	f.CNIs(fleet.HybridEnv()...)
//	f.Join(fleet.Node{Zone: "a"}, fleet.Node{Zone: "b"})
//	f.Deployment("shop", 3)
//	f.SetAgent("node-1", fleet.Agent{Verdict: v1alpha1.VerdictFail, Reason: v1alpha1.TunnelDown})
//	f.OnReplace(func(*corev1.Node) fleet.Replacement { return fleet.Replacement{NeverJoins: true} })
//
// Everybody in it behaves well unless told otherwise. What the fleet knows of a node stands on the Node (annotation
// RoleAnnotation), what it was told to do wrong in this process. It watches and works through queues; nothing lists again
// and again. For thousands of nodes start the API server with higher limits (lab/controlplane/README.md).
package fleet

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/event"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// workers is how many objects of a kind are worked on at once, and how many nodes join at once: enough for 5,000 nodes, and
// no more than an API server on two cores can use.
const workers = 16

// Fleet is a set of nodes that no kubelet runs. Its methods may be called by many goroutines; they fail the test when the
// API server refuses.
type Fleet struct {
	// Client reads and writes the API server itself, with no cache between.
	Client client.Client

	tb    testing.TB
	ctx   context.Context // of everything that plays; ends with the test
	plays sync.WaitGroup  // replacements under way
	wake  chan event.GenericEvent

	mu       sync.Mutex
	joined   int
	grace    time.Duration
	agents   map[string]Agent
	waited   map[string]time.Time // ids of challenges that are answered with a delay, and since when
	replaces func(*corev1.Node) Replacement
	heard    map[string]bool // requests that were taken up
}

// Start empties the cluster of what an earlier fleet left, and plays until the test ends. The scene is left as it is then,
// to be looked at.
func Start(tb testing.TB, on *rest.Config) *Fleet {
	tb.Helper()
	scheme := Scheme()
	c, err := client.New(on, client.Options{Scheme: scheme})
	if err != nil {
		tb.Fatalf("making the fleet's client: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &Fleet{
		Client: c, tb: tb, ctx: ctx, wake: make(chan event.GenericEvent, 1),
		agents: map[string]Agent{}, waited: map[string]time.Time{}, heard: map[string]bool{},
		replaces: func(*corev1.Node) Replacement { return Replacement{} },
	}
	f.clear()
	mgr, err := ctrl.NewManager(on, ctrl.Options{
		Scheme: scheme, Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: config.Controller{SkipNameValidation: new(true), MaxConcurrentReconciles: workers},
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject:         map[client.Object]cache.ByObject{&corev1.Pod{}: {Transform: onlyLife}},
		},
	})
	if err != nil {
		tb.Fatalf("making the fleet: %v", err)
	}
	for _, setup := range []func(context.Context, ctrl.Manager) error{f.setupKubelets, f.setupAgents, f.setupOwner} {
		if err := setup(ctx, mgr); err != nil {
			tb.Fatalf("making the fleet: %v", err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	tb.Cleanup(func() {
		cancel()
		f.plays.Wait()
		if err := <-ended; err != nil {
			tb.Errorf("running the fleet: %v", err)
		}
	})
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		tb.Fatal("running the fleet: its caches were never filled")
	}
	<-mgr.Elected() // it has no rival: now it has started all that has to end
	return f
}

// Scheme knows Kubernetes' kinds and ours.
func Scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err) // only possible if two of these packages define the same kind differently
		}
	}
	return scheme
}

// play makes a reconciler of a function. What went wrong is tried again, and told unless it is a race that trying again
// settles.
func (f *Fleet) play(do func(context.Context, client.ObjectKey) (time.Duration, error)) reconcile.Reconciler {
	return reconcile.Func(func(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
		again, err := do(ctx, r.NamespacedName)
		switch {
		case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
			return reconcile.Result{RequeueAfter: 10 * time.Millisecond}, nil
		case err != nil && ctx.Err() == nil:
			f.tb.Logf("fleet: %s: %v", r.Name, err)
		}
		return reconcile.Result{RequeueAfter: again}, err
	})
}

// must fails the test on anything but success and what is there already.
func (f *Fleet) must(err error) {
	f.tb.Helper()
	if err != nil && !apierrors.IsAlreadyExists(err) {
		f.tb.Fatal(err)
	}
}

// sleep waits, and says whether the fleet still plays afterwards.
func (f *Fleet) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-f.ctx.Done():
		return false
	}
}

// Eventually polls until look finds nothing missing any more, and fails the test with what was missing if that takes too
// long.
func Eventually(tb testing.TB, within time.Duration, look func() (missing string)) {
	tb.Helper()
	if err := poll(tb.Context(), within, look); err != nil {
		tb.Fatal(err)
	}
}

func poll(ctx context.Context, within time.Duration, look func() string) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for missing := look(); missing != ""; missing = look() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s still: %s", within, missing)
		case <-tick.C:
		}
	}
	return nil
}
