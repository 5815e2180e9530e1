// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package vpccni reads the AWS VPC CNI's DaemonSet as data, and says who no longer reaches whom with its settings while pods of
// both CNIs run. The coordinator's gate and the plugin's preflight judge by it; it asks nobody anything.
package vpccni

import (
	"net/netip"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// The variables of aws-node's container that are read (amazon-vpc-cni-k8s 1.23 README.md, cmd/aws-vpc-cni/main.go).
const (
	EnvExternalServiceCIDRs = "AWS_EXTERNAL_SERVICE_CIDRS"
	EnvExcludeSNATCIDRs     = "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"
	EnvExternalSNAT         = "AWS_VPC_K8S_CNI_EXTERNALSNAT"

	envCustomNetworking = "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG"
	envPrefixDelegation = "ENABLE_PREFIX_DELEGATION"
	envPodENI           = "ENABLE_POD_ENI"
	envEnforcingMode    = "POD_SECURITY_GROUP_ENFORCING_MODE"
	envMultiNIC         = "ENABLE_MULTI_NIC"
	envIPv6             = "ENABLE_IPv6"
	envIPv6Egress       = "ENABLE_V6_EGRESS"
	envPolicyMode       = "NETWORK_POLICY_ENFORCING_MODE"
	envClusterName      = "CLUSTER_NAME" // in the managed add-on's
)

const (
	container   = "aws-node"
	policyAgent = "aws-eks-nodeagent"
	policyFlag  = "--enable-network-policy"
	// manager is who owns fields of a managed add-on (EKS user guide, "Determine fields you can customize").
	manager = "eks"
)

// Settings decide who reaches whom while pods of both CNIs run.
type Settings struct {
	// ExternalServiceCIDRs is AWS_EXTERNAL_SERVICE_CIDRS: packets to these networks are routed by the main table.
	ExternalServiceCIDRs []netip.Prefix `json:"externalServiceCIDRs,omitempty"`
	// ExcludeSNATCIDRs is AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS: packets to these networks keep their source, and get no mark.
	ExcludeSNATCIDRs []netip.Prefix `json:"excludeSNATCIDRs,omitempty"`
	// ExternalSNAT is AWS_VPC_K8S_CNI_EXTERNALSNAT: no packet gets another source, or a mark.
	ExternalSNAT bool `json:"externalSNAT,omitempty"`
	// CustomNetworking is AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG: pods have addresses of secondary ENIs alone.
	CustomNetworking bool `json:"customNetworking,omitempty"`
}

// Options are a VPC CNI's settings, and what else of it pods notice.
type Options struct {
	Settings
	PrefixDelegation bool `json:"prefixDelegation,omitempty"`
	// PodENI: pods may have security groups of their own; StrictPodENI: and then all of their packets leave by their own ENI.
	PodENI       bool `json:"podENI,omitempty"`
	StrictPodENI bool `json:"strictPodENI,omitempty"`
	MultiNIC     bool `json:"multiNIC,omitempty"`
	IPv6         bool `json:"ipv6,omitempty"`
	// IPv6Egress: pods of an IPv4 cluster reach IPv6 addresses.
	IPv6Egress bool `json:"ipv6Egress,omitempty"`
	// Policies: its agent enforces NetworkPolicies; StrictPolicies: and denies everything to a pod without one.
	Policies       bool `json:"policies,omitempty"`
	StrictPolicies bool `json:"strictPolicies,omitempty"`
	// Elsewhere are variables whose value does not stand in the DaemonSet; they count as not set. "*": any may come from an
	// envFrom.
	Elsewhere []string `json:"elsewhere,omitempty"`
	// Managed: EKS owns fields of it, as of an add-on. Cluster is the name that EKS gave it, if it did.
	Managed bool   `json:"managed,omitempty"`
	Cluster string `json:"cluster,omitempty"`
}

// Read reads the VPC CNI's DaemonSet. What does not stand there as a plain value counts as not set: what cannot be seen is not
// taken for granted.
func Read(ds *appsv1.DaemonSet) Options {
	var out Options
	for _, f := range ds.ManagedFields {
		out.Managed = out.Managed || f.Manager == manager
	}
	for i := range ds.Spec.Template.Spec.Containers {
		switch c := &ds.Spec.Template.Spec.Containers[i]; c.Name {
		case container:
			out.fromNode(c)
		case policyAgent:
			for _, arg := range c.Args {
				if name, value, given := strings.Cut(arg, "="); name == policyFlag {
					out.Policies = !given || on(value)
				}
			}
		}
	}
	return out
}

func (o *Options) fromNode(c *corev1.Container) {
	set := map[string]string{}
	for _, e := range c.Env {
		set[e.Name] = e.Value
		if e.ValueFrom != nil && e.ValueFrom.FieldRef == nil {
			o.Elsewhere = append(o.Elsewhere, e.Name)
		}
	}
	if len(c.EnvFrom) > 0 {
		o.Elsewhere = append(o.Elsewhere, "*")
	}
	o.ExternalServiceCIDRs, o.ExcludeSNATCIDRs = Networks(set[EnvExternalServiceCIDRs]), Networks(set[EnvExcludeSNATCIDRs])
	o.ExternalSNAT, o.CustomNetworking = on(set[EnvExternalSNAT]), on(set[envCustomNetworking])
	o.PrefixDelegation, o.MultiNIC = on(set[envPrefixDelegation]), on(set[envMultiNIC])
	o.PodENI = on(set[envPodENI])
	o.StrictPodENI = o.PodENI && set[envEnforcingMode] != "standard"
	o.IPv6, o.IPv6Egress = on(set[envIPv6]), on(set[envIPv6Egress])
	o.StrictPolicies, o.Cluster = set[envPolicyMode] == "strict", set[envClusterName]
}

// on reads a switch as aws-node does (utils/utils.go, GetBoolAsStringEnvVar).
func on(text string) bool {
	b, err := strconv.ParseBool(text)
	return err == nil && b
}

// Networks reads a comma-separated list; what is no IPv4 network in it is left out, as aws-node does (pkg/networkutils,
// parseCIDRString).
func Networks(list string) []netip.Prefix {
	var out []netip.Prefix
	for item := range strings.SplitSeq(list, ",") {
		if p, err := netip.ParsePrefix(strings.TrimSpace(item)); err == nil && p.Addr().Is4() {
			out = append(out, p.Masked())
		}
	}
	return out
}

// StripsRules says whether a container of Cilium removes the VPC CNI's iptables rules whenever it starts. The hook that Cilium's
// chart adds with cni.iptablesRemoveAWSRules is known by the chains that it names (install/kubernetes/cilium/files/agent/
// poststart-eni.bash, 1.18).
func StripsRules(c *corev1.Container) bool {
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil || c.Lifecycle.PostStart.Exec == nil {
		return false
	}
	script := strings.Join(c.Lifecycle.PostStart.Exec.Command, " ")
	return strings.Contains(script, "AWS-SNAT-CHAIN") || strings.Contains(script, "AWS-CONNMARK-CHAIN")
}
