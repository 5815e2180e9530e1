// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/vpccni"
)

// World is everything a Decision is made from. The ledger (Cutover.Status) must have been read live, never from a cache;
// all else may lag, because the ledger is written by compare-and-swap.
type World struct {
	// Now is when the world was read.
	Now time.Time
	// Term identifies this leadership: a coordinator that gains it asks every question again.
	Term string
	// Holder is the name of this coordinator.
	Holder string
	// OwnNode is the name of the node on which this coordinator runs; it is rolled last.
	OwnNode string
	// Cutover is the intent and the ledger.
	Cutover *v1alpha1.Cutover
	// Nodes are all nodes of the cluster, selected or not. They may be out of date, but those that Depends names are missing
	// only if they are gone.
	Nodes []Node
	// Legacy is the VPC CNI's DaemonSet.
	Legacy Legacy
	// Cilium is Cilium's DaemonSet.
	Cilium Cilium
	// NodeConfig is our CiliumNodeConfig.
	NodeConfig NodeConfig
	// Drains are the pods left on the nodes of slots in step Drain, by the UID of the node.
	Drains map[types.UID]Drain
	// Volumes are the names of the volumes attached to the nodes of slots in step Detach, by the UID of the node. A node
	// that is missing here has not been looked at, which is not the same as having none.
	Volumes map[types.UID][]string
	// Live says what else was read from the API server, after the ledger.
	Live Live
	// SelectorErr is set when spec.nodes.selector cannot be parsed; no node is selected then.
	SelectorErr error
}

// Live says what of a World is no older than its ledger. All else may have come from caches that lag.
type Live struct {
	// Everything includes all of the following.
	Everything bool
	// Nodes are all nodes, without their answers, the DaemonSets of both CNIs and the CiliumNodeConfig.
	Nodes bool
	// Answers are the nodes whose NodeCutovers were read, by the nodes' UIDs.
	Answers map[types.UID]bool
}

// Node is one node of the cluster as the API server shows it, with the answer of its agent.
type Node struct {
	Name       string
	UID        types.UID
	BootID     string
	ProviderID string
	Zone       string
	Group      string
	Created    time.Time
	// Deleting is true from the moment the Node object has a deletion timestamp.
	Deleting bool
	// Ready is the Ready condition being True.
	Ready bool
	// WasReady is false for a node that is joining: it has never been Ready.
	WasReady bool
	// Cordoned is spec.unschedulable.
	Cordoned bool
	// CordonedBy is the slot named by our cordon annotation, empty without one.
	CordonedBy types.UID
	// Excluded is the label that takes the node out of load balancers.
	Excluded bool
	// FenceLabel is the fence label with its one meaningful value.
	FenceLabel bool
	// Leaving is our PreferNoSchedule taint.
	Leaving bool
	// SafeShown is the SafeToDrain condition being True. It is looked at only to take it down.
	SafeShown bool
	// OptOut is the value of the opt-out annotation; OptedOut says whether there is one.
	OptOut   string
	OptedOut bool
	// ReplaceAsked and SurgeAsked are the slots named by the annotations that ask for replacement.
	ReplaceAsked types.UID
	SurgeAsked   types.UID
	// Selected says whether spec.nodes selects the node.
	Selected bool
	// LegacyPod says whether a pod of the VPC CNI's DaemonSet is on the node, whatever its state.
	LegacyPod bool
	// CiliumPods are the pods of Cilium's DaemonSet on the node.
	CiliumPods []Pod
	// Cutover is the node's NodeCutover; nil if there is none.
	Cutover *v1alpha1.NodeCutover
	// NameTaken is true while the NodeCutover of an earlier node of the same name is still there. It dies with that node's
	// owner reference.
	NameTaken bool
}

// NodeRef names a node exactly.
type NodeRef struct {
	Name string
	UID  types.UID
}

