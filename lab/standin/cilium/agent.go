// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/datapath"
)

// cluster is what an agent needs of the world beyond its node.
type cluster interface {
	// join makes the node known and returns it once it has a slice of the pool. Router and Health
	// are the addresses that an agent before this one announced, if any.
	join(ctx context.Context) (datapath.Node, error)
	// announce publishes the node's addresses.
	announce(ctx context.Context, self datapath.Node) error
	// watch calls changed with all other nodes, first once they are known, then on every change, until ctx ends.
	watch(ctx context.Context, changed func([]datapath.Node)) error
}

// agent is one running agent. Fields are set in the order of the steps of run.
type agent struct {
	settings settings
	cluster  cluster
	log      *slog.Logger
	registry *registry
	datapath *datapath.Datapath
	self     datapath.Node
	prober   *prober
	ready    chan struct{} // closed when the programs are attached
}

// Agent is the program cilium-agent: without a command the agent itself, and the two steps of its
// pod's init containers, `build-config` and `install-cni`.
func Agent(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "build-config":
			return buildConfig(ctx, args[1:])
		case "install-cni":
			return installPlugin(args[1:])
		}
	}
	s, err := parseSettings(args)
	if err != nil {
		return err
	}
	c, err := newKubeCluster(s.node)
	if err != nil {
		return err
	}
	return (&agent{settings: s, cluster: c, log: slog.Default().With("node", s.node)}).run(ctx)
}

