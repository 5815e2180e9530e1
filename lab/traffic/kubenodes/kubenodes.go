// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package kubenodes tells the balancer which Nodes of a Kubernetes cluster are
// targets, by the rules of the AWS Load Balancer Controller for instance
// targets. As there, being cordoned does not matter.
package kubenodes

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/cni-cutover/cni-cutover/lab/traffic/balancer"
)

// Taints that take a node out of the load balancer: whoever sets one is about
// to delete it. (aws-load-balancer-controller, pkg/backend/endpoint_utils.go)
const (
	taintClusterAutoscaler = "ToBeDeletedByClusterAutoscaler"
	taintKarpenter         = "karpenter.sh/disrupted"
)

// Source is a [balancer.NodeSource] that watches the Nodes of Client's cluster.
// While the API server is away it keeps quiet and the last known nodes stand,
// as the controller it imitates does.
type Source struct {
	Client kubernetes.Interface
}

// Watch implements [balancer.NodeSource]. It returns an error only if the
// watch can not be set up at all.
func (s Source) Watch(ctx context.Context, changed func([]balancer.Node)) error {
	factory := informers.NewSharedInformerFactory(s.Client, 0)
	nodes := factory.Core().V1().Nodes()
	// One slot: a burst of events becomes one look at the cache, after the last.
	stale := make(chan struct{}, 1)
	touch := func() {
		select {
		case stale <- struct{}{}:
		default:
		}
	}
	registration, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { touch() },
		UpdateFunc: func(any, any) { touch() },
		DeleteFunc: func(any) { touch() },
	})
	if err != nil {
		return fmt.Errorf("subscribing to node events: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return nil // ctx ended first
	}
	touch() // a cluster without nodes is news too
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-stale:
		}
		all, err := nodes.Lister().List(labels.Everything())
		if err != nil {
			return fmt.Errorf("listing nodes from the cache: %w", err)
		}
		changed(eligible(all))
	}
}

// eligible are the targets among nodes, by name.
func eligible(nodes []*corev1.Node) []balancer.Node {
	var targets []balancer.Node
	for _, node := range nodes {
		if address := internalIP(node); address != "" && isTarget(node) {
			targets = append(targets, balancer.Node{ID: string(node.UID), Name: node.Name, Address: address})
		}
	}
	slices.SortFunc(targets, func(a, b balancer.Node) int { return strings.Compare(a.Name, b.Name) })
	return targets
}

// isTarget says whether the load balancer controller would register node.
func isTarget(node *corev1.Node) bool {
	if _, excluded := node.Labels[corev1.LabelNodeExcludeBalancers]; excluded {
		return false
	}
	for _, taint := range node.Spec.Taints {
		if taint.Key == taintClusterAutoscaler || taint.Key == taintKarpenter && taint.Effect == corev1.TaintEffectNoSchedule {
			return false
		}
	}
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// internalIP is the address that node ports are reached at; "" if there is none yet.
func internalIP(node *corev1.Node) string {
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return address.Address
		}
	}
	return ""
}
