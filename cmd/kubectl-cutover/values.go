// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/values"
)

func (a *app) values() *cobra.Command {
	var phase, version, apiServer, installMode string
	var overlay []string
	var replacement bool
	cmd := &cobra.Command{
		Use:   "values",
		Short: "Print Cilium's Helm values for a phase, each line with its reason",
		Long: "Print Cilium's Helm values for a phase, each line with its reason. Pools, mask, port and install mode are those of the cluster's\n" +
			"Cutover, and the API server's name is that of the kubeconfig; flags say otherwise, also without a cluster.",
		Example: `  # Beside the VPC CNI, until phase RemoveLegacy
  kubectl cutover values --phase install --cilium-version 1.18.11 > cilium.yaml

  # What makes replacement nodes go without kube-proxy from birth; read the steps above it
  kubectl cutover values --replacement-nodes --cilium-version 1.18.11 > replacement-nodes.yaml

  # The last phase
  kubectl cutover values --phase full-ebpf --cilium-version 1.18.11 > full.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := values.For{Mask: 24, Port: 8472, FenceLabel: v1alpha1.FenceLabel}
			var err error
			if f.Version, err = values.ParseVersion(version); err != nil {
				return err
			}
			if f.Phase, err = values.ParsePhase(phase); err != nil {
				return err
			}
			notes := a.fromCluster(cmd.Context(), &f)
			if len(overlay) > 0 {
				if f.Pools, err = parseNetworks("overlay", overlay); err != nil {
					return err
				}
			}
			if installMode != "" {
				if f.Install, err = parseInstall(installMode); err != nil {
					return err
				}
			}
			if apiServer != "" {
				if f.Host, f.HostPort, err = hostOf(apiServer); err != nil {
					return err
				}
			}
			if replacement {
				text, err := f.ReplacementNodes("kube-system")
				if err != nil {
					return err
				}
				_, err = io.WriteString(a.Out, text)
				return err
			}
			text, err := f.YAML()
			if err != nil {
				return err
			}
			for _, n := range notes {
				fmt.Fprintf(a.Out, "# %s\n", n)
			}
			_, err = io.WriteString(a.Out, text)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&phase, "phase", string(values.Install), "install (beside the VPC CNI) or full-ebpf (after it)")
	f.StringVar(&version, "cilium-version", "1.18.11", "release of Cilium that the values are for")
	f.StringVar(&apiServer, "api-server", "", "API server as agents reach it without kube-proxy, as ABCD.gr7.eu-central-1.eks.amazonaws.com (default: the kubeconfig's)")
	f.StringVar(&installMode, "install-mode", "", "Secondary or Shared (default: the Cutover's, else Secondary)")
	f.StringSliceVar(&overlay, "overlay", nil, "pod networks (default: the Cutover's, else 10.244.0.0/16)")
	f.BoolVar(&replacement, "replacement-nodes", false, "print the CiliumNodeConfig for replacement nodes instead, with the order of the steps")
	cmd.AddCommand(a.checkValues(), a.listRules())
	return cmd
}

func (a *app) listRules() *cobra.Command {
	return &cobra.Command{
		Use:     "rules",
		Short:   "List what values check asks, and the source of each rule",
		Example: "  kubectl cutover values rules",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return values.WriteRules(a.Out) },
	}
}

// fromCluster fills in what a cluster says, and returns what could not be read of it.
func (a *app) fromCluster(ctx context.Context, f *values.For) (notes []string) {
	f.Pools = defaultOverlay()
	c, config, err := a.cluster()
	if err != nil {
		return []string{"No cluster was asked, so pools and mode are defaults: " + oneLine(err)}
	}
	if host, port, err := hostOf(config.Host); err == nil && !local(host) {
		f.Host, f.HostPort = host, port
	} else {
		notes = append(notes, "The kubeconfig's server "+config.Host+" is none that nodes could dial; name it with --api-server.")
	}
	cutover, err := readCutover(ctx, c)
	if err != nil {
		return append(notes, "The Cutover was not read, so pools and mode are defaults: "+oneLine(err))
	}
	spec := &cutover.Spec
	pools, err := parseNetworks("overlay", spec.Overlay.PodCIDRs)
	if err != nil {
		return append(notes, "The Cutover's pod networks could not be read: "+oneLine(err))
	}
	f.Pools, f.Mask, f.Port = pools, int(spec.Overlay.NodeMaskSize), int(spec.Overlay.Tunnel.Port)
	f.Install, f.FenceLabel = spec.Cilium.Install, cmp.Or(spec.Legacy.FenceLabel, v1alpha1.FenceLabel)
	return notes
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// hostOf splits a URL or a host with or without port. The port is 443 unless it is said.
func hostOf(text string) (host string, port int, err error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return "", 0, fmt.Errorf("reading the API server %q: want a name, with or without port", text)
	}
	port = 443
	if u.Port() != "" {
		if port, err = strconv.Atoi(u.Port()); err != nil {
			return "", 0, fmt.Errorf("reading the API server's port of %q: %w", text, err)
		}
	}
	return u.Hostname(), port, nil
}

// local says whether a host is this machine, as that of a tunnel or a proxy is.
func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func parseInstall(name string) (v1alpha1.InstallMode, error) {
	switch m := v1alpha1.InstallMode(name); m {
	case v1alpha1.InstallSecondary, v1alpha1.InstallShared:
		return m, nil
	}
	return "", fmt.Errorf("reading --install-mode %q: want %s or %s", name, v1alpha1.InstallSecondary, v1alpha1.InstallShared)
}

// checkOptions are the flags of values check.
type checkOptions struct {
	file, phase, version, namespace, release, installMode, output string
	live, all                                                     bool
	vpc, overlay                                                  []string
}

func (a *app) checkValues() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check (-f values.yaml | --live)",
		Short: "Judge Cilium's Helm values, those of a file or those that run",
		Long: "Judge Cilium's Helm values for a phase: what its charts and agents refuse, what loses traffic while both CNIs run, what cannot\n" +
			"change in a live cluster. With -f alone no cluster is asked. With --live the Helm release is read, or cilium-config and the agents'\n" +
			"DaemonSet where there is none; with both the file is judged against what runs.",
		Example: `  kubectl cutover values check -f cilium.yaml --cilium-version 1.18.11 --vpc-cidr 10.0.0.0/16
  kubectl cutover values check --live --vpc-cidr 10.0.0.0/16,100.64.0.0/16
  kubectl cutover values check -f full.yaml --phase full-ebpf --live -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runCheck(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "filename", "f", "", "values file; - for standard input")
	f.BoolVar(&o.live, "live", false, "judge what runs, or with -f judge the file against it")
	f.StringVar(&o.phase, "phase", string(values.Install), "install (beside the VPC CNI) or full-ebpf (after it)")
	f.StringVar(&o.version, "cilium-version", "", "release of Cilium (default: that of the release or the agents' image)")
	f.StringVar(&o.namespace, "cilium-namespace", "kube-system", "namespace of Cilium")
	f.StringVar(&o.release, "release", "cilium", "name of the Helm release")
	f.StringVar(&o.installMode, "install-mode", "", "Secondary or Shared (default: the Cutover's with --live, else Secondary)")
	f.StringSliceVar(&o.vpc, "vpc-cidr", nil, "networks of the VPC, of its peers and on premises")
	f.StringSliceVar(&o.overlay, "overlay", nil, "pod networks that are wanted (default: the Cutover's with --live)")
	f.BoolVar(&o.all, "all", false, "show what is right too")
	f.StringVarP(&o.output, "output", "o", "table", "table, json or yaml")
	return cmd
}

func (a *app) runCheck(ctx context.Context, o checkOptions) error {
	if o.file == "" && !o.live {
		return fmt.Errorf("reading the flags: name a file with -f, or --live, or both")
	}
	phase, err := values.ParsePhase(o.phase)
	if err != nil {
		return err
	}
	var v values.Version
	if o.version != "" {
		if v, err = values.ParseVersion(o.version); err != nil {
			return err
		}
	}
	judged, cluster, err := a.gatherCheck(ctx, o, v)
	if err != nil {
		return err
	}
	r := values.Check(judged, phase, cluster)
	if err := a.print(o.output, &r, func() error { return r.Write(a.Out, o.all) }); err != nil {
		return err
	}
	return exitOf(r.Verdict())
}

// gatherCheck returns the values to judge and the cluster to judge them for: what --live shows of it, and what flags say.
func (a *app) gatherCheck(ctx context.Context, o checkOptions, v values.Version) (judged *values.Values, cluster values.Cluster, err error) {
	if o.live {
		if judged, err = a.gatherValues(ctx, o, v, &cluster); err != nil {
			return nil, cluster, err
		}
	}
	if o.file != "" {
		cluster.Running = judged
		if v == (values.Version{}) && judged != nil {
			v = judged.Version
		}
		data, err := a.read(o.file)
		if err != nil {
			return nil, cluster, err
		}
		if judged, err = values.FromYAML(o.file, data, v); err != nil {
			return nil, cluster, err
		}
	}
	if cluster.VPC, err = parseNetworks("vpc-cidr", o.vpc); err != nil {
		return nil, cluster, err
	}
	if len(o.overlay) > 0 {
		if cluster.Overlay, err = parseNetworks("overlay", o.overlay); err != nil {
			return nil, cluster, err
		}
	}
	if o.installMode != "" {
		cluster.Install, err = parseInstall(o.installMode)
	}
	return judged, cluster, err
}

// maxFile is more than a values file can sensibly be, in bytes.
const maxFile = 4 << 20

// read reads a file, or standard input.
func (a *app) read(name string) ([]byte, error) {
	in := a.In
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("reading values: %w", err)
		}
		defer file.Close()
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading values from %s: %w", name, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("reading values from %s: it is larger than %d bytes", name, maxFile)
	}
	return data, nil
}

// addressOf reads the address of a node.
func addressOf(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	return a, err == nil
}
