// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Reason is one word for why something is as it is: a finding's, a slot's, a waiting node's or a condition's. Every one
// is listed here and has a section in docs/runbook.md under its own name; tests hold both to that.
// +kubebuilder:validation:MaxLength=63
type Reason string

// Reasons of findings that are well, of any check.
const (
	// AsWanted: the check found what the role wants.
	AsWanted Reason = "AsWanted"
	// SwitchedOff: the chart switched the check off.
	SwitchedOff Reason = "SwitchedOff"
	// NotOnThisRole: the check has nothing to say about a node of this role.
	NotOnThisRole Reason = "NotOnThisRole"
)

// Reasons of findings that could not be judged, of any check.
const (
	// RoleUndecided: the host does not show yet which CNI owns its pods, so there is nothing to judge it by.
	RoleUndecided Reason = "RoleUndecided"
	// HostUnreadable: interfaces, routes, rules or attached programs of the host could not be read.
	HostUnreadable Reason = "HostUnreadable"
	// UnderlayUnknown: no interface carries the node's own address or the default route.
	UnderlayUnknown Reason = "UnderlayUnknown"
)

// Reasons of the check Conflist.
const (
	// ConflistWrongCNI: another CNI than the role wants gives the next pod its network.
	ConflistWrongCNI Reason = "ConflistWrongCNI"
	// ConflistForeignFirst: a file of neither CNI sorts first.
	ConflistForeignFirst Reason = "ConflistForeignFirst"
	// ConflistBroken: the first file cannot be loaded, so the node has no network for new pods.
	ConflistBroken Reason = "ConflistBroken"
	// ConflistNone: the directory is missing or holds no configuration.
	ConflistNone Reason = "ConflistNone"
	// ConflistUnreadable: the directory cannot be read, or changed during every attempt.
	ConflistUnreadable Reason = "ConflistUnreadable"
	// ConflistLeftovers: the right file wins, but others lie behind it.
	ConflistLeftovers Reason = "ConflistLeftovers"
	// ConflistSetAside: the right file wins, and Cilium has set another one aside (cni.exclusive).
	ConflistSetAside Reason = "ConflistSetAside"
	// ConflistSharedWindow: in install mode Shared, Cilium wins on a Legacy node, as that mode has it.
	ConflistSharedWindow Reason = "ConflistSharedWindow"
	// ConflistChained: Cilium is chained behind the VPC CNI, which this migration does not move.
	ConflistChained Reason = "ConflistChained"
)

// Reasons of the check TunnelDevice.
const (
	// TunnelMissing: there is no cilium_vxlan.
	TunnelMissing Reason = "TunnelMissing"
	// TunnelDown: cilium_vxlan, cilium_host or cilium_net is not up.
	TunnelDown Reason = "TunnelDown"
	// TunnelWrongKind: cilium_vxlan is not a collect-metadata VXLAN device.
	TunnelWrongKind Reason = "TunnelWrongKind"
	// TunnelWrongPort: cilium_vxlan listens on another port than the Cutover says.
	TunnelWrongPort Reason = "TunnelWrongPort"
	// TunnelPortTaken: another VXLAN device has the tunnel's port.
	TunnelPortTaken Reason = "TunnelPortTaken"
	// TunnelWrongMTU: cilium_vxlan's MTU is not that of the underlay.
	TunnelWrongMTU Reason = "TunnelWrongMTU"
)

// Reasons of the check Programs.
const (
	// ProgramMissing: a program that this mode needs is not attached.
	ProgramMissing Reason = "ProgramMissing"
	// ModeUnclear: whether the sockets of this node must have programs cannot be told.
	ModeUnclear Reason = "ModeUnclear"
	// ModeTooEarly: kube-proxy replacement, node ports or masquerade in BPF is on where pods of the VPC CNI are.
	ModeTooEarly Reason = "ModeTooEarly"
	// ProgramUsesOldMap: an attached program, or one that it calls, uses a map that was pinned before the present one.
	ProgramUsesOldMap Reason = "ProgramUsesOldMap"
	// MapUsesUnknown: which maps the attached programs use was to be asked, and could not be.
	MapUsesUnknown Reason = "MapUsesUnknown"
)

