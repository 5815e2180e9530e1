// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Hosts lists the machines, nodes first, in the order of their numbers.
func (c *Cluster) Hosts(ctx context.Context) ([]Host, error) { return c.conn.Hosts(ctx) }

// Nodes lists the machines that are nodes, in the order of their numbers.
func (c *Cluster) Nodes(ctx context.Context) ([]Host, error) {
	hosts, err := c.Hosts(ctx)
	return slices.DeleteFunc(hosts, func(h Host) bool { return !h.Node }), err
}

// Host finds a machine by name.
func (c *Cluster) Host(ctx context.Context, name string) (Host, error) {
	hosts, err := c.Hosts(ctx)
	if err != nil {
		return Host{}, err
	}
	var names []string
	for _, host := range hosts {
		if host.Name == name {
			return host, nil
		}
		names = append(names, host.Name)
	}
	return Host{}, fmt.Errorf("looking for machine %q: the lab has %q", name, names)
}

// AddNode starts a node under a name never used before and returns when its Node object is
// there. Without a zone it gets the next one in turn.
func (c *Cluster) AddNode(ctx context.Context, options NodeOptions) (Host, error) {
	hosts, err := c.addAll(ctx, []NodeOptions{options})
	if err != nil {
		return Host{}, err
	}
	return hosts[0], nil
}

func (c *Cluster) addAll(ctx context.Context, nodes []NodeOptions) ([]Host, error) {
	for i := range nodes {
		if nodes[i].Zone == "" {
			nodes[i].Zone = c.nextZone()
		}
	}
	hosts, err := c.conn.AddNodes(ctx, nodes)
	for i := 0; err == nil && i < len(hosts); i++ {
		err = c.registered(ctx, hosts[i])
	}
	return hosts, err
}

func (c *Cluster) nextZone() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added++
	return c.zones[(c.added-1)%len(c.zones)]
}

// registered waits for a node's object.
func (c *Cluster) registered(ctx context.Context, host Host) error {
	for {
		_, err := c.client.CoreV1().Nodes().Get(ctx, host.Name, metav1.GetOptions{})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for node %s to register (logs in %s): %w", host.Name, host.Logs, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Terminate ends a node as the termination of its instance does: at once, without a drain.
// Then its Node object is deleted, as the cloud's node controller would.
func (c *Cluster) Terminate(ctx context.Context, name string) error {
	if err := c.conn.Terminate(ctx, name); err != nil {
		return err
	}
	err := c.client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting the Node of terminated %s: %w", name, err)
	}
	return nil
}

// Replace does what an autoscaling group does with a terminated instance: the node goes,
// and a fresh one joins in the same zone and node group.
func (c *Cluster) Replace(ctx context.Context, name string, options NodeOptions) (Host, error) {
	old, err := c.Host(ctx, name)
	if err != nil {
		return Host{}, err
	}
	if err := c.Terminate(ctx, name); err != nil {
		return Host{}, err
	}
	options.Zone = cmp.Or(options.Zone, old.Instance.Zone)
	options.NodeGroup = cmp.Or(options.NodeGroup, old.NodeGroup)
	return c.AddNode(ctx, options)
}

// WaitReady waits until the named nodes are Ready, or every node of the cluster when none
// is named.
func (c *Cluster) WaitReady(ctx context.Context, names ...string) error {
	for {
		waiting, err := c.unready(ctx, names)
		if err == nil && len(waiting) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waiting for nodes to be Ready: %q are not: %w", waiting, ctx.Err()), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *Cluster) unready(ctx context.Context, names []string) ([]string, error) {
	list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	ready := map[string]bool{}
	for _, n := range list.Items {
		ready[n.Name] = slices.ContainsFunc(n.Status.Conditions, func(condition corev1.NodeCondition) bool {
			return condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue
		})
		if names == nil && !ready[n.Name] {
			return []string{n.Name}, nil
		}
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return ready[name] }), nil
}
