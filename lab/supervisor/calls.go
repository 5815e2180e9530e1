// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/cni-cutover/cni-cutover/lab/machine"
	"github.com/cni-cutover/cni-cutover/lab/node"
	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

// calls is what net/rpc sees of the supervisor.
type calls struct{ s *supervisor }

// AddNodes starts nodes, side by side.
func (c *calls) AddNodes(nodes []NodeOptions, hosts *[]Host) error {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	first := c.s.reserve(len(nodes))
	*hosts = make([]Host, len(nodes))
	group, ctx := errgroup.WithContext(ctx)
	for i, options := range nodes {
		group.Go(func() (err error) {
			(*hosts)[i], err = c.s.addNode(ctx, first+i, options)
			return err
		})
	}
	return group.Wait()
}

// Terminate ends a node.
func (c *calls) Terminate(name string, _ *Nothing) error { return c.s.terminate(name) }

// Hosts lists the machines.
func (c *calls) Hosts(_ Nothing, hosts *[]Host) error {
	*hosts = c.s.hosts()
	return nil
}

// reserve takes n numbers, which are never used twice: a new node is never taken for an old
// one. It returns the first.
func (s *supervisor) reserve(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.numbers += n
	return s.numbers - n + 1
}

func (s *supervisor) addNode(ctx context.Context, number int, options NodeOptions) (Host, error) {
	enis, err := vpc.NodeInterfaces(number)
	if err != nil {
		return Host{}, err
	}
	name := fmt.Sprintf("node-%d", number)
	config := node.Config{
		Name: name, Bin: s.order.Bin, Images: s.order.Images, CgroupV1: s.cgroupV1,
		Server: "https://" + apiServer, Labels: options.Labels,
		NodeGroup: cmp.Or(options.NodeGroup, "workers"), MaxPods: cmp.Or(options.MaxPods, 110),
		BootID: uuid.NewString(), MachineID: strings.ReplaceAll(uuid.NewString(), "-", ""),
		Credentials: filepath.Join(s.state, "credentials", name),
		Instance: vpc.Instance{
			ID: node.InstanceID(uuid.NewString()), Type: cmp.Or(options.InstanceType, "m5.large"), Region: "lab",
			Zone: cmp.Or(options.Zone, "lab-a"), VPCCIDRs: []netip.Prefix{vpc.CIDR()}, Interfaces: enis,
		},
	}
	if err := s.issue(ctx, config); err != nil {
		return Host{}, err
	}
	spec, err := node.Complete(config, machine.Spec{})
	if err != nil {
		return Host{}, err
	}
	return s.start(ctx, spec, config.Instance, config.NodeGroup)
}

// issue makes the node's certificates and kubeconfigs.
func (s *supervisor) issue(ctx context.Context, c node.Config) error {
	output, err := exec.CommandContext(ctx, filepath.Join(s.order.Bin, "lab-kube"), "node-credentials",
		"--dir="+filepath.Join(s.order.Dir, ControlPlaneDir), "--node="+c.Name,
		"--ip="+c.Instance.Interfaces[0].Primary.String(), "--server="+c.Server, "--out="+c.Credentials).CombinedOutput()
	if err != nil {
		return fmt.Errorf("issuing the credentials of %s: %w: %s", c.Name, err, output)
	}
	return nil
}

func (s *supervisor) terminate(name string) error {
	s.mu.Lock()
	r, ok := s.machines[name]
	if ok && r.host.Node {
		delete(s.machines, name)
	}
	s.mu.Unlock()
	if !ok || !r.host.Node {
		return fmt.Errorf("terminating %s: there is no node of that name; nodes are %s", name, s.nodeNames())
	}
	return errors.Join(
		s.router.Detach(r.host.Instance.Interfaces),
		r.machine.Stop(),
		os.RemoveAll(filepath.Join(s.state, "credentials", name)),
	)
}

func (s *supervisor) hosts() []Host {
	s.mu.Lock()
	defer s.mu.Unlock()
	var nodes, others []Host
	for _, r := range s.machines {
		if r.host.Node {
			nodes = append(nodes, r.host)
		} else {
			others = append(others, r.host)
		}
	}
	byAddress := func(a, b Host) int {
		return a.Instance.Interfaces[0].Primary.Compare(b.Instance.Interfaces[0].Primary)
	}
	slices.SortFunc(nodes, byAddress)
	slices.SortFunc(others, byAddress)
	return append(nodes, others...)
}

func (s *supervisor) nodeNames() string {
	var names []string
	for _, host := range s.hosts() {
		if host.Node {
			names = append(names, host.Name)
		}
	}
	return strings.Join(names, ", ")
}
