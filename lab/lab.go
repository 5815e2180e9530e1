// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package lab runs a real Kubernetes cluster on one machine, for tests and for the demo:
// real API server, controllers, scheduler, kubelets, containerd and kube-proxies, each node
// a machine made of namespaces, in a network that behaves like an Amazon VPC. There is no
// CNI plugin in it: a node is NotReady until somebody writes a conflist.
//
// A program that uses the lab calls Main first thing in main or TestMain. Nothing of a lab
// outlives its owner, not even an owner that is killed with SIGKILL: see package guardian.
// It needs root, containerd, runc and iptables; lab/build installs and builds what is missing.
package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cni-cutover/cni-cutover/lab/guardian"
	"github.com/cni-cutover/cni-cutover/lab/machine"
	"github.com/cni-cutover/cni-cutover/lab/supervisor"
	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

// Main takes over the process if it is one that the lab started by executing the calling
// program again; otherwise it returns at once.
func Main() {
	switch os.Args[0] {
	case guardian.Arg0:
		guardian.Main(os.Args)
	case guardian.SupervisorArg0:
		supervisor.Main(os.Args)
	case machine.Arg0:
		machine.Main(os.Args)
	}
}

// Config says what lab to start.
type Config struct {
	// Nodes is how many nodes there are at the start. They are spread over Zones in turn.
	Nodes int
	Zones []string // default lab-a
	// Images are archives (docker save or OCI layout, tar) imported into every node, also
	// into those that join later. Nodes never pull: use imagePullPolicy Never or IfNotPresent.
	Images []string
	// Node is what every node added by Start is like, but for its zone.
	Node NodeOptions
	// MTU of the VPC's interfaces in bytes; default vpc.MTU, as in AWS.
	MTU int
	// Dir keeps the control plane's files and the logs after the lab has ended. By default
	// they are in a temporary directory that goes with it.
	Dir string
	// Bin is the directory that lab/build fills; default bin in the module's root.
	Bin string
}

// NodeOptions say how a node differs from the ordinary one.
type NodeOptions = supervisor.NodeOptions

// Host is a machine of the lab: a node, or one of ControlPlane and Client.
type Host = supervisor.Host

// Names of the machines that are no nodes.
const (
	ControlPlane = supervisor.ControlPlane
	Client       = supervisor.Client
)

// Cluster is a running lab.
type Cluster struct {
	state  string // the supervisor's state directory
	dir    string // control plane and logs
	conn   *supervisor.Conn
	config *rest.Config
	client kubernetes.Interface
	zones  []string

	guardian *guardian.Process // nil in a cluster that was attached to

	mu    sync.Mutex
	added int
}

// Start starts a lab and returns when its API server is ready and its nodes have
// registered; they are not Ready without a CNI plugin. On an error nothing is left.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	if err := guardian.Sweep(); err != nil {
		return nil, fmt.Errorf("removing what an earlier lab left: %w", err)
	}
	bin, err := findBin(config.Bin)
	if err != nil {
		return nil, err
	}
	images, err := absolute(config.Images)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the API server: %w", err)
	}
	defer listener.Close()
	passed, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, fmt.Errorf("listening for the API server: %w", err)
	}
	defer passed.Close()
	dir := config.Dir
	if dir != "" {
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, fmt.Errorf("finding the lab's directory: %w", err)
		}
	}
	order := supervisor.Order{
		Dir: dir, Bin: bin, MTU: cmp.Or(config.MTU, vpc.MTU), Images: images,
		APIServer: "https://" + listener.Addr().String(),
	}
	process, err := guardian.Start(order, passed)
	if err != nil {
		return nil, err
	}
	c := &Cluster{state: process.Dir, dir: cmp.Or(dir, process.Dir), guardian: process, zones: config.Zones}
	if len(c.zones) == 0 {
		c.zones = []string{"lab-a"}
	}
	if err := c.boot(ctx, config); err != nil {
		stopped := c.Stop()
		return nil, errors.Join(fmt.Errorf("starting the lab: %w", err), stopped, fmt.Errorf("the lab's own log:\n%s", process.Said()))
	}
	return c, nil
}

func (c *Cluster) boot(ctx context.Context, config Config) error {
	conn, err := supervisor.Connect(ctx, c.state, c.guardian.Done())
	if err != nil {
		return err
	}
	if err := c.use(conn); err != nil {
		return err
	}
	if err := writeState(c); err != nil {
		return err
	}
	nodes := make([]NodeOptions, config.Nodes)
	for i := range nodes {
		nodes[i] = config.Node
	}
	if _, err := c.addAll(ctx, nodes); err != nil {
		return err
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	return c.deployKubeProxy(ctx)
}

func (c *Cluster) use(conn *supervisor.Conn) error {
	c.conn = conn
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return fmt.Errorf("reading the lab's kubeconfig: %w", err)
	}
	config.QPS, config.Burst = 200, 400
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client of the lab's API server: %w", err)
	}
	c.config, c.client = config, client
	return nil
}

// ready waits until the API server says it is.
func (c *Cluster) ready(ctx context.Context) error {
	var last error
	for {
		if _, last = c.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the API server (log in %s): %w", filepath.Join(c.Logs(), ControlPlane), last)
		case <-c.guardian.Done():
			return errors.New("waiting for the API server: the lab has ended")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Stop ends the lab and returns when nothing of it is left.
func (c *Cluster) Stop() error {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	if c.guardian == nil {
		return nil
	}
	return c.guardian.Stop()
}

// Kubeconfig is the path of a cluster administrator's kubeconfig for processes of the real
// machine: it reaches the API server through a port of the loopback address.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.dir, supervisor.Kubeconfig) }

// RESTConfig is the same for client-go. The caller gets a copy.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// Client is a clientset of the cluster's administrator.
func (c *Cluster) Client() kubernetes.Interface { return c.client }

// AuditLog is the path of the API server's audit log: one audit.k8s.io/v1 event a line.
func (c *Cluster) AuditLog() string { return filepath.Join(c.dir, supervisor.AuditLog) }

// Logs is a directory with one directory per machine and one file per program in it.
func (c *Cluster) Logs() string { return filepath.Join(c.dir, supervisor.LogDir) }

func absolute(paths []string) ([]string, error) {
	var all []string
	for _, path := range paths {
		path, err := filepath.Abs(path)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return nil, fmt.Errorf("finding an image archive: %w", err)
		}
		all = append(all, path)
	}
	return all, nil
}

// Root finds the module's root: the directory, the current one or one above it, that has
// lab/build.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for the module's root: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "lab", "build")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("looking for the module's root: no directory above the current one has lab/build: start from within the module")
		}
		dir = filepath.Dir(dir)
	}
}

// findBin finds the directory of the lab's programs and checks that they are there.
func findBin(bin string) (string, error) {
	if bin == "" {
		root, err := Root()
		if err != nil {
			return "", err
		}
		bin = filepath.Join(root, "bin")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return "", fmt.Errorf("looking for bin: %w", err)
	}
	for _, name := range []string{"lab-kube", "pause.tar", "inroot.tar", "cni/host-local"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return "", fmt.Errorf("looking for the lab's programs: %w: run lab/build", err)
		}
	}
	return bin, nil
}
