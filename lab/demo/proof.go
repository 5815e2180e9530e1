// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/oracle"
	"github.com/cni-cutover/cni-cutover/lab/app"
	"github.com/cni-cutover/cni-cutover/lab/stage"
	"github.com/cni-cutover/cni-cutover/lab/traffic/load"
)

// evidence is what a verdict on the whole cutover rests on: objects of other people's making, the
// clients' own count, and nothing that the coordinator wrote about itself.
type evidence struct {
	original   map[types.UID]string // nodes of the start
	nodes      []corev1.Node
	pods       []corev1.Pod
	daemonSets []appsv1.DaemonSet
	fence      fenceRecord
	applied    time.Time // when the Cutover was created
	left       time.Time // when the VPC CNI was seen to be gone
	summary    load.Summary
	seen       oracle.Seen // in the API server's audit log
	broken     []string    // laws, by that log
}

// claim is one thing that has to be true, and whether it is.
type claim struct {
	name   string
	holds  bool
	detail string
}

// gather reads the cluster's part of the evidence.
func gather(ctx context.Context, c client.Client) (e evidence, err error) {
	var nodes corev1.NodeList
	var pods corev1.PodList
	var sets appsv1.DaemonSetList
	for _, list := range []client.ObjectList{&nodes, &pods, &sets} {
		if err := c.List(ctx, list); err != nil {
			return e, fmt.Errorf("gathering evidence: %w", err)
		}
	}
	e.nodes, e.pods, e.daemonSets = nodes.Items, pods.Items, sets.Items
	return e, nil
}

// proveCluster judges what can be seen in the cluster.
func proveCluster(e evidence) []claim {
	return []claim{e.nodesAreNew(), e.podsAreInOverlay(), e.legacyIsGone(), e.fenceHeld()}
}

// prove judges everything.
func prove(e evidence) []claim { return append(proveCluster(e), e.lawsHeld(), e.nothingWasLost()) }

func (e evidence) nodesAreNew() claim {
	var wrong []string
	for _, node := range e.nodes {
		switch {
		case e.original[node.UID] != "":
			wrong = append(wrong, node.Name+" is of the start")
		case !isReady(node):
			wrong = append(wrong, node.Name+" is not Ready")
		case node.Spec.Unschedulable:
			wrong = append(wrong, node.Name+" is cordoned")
		}
	}
	if len(e.nodes) != len(e.original) {
		wrong = append(wrong, fmt.Sprintf("there are %d nodes, %d at the start", len(e.nodes), len(e.original)))
	}
	return judge("nodes", wrong, "%d, all Ready, none of the %d of the start", len(e.nodes), len(e.original))
}

func (e evidence) podsAreInOverlay() claim {
	var wrong []string
	workload, replicas := 0, 0
	for _, pod := range e.pods {
		if pod.Spec.HostNetwork {
			continue
		}
		workload++
		ready := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
		switch name := pod.Namespace + "/" + pod.Name; {
		case !stage.InOverlay(pod):
			wrong = append(wrong, fmt.Sprintf("%s has address %q", name, pod.Status.PodIP))
		case !ready || pod.DeletionTimestamp != nil:
			wrong = append(wrong, name+" is not Ready")
		}
	}
	for _, a := range app.Apps() {
		replicas += a.Replicas
	}
	if workload < replicas {
		wrong = append(wrong, fmt.Sprintf("there are %d pods, %d replicas are wanted", workload, replicas))
	}
	return judge("pods", wrong, "%d with a network of their own, all Ready, every address in %s", workload, stage.Overlay())
}

// legacyIsGone does not count records of pods on nodes that are gone: nothing runs there, and the
// pod collector needs up to a minute to remove them.
func (e evidence) legacyIsGone() claim {
	exists, records := map[string]bool{}, 0
	var wrong []string
	for _, node := range e.nodes {
		exists[node.Name] = true
		if value, ok := node.Labels[v1alpha1.FenceLabel]; ok {
			wrong = append(wrong, fmt.Sprintf("%s has the fence label (%s)", node.Name, value))
		}
	}
	for _, set := range e.daemonSets {
		if set.Name == "aws-node" {
			wrong = append(wrong, "DaemonSet "+set.Namespace+"/aws-node exists")
		}
	}
	for _, pod := range e.pods {
		switch {
		case pod.Labels["k8s-app"] != "aws-node":
		case exists[pod.Spec.NodeName]:
			wrong = append(wrong, pod.Name+" is on "+pod.Spec.NodeName)
		default:
			records++
		}
	}
	right := "no DaemonSet aws-node, no pod of it on any node, no fence label"
	if records > 0 {
		right += fmt.Sprintf(" (the pod collector still has to remove %d records of pods whose nodes are gone)", records)
	}
	return judge("VPC CNI", wrong, "%s", right)
}

