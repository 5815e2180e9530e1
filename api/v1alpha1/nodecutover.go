// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// NodeCutover is the conversation between the coordinator and the agent of one node: spec is the question, status the
// answer. It has the name of its Node, is owned by it and dies with it.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=ncut
// +kubebuilder:printcolumn:name="Role",type=string,JSONPath=".status.role"
// +kubebuilder:printcolumn:name="Verdict",type=string,JSONPath=".status.verdict"
// +kubebuilder:printcolumn:name="Asked",type=string,JSONPath=".spec.challenge.purpose"
// +kubebuilder:printcolumn:name="Fail",type=string,description="reason of the first finding whose verdict is Fail",JSONPath=".status.findings[?(@.verdict=='Fail')].reason"
// +kubebuilder:printcolumn:name="Unknown",type=string,description="reason of the first finding whose verdict is Unknown",JSONPath=".status.findings[?(@.verdict=='Unknown')].reason"
// +kubebuilder:printcolumn:name="Warn",type=string,description="reason of the first finding whose verdict is Warn",priority=1,JSONPath=".status.findings[?(@.verdict=='Warn')].reason"
// +kubebuilder:printcolumn:name="Looked",type=date,JSONPath=".status.observedAt"
// +kubebuilder:printcolumn:name="Agent",type=string,priority=1,JSONPath=".status.agentVersion"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
type NodeCutover struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the coordinator's question; the coordinator alone writes it.
	// +optional
	Spec NodeCutoverSpec `json:"spec,omitzero"`
	// status is the agent's answer; the agent of this node alone writes it.
	// +optional
	Status NodeCutoverStatus `json:"status,omitzero"`
}

// NodeCutoverList is a list of NodeCutovers.
// +kubebuilder:object:root=true
type NodeCutoverList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeCutover `json:"items"`
}

// NodeCutoverSpec is the coordinator's question to one node.
type NodeCutoverSpec struct {
	// nodeUID is the UID of the Node that this object was made for. A Node that was deleted and created again under the
	// same name is another node.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=63
	// +optional
	NodeUID types.UID `json:"nodeUID,omitempty"`
	// challenge is the question that wants an answer now.
	// +optional
	Challenge *Challenge `json:"challenge,omitempty"`
}

// Challenge asks an agent to look again NOW and to say what it sees.
type Challenge struct {
	// id identifies this question; the answer echoes it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	ID string `json:"id"`
	// nodeUID is the UID of the Node that is asked about.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=63
	NodeUID types.UID `json:"nodeUID"`
	// role that the node is judged for: Legacy, Overlay or Mixed.
	Role Role `json:"role"`
	// purpose of the question.
	Purpose Purpose `json:"purpose"`
	// expiresAt is when an answer stops being worth anything.
	ExpiresAt metav1.MicroTime `json:"expiresAt"`
	// requiredChecks are the checks whose findings the coordinator will judge by. A missing one counts as Unknown.
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	RequiredChecks []CheckName `json:"requiredChecks"`
}

// Role is which CNI owns the pods of a node, as its host shows it; never as a label claims it.
// +kubebuilder:validation:Enum=Legacy;Overlay;Mixed;Unknown
type Role string

// The roles.
const (
	// RoleLegacy: the VPC CNI owns the pods.
	RoleLegacy Role = "Legacy"
	// RoleOverlay: Cilium alone owns the pods.
	RoleOverlay Role = "Overlay"
	// RoleMixed: both do; such a node is never relabelled, always replaced first.
	RoleMixed Role = "Mixed"
	// RoleUnknown: the host does not show it yet.
	RoleUnknown Role = "Unknown"
)

// Purpose is what a challenge is for.
// +kubebuilder:validation:Enum=Drain;Validate
type Purpose string

// The purposes.
const (
	// PurposeDrain: may this node be drained?
	PurposeDrain Purpose = "Drain"
	// PurposeValidate: does this replacement work?
	PurposeValidate Purpose = "Validate"
)

// CheckName names a check.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]+$`
type CheckName string

// The checks, in the order in which a report shows them.
const (
	// CheckConflist: which file gives the next pod its network, and is it the one this role wants.
	CheckConflist CheckName = "Conflist"
	// CheckTunnelDevice: is cilium_vxlan there, up, on the right port and of the right MTU.
	CheckTunnelDevice CheckName = "TunnelDevice"
	// CheckPrograms: are Cilium's programs attached where this mode needs them.
	CheckPrograms CheckName = "Programs"
	// CheckOverlayMaps: do Cilium's pinned maps say what is true.
	CheckOverlayMaps CheckName = "OverlayMaps"
	// CheckServices: where Cilium translates Services, do its maps of them lead to backends.
	CheckServices CheckName = "Services"
	// CheckCiliumAlive: is the owner of the datapath alive now.
	CheckCiliumAlive CheckName = "CiliumAlive"
	// CheckOverlayRoutes: does every remote pod CIDR go into the tunnel with room for its overhead.
	CheckOverlayRoutes CheckName = "OverlayRoutes"
	// CheckMTU: do device, routes and the tunnel's overhead fit together, and what the tunnel carries as measured.
	CheckMTU CheckName = "MTU"
	// CheckTunnelMeter: does our own meter at the NIC see what the tunnel carries.
	CheckTunnelMeter CheckName = "TunnelMeter"
	// CheckPodAddresses: is every pod in the network that this role says.
	CheckPodAddresses CheckName = "PodAddresses"
	// CheckLegacyResidue: is anything of the VPC CNI left on an Overlay node.
	CheckLegacyResidue CheckName = "LegacyResidue"
	// CheckDrops: do Cilium's programs drop packets for reasons that mean broken forwarding.
	CheckDrops CheckName = "Drops"
	// CheckKernel: can this kernel carry what Cilium needs.
	CheckKernel CheckName = "Kernel"
)

