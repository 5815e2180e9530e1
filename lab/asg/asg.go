// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package asg is the lab's autoscaling groups, and the tool of the people who own them: what
// replacement type External of a Cutover hands a drained node to. It answers the coordinator's
// two annotations on a Node:
//
//   - cni-cutover.dev/replace: the node's instance is terminated;
//   - cni-cutover.dev/surge: its group may have one more instance until that one is terminated.
//
// A group is the nodes of one zone and node group. It starts a fresh instance for each one that
// it lacks, also for one that vanished without being asked for, as a spot instance does.
package asg

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab"
)

// LabelGroup is the label that names a node's group in EKS.
const LabelGroup = "eks.amazonaws.com/nodegroup"

// Machines starts and ends instances. An added one's Node exists when AddNode returns; a
// terminated one's does not when Terminate returns. lab.Cluster is one.
type Machines interface {
	AddNode(ctx context.Context, options lab.NodeOptions) (lab.Host, error)
	Terminate(ctx context.Context, name string) error
}

// Groups are the autoscaling groups of a cluster. The zero values of Every and Say will do.
type Groups struct {
	Nodes    client.Reader
	Machines Machines
	// Every is the time between two looks at the nodes; default 250 ms.
	Every time.Duration
	// Say hears of every instance that is started or ended; nil for nobody.
	Say func(what string)
}

// place is what an autoscaling group is tied to.
type place struct{ zone, group string }

// capacity is how many instances each group should have.
type capacity struct {
	desired map[place]int
	surged  map[types.UID]bool // nodes that one more instance was granted for
}

// Run keeps the groups at the size they have now until ctx ends, which is no error.
func (g Groups) Run(ctx context.Context) error {
	if g.Every == 0 {
		g.Every = 250 * time.Millisecond
	}
	if g.Say == nil {
		g.Say = func(string) {}
	}
	var nodes corev1.NodeList
	if err := g.Nodes.List(ctx, &nodes); err != nil {
		return fmt.Errorf("listing the nodes of the autoscaling groups: %w", err)
	}
	c := capacity{desired: count(nodes.Items), surged: map[types.UID]bool{}}
	tick := time.NewTicker(g.Every)
	defer tick.Stop()
	for {
		if err := g.look(ctx, c); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look does all that the nodes ask for now and returns when it is done.
func (g Groups) look(ctx context.Context, c capacity) error {
	var nodes corev1.NodeList
	if err := g.Nodes.List(ctx, &nodes); err != nil {
		return fmt.Errorf("listing the nodes of the autoscaling groups: %w", err)
	}
	terminate, start := c.decide(nodes.Items)
	work, ctx := errgroup.WithContext(ctx)
	for _, name := range terminate {
		work.Go(func() error {
			g.Say("terminates " + name)
			return g.Machines.Terminate(ctx, name)
		})
	}
	// A fresh instance does not wait for the old one's end, as in EC2.
	for at, missing := range start {
		for range missing {
			work.Go(func() error {
				host, err := g.Machines.AddNode(ctx, lab.NodeOptions{Zone: at.zone, NodeGroup: at.group})
				if err == nil {
					g.Say("started " + host.Name + " in " + at.zone)
				}
				return err
			})
		}
	}
	if err := work.Wait(); err != nil {
		return fmt.Errorf("resizing the autoscaling groups: %w", err)
	}
	return nil
}

// decide is pure but for c, which learns of surges: which nodes to end, and how many to start where.
func (c capacity) decide(nodes []corev1.Node) (terminate []string, start map[place]int) {
	var staying []corev1.Node
	for _, node := range nodes {
		if _, asked := node.Annotations[v1alpha1.AnnotationSurge]; asked && !c.surged[node.UID] {
			c.surged[node.UID] = true
			c.desired[placeOf(node)]++
		}
		if _, asked := node.Annotations[v1alpha1.AnnotationReplace]; !asked {
			staying = append(staying, node)
			continue
		}
		terminate = append(terminate, node.Name)
		if c.surged[node.UID] {
			delete(c.surged, node.UID)
			c.desired[placeOf(node)]--
		}
	}
	start = map[place]int{}
	have := count(staying)
	for at, desired := range c.desired {
		if missing := desired - have[at]; missing > 0 {
			start[at] = missing
		}
	}
	return terminate, start
}

func count(nodes []corev1.Node) map[place]int {
	counts := map[place]int{}
	for _, node := range nodes {
		counts[placeOf(node)]++
	}
	return counts
}

func placeOf(node corev1.Node) place {
	return place{zone: node.Labels[corev1.LabelTopologyZone], group: node.Labels[LabelGroup]}
}
