// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Phase is one of the six phases of a cutover, in the order in which they happen, or Done after the last.
// +kubebuilder:validation:Enum=DecoupleIngress;InstallCilium;FenceLegacy;RollNodes;RemoveLegacy;FullEBPF;Done
type Phase string

// The phases. A phase begins only when it is in spec.approvedPhases; a phase that people carry out themselves
// (DecoupleIngress, InstallCilium, FullEBPF) is finished by that approval and says until then what has to be done.
const (
	// PhaseDecoupleIngress: Services become NodePort, Ingress targets become instances. People do it.
	PhaseDecoupleIngress Phase = "DecoupleIngress"
	// PhaseInstallCilium: Cilium runs beside the VPC CNI and owns no pod. People do it.
	PhaseInstallCilium Phase = "InstallCilium"
	// PhaseFenceLegacy: the fence label on every node, then the VPC CNI bound to it. The coordinator does it.
	PhaseFenceLegacy Phase = "FenceLegacy"
	// PhaseRollNodes: slot by slot every node is replaced by one that only Cilium serves. The coordinator does it.
	PhaseRollNodes Phase = "RollNodes"
	// PhaseRemoveLegacy: the VPC CNI and the fence label go. The coordinator does it.
	PhaseRemoveLegacy Phase = "RemoveLegacy"
	// PhaseFullEBPF: kube-proxy replacement and BPF masquerade as one bundle. People do it.
	PhaseFullEBPF Phase = "FullEBPF"
	// PhaseDone: nothing is left to do. It is never approved, only reached.
	PhaseDone Phase = "Done"
)

// CutoverSpec is what people want. overlay (except for appended pod CIDRs), legacy and cilium.install never change once
// they are written: nodes that have moved live by them.
// +kubebuilder:validation:XValidation:rule="self.legacy == oldSelf.legacy",message="spec.legacy is immutable: nodes are fenced by it already; delete the Cutover and create another one if it is wrong"
// +kubebuilder:validation:XValidation:rule="self.cilium == oldSelf.cilium",message="spec.cilium is immutable: nodes that have moved were judged by it; delete the Cutover and create another one if it is wrong"
type CutoverSpec struct {
	// overlay is the pod network that nodes move to.
	Overlay Overlay `json:"overlay"`
	// legacy is the CNI that nodes move away from.
	// +kubebuilder:default={}
	// +optional
	Legacy Legacy `json:"legacy,omitzero"`
	// nodes says which nodes are rolled. The fence covers every node whatever this says.
	// +optional
	Nodes Nodes `json:"nodes,omitzero"`
	// cilium says how Cilium was installed.
	// +kubebuilder:default={}
	// +optional
	Cilium Cilium `json:"cilium,omitzero"`
	// rollout bounds how fast nodes are rolled and what makes the roll stop.
	// +kubebuilder:default={}
	// +optional
	Rollout Rollout `json:"rollout,omitzero"`
	// replacement says who replaces a drained node.
	// +kubebuilder:default={type: External}
	// +optional
	Replacement Replacement `json:"replacement,omitzero"`
	// approvedPhases are the phases that a person has approved. A set of its own, so that an approval by kubectl and a spec
	// kept in Git do not revert each other.
	// +listType=set
	// +kubebuilder:validation:MaxItems=6
	// +kubebuilder:validation:XValidation:rule="!('Done' in self)",message="Done is reached, not approved: leave it out of approvedPhases"
	// +optional
	ApprovedPhases []Phase `json:"approvedPhases,omitempty"`
	// waivers name gates and checks that a person has decided to go without, until a date.
	// +listType=map
	// +listMapKey=check
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Waivers []Waiver `json:"waivers,omitempty"`
	// state pauses or ends the handing out of slots. A granted slot always finishes.
	// +kubebuilder:default=Running
	// +optional
	State State `json:"state,omitempty"`
}

// State is what the coordinator may do at all.
// +kubebuilder:validation:Enum=Running;Paused;Aborted
type State string

// The states. Paused and Aborted gate new slots and new phases only; Aborted also takes the leaving taint off again.
const (
	StateRunning State = "Running"
	StatePaused  State = "Paused"
	StateAborted State = "Aborted"
)