// Depends returns the nodes whose absence moves a slot: its replacement, and its own node as long as it has not been given
// up. That a World does not hold one of them has to mean that it is gone.
func Depends(slots []v1alpha1.Slot) []NodeRef {
	var refs []NodeRef
	for i := range slots {
		s := &slots[i]
		if row, known := stepOf(s.Step); known && row.Vanished != "" {
			refs = append(refs, NodeRef{s.Node, s.NodeUID})
		}
		if s.ReplacementUID != "" {
			refs = append(refs, NodeRef{s.Replacement, s.ReplacementUID})
		}
	}
	return refs
}

// Pod names a pod exactly: a pod that was re-created under the same name has another UID.
type Pod struct {
	Namespace string
	Name      string
	UID       types.UID
	Created   time.Time
}

// Drain is what is left to do before a node is empty.
type Drain struct {
	// Evict are the pods that have to go and have not been told yet.
	Evict []Pod
	// Going is how many pods are on their way out.
	Going int
	// Leaving names those that are on their way out.
	Leaving []Leaving
	// Impossible names, a sentence each, pods that the slot's drain options do not allow to be deleted.
	Impossible []string
}

// Leaving is a pod that was told to go.
type Leaving struct {
	// Pod is its namespace and name.
	Pod string
	// Due is when it is over even if its processes need all of their grace.
	Due time.Time
	// Finalizers keep the object until somebody removes them.
	Finalizers []string
}

// Empty says whether nothing is left to leave the node.
func (d Drain) Empty() bool { return len(d.Evict) == 0 && d.Going == 0 && len(d.Impossible) == 0 }

// Rollout is how far a DaemonSet has rolled out.
type Rollout struct {
	Desired int32
	Updated int32
	Ready   int32
	// Current is false while the DaemonSet controller has not seen the newest generation yet.
	Current bool
}

// Done says whether every desired pod is updated and ready.
func (r Rollout) Done() bool {
	return r.Current && r.Updated == r.Desired && r.Ready == r.Desired
}

// Legacy is the VPC CNI's DaemonSet.
type Legacy struct {
	Found   bool
	UID     types.UID
	Rollout Rollout
	// Fenced says whether the DaemonSet's nodeSelector asks for the fence label.
	Fenced bool
	// Settings decide who reaches whom while pods of both CNIs run.
	vpccni.Settings
}

// Cilium is Cilium's DaemonSet.
type Cilium struct {
	Found   bool
	Rollout Rollout
	// StripsRules says whether its agent container removes the VPC CNI's iptables rules after every start
	// (cni.iptablesRemoveAWSRules, Cilium's install/kubernetes/cilium/files/agent/poststart-eni.bash).
	StripsRules bool
}

// NodeConfig is our CiliumNodeConfig.
type NodeConfig struct {
	Found bool
	// Intact says whether selector and defaults are as we wrote them.
	Intact  bool
	Created time.Time
}

// report returns the node's report if it is about this very node and this very boot, and nil otherwise.
func (n *Node) report() *v1alpha1.NodeCutoverStatus {
	if n.Cutover == nil {
		return nil
	}
	s := &n.Cutover.Status
	if s.NodeUID != n.UID || s.BootID == "" || s.BootID != n.BootID {
		return nil
	}
	return s
}

// restarted says whether the node's report is about this node and an earlier boot of it.
func (n Node) restarted() bool {
	return n.Cutover != nil && n.Cutover.Status.NodeUID == n.UID && n.Cutover.Status.BootID != "" && n.Cutover.Status.BootID != n.BootID
}

// Role is which CNI owns the node's pods, by the evidence of its host.
func (n *Node) Role() v1alpha1.Role {
	if r := n.report(); r != nil && r.Role != "" {
		return r.Role
	}
	return v1alpha1.RoleUnknown
}

// marked returns the slot that a cordon or a request of ours on the node names; empty without any.
func (n *Node) marked() types.UID { return cmp.Or(n.CordonedBy, n.SurgeAsked, n.ReplaceAsked) }
