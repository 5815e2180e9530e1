// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab/stage"
	"github.com/cni-cutover/cni-cutover/lab/traffic/load"
)

// snapshot is what a person is shown at one moment.
type snapshot struct {
	elapsed time.Duration // since the Cutover was applied
	phase   v1alpha1.Phase
	message string // what the cutover is about or waits for
	stalled bool
	slots   []v1alpha1.Slot
	done    []v1alpha1.FinishedSlot
	waiting []v1alpha1.Waiting
	nodes   []nodeRow // in the order of their names' numbers
	// Pods with a network of their own, by the network of their address.
	vpcPods, overlayPods, startingPods int
	load                               load.Progress
}

// nodeRow is one Node.
type nodeRow struct {
	name, zone string
	uid        types.UID
	ready      bool
	cordoned   bool
	role       v1alpha1.Role
	verdict    v1alpha1.Verdict
	why        string // the first finding of that verdict, unless it is Pass
}

// look takes a snapshot of the cluster.
func look(ctx context.Context, c client.Client, began time.Time, progress load.Progress) (snapshot, error) {
	s := snapshot{elapsed: time.Since(began), load: progress}
	var cutover v1alpha1.Cutover
	if err := c.Get(ctx, client.ObjectKey{Name: v1alpha1.CutoverName}, &cutover); err != nil {
		return s, fmt.Errorf("reading the Cutover: %w", err)
	}
	s.phase, s.slots, s.done, s.waiting = cutover.Status.Phase, cutover.Status.Slots, cutover.Status.Finished, cutover.Status.Waiting
	s.stalled = meta.IsStatusConditionTrue(cutover.Status.Conditions, v1alpha1.ConditionStalled)
	if ready := meta.FindStatusCondition(cutover.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		s.message = ready.Message
	}
	var nodes corev1.NodeList
	var reports v1alpha1.NodeCutoverList
	if err := c.List(ctx, &nodes); err != nil {
		return s, fmt.Errorf("listing nodes: %w", err)
	}
	if err := c.List(ctx, &reports); err != nil {
		return s, fmt.Errorf("listing the agents' reports: %w", err)
	}
	for _, node := range nodes.Items {
		s.nodes = append(s.nodes, rowOf(node, reports.Items))
	}
	slices.SortFunc(s.nodes, func(a, b nodeRow) int { return byNumber(a.name, b.name) })
	pods, err := stage.Workload(ctx, c)
	if err != nil {
		return s, err
	}
	for _, pod := range pods {
		switch {
		case pod.Status.PodIP == "":
			s.startingPods++
		case stage.InOverlay(pod):
			s.overlayPods++
		default:
			s.vpcPods++
		}
	}
	return s, nil
}

func rowOf(node corev1.Node, reports []v1alpha1.NodeCutover) nodeRow {
	row := nodeRow{
		name: node.Name, zone: node.Labels[corev1.LabelTopologyZone], uid: node.UID,
		ready: isReady(node), cordoned: node.Spec.Unschedulable,
	}
	for _, report := range reports {
		if report.Name == node.Name && report.Status.NodeUID == node.UID {
			row.role, row.verdict = report.Status.Role, report.Status.Verdict
			row.why = why(&report.Status)
		}
	}
	return row
}

func why(s *v1alpha1.NodeCutoverStatus) string {
	for _, f := range s.Findings {
		if f.Verdict == s.Verdict && f.Verdict != v1alpha1.VerdictPass {
			return fmt.Sprintf(": %s (%s): %s", f.Check, f.Reason, f.Message)
		}
	}
	return ""
}

func isReady(node corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// byNumber sorts node-9 before node-10.
func byNumber(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
