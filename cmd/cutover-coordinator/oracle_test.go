// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
	"github.com/cni-cutover/cni-cutover/internal/meddler"
)

// oracle judges writes on their way by what the API server shows at that moment, and knows none of our decisions: never
// more slots than allowed, no eviction without an unexpired passing answer of that very node, no cordon undone that was not
// ours, and the VPC CNI wanted on every Legacy node for as long as there is one.
type oracle struct {
	t     *testing.T
	fleet *fleet.Fleet

	mu        sync.Mutex
	slots     []v1alpha1.Slot // of the last ledger that the API server took
	ledgers   int
	evictions int
}

// see is a meddler's witness.
func (o *oracle) see(r meddler.Request, status int) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	switch {
	case r.Resource == "cutovers" && r.Subresource == "status" && status == http.StatusOK:
		o.ledger(ctx, r)
	case r.Subresource == "eviction" && status == 0:
		o.eviction(ctx, r)
	case r.Resource == "nodes" && r.Subresource == "" && status == 0:
		o.node(ctx, r)
	}
	if status != 0 {
		o.legacy(ctx, r)
	}
}

// ledger is about a ledger that the API server has taken.
func (o *oracle) ledger(ctx context.Context, r meddler.Request) {
	var next v1alpha1.Cutover
	if err := json.Unmarshal(r.Body, &next); err != nil {
		o.t.Errorf("%s: a ledger that cannot be read: %v", r, err)
		return
	}
	var live v1alpha1.Cutover
	if err := o.fleet.Client.Get(ctx, client.ObjectKey{Name: v1alpha1.CutoverName}, &live); err != nil {
		o.t.Error(err)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ledgers++
	for _, s := range next.Status.Slots {
		known := slices.ContainsFunc(o.slots, func(b v1alpha1.Slot) bool { return b.NodeUID == s.NodeUID })
		if !known && len(next.Status.Slots) > int(live.Spec.Rollout.MaxConcurrent) {
			o.t.Errorf("%s: %s was granted a slot, which makes %d of %d", r, s.Node, len(next.Status.Slots), live.Spec.Rollout.MaxConcurrent)
		}
	}
	o.slots = next.Status.Slots
}

// eviction is about an Eviction that is about to be posted.
func (o *oracle) eviction(ctx context.Context, r meddler.Request) {
	o.mu.Lock()
	o.evictions++
	o.mu.Unlock()
	var (
		pod  corev1.Pod
		node corev1.Node
		nc   v1alpha1.NodeCutover
		live v1alpha1.Cutover
	)
	c := o.fleet.Client
	if err := c.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: r.Name}, &pod); err != nil {
		return // gone: nothing will be evicted
	}
	for name, object := range map[string]client.Object{pod.Spec.NodeName: &node, v1alpha1.CutoverName: &live} {
		if err := c.Get(ctx, client.ObjectKey{Name: name}, object); err != nil {
			o.t.Errorf("%s, on node %q: %v", r, pod.Spec.NodeName, err)
			return
		}
	}
	i := slices.IndexFunc(live.Status.Slots, func(s v1alpha1.Slot) bool { return s.NodeUID == node.UID })
	if i < 0 || live.Status.Slots[i].Step != v1alpha1.StepDrain {
		o.t.Errorf("%s: its node %s (%s) has no slot in step Drain: %+v", r, node.Name, node.UID, live.Status.Slots)
	}
	if err := c.Get(ctx, client.ObjectKey{Name: node.Name}, &nc); err != nil {
		o.t.Errorf("%s: %v", r, err)
		return
	}
	if why := unsafe(&node, &nc); why != "" {
		o.t.Errorf("%s: node %s may not be drained: %s; asked %+v, answered %+v", r, node.Name, why, nc.Spec.Challenge, nc.Status)
	}
}

// unsafe says why a NodeCutover does not allow its node to be drained now.
func unsafe(node *corev1.Node, nc *v1alpha1.NodeCutover) string {
	c, s := nc.Spec.Challenge, nc.Status
	switch {
	case c == nil || c.Purpose != v1alpha1.PurposeDrain:
		return "nobody asked for that"
	case c.NodeUID != node.UID || s.NodeUID != node.UID:
		return "question or answer is of another node"
	case s.ChallengeID != c.ID:
		return "there is no answer to this question"
	case s.BootID != node.Status.NodeInfo.BootID:
		return "the answer is of another boot"
	case !time.Now().Before(c.ExpiresAt.Time):
		return "the answer has expired"
	}
	for _, check := range c.RequiredChecks {
		if !slices.ContainsFunc(s.Findings, func(f v1alpha1.Finding) bool {
			return f.Check == check && (f.Verdict == v1alpha1.VerdictPass || f.Verdict == v1alpha1.VerdictWarn)
		}) {
			return "no passing finding of " + string(check)
		}
	}
	return ""
}

// node is about a patch of a Node that is about to be sent.
func (o *oracle) node(ctx context.Context, r meddler.Request) {
	var patch struct {
		Spec struct {
			Unschedulable *bool `json:"unschedulable"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(r.Body, &patch); err != nil {
		o.t.Errorf("%s: a patch that cannot be read: %v", r, err)
		return
	}
	if patch.Spec.Unschedulable == nil || *patch.Spec.Unschedulable {
		return
	}
	var n corev1.Node
	if err := o.fleet.Client.Get(ctx, client.ObjectKey{Name: r.Name}, &n); err != nil {
		return
	}
	var record struct {
		Slot          string `json:"slot"`
		Unschedulable bool   `json:"unschedulable"`
	}
	if err := json.Unmarshal([]byte(n.Annotations[v1alpha1.AnnotationCordon]), &record); err != nil || record.Slot != string(n.UID) || record.Unschedulable {
		o.t.Errorf("%s: a cordon is undone that is not ours: %q", r, n.Annotations[v1alpha1.AnnotationCordon])
	}
}

// legacy is about the VPC CNI after any write: until it is deleted it is wanted on every Legacy node, of which there are ever
// fewer.
func (o *oracle) legacy(ctx context.Context, r meddler.Request) {
	var nodes corev1.NodeList
	if err := o.fleet.Client.List(ctx, &nodes); err != nil {
		o.t.Error(err)
		return
	}
	left := int32(0)
	for _, n := range nodes.Items {
		if n.Annotations[fleet.RoleAnnotation] == string(v1alpha1.RoleLegacy) {
			left++
		}
	}
	if left == 0 {
		return
	}
	var ds appsv1.DaemonSet
	if err := o.fleet.Client.Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: "aws-node"}, &ds); err != nil {
		o.t.Errorf("%s: %d Legacy nodes are left: %v", r, left, err)
	} else if ds.Status.DesiredNumberScheduled < left {
		o.t.Errorf("%s: the VPC CNI is wanted on %d of %d Legacy nodes", r, ds.Status.DesiredNumberScheduled, left)
	}
}

// evicted is how many Evictions were posted.
func (o *oracle) evicted() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.evictions
}

// judged fails the test if the oracle had nothing to judge: then it has proved nothing.
func (o *oracle) judged(ledgers, evictions int) {
	o.t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ledgers < ledgers || o.evictions < evictions {
		o.t.Errorf("the oracle saw %d ledgers and %d evictions, want at least %d and %d", o.ledgers, o.evictions, ledgers, evictions)
	}
}
