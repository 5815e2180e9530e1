// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// The oldest kernel that Cilium 1.18 runs on (Cilium Documentation/operations/system_requirements).
const (
	OldestKernelMajor = 5
	OldestKernelMinor = 10
)

// CutoverName is the only name a Cutover may have: two ledgers would hand out twice as many slots as one.
const CutoverName = "cluster"

// Names that this project writes on objects that are not its own, or that people write for it to read.
const (
	// FenceLabel says, with the value FenceValue, that the VPC CNI owns the pods of a Node. It is the only switch between
	// the two CNIs and the default of spec.legacy.fenceLabel.
	FenceLabel = "io.cilium/aws-node-enabled"
	// FenceValue is the one value of the fence label that means anything.
	FenceValue = "true"

	// AnnotationOptOut on a Node keeps it out of the roll; its value should say why. People write it.
	AnnotationOptOut = "cni-cutover.dev/opt-out"
	// AnnotationRelease on a NodeCutover gives a held slot of its node back; its value should say who and why. People write
	// it, the coordinator removes it once the slot is gone.
	AnnotationRelease = "cni-cutover.dev/release"
	// AnnotationReplace on a Node asks whoever replaces nodes to replace this one; its value is the UID of the slot's node.
	// The coordinator writes it (replacement type External).
	AnnotationReplace = "cni-cutover.dev/replace"
	// AnnotationSurge on a Node asks whoever replaces nodes to add one more node like this one and to keep this one for now.
	// Its value is the UID of the slot's node. The coordinator writes it (replacement type External, surge on).
	AnnotationSurge = "cni-cutover.dev/surge"
	// AnnotationCordon on a Node records our own cordon: which slot made it and what stood there before. The coordinator
	// writes it in the same patch as the cordon itself and undoes only what it names.
	AnnotationCordon = "cni-cutover.dev/cordoned-by"

	// LabelExcludeBalancers makes cloud load balancers drop a Node as a target (well-known Kubernetes label).
	LabelExcludeBalancers = "node.kubernetes.io/exclude-from-external-load-balancers"

	// TaintLeaving is the PreferNoSchedule taint that Legacy nodes carry while nodes are rolled, so that an evicted pod
	// lands on a node that has moved already and is not evicted again and again.
	TaintLeaving = "cni-cutover.dev/leaving"

	// ConditionSafeToDrain is the condition on a Node that shows people a passing, unexpired answer. Nothing of this
	// project ever reads it.
	ConditionSafeToDrain = "cni-cutover.dev/SafeToDrain"

	// NodeConfigName is the CiliumNodeConfig that makes Cilium write its conflist on nodes without the fence label. It has
	// no owner: deleting a Cutover must not leave the next node without a CNI.
	NodeConfigName = "cni-cutover-overlay"
)

// LegacyNodes are those of the VPC CNI, by the labels of all nodes: the fenced ones or, before there is a fence, all.
func LegacyNodes(all []labels.Set, fenceLabel string) []labels.Set {
	fenced := func(n labels.Set) bool { return n[fenceLabel] == FenceValue }
	if !slices.ContainsFunc(all, fenced) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(n labels.Set) bool { return !fenced(n) })
}
