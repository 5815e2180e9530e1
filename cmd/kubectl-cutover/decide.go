// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/status"
)

// fieldManager owns what people decide by this plugin, so that a spec kept in Git does not take it back.
const fieldManager = "kubectl-cutover"

// change changes the Cutover that was read and no other: a patch that carries its resourceVersion.
func (a *app) change(ctx context.Context, c client.Client, cutover *v1alpha1.Cutover, spec map[string]any, dryRun bool) error {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": cutover.ResourceVersion, "uid": cutover.UID}, "spec": spec,
	})
	if err != nil {
		return fmt.Errorf("writing the patch: %w", err)
	}
	options := []client.PatchOption{client.FieldOwner(fieldManager)}
	if dryRun {
		options = append(options, client.DryRunAll)
	}
	return ask{"patch", cutovers, ""}.fail(c.Patch(ctx, cutover.DeepCopy(), client.RawPatch(types.MergePatchType, body), options...))
}

// attempts is how often a decision is tried: the coordinator writes the same object, and the resourceVersion moves.
const attempts = 5

// decide reads the Cutover, lets want say what to change, and changes it. want returns nothing to change for "so already".
func (a *app) decide(ctx context.Context, dryRun bool, want func(*v1alpha1.Cutover) (map[string]any, error)) (*v1alpha1.Cutover, bool, error) {
	c, _, err := a.cluster()
	if err != nil {
		return nil, false, err
	}
	for attempt := 1; ; attempt++ {
		cutover, err := readCutover(ctx, c)
		if err != nil {
			return nil, false, err
		}
		spec, err := want(cutover)
		if err != nil || spec == nil {
			return cutover, false, err
		}
		err = a.change(ctx, c, cutover, spec, dryRun)
		if err == nil || attempt == attempts || !apierrors.IsConflict(err) {
			return cutover, err == nil, err
		}
	}
}

func dryRunFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "dry-run", "none", `"server": the API server judges the change and keeps nothing; or "none"`)
}

func parseDryRun(text string) (bool, error) {
	switch text {
	case "none":
		return false, nil
	case "server":
		return true, nil
	}
	return false, fmt.Errorf("reading --dry-run %q: want server or none", text)
}

// suffix is what kubectl too says behind what it would have done.
func suffix(dryRun bool) string {
	if dryRun {
		return " (server dry run)"
	}
	return ""
}

func (a *app) approve() *cobra.Command {
	var dryRun string
	var ahead bool
	cmd := &cobra.Command{
		Use:   "approve PHASE",
		Short: "Let a phase begin",
		Long: "Let a phase begin: DecoupleIngress, InstallCilium, FenceLegacy, RollNodes, RemoveLegacy or FullEBPF, in this order. A phase that people\n" +
			"carry out is finished by its approval. Only the phase that waits for it can be approved, unless --ahead says that the coordinator\n" +
			"shall go on by itself.",
		Example: `  kubectl cutover approve FenceLegacy
  kubectl cutover approve RollNodes --dry-run=server`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return phaseNames(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dry, err := parseDryRun(dryRun)
			if err != nil {
				return err
			}
			phase, err := parsePhase(args[0])
			if err != nil {
				return err
			}
			cutover, changed, err := a.decide(cmd.Context(), dry, func(c *v1alpha1.Cutover) (map[string]any, error) { return approval(c, phase, ahead) })
			if err != nil {
				return err
			}
			if !changed {
				fmt.Fprintf(a.Out, "%s was approved already\n", phase)
				return nil
			}
			fmt.Fprintf(a.Out, "%s approved%s\n", phase, suffix(dry))
			if s := cutover.Spec.State; s == v1alpha1.StatePaused || s == v1alpha1.StateAborted {
				fmt.Fprintf(a.Out, "The state is %s: it does not begin before kubectl cutover resume.\n", s)
			}
			return nil
		},
	}
	dryRunFlag(cmd, &dryRun)
	cmd.Flags().BoolVar(&ahead, "ahead", false, "approve a phase that is not next: it begins as soon as those before it are done and approved")
	return cmd
}

func phaseNames() []string {
	var out []string
	for _, p := range status.Phases() {
		out = append(out, string(p))
	}
	return out
}

func parsePhase(name string) (v1alpha1.Phase, error) {
	for _, p := range status.Phases() {
		if strings.EqualFold(string(p), name) {
			return p, nil
		}
	}
	return "", fmt.Errorf("reading the phase %q: want one of %s", name, strings.Join(phaseNames(), ", "))
}

