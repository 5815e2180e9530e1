// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package values

// rule asks one question about values. Its judge hands back what it found; that it looked at a value which the origin does
// not show makes anything but a Fail Unknown.
type rule struct {
	name string
	// phases in which it has something to say.
	phases []Phase
	// asks is the question.
	asks string
	// source is where the fact stands: a file of Cilium's, a vendor's page, or our own measurement.
	source string
	judge  func(s *scene) answer
}

// measured is our own measurement of who reaches whom while both CNIs run: Cilium 1.18.11, amazon-vpc-cni-k8s 1.23.2 and
// kube-proxy 1.35.4, 135 paths a variant.
const measured = "measured with Cilium 1.18.11 beside amazon-vpc-cni-k8s 1.23.2"

// rules is the checklist, in the order in which a report shows it.
func rules() []rule {
	both, install, full := []Phase{Install, FullEBPF}, []Phase{Install}, []Phase{FullEBPF}
	return []rule{
		{"Version", both, "is the release one whose behaviour beside the VPC CNI is known",
			"cilium 1.17 install/kubernetes/cilium: the postStart hook is unconditional; 1.18 cni.iptablesRemoveAWSRules", version},
		{"RemovedOptions", both, "does the chart still know every option", "cilium templates/validate.yaml; 1.19 upgrade notes, Helm options", removedOptions},
		{"ExtraArgs", both, "does no argument of the agent say otherwise than the values", "cilium templates/cilium-agent/daemonset.yaml: extraArgs; a flag wins over cilium-config", extraArgs},
		{"NodeConfigs", install, "does no CiliumNodeConfig give old nodes what breaks them", "cilium configuration/per-node-config.rst", nodeConfigs},

		{"CustomConf", install, "does Cilium keep its conflist to itself until the coordinator says where to write it (install mode Secondary)",
			"cilium k8s-install-migration.rst; containerd go-cni: the first file wins, and 05-cilium sorts before 10-aws", customConf},
		{"Exclusive", install, "does Cilium leave the VPC CNI's conflist alone", "cilium daemon/cmd/cni/config.go: other files are renamed to *.cilium_bak, again and again", exclusive},
		{"Uninstall", both, "does the conflist stay when a Cilium pod stops", "cilium templates/cilium-agent/daemonset.yaml preStop, cni-uninstall.sh", uninstall},
		{"Chaining", both, "is Cilium a CNI of its own", "cilium k8s-install-migration.rst: chained Cilium gives no addresses", chaining},
		{"AWSRules", install, "do the VPC CNI's iptables rules survive the start of a Cilium pod", "cilium files/agent/poststart-eni.bash; " + measured + ": pods on secondary ENIs lose the Internet", awsRules},
		{"UnmanagedPodWatcher", install, "does the operator leave CoreDNS alone while the VPC CNI serves it", "cilium operator/cmd/k8s_pod_controller.go: every 15 s, pods k8s-app=kube-dns without an endpoint", podWatcher},
		{"NodeTaints", both, "does the operator leave the taints of old nodes alone, and take the startup taint off new ones", "cilium operator/watchers/node_taint.go; templates/cilium-configmap.yaml", nodeTaints},
		{"Policies", install, "is policy off while traffic between the CNIs carries the addresses of nodes", measured + ": sources seen by the server", policies},

		{"ReplacementValue", both, "is kubeProxyReplacement true or false", "cilium templates/cilium-configmap.yaml: fail", replacementValue},
		{"ReplacementOnOldNodes", install, "do old nodes keep kube-proxy", measured + ": NodePort at the node of a VPC pod is answered with RST; cilium issue 21579", replacementOnOldNodes},
		{"MasqueradeOnOldNodes", install, "do old nodes masquerade by iptables", measured + ": no VPC pod reaches an overlay pod of another node", masqueradeOnOldNodes},
		{"MasqueradeNeedsReplacement", both, "is BPF masquerade asked for only where the agent can do it", "cilium 1.18 daemon/cmd/daemon.go: BPF masquerade requires NodePort; not in 1.19", masqueradeNeedsReplacement},
		{"Bundle", full, "are kube-proxy replacement and BPF masquerade switched in one upgrade", "cilium kubeproxy-free.rst; each switch restarts every agent and breaks connections", bundle},
		{"ServiceHost", both, "can agents reach the API server without kube-proxy", "cilium kubeproxy-free.rst; templates/cilium-agent/daemonset.yaml: KUBERNETES_SERVICE_HOST", serviceHost},
		{"ServiceHostScheme", both, "is k8sServiceHost a name and nothing else", "cilium 1.18.11, seen: host must be a URL or a host:port pair: \"https://[https://...]:443\"", serviceHostScheme},
		{"HostRouting", both, "do pods keep their way to IMDS and the Pod Identity agent", "cilium issues 25232, 35989", hostRouting},
		{"OwnConflist", full, "does Cilium write its conflist on every node once the VPC CNI is gone", "cilium k8s-install-migration.rst, after the migration", ownConflist},
		{"Hubble", both, "do Hubble's parts fit together", "cilium templates/validate.yaml", hubble},

		{"Tunnel", both, "is it a VXLAN overlay on the port of the Cutover", "cilium daemon/cmd/daemon_main.go initEnv; spec.overlay.tunnel", tunnel},
		{"MTU", both, "does Cilium find the MTU itself", "cilium pkg/mtu; measured: routes of 8951 on NICs of 9001", mtu},
		{"NativeRoutingCIDR", both, "is traffic that leaves the overlay masqueraded", "cilium pkg/datapath/types RemoteSNATDstAddrExclusionCIDRv4; " + measured + ": 12 paths fail", nativeCIDR},
		{"EgressInterfaces", both, "are only the overlay's pods masqueraded", "cilium pkg/datapath/iptables allEgressMasqueradeCmds; daemon/cmd/daemon.go", egressInterfaces},
		{"LoadBalancerMode", both, "can the tunnel carry the load balancer's mode", "cilium pkg/kpr/initializer: dsr cannot be used with vxlan", loadBalancerMode},
		{"IPv6", both, "is it IPv4 alone", "scope of this project", ipv6},

		{"IPAMMode", both, "does Cilium cut node slices from a pool, now as before", "cilium ipam/index.rst; issue 27164: a live cluster's mode cannot change", ipamMode},
		{"Pool", both, "are the pools networks, and those of the Cutover", "spec.overlay.podCIDRs; cilium templates/cilium-configmap.yaml", pool},
		{"PoolOverlap", both, "does nothing else live in the pools", "cilium ipam/cluster-pool.rst: you will lose connectivity to other nodes", poolOverlap},
		{"PoolChange", both, "are pools only appended, and is the mask as it was", "cilium ipam/cluster-pool.rst", poolChange},
		{"Mask", both, "does the mask cut slices from every pool, and enough of them", "cilium pkg/ipam/allocator/clusterpool: a mask shorter than the pool is not refused", mask},
		{"SeveralPools", both, "does everybody know of every pool", "amazon-vpc-cni-k8s README: AWS_EXTERNAL_SERVICE_CIDRS, AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", severalPools},
	}
}