// Reasons of the check OverlayMaps.
const (
	// MapMissing: a map that must be pinned is not.
	MapMissing Reason = "MapMissing"
	// MapLayoutUnknown: a pinned map has a layout of no release that is known here.
	MapLayoutUnknown Reason = "MapLayoutUnknown"
	// MapIncomplete: a map lacks what Cilium enters when it starts.
	MapIncomplete Reason = "MapIncomplete"
	// MapUnreadable: a pinned map cannot be opened or read.
	MapUnreadable Reason = "MapUnreadable"
	// EndpointWrong: a local pod does not decode to a real interface and MAC of this node.
	EndpointWrong Reason = "EndpointWrong"
	// EndpointMissing: a local pod has no entry in the endpoint map.
	EndpointMissing Reason = "EndpointMissing"
	// PeerMissing: a peer's pod CIDR has no tunnel entry.
	PeerMissing Reason = "PeerMissing"
	// PeerWrongEndpoint: a peer's pod CIDR, or an address of Cilium's in it, leads to another node.
	PeerWrongEndpoint Reason = "PeerWrongEndpoint"
	// PeersUnknown: the CiliumNode objects could not be read.
	PeersUnknown Reason = "PeersUnknown"
	// NothingToProve: there is no local endpoint or no peer by which the maps could be proved.
	NothingToProve Reason = "NothingToProve"
)

// Reasons of the check Services.
const (
	// ServiceMissing: Cilium's map of Services lacks one that has ready endpoints, or holds none at all.
	ServiceMissing Reason = "ServiceMissing"
	// ServiceBroken: a place at a Service's address is empty, or names a backend that does not exist.
	ServiceBroken Reason = "ServiceBroken"
	// ServiceWrong: a Service has other backends than its EndpointSlices.
	ServiceWrong Reason = "ServiceWrong"
	// ServicesUnknown: the API server does not say what Services should be.
	ServicesUnknown Reason = "ServicesUnknown"
)

// Reasons of the check CiliumAlive.
const (
	// CiliumStopped: the liveness that Cilium's agent writes every second is old.
	CiliumStopped Reason = "CiliumStopped"
	// CiliumLivenessUnreadable: the liveness could not be read.
	CiliumLivenessUnreadable Reason = "CiliumLivenessUnreadable"
	// CiliumSilent: Cilium's agent lives and does not answer at its socket.
	CiliumSilent Reason = "CiliumSilent"
	// CiliumUnwell: Cilium's agent lives and says that something is wrong with it.
	CiliumUnwell Reason = "CiliumUnwell"
	// CiliumProbesFail: Cilium's own probes reach other nodes, and none of them through the tunnel.
	CiliumProbesFail Reason = "CiliumProbesFail"
)

// Reasons of the check OverlayRoutes.
const (
	// RouteMissing: a peer's pod CIDR has no route into the tunnel.
	RouteMissing Reason = "RouteMissing"
	// RouteElsewhere: a peer's pod CIDR is routed past the tunnel.
	RouteElsewhere Reason = "RouteElsewhere"
	// RouteWithoutMTU: a route into the tunnel does not carry the tunnel's MTU.
	RouteWithoutMTU Reason = "RouteWithoutMTU"
	// LegacyPodAstray: packets of a pod of the VPC CNI's to the overlay would leave past the tunnel.
	LegacyPodAstray Reason = "LegacyPodAstray"
	// LegacyPodRefused: the kernel would not forward packets of a pod of the VPC CNI's to the overlay.
	LegacyPodRefused Reason = "LegacyPodRefused"
	// LegacyPodUnseen: a pod of the VPC CNI's has no route on this host, so its path cannot be asked for.
	LegacyPodUnseen Reason = "LegacyPodUnseen"
	// ForwardingOff: the host forwards no packets.
	ForwardingOff Reason = "ForwardingOff"
	// SourceCheckStrict: one of Cilium's interfaces drops packets whose source is not routed back to it.
	SourceCheckStrict Reason = "SourceCheckStrict"
)

