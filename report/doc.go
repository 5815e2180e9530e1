// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package report is what remains of a cutover: what its end state is, proved from the cluster's own objects and not from what the
// coordinator believes, and how long it took. It is pure: objects and the time are handed in.
package report

import (
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Evidence is what a report is made from.
type Evidence struct {
	Server  string
	TakenAt time.Time
	Cutover *v1alpha1.Cutover
	// Nodes are all of the cluster, in any order.
	Nodes []Node
	// Pods are all of the cluster.
	Pods []Pod
	// DaemonSets are all of the cluster.
	DaemonSets []DaemonSet
	// Agents are the reports of the agents, by name of the node.
	Agents map[string]*v1alpha1.NodeCutover
	// Entered are the steps that slots entered, as far as Events still tell: an API server keeps them for an hour, unless it was
	// started with another --event-ttl. In any order.
	Entered []Entry
	// Unseen are the resources that could not be read, and why. What rests on one is Unknown.
	Unseen map[Resource]string
}

// Resource is one that a report looks at.
type Resource string

// The resources.
const (
	Nodes      Resource = "nodes"
	Pods       Resource = "pods"
	DaemonSets Resource = "daemonsets"
	Agents     Resource = "nodecutovers"
	Events     Resource = "events"
)

// Node is what a report looks at of a Node.
type Node struct {
	Name          string
	UID           types.UID
	BootID        string
	Ready         bool
	Unschedulable bool
	// Selected says whether the cutover is about it.
	Selected bool
	// Addresses are its InternalIPs.
	Addresses []netip.Addr
	// Left are our marks on it that outlived their purpose, in words.
	Left []string
}

// Pod is what a report looks at of a Pod.
type Pod struct {
	Namespace, Name, Node string
	// DaemonSet that it belongs to; empty for any other pod.
	DaemonSet   string
	HostNetwork bool
	// Running is false for one that has ended or has not begun.
	Running bool
	// Ended is true for one that is Succeeded or Failed: it has no address any more.
	Ended bool
	// Addresses are its podIPs.
	Addresses []netip.Addr
}

// DaemonSet is what a report looks at of a DaemonSet.
type DaemonSet struct {
	Namespace, Name         string
	Desired, Updated, Ready int32
	// Current is false while its controller has not seen the newest generation.
	Current bool
}

// Entry is that a slot entered a step.
type Entry struct {
	// Node whose slot it is.
	Node string
	// Step that it entered; empty for the end of the slot.
	Step v1alpha1.Step
	At   time.Time
}

// Proof is one statement about the end state, and whether the evidence bears it out.
type Proof struct {
	Name    string           `json:"name"`
	Verdict v1alpha1.Verdict `json:"verdict"`
	Message string           `json:"message"`
	// Objects that speak against it, as namespace/name or a node's name.
	Objects []string `json:"objects,omitempty"`
}

// Phase is when a phase ran. EndedAt is zero for one that runs.
type Phase struct {
	Name      v1alpha1.Phase `json:"name"`
	StartedAt time.Time      `json:"startedAt"`
	EndedAt   time.Time      `json:"endedAt,omitzero"`
}

// StepTime is how long slots stayed in a step.
type StepTime struct {
	Step v1alpha1.Step `json:"step"`
	// Slots whose entry and exit were both seen.
	Slots   int           `json:"slots"`
	Median  time.Duration `json:"medianNanoseconds"`
	Longest time.Duration `json:"longestNanoseconds"`
	// Slowest is the node whose slot stayed longest.
	Slowest string `json:"slowest"`
}

// Report is what remains.
type Report struct {
	Server  string         `json:"server"`
	TakenAt time.Time      `json:"takenAt"`
	Phase   v1alpha1.Phase `json:"phase"`
	// Rolled is how many nodes were replaced.
	Rolled int32   `json:"rolled"`
	Proofs []Proof `json:"proofs"`
	Phases []Phase `json:"phases,omitempty"`
	// Slots are those that ended last: the ledger keeps so many.
	Slots []v1alpha1.FinishedSlot `json:"slots,omitempty"`
	Steps []StepTime              `json:"steps,omitempty"`
}
