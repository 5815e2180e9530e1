// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// operatorRetry is how soon a failed pass over the nodes is repeated.
const operatorRetry = time.Second

// operator gives CiliumNodes their slices. Only the holder of the lease works: two would give one
// slice twice.
type operator struct {
	kube *kubeCluster
	pool pool
	next int // where the search for a free slice goes on
	log  *slog.Logger
}

// Operator is the program cilium-operator.
func Operator(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cilium-operator", flag.ContinueOnError)
	dir := flags.String("config-dir", "/tmp/cilium/config-map", "directory with one file an option")
	identity := flags.String("identity", os.Getenv("K8S_POD_NAME"), "name of this process in the lease")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("reading the flags: %w", err)
	}
	options, err := readOptions(*dir)
	if err != nil {
		return err
	}
	mask, err := strconv.Atoi(options["cluster-pool-ipv4-mask-size"])
	if err != nil {
		return fmt.Errorf("reading cluster-pool-ipv4-mask-size: %w", err)
	}
	p, err := parsePool(options["cluster-pool-ipv4-cidr"], mask)
	if err != nil {
		return err
	}
	k, err := newKubeCluster("")
	if err != nil {
		return err
	}
	o := &operator{kube: k, pool: p, log: slog.Default()}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveOperatorHealth(ctx) })
	group.Go(func() error { return o.lead(ctx, *identity) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func serveOperatorHealth(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:9234")
	if err != nil {
		return fmt.Errorf("listening for health probes: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return serveHTTP(ctx, listener, mux)
}

// lead works while it holds the lease, and ends the process when it loses it.
func (o *operator) lead(ctx context.Context, identity string) error {
	var result error
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: systemNamespace, Name: "cilium-operator-resource-lock"},
			Client:     o.kube.core.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) { result = o.work(ctx) },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("setting up the leader election: %w", err)
	}
	elector.Run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(errors.New("the lease of the operator is lost"), result)
}

// work keeps every CiliumNode supplied until ctx ends.
func (o *operator) work(ctx context.Context) error {
	dyn := dynamicinformer.NewDynamicSharedInformerFactory(o.kube.dyn, resync)
	core := informers.NewSharedInformerFactory(o.kube.core, resync)
	members, nodes := dyn.ForResource(ciliumNodes()), core.Core().V1().Nodes()
	signal := make(chan struct{}, 1)
	poke := func() {
		select {
		case signal <- struct{}{}:
		default:
		}
	}
	for _, informer := range []cache.SharedIndexInformer{members.Informer(), nodes.Informer()} {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { poke() }, UpdateFunc: func(any, any) { poke() }, DeleteFunc: func(any) { poke() },
		})
		if err != nil {
			return fmt.Errorf("watching the nodes: %w", err)
		}
	}
	dyn.Start(ctx.Done())
	core.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), members.Informer().HasSynced, nodes.Informer().HasSynced) {
		return ctx.Err()
	}
	for {
		var again <-chan time.Time
		if err := o.pass(ctx, nodes.Lister()); err != nil {
			o.log.Error("supplying the nodes", "err", err)
			again = time.After(operatorRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-signal:
		case <-again:
		}
	}
}

// pass looks at all CiliumNodes once, as the server has them now: a cache may not know yet which
// slices the pass before gave.
func (o *operator) pass(ctx context.Context, nodes corelisters.NodeLister) error {
	list, err := o.kube.dyn.Resource(ciliumNodes()).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing CiliumNodes: %w", err)
	}
	var members []member
	versions := map[string]string{}
	for i := range list.Items {
		node, err := fromUnstructured(&list.Items[i])
		if err != nil {
			return err
		}
		gone, err := o.deleteOrphan(ctx, nodes, node)
		if err != nil {
			return err
		}
		if gone {
			continue
		}
		versions[node.Name] = node.ResourceVersion
		m := member{name: node.Name, created: node.CreationTimestamp.Time}
		for _, text := range node.Spec.IPAM.PodCIDRs {
			cidr, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("reading a pod CIDR of CiliumNode %s: %w", node.Name, err)
			}
			m.slices = append(m.slices, cidr)
		}
		members = append(members, m)
	}
	given, next, full := assign(o.pool, members, o.next)
	for _, a := range given {
		if err := o.give(ctx, a, versions[a.name]); err != nil {
			return err
		}
	}
	o.next = next
	if full {
		return fmt.Errorf("giving every node a slice: the pool %s has none of /%d left; a larger pool is needed", o.pool.cidr, o.pool.mask)
	}
	return nil
}

func (o *operator) give(ctx context.Context, a assignment, version string) error {
	raw, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": version},
		"spec":     map[string]any{"ipam": map[string]any{"podCIDRs": []string{a.slice.String()}}},
	})
	if err != nil {
		return fmt.Errorf("writing a patch: %w", err)
	}
	if _, err := o.kube.dyn.Resource(ciliumNodes()).Patch(ctx, a.name, types.MergePatchType, raw, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("giving %s to CiliumNode %s: %w", a.slice, a.name, err)
	}
	o.log.Info("gave a slice", "node", a.name, "slice", a.slice)
	return nil
}

// deleteOrphan deletes a CiliumNode whose Node does not exist. A Node that the cache does not have
// is asked for: its agent may have registered it before the cache saw it.
func (o *operator) deleteOrphan(ctx context.Context, nodes corelisters.NodeLister, node ciliumNode) (bool, error) {
	if _, err := nodes.Get(node.Name); err == nil {
		return false, nil
	}
	_, err := o.kube.core.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
	if err == nil {
		return false, nil
	}
	if !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("looking for Node %s: %w", node.Name, err)
	}
	uid := node.UID
	err = o.kube.dyn.Resource(ciliumNodes()).Delete(ctx, node.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("deleting CiliumNode %s, whose Node is gone: %w", node.Name, err)
	}
	o.log.Info("deleted a CiliumNode whose Node is gone", "node", node.Name)
	return true, nil
}