// approval says what to change of a spec, or why not.
func approval(c *v1alpha1.Cutover, phase v1alpha1.Phase, ahead bool) (map[string]any, error) {
	if slices.Contains(c.Spec.ApprovedPhases, phase) {
		return nil, nil
	}
	now := c.Status.Phase
	if now == "" {
		now = status.Phases()[0]
	}
	order := append(status.Phases(), v1alpha1.PhaseDone)
	at, wanted := slices.Index(order, now), slices.Index(order, phase)
	if wanted > at && !ahead {
		return nil, fmt.Errorf("approving %s: the cutover is in phase %s%s. Approve phases one by one, or say --ahead", phase, now, waitsFor(c))
	}
	return map[string]any{"approvedPhases": append(slices.Clone(c.Spec.ApprovedPhases), phase)}, nil
}

func waitsFor(c *v1alpha1.Cutover) string {
	if s := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionStalled); s != nil && s.Status == "True" {
		return ", which waits: " + s.Message
	}
	return ""
}

// setState is the command that writes one state.
func (a *app) setState(cmd *cobra.Command, state v1alpha1.State, tell func(*v1alpha1.Cutover)) *cobra.Command {
	var dryRun string
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dry, err := parseDryRun(dryRun)
		if err != nil {
			return err
		}
		cutover, changed, err := a.decide(cmd.Context(), dry, func(c *v1alpha1.Cutover) (map[string]any, error) {
			if c.Spec.State == state {
				return nil, nil
			}
			return map[string]any{"state": state}, nil
		})
		if err != nil {
			return err
		}
		if changed {
			fmt.Fprintf(a.Out, "state %s -> %s%s\n", cutover.Spec.State, state, suffix(dry))
		} else {
			fmt.Fprintf(a.Out, "the state was %s already\n", state)
		}
		tell(cutover)
		return nil
	}
	dryRunFlag(cmd, &dryRun)
	return cmd
}

func (a *app) pause() *cobra.Command {
	return a.setState(&cobra.Command{
		Use: "pause", Short: "Grant no more slots and begin no more phases; what was granted finishes",
		Example: "  kubectl cutover pause",
	}, v1alpha1.StatePaused, a.inFlight)
}

func (a *app) resume() *cobra.Command {
	return a.setState(&cobra.Command{
		Use: "resume", Short: "Go on after pause or abort", Example: "  kubectl cutover resume",
	}, v1alpha1.StateRunning, func(*v1alpha1.Cutover) {})
}

func (a *app) abort() *cobra.Command {
	return a.setState(&cobra.Command{
		Use:   "abort",
		Short: "Stop as pause does, and take the taint off the old nodes again",
		Long: "Stop as pause does, and take the PreferNoSchedule taint off the old nodes again, so that pods may stay there for long. It moves nothing\n" +
			"back: what has moved stays moved, and a hybrid cluster is safe to stay in. kubectl cutover resume takes it back.",
		Example: "  kubectl cutover abort",
	}, v1alpha1.StateAborted, func(c *v1alpha1.Cutover) {
		a.inFlight(c)
		n := c.Status.Nodes
		fmt.Fprintf(a.Out, "Put back: taint %s of %d old nodes.\n", v1alpha1.TaintLeaving, n.Legacy+n.Mixed)
		fmt.Fprintf(a.Out, "Stays: %d nodes on the overlay; the fence (label %s on old nodes, the node selector of DaemonSet %s/%s", n.Overlay,
			c.Spec.Legacy.FenceLabel, c.Spec.Legacy.DaemonSet.Namespace, c.Spec.Legacy.DaemonSet.Name)
		if c.Spec.Cilium.Install == v1alpha1.InstallSecondary {
			fmt.Fprintf(a.Out, ", CiliumNodeConfig %s", v1alpha1.NodeConfigName)
		}
		fmt.Fprintln(a.Out, "), which is watched and mended on; Cilium. The README, section Undo, is the way back.")
	})
}

// inFlight says which slots go on.
func (a *app) inFlight(c *v1alpha1.Cutover) {
	if len(c.Status.Slots) == 0 {
		fmt.Fprintln(a.Out, "No slot is under way.")
		return
	}
	for i := range c.Status.Slots {
		s := &c.Status.Slots[i]
		held := ""
		if s.HeldSince != nil {
			held = ", held"
		}
		fmt.Fprintf(a.Out, "Goes on: slot of %s (%s%s).\n", s.Node, s.Step, held)
	}
}
