// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/preflight"
	"github.com/cni-cutover/cni-cutover/preflight/gather"
	"github.com/cni-cutover/cni-cutover/preflight/gather/aws"
)

// preflightOptions are the flags of preflight.
type preflightOptions struct {
	save, from, output string
	vpc, overlay       []string
	mask               int
	aws                bool
	clusterName        string
}

func (a *app) preflight() *cobra.Command {
	var o preflightOptions
	cmd := &cobra.Command{
		Use:   "preflight",
		Short: "Say what a move to the overlay would break, before anything moves",
		Long: "Say what a move to the overlay would break: webhooks, conversions and aggregated APIs that the API server could no longer reach,\n" +
			"paths that are lost while pods of both CNIs run, load balancers that send to pods, missing readiness probes, addresses that overlap,\n" +
			"slices that would not suffice, pods that keep their nodes from being drained, and nodes that cannot move. With --aws also what\n" +
			"stands at AWS: add-ons, security groups, launch templates, autoscaling groups, routes and targets. It only reads. What it\n" +
			"may not read it names, and does not take for well.\n" +
			"--save keeps what was seen, without secrets; --from judges it again, anywhere.",
		Example: `  kubectl cutover preflight --vpc-cidr 10.0.0.0/16,100.64.0.0/16
  AWS_PROFILE=reader kubectl cutover preflight --aws
  kubectl cutover preflight --vpc-cidr 10.0.0.0/16 --save snapshot.tgz
  kubectl cutover preflight --from snapshot.tgz
  kubectl cutover preflight --vpc-cidr 10.0.0.0/16 -o junit > preflight.xml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runPreflight(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.vpc, "vpc-cidr", nil, "networks of the VPC, of its peers and on premises")
	f.StringSliceVar(&o.overlay, "overlay", nil, "pod networks of the overlay (default: the Cutover's, else 10.244.0.0/16)")
	f.IntVar(&o.mask, "node-mask-size", 0, "prefix length of a node's slice (default: the Cutover's, else 24)")
	f.BoolVar(&o.aws, "aws", false, "ask AWS too, with the credentials that its own tools would use")
	f.StringVar(&o.clusterName, "cluster-name", "", "EKS' name of the cluster (default: as aws-node and the nodes' labels and tags say)")
	f.StringVar(&o.save, "save", "", "file to keep the snapshot in")
	f.StringVar(&o.from, "from", "", "judge this snapshot and ask no cluster")
	f.StringVarP(&o.output, "output", "o", "table", "table, json, yaml or junit")
	return cmd
}

func (a *app) runPreflight(ctx context.Context, o preflightOptions) error {
	if !slices.Contains([]string{"table", "json", "yaml", "junit"}, o.output) {
		return fmt.Errorf("reading --output %q: want table, json, yaml or junit", o.output)
	}
	for flag, texts := range map[string][]string{"vpc-cidr": o.vpc, "overlay": o.overlay} {
		if _, err := parseNetworks(flag, texts); err != nil {
			return err
		}
	}
	if o.mask != 0 && (o.mask < 8 || o.mask > 30) {
		return fmt.Errorf("reading --node-mask-size %d: want 8 to 30", o.mask)
	}
	if o.clusterName != "" && !o.aws || o.aws && o.from != "" {
		return errors.New("reading the flags: --cluster-name is for --aws, and --aws is for a cluster, not for a snapshot")
	}
	s, err := a.snapshot(ctx, o)
	if err != nil {
		return err
	}
	if len(o.vpc) > 0 {
		s.VPC = o.vpc
	}
	if len(o.overlay) > 0 {
		s.Overlay = o.overlay
	}
	if o.mask != 0 {
		s.NodeMaskSize = o.mask
	}
	if o.save != "" {
		if err := save(o.save, s); err != nil {
			return err
		}
	}
	r := preflight.Judge(s)
	if o.output == "junit" {
		err = r.WriteJUnit(a.Out)
	} else {
		err = a.print(o.output, &r, func() error { return a.page(r.Write) })
	}
	if err != nil {
		return err
	}
	return exitOf(r.Verdict())
}

// snapshot takes a snapshot, or loads one.
func (a *app) snapshot(ctx context.Context, o preflightOptions) (*preflight.Snapshot, error) {
	if o.from != "" {
		file, err := os.Open(o.from)
		if err != nil {
			return nil, fmt.Errorf("loading a snapshot: %w", err)
		}
		defer file.Close()
		return preflight.Load(file)
	}
	c, config, err := a.cluster()
	if err != nil {
		return nil, err
	}
	s := &preflight.Snapshot{
		Format: preflight.Format, TakenAt: time.Now().UTC().Truncate(time.Second), Server: config.Host,
		Overlay: []string{defaultOverlay()[0].String()}, NodeMaskSize: 24, Joining: 1, TunnelPort: 8472, Rollout: defaultRollout(),
	}
	s.Network = networkOf(defaultLegacy(), v1alpha1.ObjectRef{Namespace: metav1.NamespaceSystem, Name: "cilium"})
	if cutover, err := readCutover(ctx, c); err == nil {
		spec := &cutover.Spec
		s.Network = networkOf(spec.Legacy, spec.Cilium.DaemonSet)
		s.Overlay, s.NodeMaskSize, s.Joining = spec.Overlay.PodCIDRs, int(spec.Overlay.NodeMaskSize), int(spec.Rollout.MaxConcurrent)
		s.TunnelPort = spec.Overlay.Tunnel.Port
		s.Rollout, s.Rolled = spec.Rollout, cutover.Status.Rolled
		for _, slot := range cutover.Status.Slots {
			s.Slots = append(s.Slots, slot.Node)
		}
		if spec.Nodes.Selector != nil {
			selector, err := metav1.LabelSelectorAsSelector(spec.Nodes.Selector)
			if err != nil {
				return nil, fmt.Errorf("reading spec.nodes.selector of the Cutover: %w", err)
			}
			s.Selector = selector.String()
		}
	} else if right := (*missingRight)(nil); errors.As(err, &right) {
		s.Missing = append(s.Missing, preflight.Missing{Verb: right.ask.verb, Resource: right.ask.resource, Error: right.err.Error()})
	} else if len(o.overlay) == 0 {
		a.note("the overlay is taken for %s, and the terms of a roll for the defaults: %v", s.Overlay[0], err)
	}
	progress := func(string) {}
	if _, live := a.terminal(); live {
		progress = func(what string) { fmt.Fprintf(a.ErrOut, "\r\x1b[Kreading %s", what) }
		defer fmt.Fprint(a.ErrOut, "\r\x1b[K")
	}
	if err := gather.Cluster(ctx, c, s, progress); err != nil || !o.aws {
		return s, err
	}
	account, err := awsCredentials(ctx)
	if err != nil {
		return nil, err
	}
	return s, aws.Account(ctx, account, o.clusterName, s, progress)
}

// awsCredentials are those that AWS' own tools would use.
func awsCredentials(ctx context.Context) (sdk.Config, error) {
	config, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return config, fmt.Errorf("finding AWS credentials: %w", err)
	}
	return config, nil
}

// networkOf names both CNIs.
func networkOf(legacy v1alpha1.Legacy, cilium v1alpha1.ObjectRef) preflight.Network {
	return preflight.Network{
		Legacy: preflight.Legacy{Namespace: legacy.DaemonSet.Namespace, Name: legacy.DaemonSet.Name, FenceLabel: legacy.FenceLabel},
		Cilium: preflight.Cilium{Namespace: cilium.Namespace, Name: cilium.Name},
	}
}

// defaultLegacy is what the API server makes of a Cutover without spec.legacy.
func defaultLegacy() v1alpha1.Legacy {
	return v1alpha1.Legacy{DaemonSet: v1alpha1.ObjectRef{Namespace: metav1.NamespaceSystem, Name: "aws-node"}, FenceLabel: v1alpha1.FenceLabel}
}

// defaultRollout is what the API server makes of a Cutover without spec.rollout.
func defaultRollout() v1alpha1.Rollout {
	yes, canary := true, int32(1)
	return v1alpha1.Rollout{
		MaxConcurrent: 1, MaxUnavailable: 1, Canary: &canary, Soak: metav1.Duration{Duration: 5 * time.Minute}, FailureBudget: 1, Order: v1alpha1.OrderName,
		Drain: v1alpha1.Drain{DeregistrationDelay: metav1.Duration{Duration: 310 * time.Second}, Timeout: metav1.Duration{Duration: 30 * time.Minute}, DeleteEmptyDirData: &yes},
	}
}

// save writes a snapshot beside its name first, so that what bears the name is whole.
func save(name string, s *preflight.Snapshot) error {
	file, err := os.CreateTemp(filepath.Dir(name), ".snapshot-*")
	if err != nil {
		return fmt.Errorf("saving the snapshot: %w", err)
	}
	defer os.Remove(file.Name())
	err = s.Save(file)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("saving the snapshot as %s: %w", name, err)
	}
	return nil
}
