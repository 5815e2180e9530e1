// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	appsv1 "k8s.io/api/apps/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
	"github.com/cni-cutover/cni-cutover/vpccni"
)

// toLegacy reads the VPC CNI's DaemonSet.
func toLegacy(ds *appsv1.DaemonSet, fenceLabel string) plan.Legacy {
	return plan.Legacy{
		Found: true, UID: ds.UID, Rollout: toRollout(ds), Settings: vpccni.Read(ds).Settings,
		Fenced: ds.Spec.Template.Spec.NodeSelector[fenceLabel] == v1alpha1.FenceValue,
	}
}

func toRollout(ds *appsv1.DaemonSet) plan.Rollout {
	return plan.Rollout{
		Desired: ds.Status.DesiredNumberScheduled, Updated: ds.Status.UpdatedNumberScheduled, Ready: ds.Status.NumberReady,
		Current: ds.Status.ObservedGeneration >= ds.Generation,
	}
}

// toCilium reads Cilium's DaemonSet.
func toCilium(ds *appsv1.DaemonSet) plan.Cilium {
	out := plan.Cilium{Found: true, Rollout: toRollout(ds)}
	for i := range ds.Spec.Template.Spec.Containers {
		out.StripsRules = out.StripsRules || vpccni.StripsRules(&ds.Spec.Template.Spec.Containers[i])
	}
	return out
}
