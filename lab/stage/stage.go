// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab"
	"github.com/cni-cutover/cni-cutover/lab/app"
	"github.com/cni-cutover/cni-cutover/lab/standin/awsnode"
)

// Options say how a scene differs from the demo's.
type Options struct {
	// Nodes is how many nodes there are at the start; default 4.
	Nodes int
	// Zones hold the nodes in turn; default lab-a and lab-b.
	Zones []string
	// Install is how Cilium is put beside the VPC CNI; default Secondary.
	Install v1alpha1.InstallMode
	// Traffic is what clients do; the zero value is [DefaultTraffic].
	Traffic Traffic
	// ChartValues are further values of our chart, as helm's --set reads them.
	ChartValues []string
	// Dir keeps the control plane's files and the logs after the end; see lab.Config.
	Dir string
	// Say hears of each piece that stands, and how long it took, one at a time; nil for nobody.
	Say func(what string, took time.Duration)
}

func (o Options) complete() Options {
	o.Nodes = cmp.Or(o.Nodes, 4)
	if len(o.Zones) == 0 {
		o.Zones = []string{"lab-a", "lab-b"}
	}
	o.Install = cmp.Or(o.Install, v1alpha1.InstallSecondary)
	o.Traffic = cmp.Or(o.Traffic, DefaultTraffic())
	if o.Say == nil {
		o.Say = func(string, time.Duration) {}
	}
	return o
}

// Env is a scene that stands.
type Env struct {
	Cluster *lab.Cluster
	// Kube and Client are the cluster administrator's; Client knows this project's kinds too.
	Kube   kubernetes.Interface
	Client client.WithWatch
	// Load is what clients do; nil before [Env.StartLoad].
	Load *Load

	options Options
	saying  sync.Mutex
	root    string // of the module: bin and charts are there
}

// Up starts a cluster and sets the whole scene: the VPC CNI, the applications on it, Cilium
// beside it, our chart, and clients. No Cutover exists. On an error nothing is left.
func Up(ctx context.Context, options Options) (*Env, error) {
	e, err := Start(ctx, options)
	if err != nil {
		return nil, err
	}
	// Clients are there first: installing must not cost them anything either.
	work, setting := errgroup.WithContext(ctx)
	work.Go(func() error { return e.StartLoad(setting) })
	work.Go(func() error {
		if err := e.InstallCilium(setting); err != nil {
			return err
		}
		return e.InstallChart(setting)
	})
	if err := work.Wait(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Start starts a cluster with the VPC CNI and the applications, all pods Ready in the VPC's
// own addresses. On an error nothing is left.
func Start(ctx context.Context, options Options) (*Env, error) {
	options = options.complete()
	root, err := lab.Root()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	cluster, err := lab.Start(ctx, lab.Config{
		Nodes: options.Nodes, Zones: options.Zones, Dir: options.Dir, Images: images(root),
	})
	if err != nil {
		return nil, err
	}
	e := &Env{Cluster: cluster, Kube: cluster.Client(), options: options, root: root}
	options.Say(fmt.Sprintf("Kubernetes with %d nodes", options.Nodes), time.Since(began))
	if err := e.prepare(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// images are the archives that every node gets. Those of our own programs may be missing while
// only the rest of the scene is wanted: [Env.InstallChart] says so.
func images(root string) []string {
	var found []string
	for _, name := range []string{"standin", "app", "agent", "coordinator"} {
		path := filepath.Join(root, "bin", "images", name+".tar")
		if _, err := os.Stat(path); err == nil || name == "standin" || name == "app" {
			found = append(found, path)
		}
	}
	return found
}

func (e *Env) prepare(ctx context.Context) error {
	kinds := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(kinds), v1alpha1.AddToScheme(kinds)); err != nil {
		return fmt.Errorf("collecting the kinds: %w", err)
	}
	var err error
	if e.Client, err = client.NewWithWatch(e.Cluster.RESTConfig(), client.Options{Scheme: kinds}); err != nil {
		return fmt.Errorf("making a client of the lab's API server: %w", err)
	}
	err = e.step(ctx, "the VPC CNI on every node", func(ctx context.Context) error {
		if err := e.Apply(ctx, awsnode.Manifest()); err != nil {
			return err
		}
		if err := e.Cluster.WaitReady(ctx); err != nil {
			return err
		}
		return e.WaitDaemonSet(ctx, "kube-system", "aws-node")
	})
	if err != nil {
		return err
	}
	return e.step(ctx, "three applications in the VPC's addresses", func(ctx context.Context) error {
		if err := e.Apply(ctx, app.Manifest); err != nil {
			return err
		}
		return e.WaitApps(ctx)
	})
}

// stepWithin bounds each piece of the scene; on an idle machine none takes 30 s.
const stepWithin = 4 * time.Minute

// step does one piece of the scene and tells how long it took.
func (e *Env) step(ctx context.Context, what string, do func(context.Context) error) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, stepWithin)
	defer cancel()
	if err := do(ctx); err != nil {
		return fmt.Errorf("setting the scene, %s: %w", what, err)
	}
	e.saying.Lock()
	defer e.saying.Unlock()
	e.options.Say(what, time.Since(began))
	return nil
}

// Close ends the clients and the cluster and returns when nothing of them is left.
func (e *Env) Close() error {
	return errors.Join(e.Load.stop(), e.Cluster.Stop())
}
