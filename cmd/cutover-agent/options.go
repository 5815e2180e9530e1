// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// options are the flags that both commands share.
type options struct {
	node       string
	kubeconfig string
	host       facts.Host
	interval   time.Duration
	off        []string

	overlay []string
	port    int
	install string
	legacy  string
}

func (o *options) flags(f *pflag.FlagSet) {
	f.StringVar(&o.node, "node-name", os.Getenv("NODE_NAME"), "name of this node's Node object (default: $NODE_NAME, then the host name)")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig to reach the API server with (default: $KUBECONFIG, then the pod's service account)")
	f.StringVar(&o.host.Root, "host-root", "/", "where the host's root file system is mounted")
	f.StringVar(&o.host.BPFFS, "bpffs", "/sys/fs/bpf", "where the host's bpffs is mounted")
	f.StringVar(&o.host.CiliumRun, "cilium-run", "/var/run/cilium", "where Cilium's runtime directory is mounted; empty, its sockets are not asked")
	f.StringVar(&o.host.ConfDir, "cni-conf-dir", "/etc/cni/net.d", "the runtime's CNI configuration directory, as the host names it")
	f.BoolVar(&o.host.MapUses, "map-uses", false, "ask which of the pinned maps Cilium's programs use; needs CAP_SYS_ADMIN")
	f.DurationVar(&o.interval, "interval", 30*time.Second, "mean time between looks that nothing asked for")
	f.StringSliceVar(&o.off, "disable-checks", nil, "checks that are switched off; they are reported as NotAsked")
	f.StringSliceVar(&o.overlay, "overlay-cidrs", nil, "pod CIDRs of the overlay, used where there is no Cutover to say them")
	f.IntVar(&o.port, "tunnel-port", 8472, "UDP port of the tunnel, used where there is no Cutover")
	f.StringVar(&o.install, "install-mode", string(v1alpha1.InstallSecondary), "install mode, Secondary or Shared, used where there is no Cutover")
	f.StringVar(&o.legacy, "legacy-daemonset", "kube-system/aws-node", "the VPC CNI's DaemonSet, used where there is no Cutover")
}

// nodeName is the name of the Node: given, or the host's name as kubelet takes it by default.
func (o *options) nodeName() (string, error) {
	if o.node != "" {
		return o.node, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("finding this node's name (give it with --node-name): %w", err)
	}
	return strings.ToLower(name), nil
}

// switchedOff is the set of checks not to judge. A name that is no check is an error: a check believed to be off would
// hold a roll.
func (o *options) switchedOff() (map[v1alpha1.CheckName]bool, error) {
	out := make(map[v1alpha1.CheckName]bool)
	for _, name := range o.off {
		if !slices.Contains(check.Names(), v1alpha1.CheckName(name)) {
			return nil, fmt.Errorf("reading --disable-checks: there is no check %q; there are %v", name, check.Names())
		}
		out[v1alpha1.CheckName(name)] = true
	}
	return out, nil
}

// fallback are the settings by flags. Without CIDRs of the overlay they say nothing.
func (o *options) fallback() (facts.Settings, error) {
	namespace, name, ok := strings.Cut(o.legacy, "/")
	if !ok {
		return facts.Settings{}, fmt.Errorf("reading --legacy-daemonset: %q is not namespace/name", o.legacy)
	}
	mode := v1alpha1.InstallMode(o.install)
	if mode != v1alpha1.InstallSecondary && mode != v1alpha1.InstallShared {
		return facts.Settings{}, fmt.Errorf("reading --install-mode: %q is neither Secondary nor Shared", o.install)
	}
	s := facts.Settings{
		Look:       facts.Look{Sight: facts.Absent, Detail: "there is no Cutover to read them from, and no --overlay-cidrs"},
		TunnelPort: o.port, Install: mode, Legacy: v1alpha1.ObjectRef{Namespace: namespace, Name: name},
	}
	for _, cidr := range o.overlay {
		p, err := netip.ParsePrefix(cidr)
		if err != nil {
			return facts.Settings{}, fmt.Errorf("reading --overlay-cidrs: %w", err)
		}
		s.Overlay = append(s.Overlay, p.Masked())
		s.Look = facts.Look{Sight: facts.Seen}
	}
	return s, nil
}

// rest is how to reach the API server.
func (o *options) rest() (*rest.Config, error) {
	path := o.kubeconfig
	if path == "" {
		path = os.Getenv("KUBECONFIG")
	}
	read := rest.InClusterConfig
	if path != "" {
		read = func() (*rest.Config, error) { return clientcmd.BuildConfigFromFlags("", path) }
	}
	config, err := read()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("finding the API server: no --kubeconfig and no $KUBECONFIG is given, and this is no pod")
	}
	if err != nil {
		return nil, fmt.Errorf("finding the API server: %w", err)
	}
	config.UserAgent = "cutover-agent/" + version
	return config, nil
}

// confDir is the CNI directory as this process sees it.
func (o *options) confDir() string { return filepath.Join(o.host.Root, o.host.ConfDir) }
