// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/density"
	"github.com/cni-cutover/cni-cutover/preflight/gather/aws"
)

// densityOptions are the flags of density.
type densityOptions struct {
	types, overlay   []string
	vcpus            int
	prefixes, custom bool
	target           density.Target
	maskGiven        bool // not a default of target's
	aws              bool
	output           string
}

func (a *app) density() *cobra.Command {
	var o densityOptions
	cmd := &cobra.Command{
		Use:   "density",
		Short: "Say how many pods nodes hold now and after the move, and how many VPC addresses come back",
		Long: "Say how many pods nodes hold now, how many after the move, with their user data as it is and with another maxPods, what\n" +
			"bounds them, and how many addresses the VPC gets back: by node group and for the cluster, with -o wide by node too.\n" +
			"With --instance-type no cluster is asked. With --aws EC2 says what instance types have, which knows newer ones too.",
		Example: `  # Instance types, without any cluster
  kubectl cutover density --instance-type m5.xlarge,t3.medium
  kubectl cutover density --instance-type m5.16xlarge --prefix-delegation --vcpus 64
  AWS_REGION=eu-central-1 kubectl cutover density --instance-type m5.16xlarge --aws

  # The cluster: by group, by node, as data
  kubectl cutover density
  kubectl cutover density -o wide --max-pods 200
  kubectl cutover density -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.maskGiven = cmd.Flags().Changed("node-mask-size")
			return a.runDensity(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.types, "instance-type", nil, "EC2 instance types to compute without a cluster, as m5.xlarge,t3.medium")
	f.IntVar(&o.vcpus, "vcpus", 0, "vCPUs of these types, for the cap with --prefix-delegation (default: with --aws, as EC2 says)")
	f.BoolVar(&o.prefixes, "prefix-delegation", false, "these types with ENABLE_PREFIX_DELEGATION")
	f.BoolVar(&o.custom, "custom-networking", false, "these types with AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG")
	f.IntVar(&o.target.MaxPods, "max-pods", 110, "maxPods that user data will say after the move; nodes that have more keep it")
	f.IntVar(&o.target.NodeMaskSize, "node-mask-size", 24, "prefix length of a node's slice of the overlay (default: the Cutover's, else 24)")
	f.StringSliceVar(&o.overlay, "overlay", nil, "pod networks of the overlay (default: the Cutover's, else 10.244.0.0/16)")
	f.BoolVar(&o.aws, "aws", false, "ask EC2 about the instance types, with the credentials that AWS' own tools would use")
	f.StringVarP(&o.output, "output", "o", "table", "table, wide, json or yaml")
	return cmd
}

func (a *app) runDensity(ctx context.Context, o densityOptions) error {
	if err := checkTarget(o.target, o.vcpus); err != nil {
		return err
	}
	var r density.Report
	var write func() error
	if len(o.types) > 0 {
		ec2, err := askEC2(ctx, o.aws, nil, o.types)
		if err != nil {
			return err
		}
		c := density.Defaults()
		c.PrefixDelegation, c.CustomNetworking = o.prefixes, o.custom
		r = density.Offline(o.types, o.vcpus, ec2, c, o.target)
		write = func() error { return r.WriteOffline(a.Out) }
	} else {
		if o.prefixes || o.custom || o.vcpus != 0 {
			return fmt.Errorf("reading the flags: --prefix-delegation, --custom-networking and --vcpus are for --instance-type; of a cluster they are read from aws-node and the nodes")
		}
		networks, err := parseNetworks("overlay", o.overlay)
		if err != nil {
			return err
		}
		if r, err = a.gatherDensity(ctx, o, networks); err != nil {
			return err
		}
		write = func() error { return r.Write(a.Out, o.output == "wide") }
	}
	if err := a.print(o.output, &r, write); err != nil {
		return err
	}
	if len(r.Unknown) > 0 || r.EC2.Refused != "" {
		return verdict(codeUnsure)
	}
	return nil
}

// askEC2 asks about instance types, in the region of nodes or in that of the environment, if it is wanted.
func askEC2(ctx context.Context, wanted bool, regions, types []string) (density.EC2, error) {
	if !wanted {
		return density.EC2{}, nil
	}
	config, err := awsCredentials(ctx)
	if err != nil {
		return density.EC2{}, err
	}
	return aws.InstanceTypes(ctx, config, regions, types)
}

func checkTarget(t density.Target, vcpus int) error {
	switch {
	case t.MaxPods < 1:
		return fmt.Errorf("reading --max-pods %d: want at least 1", t.MaxPods)
	case density.SlicePods(t.NodeMaskSize) < 1 || t.NodeMaskSize < 8:
		return fmt.Errorf("reading --node-mask-size %d: want 8 to 29", t.NodeMaskSize)
	case vcpus < 0:
		return fmt.Errorf("reading --vcpus %d: want how many there are", vcpus)
	}
	return nil
}

// defaultOverlay is that of docs/examples/cutover.yaml.
func defaultOverlay() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")} }

// parseNetworks reads the networks of a flag.
func parseNetworks(flag string, texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("reading --%s: %w", flag, err)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// gatherDensity reads nodes, pods and the VPC CNI's settings.
func (a *app) gatherDensity(ctx context.Context, o densityOptions, overlay []netip.Prefix) (density.Report, error) {
	c, _, err := a.cluster()
	if err != nil {
		return density.Report{}, err
	}
	legacy := v1alpha1.ObjectRef{Namespace: "kube-system", Name: "aws-node"}
	if cutover, err := readCutover(ctx, c); err == nil {
		legacy = cutover.Spec.Legacy.DaemonSet
		if len(overlay) == 0 {
			if overlay, err = parseNetworks("overlay", cutover.Spec.Overlay.PodCIDRs); err != nil {
				return density.Report{}, err
			}
		}
		if !o.maskGiven {
			o.target.NodeMaskSize = int(cutover.Spec.Overlay.NodeMaskSize)
		}
	} else if len(overlay) == 0 {
		overlay = defaultOverlay()
		a.note("the overlay is taken for %s: %v", overlay[0], err)
	}
	settings := density.Defaults()
	var ds appsv1.DaemonSet
	switch err := c.Get(ctx, client.ObjectKey{Namespace: legacy.Namespace, Name: legacy.Name}, &ds); {
	case err == nil:
		settings = density.SettingsOf(&ds)
	case apierrors.IsNotFound(err):
		a.note("there is no DaemonSet %s/%s: the VPC CNI is taken for one with its published settings", legacy.Namespace, legacy.Name)
	default:
		return density.Report{}, ask{"get", "daemonsets.apps", legacy.Namespace}.fail(err)
	}
	inventory := density.NewInventory(overlay)
	var regions []string
	err = eachPage(ctx, c, "nodes", &corev1.NodeList{}, func(l *corev1.NodeList) {
		for i := range l.Items {
			inventory.AddNode(&l.Items[i])
			regions = append(regions, l.Items[i].Labels[corev1.LabelTopologyRegion])
		}
	})
	if err != nil {
		return density.Report{}, err
	}
	err = eachPage(ctx, c, "pods", &corev1.PodList{}, func(l *corev1.PodList) {
		for i := range l.Items {
			inventory.AddPod(&l.Items[i])
		}
	})
	if err != nil {
		return density.Report{}, err
	}
	ec2, err := askEC2(ctx, o.aws, regions, inventory.Types())
	if err != nil {
		return density.Report{}, err
	}
	return inventory.Report(ec2, settings, o.target), nil
}
