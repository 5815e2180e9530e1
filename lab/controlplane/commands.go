// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/cni-cutover/cni-cutover/lab/controlplane/pki"
	"github.com/cni-cutover/cni-cutover/lab/controlplane/servers"
)

// runServers runs the servers named until SIGTERM or SIGINT; a second signal ends the process at once.
func runServers(names []string) int {
	options, err := serverOptions(names, os.Args)
	if errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	if err != nil {
		return fail(err)
	}
	ctx, release := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, release)
	if err := servers.Run(ctx, options, func() { fmt.Println("ready") }); err != nil {
		return fail(err)
	}
	return 0
}

func serverOptions(names, args []string) (servers.Options, error) {
	o := servers.Options{Servers: names}
	fs := pflag.NewFlagSet(args[0], pflag.ContinueOnError)
	dir := fs.String("dir", "", "directory for everything that is written")
	fs.TextVar(&o.Bind, "bind", netip.MustParseAddrPort("127.0.0.1:6443"), "address and port the API server listens on; port 0 takes a free one")
	fs.TextVar(&o.Advertise, "advertise", netip.MustParseAddr("127.0.0.1"), "endpoint of the kubernetes Service; none when it is a loopback address")
	fs.TextVar(&o.ServiceCIDR, "service-cidr", netip.MustParsePrefix("10.96.0.0/16"), "range of Service addresses")
	fs.StringVar(&o.AdminServer, "kubeconfig-server", "", "server URL in admin.kubeconfig (default https://<bind address>)")
	fs.StringVar(&o.FeatureGates, "feature-gates", "", "feature gates of all servers, A=true,B=false")
	fs.Uint32VarP(&o.Verbosity, "v", "v", 0, "log level of the Kubernetes servers")
	fs.StringArrayVar(&o.APIServerFlags, "apiserver-flag", nil, "a further flag of kube-apiserver, --name=value; may be repeated")
	fs.StringArrayVar(&o.ControllerManagerFlags, "controller-manager-flag", nil, "a further flag of kube-controller-manager; may be repeated")
	fs.StringArrayVar(&o.SchedulerFlags, "scheduler-flag", nil, "a further flag of kube-scheduler; may be repeated")
	if err := parse(fs, args); err != nil || *dir == "" {
		return o, err
	}
	abs, err := filepath.Abs(*dir)
	if err != nil {
		return o, fmt.Errorf("making --dir absolute: %w", err)
	}
	o.Dir = pki.Dir(abs)
	return o, nil
}

// runNodeCredentials writes what one node needs to join.
func runNodeCredentials() int {
	fs := pflag.NewFlagSet(os.Args[0], pflag.ContinueOnError)
	dir := fs.String("dir", "", "directory of the control plane")
	out := fs.String("out", "", "directory to write into; created when missing")
	var node pki.Node
	fs.StringVar(&node.Name, "node", "", "name of the node")
	fs.IPSliceVar(&node.IPs, "ip", nil, "address of the node, for the kubelet's serving certificate; may be repeated")
	fs.StringVar(&node.Server, "server", "", "URL under which the node reaches the API server")
	err := parse(fs, os.Args)
	if errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	if err == nil {
		err = writeNodeCredentials(pki.Dir(*dir), node, *out)
	}
	if err != nil {
		return fail(err)
	}
	return 0
}

func writeNodeCredentials(dir pki.Dir, node pki.Node, out string) error {
	if dir == "" || out == "" || node.Name == "" || node.Server == "" || len(node.IPs) == 0 {
		return errors.New("--dir, --out, --node, --ip and --server are all needed: without the address the API server cannot verify the kubelet it dials")
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return fmt.Errorf("creating the directory of the node's credentials: %w", err)
	}
	return pki.WriteNode(dir, node, out)
}

func parse(fs *pflag.FlagSet, args []string) error {
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q is not a flag, and %s takes flags only", fs.Arg(0), args[0])
	}
	return nil
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "lab-kube:", err)
	return 1
}
