// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/report"
)

func (a *app) report() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Prove from the cluster's objects what the cutover left behind, and say how long it took",
		Long: "Read nodes, pods, DaemonSets and the agents' reports, and say whether they are what a finished cutover leaves behind: every pod\n" +
			"with an address of the overlay, every node on it by its agent, nothing of the VPC CNI, no trace of the cutover. Phases, the slots\n" +
			"that ended last and, as far as Events still tell, the time in each step follow. It believes the coordinator nothing, and only reads.\n\n" +
			"Exit codes: 2 if something is not as it should be, 3 if something could not be seen.",
		Example: `  kubectl cutover report > cutover.md
  kubectl cutover report -o json | jq '.proofs[] | select(.verdict != "Pass")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"markdown", "json", "yaml"}, output) {
				return fmt.Errorf("reading --output %q: want markdown, json or yaml", output)
			}
			c, config, err := a.cluster()
			if err != nil {
				return err
			}
			e, err := gatherEvidence(cmd.Context(), c, config.Host)
			if err != nil {
				return err
			}
			r, err := report.Make(e)
			if err != nil {
				return err
			}
			if output == "markdown" {
				err = r.Write(a.Out)
			} else {
				err = a.print(output, &r, nil)
			}
			if err != nil {
				return err
			}
			return exitOf(r.Verdict())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "markdown", "markdown, json or yaml")
	return cmd
}

// gatherEvidence reads what a report is made from, page by page. What may not be read is noted, not an error.
func gatherEvidence(ctx context.Context, c client.Client, server string) (*report.Evidence, error) {
	cutover, err := readCutover(ctx, c)
	if err != nil {
		return nil, err
	}
	selected := labels.Everything()
	if s := cutover.Spec.Nodes.Selector; s != nil {
		if selected, err = metav1.LabelSelectorAsSelector(s); err != nil {
			return nil, fmt.Errorf("reading spec.nodes.selector of the Cutover: %w", err)
		}
	}
	e := &report.Evidence{
		Server: server, TakenAt: time.Now().UTC().Truncate(time.Second), Cutover: cutover,
		Agents: map[string]*v1alpha1.NodeCutover{}, Unseen: map[report.Resource]string{},
	}
	for _, read := range []struct {
		resource report.Resource
		all      func() error
	}{
		{report.Nodes, func() error {
			return eachPage(ctx, c, "nodes", &corev1.NodeList{}, func(l *corev1.NodeList) {
				for i := range l.Items {
					e.Nodes = append(e.Nodes, reportNode(&l.Items[i], selected, cutover.Spec.Legacy.FenceLabel))
				}
			})
		}},
		{report.Pods, func() error {
			return eachPage(ctx, c, "pods", &corev1.PodList{}, func(l *corev1.PodList) {
				for i := range l.Items {
					e.Pods = append(e.Pods, reportPod(&l.Items[i]))
				}
			})
		}},
		{report.DaemonSets, func() error {
			return eachPage(ctx, c, "daemonsets.apps", &appsv1.DaemonSetList{}, func(l *appsv1.DaemonSetList) {
				for _, d := range l.Items {
					e.DaemonSets = append(e.DaemonSets, report.DaemonSet{
						Namespace: d.Namespace, Name: d.Name, Desired: d.Status.DesiredNumberScheduled, Updated: d.Status.UpdatedNumberScheduled,
						Ready: d.Status.NumberReady, Current: d.Status.ObservedGeneration >= d.Generation,
					})
				}
			})
		}},
		{report.Agents, func() error {
			return eachPage(ctx, c, "nodecutovers.cni-cutover.dev", &v1alpha1.NodeCutoverList{}, func(l *v1alpha1.NodeCutoverList) {
				for i := range l.Items {
					e.Agents[l.Items[i].Name] = l.Items[i].DeepCopy()
				}
			})
		}},
		{report.Events, func() error {
			// Events about nodes are in namespace default (client-go, tools/events).
			return eachPage(ctx, c, "events.events.k8s.io", &eventsv1.EventList{}, func(l *eventsv1.EventList) {
				for i := range l.Items {
					if entry, ok := reportEntry(&l.Items[i], cutover.Spec.Rollout.Surge); ok {
						e.Entered = append(e.Entered, entry)
					}
				}
			}, client.InNamespace(metav1.NamespaceDefault))
		}},
	} {
		err := read.all()
		var right *missingRight
		switch {
		case errors.As(err, &right):
			e.Unseen[read.resource] = err.Error()
		case err != nil:
			return nil, err
		}
	}
	return e, nil
}

func reportNode(n *corev1.Node, selected labels.Selector, fence string) report.Node {
	out := report.Node{
		Name: n.Name, UID: n.UID, BootID: n.Status.NodeInfo.BootID, Unschedulable: n.Spec.Unschedulable, Selected: selected.Matches(labels.Set(n.Labels)),
	}
	for _, c := range n.Status.Conditions {
		out.Ready = out.Ready || c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			out.Addresses = append(out.Addresses, ip)
		}
	}
	if _, ok := n.Labels[fence]; ok {
		out.Left = append(out.Left, "label "+fence)
	}
	for _, annotation := range []string{v1alpha1.AnnotationCordon, v1alpha1.AnnotationReplace, v1alpha1.AnnotationSurge} {
		if _, ok := n.Annotations[annotation]; ok {
			out.Left = append(out.Left, "annotation "+annotation)
		}
	}
	for _, t := range n.Spec.Taints {
		if t.Key == v1alpha1.TaintLeaving {
			out.Left = append(out.Left, "taint "+t.Key)
		}
	}
	return out
}

func reportPod(p *corev1.Pod) report.Pod {
	out := report.Pod{
		Namespace: p.Namespace, Name: p.Name, Node: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork,
		Running: p.Status.Phase == corev1.PodRunning, Ended: p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
	}
	if owner := metav1.GetControllerOf(p); owner != nil && owner.Kind == "DaemonSet" {
		out.DaemonSet = owner.Name
	}
	for _, a := range p.Status.PodIPs {
		if ip, err := netip.ParseAddr(a.IP); err == nil {
			out.Addresses = append(out.Addresses, ip)
		}
	}
	return out
}

// reportEntry reads from an Event of the coordinator that a slot entered a step, or ended.
func reportEntry(e *eventsv1.Event, surge bool) (report.Entry, bool) {
	if e.ReportingController != "cutover-coordinator" || e.EventTime.IsZero() {
		return report.Entry{}, false
	}
	switch e.Action {
	case "Grant":
		first := v1alpha1.StepCordon
		if surge {
			first = v1alpha1.StepSurge
		}
		node, _, ok := strings.Cut(e.Note, " gets a slot")
		return report.Entry{Node: node, Step: first, At: e.EventTime.Time}, ok
	case "Finish":
		node, _, ok := strings.Cut(e.Note, " has been replaced by ")
		return report.Entry{Node: node, At: e.EventTime.Time}, ok
	}
	rest, ok := strings.CutPrefix(e.Note, "slot of ")
	node, _, enters := strings.Cut(rest, " enters "+e.Action)
	return report.Entry{Node: node, Step: v1alpha1.Step(e.Action), At: e.EventTime.Time}, ok && enters
}
