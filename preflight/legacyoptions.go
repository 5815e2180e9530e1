// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"strings"
)

// legacyOptions are what the VPC CNI gives pods and an overlay does not.
func legacyOptions(s *Snapshot) []Finding {
	if out := s.unknownLegacy(); out != nil {
		return out
	}
	n, l := &s.Network, &s.Network.Legacy
	var out []Finding
	say := func(f Finding, mend string, objects ...string) {
		f.Objects, f.Mend = append([]string{l.daemonSet()}, objects...), mend
		out = append(out, f)
	}
	if l.IPv6 {
		say(fail("ENABLE_IPv6 is true: the cluster is an IPv6 one, and this move is for IPv4"), "there is none: an EKS cluster keeps its IP family for life")
	}
	out = append(out, s.podSecurityGroups()...)
	out = append(out, s.moreNetworks()...)
	if l.IPv6Egress {
		say(warn("ENABLE_V6_EGRESS is true: pods reach IPv6 addresses, and on the overlay they do not"), "find out which pods need IPv6, and give the destinations IPv4 addresses")
	}
	if l.CustomNetworking {
		f := warn("custom networking is on: pods have addresses and security groups of ENIConfigs, and lose both. On the overlay they leave with their node's address, and its security groups apply")
		f.Evidence = n.ENIConfigs
		if s.unseen("eniconfigs.crd.k8s.amazonaws.com") {
			f.Evidence = []string{"ENIConfigs, and so their security groups, were not seen"}
		}
		say(f, "let what those security groups may reach be reached from the nodes' security groups too, before phase RollNodes")
	}
	for _, missing := range []string{"securitygrouppolicies.vpcresources.k8s.aws", "network-attachment-definitions.k8s.cni.cncf.io"} {
		if s.unseen(missing) {
			out = append(out, unknown("%s were not seen", missing))
		}
	}
	if l.hides("ENABLE_IPv6", "ENABLE_POD_ENI", "ENABLE_MULTI_NIC", "ENABLE_V6_EGRESS", "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG") {
		say(unknown("some options do not stand in the DaemonSet but come from elsewhere: %s", strings.Join(l.Elsewhere, ", ")),
			fmt.Sprintf("kubectl -n %s set env daemonset/%s -c aws-node --list --resolve", l.Namespace, l.Name))
	}
	if len(out) > 0 {
		return out
	}
	f := pass("pods use nothing of the VPC CNI that the overlay lacks")
	if l.PrefixDelegation {
		f.Message += "; prefix delegation is on, so nodes may hold 110 or 250 pods already: kubectl cutover density says what the move buys"
	}
	return []Finding{f}
}

// podSecurityGroups: EKS' control plane makes pods that a SecurityGroupPolicy selects ask for vpc.amazonaws.com/pod-eni, and no
// node without the VPC CNI has any.
func (s *Snapshot) podSecurityGroups() []Finding {
	n, l := &s.Network, &s.Network.Legacy
	if !l.PodENI && len(n.SecurityGroupPolicies) == 0 {
		return nil
	}
	f := fail("pods that a SecurityGroupPolicy selects have security groups of their own (ENABLE_POD_ENI %t): they stay Pending on replacement nodes, which offer no vpc.amazonaws.com/pod-eni", l.PodENI)
	if l.StrictPodENI {
		f.Evidence = []string{"POD_SECURITY_GROUP_ENFORCING_MODE is strict: these pods cannot reach the overlay, and no setting mends that"}
	}
	f.Objects = []string{l.daemonSet()}
	var cures []string
	for _, p := range n.SecurityGroupPolicies {
		namespace, name, _ := strings.Cut(p, "/")
		f.Objects = append(f.Objects, "SecurityGroupPolicy/"+p)
		cures = append(cures, fmt.Sprintf("kubectl -n %s delete securitygrouppolicy %s", namespace, name))
	}
	if l.PodENI {
		cures = append(cures, s.set(setting{"ENABLE_POD_ENI", "false"}))
	}
	f.Mend = "give nodes the security groups' rights, delete the policies, and replace the pods that they selected: " + strings.Join(cures, "; ")
	return []Finding{f}
}

// moreNetworks are pods with more than one interface.
func (s *Snapshot) moreNetworks() []Finding {
	n, l := &s.Network, &s.Network.Legacy
	var out []Finding
	if l.MultiNIC {
		f := fail("ENABLE_MULTI_NIC is true: pods that ask for every network card (k8s.amazonaws.com/nicConfig) have one interface on the overlay")
		f.Objects, f.Mend = []string{l.daemonSet()}, "let these pods do with one interface, then "+s.set(setting{"ENABLE_MULTI_NIC", "false"})
		out = append(out, f)
	}
	if len(n.Multus)+len(n.Attachments) > 0 {
		f := fail("Multus gives pods further networks: its file in net.d sorts before Cilium's and wins, and networks over ENIs have no addresses without the VPC CNI")
		for _, m := range n.Multus {
			f.Objects = append(f.Objects, "DaemonSet/"+m)
		}
		for _, a := range n.Attachments {
			f.Objects = append(f.Objects, "NetworkAttachmentDefinition/"+a)
		}
		f.Mend = "find the pods that use them (kubectl get pods -A -o yaml | grep k8s.v1.cni.cncf.io/networks), let them do without, and delete Multus"
		out = append(out, f)
	}
	return out
}
