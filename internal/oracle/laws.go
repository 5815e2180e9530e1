// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// settled is how long a node must have been out of service to count at a grant, or uncordoned by somebody else to count at an
// eviction: what happens between the coordinator's live
// look and its write, it cannot know. Its requests end within 5 s.
const settled = 5 * time.Second

// judgeGrant holds a new slot against the limits that stood in the very object in which it was written.
func (o *Oracle) judgeGrant(e *Event, s *v1alpha1.Slot) {
	o.seen.Grants++
	r := o.cutover.Spec.Rollout
	if total := len(o.cutover.Status.Slots); total > int(r.MaxConcurrent) {
		o.violate(e, "%s got slot %d where rollout.maxConcurrent is %d", s.Node, total, r.MaxConcurrent)
	}
	if out := o.outOfService(e.Received.Time); out > int(r.MaxUnavailable) {
		o.violate(e, "%s got a slot, and %d nodes are out of service where rollout.maxUnavailable is %d", s.Node, out, r.MaxUnavailable)
	}
	if o.cutover.Spec.State != v1alpha1.StateRunning {
		o.violate(e, "%s got a slot while the cutover is %s", s.Node, o.cutover.Spec.State)
	}
	if until, ok := o.passed[s.NodeUID]; !ok || !e.Received.Before(&until) {
		o.violate(e, "%s got a slot without an unexpired passing answer of UID %s", s.Node, s.NodeUID)
	}
}

// outOfService counts slots, and every other node that was cordoned or fell out of Ready before the coordinator could look.
func (o *Oracle) outOfService(at time.Time) int {
	out := len(o.cutover.Status.Slots)
	for _, n := range o.nodes {
		pair := slices.ContainsFunc(o.cutover.Status.Slots, func(s v1alpha1.Slot) bool { return s.NodeUID == n.uid || s.ReplacementUID == n.uid })
		if !pair && !n.outSince.IsZero() && at.Sub(n.outSince) > settled {
			out++
		}
	}
	return out
}

// judgeEviction holds an eviction against the ledger and the answers. The API server may have refused it: asking is enough,
// unless there was nothing to evict any more. A request that was long on its way meets a pod that another coordinator has
// evicted meanwhile, and a slot that has gone on.
func (o *Oracle) judgeEviction(e *Event) {
	if len(e.RequestObject) == 0 && !e.Done() {
		return // it was sent away before anybody read what it asks for
	}
	o.seen.Evictions++
	var request struct {
		DeleteOptions metav1.DeleteOptions `json:"deleteOptions"`
	}
	if json.Unmarshal(e.RequestObject, &request) != nil || request.DeleteOptions.Preconditions == nil || request.DeleteOptions.Preconditions.UID == nil {
		o.violate(e, "the eviction names no pod UID: a pod of the same name elsewhere would be evicted")
		return
	}
	if e.ResponseStatus.Code == http.StatusNotFound {
		return
	}
	which := *request.DeleteOptions.Preconditions.UID
	p := cmp.Or(o.pods[which], o.left[which]) // a kubelet's delete may be answered before the eviction that it follows
	if p == nil || p.node == "" {
		if e.Done() {
			o.violate(e, "a pod was evicted of which the log does not show that it is on a node")
		}
		return
	}
	if n := o.nodes[p.node]; n == nil || p.nodeUID != "" && p.nodeUID != n.uid {
		return // its node has gone meanwhile, and another one may have its name
	}
	uid := o.nodes[p.node].uid
	if !o.allowed(e, uid, evicting) {
		o.violate(e, "the ledger has no slot in Confirm or Drain for %s (UID %s)", p.node, uid)
	}
	if until, ok := o.passed[uid]; !ok {
		o.violate(e, "the agent of %s (UID %s) never passed", p.node, uid)
	} else if !e.Received.Before(&until) {
		o.violate(e, "the answer of %s (UID %s) expired at %s", p.node, uid, until.UTC().Format("15:04:05.000"))
	}
	if n := o.nodes[p.node]; !n.cordoned && !o.doubt.cordons[p.node] && e.Received.Sub(n.openedAt) > settled {
		o.violate(e, "%s is not cordoned", p.node)
	}
}