func (e evidence) fenceHeld() claim {
	f, want := e.fence, len(e.original)
	var wrong []string
	if f.minDesired != want || f.maxDesired != want {
		wrong = append(wrong, fmt.Sprintf("DESIRED of aws-node was between %d and %d while there were %d nodes", f.minDesired, f.maxDesired, want))
	}
	if f.minReady < want-1 {
		wrong = append(wrong, fmt.Sprintf("READY of aws-node fell to %d", f.minReady))
	}
	if !f.bound {
		wrong = append(wrong, "aws-node was never seen bound to the fence label")
	}
	if len(f.unlabelled) > 0 {
		wrong = append(wrong, fmt.Sprintf("aws-node was bound while nodes had no fence label: %v", slices.Compact(slices.Sorted(slices.Values(f.unlabelled)))))
	}
	return judge("fence", wrong, "DESIRED of aws-node stayed %d until the first node left, READY at least %d (%d looks)", want, f.minReady, f.looks)
}

// lawsHeld is the judgement of the API server's audit log. One in which no slot, cordon or eviction of each node was seen
// proves nothing.
func (e evidence) lawsHeld() claim {
	wrong, s := slices.Clone(e.broken), e.seen
	if least := min(s.Grants, s.Cordons, s.Evictions); least < len(e.original) {
		wrong = append(wrong, fmt.Sprintf("the audit log shows only %d grants, %d cordons and %d evictions", s.Grants, s.Cordons, s.Evictions))
	}
	return judge("audit log", wrong, "%d grants, %d cordons, %d evictions: each within the limits, none without a passing answer", s.Grants, s.Cordons, s.Evictions)
}

// nothingWasLost also judges the clients: a rate that was not kept would hide losses.
func (e evidence) nothingWasLost() claim {
	s := e.summary
	took := s.Ended.Sub(s.Started)
	var wrong []string
	if s.Total.Lost > 0 {
		var causes []string
		for _, cause := range slices.Sorted(maps.Keys(s.Total.Causes)) {
			causes = append(causes, fmt.Sprintf("%d %s", s.Total.Causes[cause], cause))
		}
		wrong = append(wrong, fmt.Sprintf("%d of %d requests lost: %s", s.Total.Lost, s.Total.Sent, strings.Join(causes, ", ")))
	}
	if due := s.Rate * took.Seconds() * 0.99; float64(s.Total.Sent) < due || s.Rate < 100 {
		wrong = append(wrong, fmt.Sprintf("%d requests sent in %s at a rate of %g: too few", s.Total.Sent, took, s.Rate))
	}
	if s.Total.Sent != s.Total.OK+s.Total.Lost {
		wrong = append(wrong, fmt.Sprintf("%d sent, but %d answered and %d lost", s.Total.Sent, s.Total.OK, s.Total.Lost))
	}
	if !s.Started.Before(e.applied) || e.left.IsZero() || !s.Ended.After(e.left) {
		wrong = append(wrong, "the clients did not ask from before the cutover until after it")
	}
	return judge("requests", wrong, "%d sent in %.0f s, %.0f a second, each on a new connection: 0 lost", s.Total.Sent, took.Seconds(), s.Rate)
}

func judge(name string, wrong []string, right string, args ...any) claim {
	if len(wrong) > 0 {
		return claim{name: name, detail: strings.Join(wrong, "; ")}
	}
	return claim{name: name, holds: true, detail: fmt.Sprintf(right, args...)}
}

func allHold(claims []claim) bool {
	return !slices.ContainsFunc(claims, func(c claim) bool { return !c.holds })
}
