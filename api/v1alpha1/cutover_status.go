// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Cutover is the one intent to move a cluster and the ledger of how far it got. Its name is always "cluster".
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=cut
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=".status.phase"
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=".spec.state"
// +kubebuilder:printcolumn:name="Legacy",type=integer,JSONPath=".status.nodes.legacy"
// +kubebuilder:printcolumn:name="Overlay",type=integer,JSONPath=".status.nodes.overlay"
// +kubebuilder:printcolumn:name="Slot",type=string,description="node of the first slot; a column cannot show a list",JSONPath=".status.slots[0].node"
// +kubebuilder:printcolumn:name="Step",type=string,description="step of the first slot",JSONPath=".status.slots[0].step"
// +kubebuilder:printcolumn:name="Fence",type=string,JSONPath=".status.conditions[?(@.type=='FenceIntact')].status"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=".status.conditions[?(@.type=='Ready')].status"
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=".status.conditions[?(@.type=='Ready')].reason"
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=".status.conditions[?(@.type=='Ready')].message"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'cluster'",message="a Cutover is a singleton: its name must be cluster, because two ledgers would hand out twice as many slots as one"
type Cutover struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what people want.
	Spec CutoverSpec `json:"spec"`
	// status is what the coordinator found and did.
	// +optional
	Status CutoverStatus `json:"status,omitzero"`
}

// CutoverList is a list of Cutovers; it never has more than one item.
// +kubebuilder:object:root=true
type CutoverList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Cutover `json:"items"`
}

// CutoverStatus is what the coordinator found and did; nobody else writes it.
type CutoverStatus struct {
	// observedGeneration is the generation of the spec that this status was computed from.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// phase is the phase that the cutover is in.
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// phases is when each phase began and ended.
	// +listType=map
	// +listMapKey=phase
	// +kubebuilder:validation:MaxItems=7
	// +optional
	Phases []PhaseRecord `json:"phases,omitempty"`
	// conditions are Ready, Reconciling, Stalled, FenceIntact and BudgetExhausted.
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// slots is the ledger: the nodes that may be out of service because of us, by the UID of the node to replace.
	// +listType=map
	// +listMapKey=nodeUID
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Slots []Slot `json:"slots,omitempty"`
	// nodes counts the nodes that are rolled.
	// +optional
	Nodes NodeCounts `json:"nodes,omitzero"`
	// waiting says which nodes cannot get a slot now and why; at most 32, those that are next first.
	// +listType=map
	// +listMapKey=node
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Waiting []Waiting `json:"waiting,omitempty"`
	// finished are the last slots that ended, the newest last. A NodeCutover dies with its Node; this is what remains.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Finished []FinishedSlot `json:"finished,omitempty"`
	// rolled is how many slots have ended with a validated replacement since the Cutover was created.
	// +optional
	Rolled int32 `json:"rolled,omitempty"`
}

// The condition types of a Cutover. Ready, Reconciling and Stalled mean what kstatus means by them.
const (
	// ConditionReady is True when the approved phases are done and nothing is in motion.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the coordinator has something to do or to wait for.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when nothing can go on before a person acts.
	ConditionStalled = "Stalled"
	// ConditionFenceIntact is True while every Legacy node carries the fence label, the VPC CNI is bound to it and the
	// CiliumNodeConfig is in place. While it is False no slot is granted and no drain begins.
	ConditionFenceIntact = "FenceIntact"
	// ConditionBudgetExhausted is True while as many slots are held as rollout.failureBudget allows.
	ConditionBudgetExhausted = "BudgetExhausted"
)

// PhaseRecord is when a phase began and ended.
// +structType=atomic
type PhaseRecord struct {
	// phase that this is about.
	Phase Phase `json:"phase"`
	// startedAt is when the phase was entered.
	// +optional
	StartedAt metav1.Time `json:"startedAt,omitzero"`
	// finishedAt is when its last proof was seen.
	// +optional
	FinishedAt metav1.Time `json:"finishedAt,omitzero"`
}

// NodeCounts counts the nodes that spec.nodes selects, by what their hosts show.
type NodeCounts struct {
	// total of all selected nodes.
	Total int32 `json:"total"`
	// legacy nodes: the VPC CNI owns their pods.
	Legacy int32 `json:"legacy"`
	// overlay nodes: only Cilium owns their pods.
	Overlay int32 `json:"overlay"`
	// mixed nodes: pods of both.
	Mixed int32 `json:"mixed"`
	// unknown: no report yet.
	Unknown int32 `json:"unknown"`
}

// SlotOf returns the slot of a node, by its UID; nil if it has none.
func (s *CutoverStatus) SlotOf(node types.UID) *Slot {
	for i := range s.Slots {
		if s.Slots[i].NodeUID == node {
			return &s.Slots[i]
		}
	}
	return nil
}

// Concerned returns the node whose state a slot waits for: its own as long as that is there to be emptied, then the
// replacement.
func (s *Slot) Concerned() string {
	switch s.Step {
	case StepJoin, StepValidate, StepSoak:
		if s.Replacement != "" {
			return s.Replacement
		}
	}
	return s.Node
}

// Step is where a slot is on its way. docs/phases.md is rendered from the table of the steps.
// +kubebuilder:validation:Enum=Surge;Cordon;Deregister;Confirm;Drain;Detach;Replace;Join;Validate;Soak
type Step string