// Reasons of the check MTU.
const (
	// MTUNoRoom: the routes leave less room than the encapsulation needs, so packets are cut.
	MTUNoRoom Reason = "MTUNoRoom"
	// OverlayPastTunnel: answers from addresses of the overlay did not come out of the tunnel.
	OverlayPastTunnel Reason = "OverlayPastTunnel"
	// MTUWasteful: the routes leave more room than the encapsulation needs.
	MTUWasteful Reason = "MTUWasteful"
	// MTUUnknown: there is no route or device to read the MTU from.
	MTUUnknown Reason = "MTUUnknown"
	// FragmentsSent: this node cuts its own packets of the tunnel in pieces.
	FragmentsSent Reason = "FragmentsSent"
	// FragmentsReceived: peers' packets of the tunnel arrive in pieces.
	FragmentsReceived Reason = "FragmentsReceived"
	// TooBigReported: routers report packets of the tunnel that were too big for them.
	TooBigReported Reason = "TooBigReported"
	// OverheadUnexpected: the tunnel adds more to a packet than its encapsulation does.
	OverheadUnexpected Reason = "OverheadUnexpected"
	// PathTooNarrow: a path to a peer, or back from it, does not carry packets as large as the tunnel sends.
	PathTooNarrow Reason = "PathTooNarrow"
	// OverlayTooNarrow: the tunnel to a peer, or back from it, does not carry packets as large as pods send.
	OverlayTooNarrow Reason = "OverlayTooNarrow"
)

// Reasons of the check TunnelMeter.
const (
	// MeterAtRest: nobody asks, so nothing is measured.
	MeterAtRest Reason = "MeterAtRest"
	// MeterNotAllowed: the agent lacks a capability that the meter needs.
	MeterNotAllowed Reason = "MeterNotAllowed"
	// MeterFailed: the meter could not be attached or read.
	MeterFailed Reason = "MeterFailed"
	// NothingMeasured: the meter is attached and has seen no packet of a peer yet.
	NothingMeasured Reason = "NothingMeasured"
)

// Reasons of the check PodAddresses.
const (
	// PodOutsideOverlay: a pod of an Overlay node has no address of this node's slice.
	PodOutsideOverlay Reason = "PodOutsideOverlay"
	// PodInOverlay: a pod of a Legacy node has an overlay address already.
	PodInOverlay Reason = "PodInOverlay"
	// PodsUnknown: the pods of this node could not be listed.
	PodsUnknown Reason = "PodsUnknown"
	// PodsPending: a pod has no address yet.
	PodsPending Reason = "PodsPending"
	// SliceUnknown: this node's slice of the overlay is not known.
	SliceUnknown Reason = "SliceUnknown"
	// PodsShared: in install mode Shared, pods of both networks live on a Legacy node, as that mode has it.
	PodsShared Reason = "PodsShared"
)

// Reasons of the check LegacyResidue.
const (
	// LegacyRunning: the VPC CNI's pod runs on this node.
	LegacyRunning Reason = "LegacyRunning"
	// LegacyRules: the VPC CNI's routing rules are on this node.
	LegacyRules Reason = "LegacyRules"
	// LegacyTables: routing tables that the VPC CNI makes for secondary ENIs are on this node.
	LegacyTables Reason = "LegacyTables"
	// LegacyVeths: veth pairs that the VPC CNI made are on this node, of no pod.
	LegacyVeths Reason = "LegacyVeths"
	// LegacyNetfilter: a table, chains or rules that the VPC CNI makes in netfilter are on this node.
	LegacyNetfilter Reason = "LegacyNetfilter"
	// LegacyUnknown: rules, pods or netfilter's tables could not be read.
	LegacyUnknown Reason = "LegacyUnknown"
)