// judgeCordon holds a change of spec.unschedulable by the coordinator against the ledger and the record of who cordoned.
func (o *Oracle) judgeCordon(e *Event, before, now *node) {
	switch {
	case !before.cordoned && now.cordoned:
		o.seen.Cordons++
		if !o.allowed(e, now.uid, held) {
			o.violate(e, "a node was cordoned without a slot")
		}
		if now.record == nil || now.record.Slot != now.uid {
			o.violate(e, "a node was cordoned without a record of the slot, in the same patch")
		}
	case before.cordoned && !now.cordoned:
		o.seen.Uncordons++
		switch {
		case before.record == nil || before.record.Unschedulable:
			o.violate(e, "a cordon was undone that was not ours")
		case !o.allowed(e, before.record.Slot, ended):
			o.violate(e, "a cordon was undone whose slot is still held")
		}
	}
}

// seePod enters where a pod is and what address it has.
func (o *Oracle) seePod(e *Event) {
	if e.ObjectRef.Subresource == "binding" {
		var binding corev1.Binding
		if json.Unmarshal(e.RequestObject, &binding) == nil && binding.UID != "" {
			o.pods[binding.UID] = &pod{name: e.ObjectRef.Name, node: binding.Target.Name, nodeUID: o.uidOf(binding.Target.Name)}
		}
		return
	}
	var object corev1.Pod
	if !decode(e, &object) || object.UID == "" {
		return
	}
	if e.Verb == "delete" && (object.DeletionGracePeriodSeconds == nil || *object.DeletionGracePeriodSeconds == 0) ||
		object.Status.Phase == corev1.PodSucceeded || object.Status.Phase == corev1.PodFailed {
		o.podGone(object.UID)
		return
	}
	if object.Spec.NodeName == "" {
		return
	}
	if known := o.pods[object.UID]; known == nil {
		o.pods[object.UID] = &pod{}
	}
	p := o.pods[object.UID]
	p.nodeUID = cmp.Or(o.uidOf(object.Spec.NodeName), p.nodeUID)
	p.name, p.node, p.hostNet = object.Namespace+"/"+object.Name, object.Spec.NodeName, object.Spec.HostNetwork
	if object.Status.PodIP != "" && object.Status.PodIP != p.ip && !p.hostNet {
		p.ip = object.Status.PodIP
		o.judgeAddress(e, p)
	}
}

// judgeAddress holds a new pod address against those of the other pods of its node.
func (o *Oracle) judgeAddress(e *Event, fresh *pod) {
	if o.cutover.Spec.Cilium.Install != v1alpha1.InstallSecondary || o.nodes[fresh.node] == nil {
		return
	}
	o.seen.PodAddresses++
	for _, other := range o.pods {
		if other.node == fresh.node && other.ip != "" && o.inOverlay(other.ip) != o.inOverlay(fresh.ip) {
			o.violate(e, "%s serves pods of both CNIs: %s has %s and %s has %s", fresh.node, other.name, other.ip, fresh.name, fresh.ip)
			return
		}
	}
}

func (o *Oracle) inOverlay(ip string) bool {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(o.cutover.Spec.Overlay.PodCIDRs, func(cidr string) bool {
		p, err := netip.ParsePrefix(cidr)
		return err == nil && p.Contains(addr)
	})
}

// legacy are the books of the VPC CNI's DaemonSet.
type legacy struct {
	desired   int32 // at its highest since the fence began to go up; until then, the newest
	nodesGone int   // nodes that have gone since
}

// seeDaemonSet enters the VPC CNI's status and judges its DESIRED, from the beginning of phase FenceLegacy to the end of
// RollNodes: it may fall only with nodes.
func (o *Oracle) seeDaemonSet(e *Event) {
	spec := o.cutover.Spec.Legacy.DaemonSet
	if e.ObjectRef.Name != cmp.Or(spec.Name, "aws-node") || e.ObjectRef.Namespace != cmp.Or(spec.Namespace, "kube-system") {
		return
	}
	phase := o.cutover.Status.Phase
	if e.Verb == "delete" {
		if phase != v1alpha1.PhaseRemoveLegacy && o.acts(e) {
			o.violate(e, "the VPC CNI's DaemonSet was deleted in phase %s", phase)
		}
		return
	}
	var ds appsv1.DaemonSet
	if !decode(e, &ds) {
		return
	}
	now := ds.Status.DesiredNumberScheduled
	switch phase {
	case v1alpha1.PhaseFenceLegacy, v1alpha1.PhaseRollNodes:
		o.seen.LegacyStatus++
		if fell := int(o.legacy.desired - now); fell > o.legacy.nodesGone {
			o.violate(e, "DESIRED fell from %d to %d, and only %d nodes have gone", o.legacy.desired, now, o.legacy.nodesGone)
		}
		o.legacy.desired = max(o.legacy.desired, now) // a node of the old kind may join
	default:
		o.legacy = legacy{desired: now}
	}
}