// The steps of a slot. Without surge: Cordon to Soak; with surge: Surge, Join, Validate, Soak, then Cordon to Replace.
const (
	// StepSurge: one more node was asked for.
	StepSurge Step = "Surge"
	// StepCordon: the node is made unschedulable and taken out of load balancers, in one patch.
	StepCordon Step = "Cordon"
	// StepDeregister: load balancers finish with the node.
	StepDeregister Step = "Deregister"
	// StepConfirm: the agent is asked again, just before the first eviction; told if its answer is late or bad.
	StepConfirm Step = "Confirm"
	// StepDrain: pods are evicted.
	StepDrain Step = "Drain"
	// StepDetach: volumes leave the node.
	StepDetach Step = "Detach"
	// StepReplace: whoever replaces nodes was asked to; the node is expected to disappear.
	StepReplace Step = "Replace"
	// StepJoin: the replacement is expected to join and become Ready.
	StepJoin Step = "Join"
	// StepValidate: the agent on the replacement is asked; told if its answer is late or bad.
	StepValidate Step = "Validate"
	// StepSoak: the replacement must stay healthy for a while.
	StepSoak Step = "Soak"
)

// Steps are those of a slot, in the order of one without surge.
func Steps() []Step {
	return []Step{
		StepSurge, StepCordon, StepDeregister, StepConfirm, StepDrain, StepDetach, StepReplace, StepJoin, StepValidate, StepSoak,
	}
}

// Slot is one line of the ledger: permission for one node to be out of service.
// +structType=atomic
type Slot struct {
	// nodeUID is the UID of the node to replace, and the identity of the slot.
	NodeUID types.UID `json:"nodeUID"`
	// node is the name of the node to replace.
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`
	// providerID of the node to replace, for whoever replaces it.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	ProviderID string `json:"providerID,omitempty"`
	// zone of the node (topology.kubernetes.io/zone).
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Zone string `json:"zone,omitempty"`
	// group of the node (node group or node pool).
	// +kubebuilder:validation:MaxLength=316
	// +optional
	Group string `json:"group,omitempty"`
	// replacement is the name of the node that this slot has claimed.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Replacement string `json:"replacement,omitempty"`
	// replacementUID is the UID of the node that this slot has claimed.
	// +optional
	ReplacementUID types.UID `json:"replacementUID,omitempty"`
	// step that the slot is in.
	Step Step `json:"step"`
	// since is when the step was entered.
	Since metav1.MicroTime `json:"since"`
	// grantedAt is when the slot was granted. A replacement must have been created after it.
	GrantedAt metav1.MicroTime `json:"grantedAt"`
	// reason says in one word what the slot waits for.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Reason Reason `json:"reason,omitempty"`
	// message says it in a sentence.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Message string `json:"message,omitempty"`
	// heldSince is when the step's deadline passed; absent while the slot is in time. A held slot counts against the
	// failure budget and goes on by itself when its cause clears.
	// +optional
	HeldSince *metav1.MicroTime `json:"heldSince,omitempty"`
	// holder is the coordinator that granted the slot.
	// +kubebuilder:validation:MaxLength=253
	Holder string `json:"holder"`
	// generation of the spec under which the slot was granted and finishes.
	Generation int64 `json:"generation"`
	// terms are the parts of that generation that the slot lives by.
	Terms Terms `json:"terms"`
}

// Terms are the parts of a spec that a slot was granted under.
type Terms struct {
	// surge as it was when the slot was granted.
	// +optional
	Surge bool `json:"surge,omitempty"`
	// soak as it was when the slot was granted.
	Soak metav1.Duration `json:"soak"`
	// drain as it was when the slot was granted.
	Drain Drain `json:"drain"`
	// replacement as it was when the slot was granted.
	Replacement Replacement `json:"replacement"`
}

// Waiting says why a node that is next cannot get a slot now.
// +structType=atomic
type Waiting struct {
	// node that waits.
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`
	// reason it waits for.
	// +kubebuilder:validation:MaxLength=63
	Reason Reason `json:"reason"`
	// message says it in a sentence.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Message string `json:"message,omitempty"`
}

// Outcome is how a slot ended.
// +kubebuilder:validation:Enum=Replaced;Released
type Outcome string

// The outcomes.
const (
	// OutcomeReplaced: the replacement is validated and has soaked.
	OutcomeReplaced Outcome = "Replaced"
	// OutcomeReleased: a person gave a held slot back.
	OutcomeReleased Outcome = "Released"
)

// FinishedSlot is what the report keeps of a slot.
// +structType=atomic
type FinishedSlot struct {
	// node that was to be replaced.
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`
	// replacement that took its place; empty if the slot was released before one joined.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Replacement string `json:"replacement,omitempty"`
	// replacementUID is the UID of that node: no other slot may claim it.
	// +optional
	ReplacementUID types.UID `json:"replacementUID,omitempty"`
	// zone of both.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Zone string `json:"zone,omitempty"`
	// outcome of the slot.
	Outcome Outcome `json:"outcome"`
	// grantedAt is when the slot was granted.
	GrantedAt metav1.MicroTime `json:"grantedAt"`
	// finishedAt is when the slot ended.
	FinishedAt metav1.MicroTime `json:"finishedAt"`
}