// run goes through the agent's start in the order of the original, with its early conflist and its
// late programs, and then follows the peers. When it ends everything on the node stays.
func (a *agent) run(ctx context.Context) error {
	a.ready = make(chan struct{})
	var err error
	if a.registry, err = openRegistry(a.settings.runDir); err != nil {
		return err
	}
	a.datapath, err = datapath.Open(datapath.Config{
		BPFRoot: a.settings.bpfRoot, HostRoot: a.settings.hostRoot, Devices: a.settings.devices,
		TunnelPort: a.settings.tunnelPort, HostID: a.registry.hostID(),
	})
	if err != nil {
		return err
	}
	defer a.datapath.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.beat(ctx) })
	group.Go(func() error { return a.start(ctx, group) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	a.log.Info("agent ended; the data path stays")
	return nil
}

func (a *agent) start(ctx context.Context, group *errgroup.Group) error {
	if path := a.settings.conflist; path != "" {
		if err := writeConflist(path); err != nil {
			return err
		}
		a.log.Info("wrote the CNI configuration", "path", path)
		if a.settings.exclusive {
			group.Go(func() error { return guardConflist(ctx, path) })
		}
	}
	a.log.Info("waiting for a slice of the pool")
	self, err := a.cluster.join(ctx)
	if err != nil {
		return err
	}
	if err := a.takeAddresses(self); err != nil {
		return err
	}
	socket := filepath.Join(a.settings.runDir, "cilium.sock")
	group.Go(func() error { return listenUnix(ctx, socket, a.api()) })
	group.Go(func() error { return serveLocalHealth(ctx) })
	group.Go(func() error { return serveHostHealth(ctx, a.self.IP) })
	if err := a.cluster.announce(ctx, a.self); err != nil {
		return err
	}
	select {
	case <-time.After(a.settings.slowDatapath):
	case <-ctx.Done():
		return ctx.Err()
	}
	a.prober = newProber(a.self.Name)
	peers := make(chan []datapath.Node, 1)
	group.Go(func() error { return a.cluster.watch(ctx, latest(peers)) })
	return a.follow(ctx, group, peers)
}

// takeAddresses chooses router and health addresses, keeping those of the agent before.
func (a *agent) takeAddresses(self datapath.Node) error {
	slice := self.PodCIDR[0]
	var err error
	a.registry.open(slice)
	if self.Router, err = a.registry.allocate(routerOwner, self.Router); err != nil {
		return err
	}
	if self.Health, err = a.registry.allocate(healthOwner, self.Health); err != nil {
		return err
	}
	a.self = self
	return nil
}

// follow installs the data path with the first set of peers and then keeps up with them.
func (a *agent) follow(ctx context.Context, group *errgroup.Group, peers <-chan []datapath.Node) error {
	installed := false
	for {
		var now []datapath.Node
		select {
		case <-ctx.Done():
			return nil
		case now = <-peers:
		}
		a.prober.probe(append(slices.Clone(now), a.self))
		if installed {
			// An agent that ended here would come back and repair what somebody broke to see it broken.
			if err := a.datapath.SetPeers(now); err != nil {
				a.log.Error("following the peers; tried again at their next change", "err", err)
			}
			continue
		}
		if err := a.install(ctx, group, now); err != nil {
			return err
		}
		installed = true
		close(a.ready)
		a.log.Info("the data path is ready", "slice", a.self.PodCIDR[0], "router", a.self.Router, "peers", len(now))
	}
}

func (a *agent) install(ctx context.Context, group *errgroup.Group, peers []datapath.Node) error {
	if err := writeAlignChecker(a.settings.runDir); err != nil {
		return err
	}
	restored, gone := a.survivors()
	if err := a.datapath.Install(ctx, a.self, peers, restored); err != nil {
		return err
	}
	for owner, ep := range gone {
		if err := a.datapath.RemoveEndpoint(ep); err != nil {
			return err
		}
		if owner != healthOwner { // its address is taken for the new one
			if err := a.registry.release(owner); err != nil {
				return err
			}
		}
	}
	device, route := a.datapath.MTU()
	health, err := startHealth(a.self.Health, a.self.Router, device, route)
	if err != nil {
		return err
	}
	group.Go(func() error { return serveHTTP(ctx, health.listener, helloHandler()) })
	if _, err := a.addEndpoint(healthOwner, health.endpoint); err != nil {
		return err
	}
	socket := filepath.Join(a.settings.runDir, "health.sock")
	group.Go(func() error { return listenUnix(ctx, socket, a.prober.api()) })
	group.Go(func() error { return a.prober.run(ctx) })
	group.Go(func() error {
		return a.datapath.WatchDevices(ctx, func(err error) { a.log.Error("following the native devices", "err", err) })
	})
	return nil
}

// survivors divides the endpoints of the agent before by whether their interface is still there.
func (a *agent) survivors() (alive []datapath.Endpoint, gone map[string]datapath.Endpoint) {
	gone = map[string]datapath.Endpoint{}
	for owner, ep := range a.registry.all() {
		l, err := netlink.LinkByName(ep.Interface)
		if owner != healthOwner && err == nil && l.Attrs().Index == ep.IfIndex {
			alive = append(alive, ep)
		} else {
			gone[owner] = ep
		}
	}
	return alive, gone
}

func (a *agent) addEndpoint(owner string, ep datapath.Endpoint) (datapath.Endpoint, error) {
	ep, err := a.registry.complete(owner, ep)
	if err != nil {
		return datapath.Endpoint{}, err
	}
	if err := a.datapath.AddEndpoint(ep); err != nil {
		return datapath.Endpoint{}, err
	}
	a.log.Info("endpoint", "id", ep.ID, "name", ep.Name, "ip", ep.IP, "interface", ep.Interface)
	return ep, nil
}

// removeEndpoint takes the endpoint out of the data path before its address is free for another.
func (a *agent) removeEndpoint(owner string) error {
	if ep, known := a.registry.find(owner); known {
		if err := a.datapath.RemoveEndpoint(ep); err != nil {
			return err
		}
	}
	return a.registry.release(owner)
}

// beat writes the sign of life every second, as the original does, from the first moment on.
func (a *agent) beat(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		if err := a.datapath.Beat(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// latest returns a function that puts a value into a channel of capacity one, in place of one that
// nobody has taken yet. One goroutine at a time may call it.
func latest[T any](ch chan T) func(T) {
	return func(value T) {
		select {
		case <-ch:
		default:
		}
		ch <- value
	}
}