// Reasons of the check Drops.
const (
	// ForwardingDrops: Cilium's programs drop packets because something in the datapath is missing.
	ForwardingDrops Reason = "ForwardingDrops"
	// DropsUnmeasured: there is no earlier look by which a rise could be told.
	DropsUnmeasured Reason = "DropsUnmeasured"
	// DropsUnknown: Cilium's counters could not be read.
	DropsUnknown Reason = "DropsUnknown"
)

// Reasons of the check Kernel.
const (
	// KernelTooOld: Cilium 1.18 needs 5.10.
	KernelTooOld Reason = "KernelTooOld"
	// KernelUnknown: the release could not be read or parsed.
	KernelUnknown Reason = "KernelUnknown"
)

// Reasons for which a node waits for a slot.
const (
	// NoAnswer: the node's agent has not answered the challenge yet.
	NoAnswer Reason = "NoAnswer"
	// AnswerRefused: the answer is of another node, boot, role or question.
	AnswerRefused Reason = "AnswerRefused"
	// NodeNotSafe: the agent's findings do not allow a drain.
	NodeNotSafe Reason = "NodeNotSafe"
	// NodeNotReady: the node is NotReady; a node that is out of service already is not drained.
	NodeNotReady Reason = "NodeNotReady"
	// CordonedByOthers: somebody else has cordoned the node.
	CordonedByOthers Reason = "CordonedByOthers"
	// OptedOut: a person keeps the node out of the roll.
	OptedOut Reason = "OptedOut"
	// SlotsTaken: rollout.maxConcurrent is reached.
	SlotsTaken Reason = "SlotsTaken"
	// ZoneSlotsTaken: rollout.maxConcurrentPerZone is reached.
	ZoneSlotsTaken Reason = "ZoneSlotsTaken"
	// TooManyUnavailable: rollout.maxUnavailable is reached.
	TooManyUnavailable Reason = "TooManyUnavailable"
	// CanaryRunning: a canary is on its way.
	CanaryRunning Reason = "CanaryRunning"
	// OutsideWindow: no window is open.
	OutsideWindow Reason = "OutsideWindow"
	// CoordinatorLast: the coordinator's own node comes last.
	CoordinatorLast Reason = "CoordinatorLast"
	// MixedFirst: Mixed nodes come first.
	MixedFirst Reason = "MixedFirst"
)

// Reasons for which a slot waits.
const (
	// Cordoning: the cordon is being written.
	Cordoning Reason = "Cordoning"
	// Deregistering: load balancers finish with the node.
	Deregistering Reason = "Deregistering"
	// Evicting: pods are leaving.
	Evicting Reason = "Evicting"
	// EvictionBlocked: a PodDisruptionBudget does not allow an eviction.
	EvictionBlocked Reason = "EvictionBlocked"
	// EvictionRefused: the API server refuses an eviction for another reason.
	EvictionRefused Reason = "EvictionRefused"
	// BudgetsOverlap: more than one PodDisruptionBudget selects a pod, and the API server evicts no such pod.
	BudgetsOverlap Reason = "BudgetsOverlap"
	// PodStuck: a pod was told to go, should be gone by now, and is not.
	PodStuck Reason = "PodStuck"
	// DrainImpossible: pods that the drain options do not allow to be deleted are on the node.
	DrainImpossible Reason = "DrainImpossible"
	// VolumesAttached: volumes are still attached to the node.
	VolumesAttached Reason = "VolumesAttached"
	// AwaitingReplacement: the node was asked to be replaced and is still there.
	AwaitingReplacement Reason = "AwaitingReplacement"
	// AwaitingNode: no node that the slot could claim has joined.
	AwaitingNode Reason = "AwaitingNode"
	// ReplacementElsewhere: a node joined, but in another zone or group.
	ReplacementElsewhere Reason = "ReplacementElsewhere"
	// ReplacementNotReady: the replacement has joined and is not Ready.
	ReplacementNotReady Reason = "ReplacementNotReady"
	// ReplacementUnhealthy: the agent on the replacement does not answer Pass.
	ReplacementUnhealthy Reason = "ReplacementUnhealthy"
	// Soaking: the replacement must stay healthy for a while.
	Soaking Reason = "Soaking"
	// FenceOpen: the fence is not intact, so nothing may be drained.
	FenceOpen Reason = "FenceOpen"
	// CordonChanged: our cordon is no longer as we made it.
	CordonChanged Reason = "CordonChanged"
	// WriteRefused: the API server refused a write of ours.
	WriteRefused Reason = "WriteRefused"
	// PermissionMissing: the coordinator's account has no right to a read or a write that it needs.
	PermissionMissing Reason = "PermissionMissing"
	// AdmissionRefused: a webhook, an admission policy or a quota refused a write of ours.
	AdmissionRefused Reason = "AdmissionRefused"
)

