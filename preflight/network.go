// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import "github.com/cni-cutover/cni-cutover/vpccni"

// Network is what gives pods their network now, and what of it others build on.
type Network struct {
	Legacy    Legacy    `json:"legacy"`
	Cilium    Cilium    `json:"cilium"`
	KubeProxy KubeProxy `json:"kubeProxy"`
	// ENIConfigs are custom networking's, as name (security groups).
	ENIConfigs []string `json:"eniConfigs,omitempty"`
	// SecurityGroupPolicies give pods security groups of their own; as namespace/name.
	SecurityGroupPolicies []string `json:"securityGroupPolicies,omitempty"`
	// NetworkPolicies are counted. AWSPolicies are those that the VPC CNI alone knows, as Kind/name or Kind/namespace/name.
	NetworkPolicies int      `json:"networkPolicies,omitempty"`
	AWSPolicies     []string `json:"awsPolicies,omitempty"`
	// Attachments are NetworkAttachmentDefinitions, Multus DaemonSets of that program; both as namespace/name.
	Attachments []string `json:"attachments,omitempty"`
	Multus      []string `json:"multus,omitempty"`
}

// Legacy is the VPC CNI.
type Legacy struct {
	// Namespace and Name of its DaemonSet, FenceLabel the label of its nodes once they are fenced, as the Cutover says.
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	FenceLabel string `json:"fenceLabel"`
	Found      bool   `json:"found"`
	vpccni.Options
}

// Cilium is Cilium as nodes of the VPC CNI have it.
type Cilium struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Found     bool   `json:"found"`
	// Mode of the node of the VPC CNI that it serves worst. Without Cilium it is the advice of kubectl cutover values.
	vpccni.Mode
}

// KubeProxy is kube-proxy.
type KubeProxy struct {
	Found bool `json:"found"`
	// Mode as configured; empty: its default, iptables.
	Mode string `json:"mode,omitempty"`
}

// daemonSet is the VPC CNI's DaemonSet as an object of a finding.
func (l *Legacy) daemonSet() string { return "DaemonSet/" + l.Namespace + "/" + l.Name }

// unknownLegacy says why the VPC CNI cannot be judged; nil: it can.
func (s *Snapshot) unknownLegacy() []Finding {
	l := &s.Network.Legacy
	switch {
	case s.unseen("daemonsets.apps"):
		return []Finding{unknown("DaemonSets were not seen, so nothing is known of the VPC CNI")}
	case !l.Found:
		return []Finding{unknown("DaemonSet %s/%s does not exist: the VPC CNI is gone already, or spec.legacy.daemonSet of the Cutover must say what it is called", l.Namespace, l.Name)}
	}
	return nil
}
