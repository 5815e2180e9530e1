// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import "fmt"

// policies: between the CNIs every packet has a node's address, so who enforces policies by pods' addresses denies it.
func policies(s *Snapshot) []Finding {
	if out := s.unknownLegacy(); out != nil {
		return out
	}
	n, l := &s.Network, &s.Network.Legacy
	var out []Finding
	if len(n.AWSPolicies) > 0 {
		f := fail("%d policies are of kinds that the VPC CNI alone knows: for pods on the overlay they do not hold, and nobody says so", len(n.AWSPolicies))
		f.Objects, f.Mend = n.AWSPolicies, "write them as NetworkPolicy, CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy, and delete them"
		out = append(out, f)
	}
	const denied = "the VPC CNI's agent enforces NetworkPolicies by pods' addresses, and between the CNIs every packet has a node's"
	switch {
	case !l.Policies:
	case l.StrictPolicies:
		out = append(out, s.unenforce(fail(denied+"; NETWORK_POLICY_ENFORCING_MODE is strict, so what no policy allows is denied to every pod, and a pod does not start where the agent is missing")))
	case n.NetworkPolicies > 0:
		out = append(out, s.unenforce(fail(denied+": what the %d NetworkPolicies allow between pods is denied as soon as one of the two has moved", n.NetworkPolicies)))
	case s.unseen("networkpolicies.networking.k8s.io"):
		out = append(out, unknown(denied+"; whether there are any was not seen"))
	}
	for _, missing := range []string{"clusternetworkpolicies.networking.k8s.aws", "applicationnetworkpolicies.networking.k8s.aws"} {
		if s.unseen(missing) {
			out = append(out, unknown("%s were not seen", missing))
		}
	}
	if len(out) > 0 {
		return out
	}
	if l.Policies {
		return []Finding{pass("the VPC CNI's agent enforces NetworkPolicies, and there are none")}
	}
	return []Finding{pass("the VPC CNI enforces no policies")}
}

// unenforce is how enforcement is switched off until the VPC CNI is gone; then it is Cilium's.
func (s *Snapshot) unenforce(f Finding) Finding {
	l := &s.Network.Legacy
	f.Objects = []string{l.daemonSet()}
	f.Mend = "do without enforcement until phase RemoveLegacy, or allow the nodes' networks in every policy. To switch it off: "
	if s.managed() {
		f.Mend += s.updateAddOn([]setting{{"enableNetworkPolicy", "false"}}, []setting{{"NETWORK_POLICY_ENFORCING_MODE", "standard"}})
		return f
	}
	f.Mend += fmt.Sprintf("--enable-network-policy=false in the arguments of container aws-eks-nodeagent (kubectl -n %s edit daemonset %s), and kubectl -n %s set env daemonset/%s -c aws-node NETWORK_POLICY_ENFORCING_MODE=standard",
		l.Namespace, l.Name, l.Namespace, l.Name)
	return f
}
