// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"net/netip"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// The VPC CNI's settings that decide who reaches whom while both CNIs run (amazon-vpc-cni-k8s, README.md).
const (
	legacyContainer         = "aws-node"
	envExternalServiceCIDRs = "AWS_EXTERNAL_SERVICE_CIDRS"
	envExcludeSNATCIDRs     = "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"
	envExternalSNAT         = "AWS_VPC_K8S_CNI_EXTERNALSNAT"
)

// toLegacy reads the VPC CNI's DaemonSet. A setting that comes from somewhere else than a plain value counts as not set:
// what cannot be seen is not taken for granted.
func toLegacy(ds *appsv1.DaemonSet, fenceLabel string) plan.Legacy {
	out := plan.Legacy{
		Found: true, UID: ds.UID, Rollout: toRollout(ds),
		Fenced: ds.Spec.Template.Spec.NodeSelector[fenceLabel] == v1alpha1.FenceValue,
	}
	for _, c := range ds.Spec.Template.Spec.Containers {
		if c.Name != legacyContainer {
			continue
		}
		for _, e := range c.Env {
			switch e.Name {
			case envExternalServiceCIDRs:
				out.ExternalServiceCIDRs = parseCIDRs(e.Value)
			case envExcludeSNATCIDRs:
				out.ExcludeSNATCIDRs = parseCIDRs(e.Value)
			case envExternalSNAT:
				out.ExternalSNAT = e.Value == "true"
			}
		}
	}
	return out
}

// parseCIDRs reads a comma-separated list; what is no CIDR in it covers nothing.
func parseCIDRs(list string) []netip.Prefix {
	var out []netip.Prefix
	for item := range strings.SplitSeq(list, ",") {
		if p, err := netip.ParsePrefix(strings.TrimSpace(item)); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
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
	for _, c := range ds.Spec.Template.Spec.Containers {
		out.StripsRules = out.StripsRules || stripsRules(c)
	}
	return out
}

// stripsRules recognises the hook that Cilium's chart adds with cni.iptablesRemoveAWSRules by the chains that it names
// (install/kubernetes/cilium/files/agent/poststart-eni.bash, 1.18).
func stripsRules(c corev1.Container) bool {
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil || c.Lifecycle.PostStart.Exec == nil {
		return false
	}
	script := strings.Join(c.Lifecycle.PostStart.Exec.Command, " ")
	return strings.Contains(script, "AWS-SNAT-CHAIN") || strings.Contains(script, "AWS-CONNMARK-CHAIN")
}