// Reasons of conditions of a Cutover.
const (
	// AwaitingApproval: the next phase is not in spec.approvedPhases.
	AwaitingApproval Reason = "AwaitingApproval"
	// Progressing: the phase goes on.
	Progressing Reason = "Progressing"
	// Paused: spec.state is Paused.
	Paused Reason = "Paused"
	// Aborted: spec.state is Aborted.
	Aborted Reason = "Aborted"
	// BudgetSpent: as many slots are held as rollout.failureBudget allows.
	BudgetSpent Reason = "BudgetSpent"
	// WithinBudget: fewer slots are held than rollout.failureBudget allows.
	WithinBudget Reason = "WithinBudget"
	// CutoverComplete: nothing is left to do.
	CutoverComplete Reason = "CutoverComplete"
	// NotStalled: nothing needs a person.
	NotStalled Reason = "NotStalled"
	// CanaryTooLarge: rollout.canary is larger than the number of selected nodes.
	CanaryTooLarge Reason = "CanaryTooLarge"
	// WindowInvalid: a window names a time zone that is not known.
	WindowInvalid Reason = "WindowInvalid"
	// SelectorInvalid: spec.nodes.selector cannot be parsed, or selects no node.
	SelectorInvalid Reason = "SelectorInvalid"
	// CiliumMissing: Cilium's DaemonSet is missing or not rolled out.
	CiliumMissing Reason = "CiliumMissing"
	// LegacySettings: the VPC CNI lacks the settings without which Services break in the hybrid window. Also the name of the
	// gate that a waiver names.
	LegacySettings Reason = "LegacySettings"
	// CiliumStripsRules: Cilium would remove the VPC CNI's iptables rules. Also the name of the gate that a waiver names.
	CiliumStripsRules Reason = "CiliumStripsRules"
	// FenceBuilding: the fence is being put up.
	FenceBuilding Reason = "FenceBuilding"
	// FenceComplete: label, selector and CiliumNodeConfig are as they must be.
	FenceComplete Reason = "FenceComplete"
	// FenceNotYet: the phase FenceLegacy has not been reached.
	FenceNotYet Reason = "FenceNotYet"
	// FenceLabelLost: a Legacy node does not carry the fence label.
	FenceLabelLost Reason = "FenceLabelLost"
	// FenceSelectorLost: the VPC CNI's DaemonSet is not bound to the fence label.
	FenceSelectorLost Reason = "FenceSelectorLost"
	// FenceConfigLost: the CiliumNodeConfig is missing or changed.
	FenceConfigLost Reason = "FenceConfigLost"
	// FenceRollingOut: the VPC CNI's DaemonSet is rolling out.
	FenceRollingOut Reason = "FenceRollingOut"
	// LegacyStillRuns: a node still runs the VPC CNI.
	LegacyStillRuns Reason = "LegacyStillRuns"
	// NodesNotReady: a node is NotReady, so what runs there cannot be told.
	NodesNotReady Reason = "NodesNotReady"
	// NodesLeft: nodes that are to be rolled are left.
	NodesLeft Reason = "NodesLeft"
	// Unproven: a report that the phase's end needs is missing or does not pass.
	Unproven Reason = "Unproven"
)
