// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Action is one thing to do in the cluster. Every Action may be carried out many times: doing it again changes nothing.
// Its String is what a dry run prints.
type Action interface {
	fmt.Stringer
	about() string
}

// About returns the name of the node that an Action is about; empty for none.
func About(a Action) string { return a.about() }

// The Actions. Slot is the UID of the slot's node where the Action is a slot's; the mover reads that slot live before it
// acts and does nothing if it is gone or in another step.
type (
	// CreateNodeCutover makes the object through which a node is asked, with the first question if somebody waits for its answer.
	CreateNodeCutover struct {
		Node      string
		UID       types.UID
		Challenge *v1alpha1.Challenge
	}
	// Ask writes a challenge.
	Ask struct {
		Node      string
		Challenge v1alpha1.Challenge
	}
	// SetFenceLabel sets (On) or removes the fence label of a Node.
	SetFenceLabel struct {
		Node string
		UID  types.UID
		On   bool
	}
	// FenceDaemonSet binds the VPC CNI's DaemonSet to the fence label.
	FenceDaemonSet struct{ UID types.UID }
	// WriteNodeConfig creates our CiliumNodeConfig or puts it right.
	WriteNodeConfig struct{}
	// DeleteCiliumPod makes a Cilium pod start again, so that it resolves its configuration anew.
	DeleteCiliumPod struct {
		Node string
		Pod  Pod
	}
	// SetLeaving sets (On) or removes the PreferNoSchedule taint of a node that is to be rolled.
	SetLeaving struct {
		Node string
		UID  types.UID
		On   bool
	}
	// SetSafe shows people on the Node whether it is safe to drain.
	SetSafe struct {
		Node    string
		UID     types.UID
		Safe    bool
		Message string
	}
	// RequestSurge asks for one more node.
	RequestSurge struct {
		Slot types.UID
		Node string
	}
	// Cordon cordons a node, excludes it from load balancers and records both, in one patch.
	Cordon struct {
		Slot types.UID
		Node string
	}
	// Uncordon undoes the Cordon of a slot that is no more, if it is still as we made it, and takes its requests back. The
	// mover reads the ledger live before it: a coordinator that led before may not know the slot yet.
	Uncordon struct {
		Slot types.UID
		Node string
	}
	// Evict posts one Eviction for every pod, none at or after Until: then the answer that allows it has expired.
	Evict struct {
		Slot  types.UID
		Node  string
		Pods  []Pod
		Until time.Time
	}
	// RequestReplacement asks for a drained node to be replaced.
	RequestReplacement struct {
		Slot types.UID
		Node string
	}
	// RemoveRelease takes a release annotation away that has been heeded.
	RemoveRelease struct{ Node string }
	// DeleteLegacy deletes the VPC CNI's DaemonSet.
	DeleteLegacy struct{ UID types.UID }
)

func (a CreateNodeCutover) about() string  { return a.Node }
func (a Ask) about() string                { return a.Node }
func (a SetFenceLabel) about() string      { return a.Node }
func (a DeleteCiliumPod) about() string    { return a.Node }
func (a SetLeaving) about() string         { return a.Node }
func (a SetSafe) about() string            { return a.Node }
func (a RequestSurge) about() string       { return a.Node }
func (a Cordon) about() string             { return a.Node }
func (a Uncordon) about() string           { return a.Node }
func (a Evict) about() string              { return a.Node }
func (a RequestReplacement) about() string { return a.Node }
func (a RemoveRelease) about() string      { return a.Node }
func (FenceDaemonSet) about() string       { return "" }
func (WriteNodeConfig) about() string      { return "" }
func (DeleteLegacy) about() string         { return "" }

func (a CreateNodeCutover) String() string { return "create NodeCutover " + a.Node }
func (a Ask) String() string {
	return fmt.Sprintf("ask %s: %s as %s", a.Node, a.Challenge.Purpose, a.Challenge.Role)
}

func (a SetFenceLabel) String() string {
	if a.On {
		return "set the fence label on " + a.Node
	}
	return "remove the fence label from " + a.Node
}
func (FenceDaemonSet) String() string    { return "bind the VPC CNI's DaemonSet to the fence label" }
func (WriteNodeConfig) String() string   { return "write CiliumNodeConfig " + v1alpha1.NodeConfigName }
func (a DeleteCiliumPod) String() string { return "restart Cilium pod " + a.Pod.Name + " on " + a.Node }

func (a SetLeaving) String() string {
	if a.On {
		return "taint " + a.Node + " PreferNoSchedule"
	}
	return "remove the leaving taint from " + a.Node
}

func (a SetSafe) String() string {
	return fmt.Sprintf("show SafeToDrain=%t on %s", a.Safe, a.Node)
}
func (a RequestSurge) String() string { return "ask for one more node beside " + a.Node }
func (a Cordon) String() string       { return "cordon " + a.Node + " and take it out of load balancers" }
func (a Uncordon) String() string     { return "undo our cordon of " + a.Node }
func (a Evict) String() string        { return fmt.Sprintf("evict %d pods from %s", len(a.Pods), a.Node) }
func (a RequestReplacement) String() string {
	return "ask for " + a.Node + " to be replaced"
}
func (a RemoveRelease) String() string { return "remove the release annotation of " + a.Node }
func (DeleteLegacy) String() string    { return "delete the VPC CNI's DaemonSet" }

// Note is something that people should hear of: it becomes an Event and a line of a simulated rollout.
type Note struct {
	// Node that it is about; empty for the Cutover itself.
	Node string
	// Warning marks what somebody should look at.
	Warning bool
	Reason  v1alpha1.Reason
	// Action is what the coordinator did or stopped doing, one word in the imperative.
	Action  string
	Message string
}