// Overlay is the pod network that nodes move to.
// +kubebuilder:validation:XValidation:rule="self.nodeMaskSize == oldSelf.nodeMaskSize",message="overlay.nodeMaskSize is immutable: Cilium cannot change the mask of a pool in use"
// +kubebuilder:validation:XValidation:rule="self.tunnel == oldSelf.tunnel",message="overlay.tunnel is immutable: nodes on different ports cannot reach each other"
// +kubebuilder:validation:XValidation:rule="self.podCIDRs.all(c, !isCIDR(c) || cidr(c).prefixLength() <= self.nodeMaskSize)",message="overlay.nodeMaskSize must not be shorter than the prefix of any pod CIDR: Cilium accepts that and then hands out nothing"
type Overlay struct {
	// podCIDRs are the pools that Cilium cuts node slices from, in Cilium's order. They may be appended to, never changed.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="self.all(c, isCIDR(c) && cidr(c).ip().family() == 4 && cidr(c) == cidr(c).masked())",message="overlay.podCIDRs must be IPv4 networks in CIDR form without host bits, as 10.244.0.0/16"
	// +kubebuilder:validation:XValidation:rule="self.all(a, !isCIDR(a) || self.exists_one(b, isCIDR(b) && (cidr(a).containsCIDR(b) || cidr(b).containsCIDR(a))))",message="overlay.podCIDRs must not overlap: two nodes would get the same slice"
	// +kubebuilder:validation:XValidation:rule="oldSelf.all(c, self.indexOf(c) == oldSelf.indexOf(c))",message="overlay.podCIDRs is append-only: nodes and pods live in the CIDRs that are there"
	PodCIDRs []string `json:"podCIDRs"`
	// nodeMaskSize is the prefix length of one node's slice; 24 gives a node 254 pod addresses.
	// +kubebuilder:default=24
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=30
	// +optional
	NodeMaskSize int32 `json:"nodeMaskSize,omitempty"`
	// tunnel is how packets between nodes are wrapped.
	// +kubebuilder:default={}
	// +optional
	Tunnel Tunnel `json:"tunnel,omitzero"`
}

// Tunnel is how packets between nodes are wrapped.
type Tunnel struct {
	// protocol of the tunnel.
	// +kubebuilder:default=VXLAN
	// +kubebuilder:validation:Enum=VXLAN
	// +optional
	Protocol string `json:"protocol,omitempty"`
	// port is the UDP destination port of the tunnel.
	// +kubebuilder:default=8472
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`
}

// ObjectRef names a namespaced object of a kind that the field knows.
type ObjectRef struct {
	// namespace of the object.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
	// name of the object.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// Legacy is the CNI that nodes move away from.
type Legacy struct {
	// daemonSet is the VPC CNI's DaemonSet.
	// +kubebuilder:default={namespace: kube-system, name: aws-node}
	// +optional
	DaemonSet ObjectRef `json:"daemonSet,omitzero"`
	// fenceLabel is the key of the Node label that, with the value "true", says that the VPC CNI owns the pods of a node.
	// Put it on Node objects only, never on a node group: replacements would inherit it.
	// +kubebuilder:default="io.cilium/aws-node-enabled"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=316
	// +optional
	FenceLabel string `json:"fenceLabel,omitempty"`
}

// Nodes says which nodes are rolled.
type Nodes struct {
	// selector picks the nodes to roll by their labels; absent, all nodes are rolled.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// InstallMode is how Cilium was put beside the VPC CNI.
// +kubebuilder:validation:Enum=Secondary;Shared
type InstallMode string

// The install modes.
const (
	// InstallSecondary: Cilium writes no conflist (cni.customConf=true) until a CiliumNodeConfig tells it to, on nodes
	// without the fence label only. The default and our advice.
	InstallSecondary InstallMode = "Secondary"
	// InstallShared: Cilium writes its conflist on every node (cni.exclusive=false), so new pods on old nodes are overlay
	// pods from the first minute. The reference migration as it was published.
	InstallShared InstallMode = "Shared"
)

// Cilium says how Cilium was installed.
type Cilium struct {
	// install is the install mode.
	// +kubebuilder:default=Secondary
	// +optional
	Install InstallMode `json:"install,omitempty"`
	// daemonSet is Cilium's DaemonSet.
	// +kubebuilder:default={namespace: kube-system, name: cilium}
	// +optional
	DaemonSet ObjectRef `json:"daemonSet,omitzero"`
}

// Replacement says who replaces a drained node; a union by type.
type Replacement struct {
	// type is who replaces nodes. External: the coordinator asks by an annotation on the Node and an Event, and waits.
	// +kubebuilder:default=External
	// +kubebuilder:validation:Enum=External
	// +optional
	Type ReplacementType `json:"type,omitempty"`
	// timeout is how long a drained node may take to disappear after it was asked for.
	// +kubebuilder:default="30m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10s') && duration(self) <= duration('24h')",message="replacement.timeout must be between 10s and 24h"
	// +optional
	Timeout metav1.Duration `json:"timeout,omitzero"`
	// joinTimeout is how long the replacement may take to join and become Ready.
	// +kubebuilder:default="20m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10s') && duration(self) <= duration('24h')",message="replacement.joinTimeout must be between 10s and 24h"
	// +optional
	JoinTimeout metav1.Duration `json:"joinTimeout,omitzero"`
}

// ReplacementType is who replaces nodes.
type ReplacementType string

// ReplacementExternal leaves replacing to the tools or people who own the nodes.
const ReplacementExternal ReplacementType = "External"

// Waiver is a person's decision to go without a gate or a check for a while.
type Waiver struct {
	// check is the name of the gate or check, as a condition or finding prints it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Check string `json:"check"`
	// reason says why it is safe to go without.
	// +kubebuilder:validation:MinLength=10
	// +kubebuilder:validation:MaxLength=512
	Reason string `json:"reason"`
	// until is when the waiver ends by itself.
	Until metav1.Time `json:"until"`
}
