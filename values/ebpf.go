// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package values

import (
	"net/netip"
	"strings"
)

func replacementValue(s *scene) answer {
	if value := s.text("kubeProxyReplacement"); value != "true" && value != "false" {
		return fail("kubeProxyReplacement is %q, and the chart takes true or false alone", value).set("kubeProxyReplacement: true")
	}
	return pass("kubeProxyReplacement is %s", s.text("kubeProxyReplacement"))
}

// birth is the advice for those who want the last phase early.
const birth = "replacement nodes may have it from birth, by a CiliumNodeConfig (kubectl cutover values --replacement-nodes)"

func replacementOnOldNodes(s *scene) answer {
	if s.replaces() {
		return fail("kube-proxy replacement on a node whose pods the VPC CNI serves breaks NodePorts there, those of load balancers with instance targets among them; %s", birth).set("kubeProxyReplacement: false")
	}
	return pass("old nodes keep kube-proxy")
}

func masqueradeOnOldNodes(s *scene) answer {
	switch {
	case s.on("bpf.masquerade"):
		return fail("BPF masquerade on a node whose pods the VPC CNI serves cuts them off from the overlay pods of all other nodes; %s", birth).set("bpf.masquerade: false")
	case s.v.given("upgradeCompatibility") && s.text("bpf.masquerade") == "":
		return unknown("upgradeCompatibility %s may switch BPF masquerade on where bpf.masquerade is not set: set it", s.text("upgradeCompatibility")).set("bpf.masquerade: false")
	case s.text("enableIPv4Masquerade") == "false":
		return fail("nothing masquerades the overlay's pods, and the VPC drops their addresses").set("enableIPv4Masquerade: true")
	}
	return pass("iptables masquerades")
}

func masqueradeNeedsReplacement(s *scene) answer {
	switch {
	case !s.on("bpf.masquerade") || s.replaces():
		return pass("BPF masquerade %t, kube-proxy replacement %t", s.on("bpf.masquerade"), s.replaces())
	case s.v.Version == Version{}:
		return unknown("bpf.masquerade without kubeProxyReplacement: 1.18 refuses to start, 1.19 accepts it; name the version with --cilium-version")
	case !s.v.Version.AtLeast(1, 19) && !s.on("nodePort.enabled"):
		mend := "kubeProxyReplacement: true"
		if s.phase == Install {
			mend = "bpf.masquerade: false"
		}
		return fail("Cilium %s does not start with bpf.masquerade and without kubeProxyReplacement (\"BPF masquerade requires NodePort\"); Helm accepts it", s.v.Version).set(mend)
	}
	return pass("Cilium %s can masquerade in BPF without replacing kube-proxy", s.v.Version)
}

func bundle(s *scene) answer {
	kpr, masquerade := s.replaces(), s.on("bpf.masquerade")
	switch {
	case kpr && masquerade:
		return pass("kubeProxyReplacement and bpf.masquerade are both on")
	case kpr:
		return fail("kubeProxyReplacement is on and bpf.masquerade is not: switch both in one upgrade, or every agent restarts twice and connections break twice").set("bpf.masquerade: true")
	case masquerade:
		return fail("bpf.masquerade is on and kubeProxyReplacement is not: switch both in one upgrade, or every agent restarts twice and connections break twice").set("kubeProxyReplacement: true")
	}
	return fail("neither kubeProxyReplacement nor bpf.masquerade is on: these are not the values of phase FullEBPF").set("kubeProxyReplacement: true, bpf.masquerade: true")
}

// byReference says whether agents take the API server's host from a ConfigMap.
func (s *scene) byReference() bool { return s.text("k8sServiceHostRef.name") != "" }

func serviceHost(s *scene) answer {
	host, port := s.text("k8sServiceHost"), s.text("k8sServicePort")
	needed := s.replaces() || s.phase == FullEBPF
	switch {
	case host != "" && s.v.given("k8sServiceHostRef.name"):
		return fail("the chart refuses k8sServiceHost together with k8sServiceHostRef: keep one")
	case host == "" && !s.byReference() && needed:
		return fail("without kube-proxy the agents cannot reach the API server by its ClusterIP, and k8sServiceHost names no other way").set("k8sServiceHost: <the endpoint without https://>, k8sServicePort: 443")
	case host == "" && !s.byReference():
		return warn("k8sServiceHost is not set. Old nodes do not need it; replacement nodes that replace kube-proxy from birth do, and so does phase FullEBPF").set("k8sServiceHost: <the endpoint without https://>, k8sServicePort: 443")
	case host == "auto":
		return fail("k8sServiceHost auto reads the ConfigMap kube-public/cluster-info, which kubeadm makes and EKS does not; the charts from 1.19 on then refuse it").set("k8sServiceHost: <the endpoint without https://>")
	case (port == "" || port == "0") && host != "":
		return fail("k8sServiceHost is set and k8sServicePort is not: the agents would dial port nothing").set("k8sServicePort: 443")
	}
	return pass("agents reach the API server at %s:%s", host, port)
}

func serviceHostScheme(s *scene) answer {
	host := s.text("k8sServiceHost")
	bare := host
	if _, after, ok := strings.Cut(host, "://"); ok {
		bare = after
	}
	bare, _, _ = strings.Cut(bare, "/")
	if _, err := netip.ParseAddr(strings.Trim(bare, "[]")); err != nil {
		bare, _, _ = strings.Cut(bare, ":")
	}
	switch {
	case host == "" || host == "auto":
		return pass("k8sServiceHost names no host")
	case bare != host:
		return fail("k8sServiceHost is %q: the agents make https://[host]:port of it and do not start", host).set("k8sServiceHost: " + bare)
	}
	return pass("k8sServiceHost is a name or an address")
}

func hostRouting(s *scene) answer {
	legacy := s.text("bpf.hostLegacyRouting")
	switch {
	case s.on("bpf.hostLegacyRouting"):
		return pass("packets of pods pass the host's stack")
	case !s.replaces() || !s.on("bpf.masquerade"):
		if legacy == "false" {
			return warn("bpf.hostLegacyRouting false is ignored without kube-proxy replacement and BPF masquerade: the agent falls back")
		}
		return pass("the agent falls back to the host's stack")
	}
	return warn("BPF host routing passes by the host's stack: EKS Pod Identity (169.254.170.23) was seen broken by it. Switch it in a step of its own, when pods have been seen to get credentials").set("bpf.hostLegacyRouting: true")
}

func ownConflist(s *scene) answer {
	switch {
	case s.on("cni.customConf"):
		return fail("with cni.customConf Cilium writes its conflist only where the CiliumNodeConfig says so; once that is deleted, the next node has no CNI").set("cni.customConf: false")
	case !s.on("cni.exclusive"):
		return warn("cni.exclusive is false: any other file in net.d that sorts first would win").set("cni.exclusive: true")
	}
	return pass("Cilium writes the only conflist")
}

func hubble(s *scene) answer {
	on, relay, ui := s.on("hubble.enabled"), s.on("hubble.relay.enabled"), s.on("hubble.ui.enabled")
	switch {
	case ui && !relay:
		return fail("the chart refuses Hubble's UI without its relay").set("hubble.relay.enabled: true")
	case relay && !on:
		return fail("the chart refuses Hubble's relay without Hubble").set("hubble.enabled: true")
	case !on && s.phase == FullEBPF:
		return warn("Hubble is off: phase FullEBPF is the time to switch it on, or it costs another restart of every agent").set("hubble.enabled: true")
	}
	return pass("hubble %t, relay %t, UI %t", on, relay, ui)
}