// Verdict is a judgement. Unknown means that the agent could not tell: wait and look again; it never counts as Pass. NotAsked is
// what was switched off, or is done only when the coordinator asks.
// +kubebuilder:validation:Enum=Pass;Warn;Fail;Unknown;NotAsked
type Verdict string

// The verdicts.
const (
	VerdictPass     Verdict = "Pass"
	VerdictWarn     Verdict = "Warn"
	VerdictFail     Verdict = "Fail"
	VerdictUnknown  Verdict = "Unknown"
	VerdictNotAsked Verdict = "NotAsked"
)

// Worst is the worst verdict of a list: Fail before Unknown before Warn, and Pass where there is none of them.
func Worst[T any](of []T, verdict func(T) Verdict) Verdict {
	for _, worst := range []Verdict{VerdictFail, VerdictUnknown, VerdictWarn} {
		if slices.ContainsFunc(of, func(t T) bool { return verdict(t) == worst }) {
			return worst
		}
	}
	return VerdictPass
}

// NodeCutoverStatus is the agent's report; findings are its whole content, everything else says whose and of when. What an agent
// may write is bounded and plain, because people read it in terminals and every coordinator keeps it in memory: names are
// words, messages are one line of printing characters, and all findings together leave the object below 16 KiB. The rule
// counts what the API server stores of them (Finding.Size), 13,312 bytes of it.
// +kubebuilder:validation:XValidation:rule="!has(self.findings) || self.findings.map(f, 160 + 2 * size(f.check) + size(f.reason) + (!has(f.message) ? 0 : size(bytes(f.message)) + size(f.message.split('\"')) + size(f.message.split('\\\\')) + 5 * (size(f.message.split('<')) + size(f.message.split('>')) + size(f.message.split('&'))) - 17) + (!has(f.evidence) ? 0 : f.evidence.map(e, 120 + 2 * size(e.name) + (has(e.unit) ? size(e.unit) : 0)).sum())).sum() <= 13312",message="the findings are more than a report may hold (the object must stay below 16 KiB): shorten their messages"
type NodeCutoverStatus struct {
	// challengeID echoes the challenge that this report was made for; empty if nobody asked.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9 ._+:~/-]*$`
	// +optional
	ChallengeID string `json:"challengeID,omitempty"`
	// nodeUID is the UID of the Node on which the agent runs.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9 ._+:~/-]*$`
	// +optional
	NodeUID types.UID `json:"nodeUID,omitempty"`
	// bootID is the boot id of the kernel that the agent looked at.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9 ._+:~/-]*$`
	// +optional
	BootID string `json:"bootID,omitempty"`
	// role that the host shows.
	// +optional
	Role Role `json:"role,omitempty"`
	// judgedRole is the role that the findings were judged for: the challenge's, or the host's if nobody asked.
	// +optional
	JudgedRole Role `json:"judgedRole,omitempty"`
	// agentVersion is the version of the agent.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9 ._+:~/-]*$`
	// +optional
	AgentVersion string `json:"agentVersion,omitempty"`
	// observedAt is when the agent looked.
	// +optional
	ObservedAt metav1.MicroTime `json:"observedAt,omitzero"`
	// verdict is the worst verdict of the findings, for people; the coordinator computes its own.
	// +optional
	Verdict Verdict `json:"verdict,omitempty"`
	// findings by check.
	// +listType=map
	// +listMapKey=check
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Findings []Finding `json:"findings,omitempty"`
}

// Finding is the judgement of one check.
type Finding struct {
	// check that found it.
	Check CheckName `json:"check"`
	// verdict of the check.
	Verdict Verdict `json:"verdict"`
	// reason is a constant with a section in docs/runbook.md.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]+$`
	Reason Reason `json:"reason"`
	// message says what was found, where, and what to do next.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^[^\p{C}\p{Zl}\p{Zp}]*$`
	// +kubebuilder:validation:XValidation:rule="size(bytes(self)) <= 512",message="a finding's message must not exceed 512 bytes: cut it at a character"
	// +optional
	Message string `json:"message,omitempty"`
	// evidence are the numbers behind it.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Evidence []Evidence `json:"evidence,omitempty"`
}

// Evidence is one number with its unit.
type Evidence struct {
	// name of the quantity.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9 ._/%-]*$`
	Name string `json:"name"`
	// value of the quantity.
	Value int64 `json:"value"`
	// unit of the quantity, as bytes, entries, nanoseconds.
	// +kubebuilder:validation:MaxLength=31
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9 ._/%-]*$`
	// +optional
	Unit string `json:"unit,omitempty"`
}
