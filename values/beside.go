// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package values

import (
	"strings"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// The releases whose behaviour is known.
const (
	oldest = 18
	newest = 20
)

func version(s *scene) answer {
	v := s.v.Version
	switch {
	case v == Version{}:
		return unknown("Cilium's version is not known, and the releases differ: name it with --cilium-version")
	case v.Major == 1 && v.Minor < oldest && s.phase == Install:
		return fail("Cilium %s removes the VPC CNI's iptables rules at every start of a pod, whatever it is told, and pods on secondary ENIs lose the Internet: install 1.%d or later", v, oldest)
	case v.Major == 1 && v.Minor < oldest:
		return fail("Cilium %s is older than this project knows: upgrade to 1.%d or later first", v, oldest)
	case v.Major != 1 || v.Minor > newest:
		return unknown("Cilium %s is newer than 1.%d, the last release that was looked at: what it refuses and ignores is not known here", v, newest)
	}
	return pass("Cilium %s", v)
}

// gone are options that no chart from 1.18 on takes, and what they were replaced by.
func gone() [][2]string {
	return [][2]string{
		{"tunnel", "routingMode and tunnelProtocol"}, {"enableCiliumEndpointSlice", "ciliumEndpointSlice.enabled"}, {"ciliumEndpointSlice.sliceMode", "nothing"},
		{"encryption.keyFile", "encryption.ipsec"}, {"encryption.mountPath", "encryption.ipsec"}, {"encryption.secretName", "encryption.ipsec"}, {"encryption.interface", "encryption.ipsec"},
		{"remoteNodeIdentity", "nothing: it is always on"}, {"endpointStatus", "nothing"}, {"containerRuntime.integration", "nothing"},
		{"enableK8sEventHandover", "nothing"}, {"enableCnpStatusUpdates", "nothing"},
	}
}

// ignored are options that charts from 1.19 on take without a word and no longer obey.
func ignored() []string {
	return []string{"nodePort.enabled", "externalIPs.enabled", "hostPort.enabled", "sessionAffinity"}
}

func removedOptions(s *scene) answer {
	for _, o := range gone() {
		if v, ok := s.v.set[o[0]]; ok && v != nil && v != false && v != "" {
			return fail("the chart refuses %s; in its place: %s", o[0], o[1])
		}
	}
	if s.v.given("ipam.operator.clusterPoolIPv4PodCIDR") {
		return fail("ipam.operator.clusterPoolIPv4PodCIDR is refused by the chart of 1.18 and ignored by later ones, which then take the default pool 10.0.0.0/8").set(poolPath + ": [10.244.0.0/16]")
	}
	var words []string
	for _, path := range ignored() {
		if s.v.Version.AtLeast(1, 19) && s.v.given(path) {
			words = append(words, path)
		}
	}
	if len(words) > 0 {
		return warn("%s says nothing any more since 1.19: kubeProxyReplacement alone decides; remove it", strings.Join(words, ", "))
	}
	return pass("none is set that the chart does not know")
}

func extraArgs(s *scene) answer {
	for _, arg := range s.list("extraArgs") {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		for _, o := range options() {
			if name == o.key {
				return unknown("the agent's argument %s wins over %s, and is not judged here: remove it from extraArgs and set the value", arg, o.path)
			}
		}
	}
	return pass("no argument names what is judged here")
}

// nodeConfigs judges what old nodes really get: the values, and over them what a CiliumNodeConfig that selects them says.
func nodeConfigs(s *scene) answer {
	switch s.c.Overrides {
	case NotLooked:
		return notAsked("no cluster was asked for CiliumNodeConfigs: --live does")
	case Unseen:
		return unknown("CiliumNodeConfigs could not be listed, and one of them may give old nodes other values: get the right to list ciliumnodeconfigs.cilium.io")
	}
	for _, n := range s.c.NodeConfigs {
		old := &scene{v: s.v.overridden(n.Defaults), phase: s.phase, c: s.c}
		for _, judge := range []func(*scene) answer{customConf, exclusive, uninstall, chaining, policies, replacementOnOldNodes, masqueradeOnOldNodes, nativeCIDR, egressInterfaces, tunnel, ipamMode} {
			if a := judge(old); a.verdict == v1alpha1.VerdictFail {
				return fail("CiliumNodeConfig %s selects %d nodes of the VPC CNI: %s. Give it a selector that leaves them out", n.Name, n.OldNodes, a.message)
			}
		}
	}
	return pass("%d CiliumNodeConfigs select nodes of the VPC CNI, and change nothing that matters", len(s.c.NodeConfigs))
}

func customConf(s *scene) answer {
	custom := s.on("cni.customConf")
	switch {
	case custom && s.text("cni.configMap") != "":
		return fail("cni.configMap makes the agent write a conflist although cni.customConf is true, so new pods of old nodes become overlay pods at once").set("cni.configMap: \"\"")
	case s.secondary() && !custom:
		return fail("Cilium writes 05-cilium.conflist on every node, where it sorts before 10-aws.conflist: every pod that is created on an old node gets an overlay address from the first minute. " +
			"If that is meant, the Cutover must say spec.cilium.install: Shared").set("cni.customConf: true")
	case !s.secondary() && custom:
		return fail("install mode Shared wants Cilium's conflist on every node, and with cni.customConf it writes none").set("cni.customConf: false")
	}
	return pass("cni.customConf is %t, as install mode %s wants", custom, map[bool]string{true: "Secondary", false: "Shared"}[s.secondary()])
}

func exclusive(s *scene) answer {
	switch {
	case !s.on("cni.exclusive"):
		return pass("cni.exclusive is false")
	case s.on("cni.customConf"):
		return warn("cni.exclusive is true and sleeps as long as cni.customConf is true; were that ever changed on old nodes, the VPC CNI's conflist would be renamed").set("cni.exclusive: false")
	}
	return fail("Cilium renames 10-aws.conflist to 10-aws.conflist.cilium_bak on every node, and again whenever aws-node writes it").set("cni.exclusive: false")
}

func uninstall(s *scene) answer {
	if s.on("cni.uninstall") {
		return fail("every stop of a Cilium pod deletes its conflist, so an upgrade leaves overlay nodes without a CNI").set("cni.uninstall: false")
	}
	return pass("cni.uninstall is false")
}

func chaining(s *scene) answer {
	mode, target := s.text("cni.chainingMode"), s.text("cni.chainingTarget")
	if mode != "" && mode != "none" || target != "" {
		return fail("Cilium is chained (cni.chainingMode %q, cni.chainingTarget %q): pods keep addresses of the VPC and nothing moves", mode, target).set("cni.chainingMode: none")
	}
	return pass("Cilium is not chained to another CNI")
}

func awsRules(s *scene) answer {
	if s.on("cni.iptablesRemoveAWSRules") && s.on("cni.install") {
		return fail("every start of a Cilium pod removes the VPC CNI's iptables rules (it is the default): pods on secondary ENIs lose the Internet, others leave with their own address").set("cni.iptablesRemoveAWSRules: false")
	}
	return pass("the VPC CNI's iptables rules are left alone")
}

func podWatcher(s *scene) answer {
	if s.on("operator.unmanagedPodWatcher.restart") {
		return fail("the operator deletes CoreDNS' pods again and again, because Cilium does not own them yet (it is the default)").set("operator.unmanagedPodWatcher.restart: false")
	}
	return pass("the operator restarts no pod")
}

func nodeTaints(s *scene) answer {
	setting, given := s.v.get("operator.setNodeTaints")
	removes := s.on("operator.removeNodeTaints")
	// The chart sets taints if it is told to, or if it is told nothing and removes them.
	sets := s.on("operator.setNodeTaints") || (!given || setting == nil) && removes
	switch {
	case s.on("operator.setNodeTaints") && !removes:
		return fail("the chart refuses operator.setNodeTaints without operator.removeNodeTaints").set("operator.setNodeTaints: false")
	case sets && s.phase == Install:
		return fail("the operator taints every node whose Cilium pod is not ready (it is the default), those that the VPC CNI serves too: a restart of Cilium keeps pods off old nodes").set("operator.setNodeTaints: false")
	case !removes:
		return warn("nothing takes the taint node.cilium.io/agent-not-ready off a node that is born with it, and it never becomes schedulable").set("operator.removeNodeTaints: true")
	}
	return pass("operator.setNodeTaints %t, removeNodeTaints %t", sets, removes)
}

func policies(s *scene) answer {
	mode := s.text("policyEnforcementMode")
	const why = "traffic between the CNIs is NATed, so a policy sees nodes where pods are meant"
	switch {
	case mode == "never":
		return pass("policyEnforcementMode is never")
	case mode == "always":
		return fail("%s, and policyEnforcementMode always drops what no policy allows", why).set("policyEnforcementMode: never")
	case s.c.Policies == nil:
		return warn("%s. How many NetworkPolicies there are was not counted", why).set("policyEnforcementMode: never")
	case *s.c.Policies > 0:
		return fail("%s, and the cluster has %d of them", why, *s.c.Policies).set("policyEnforcementMode: never")
	}
	return warn("%s. There is none now; the first one would break connections", why).set("policyEnforcementMode: never")
}
