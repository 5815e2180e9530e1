// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/vpccni"
)

// wellConfigured is a VPC CNI that is ready for the move, and Cilium beside it.
func wellConfigured() Network {
	overlay := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	return Network{
		Legacy: Legacy{Namespace: "kube-system", Name: "aws-node", FenceLabel: v1alpha1.FenceLabel, Found: true,
			Options: vpccni.Options{Settings: vpccni.Settings{ExternalServiceCIDRs: overlay, ExcludeSNATCIDRs: overlay}, Managed: true, Cluster: "shop"}},
		Cilium:    Cilium{Namespace: "kube-system", Name: "cilium", Found: true},
		KubeProxy: KubeProxy{Found: true, Mode: "iptables"},
	}
}

// judged are the findings of one check on the healthy cluster with one change.
func judged(t *testing.T, check string, change func(*Snapshot)) []Finding {
	t.Helper()
	s := healthy()
	change(s)
	r := Judge(s)
	return slices.DeleteFunc(r.Findings, func(f Finding) bool { return f.Check != check })
}

// expectation is one finding that must be there, by what it says in its message, evidence and objects, and by its cure.
type expectation struct {
	check   string
	change  func(*Snapshot)
	verdict v1alpha1.Verdict
	says    []string
	mends   []string
}

func (e expectation) hold(t *testing.T) {
	t.Helper()
	all := judged(t, e.check, e.change)
	has := func(text string, words []string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
	}
	for _, f := range all {
		if f.Verdict == e.verdict && has(f.Message+"\n"+strings.Join(append(slices.Clone(f.Evidence), f.Objects...), "\n"), e.says) && has(f.Mend, e.mends) {
			return
		}
	}
	t.Errorf("%s with %q and cure %q is not among %+v", e.verdict, e.says, e.mends, all)
}

func unseen(resource string) func(*Snapshot) {
	return func(s *Snapshot) { s.Missing = append(s.Missing, Missing{Verb: "list", Resource: resource}) }
}

func TestWhoCannotReachWhomIsSaid(t *testing.T) {
	with := func(change func(*Network)) func(*Snapshot) { return func(s *Snapshot) { change(&s.Network) } }
	services := []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}
	const check = "LegacySettings"
	for name, e := range map[string]expectation{
		"nothing is set, an add-on": {check, with(func(n *Network) { n.Legacy.Settings = vpccni.Settings{ExternalServiceCIDRs: services} }), v1alpha1.VerdictFail,
			[]string{"3 kinds of paths", "kube-proxy in mode iptables and Cilium with iptables masquerade", "pods on secondary ENIs cannot reach Services with a backend on the overlay: ", "processes of old nodes themselves cannot reach", "DaemonSet/kube-system/aws-node"},
			[]string{"aws eks describe-addon --cluster-name shop --addon-name vpc-cni", `.env += {"AWS_EXTERNAL_SERVICE_CIDRS":"192.168.0.0/16,10.244.0.0/16","AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS":"10.244.0.0/16"}`, "--resolve-conflicts PRESERVE"}},
		"nothing is set, a DaemonSet of one's own": {check, with(func(n *Network) {
			n.Legacy.Options = vpccni.Options{Settings: vpccni.Settings{ExcludeSNATCIDRs: services}}
		}), v1alpha1.VerdictFail, nil,
			[]string{"kubectl -n kube-system set env daemonset/aws-node -c aws-node AWS_EXTERNAL_SERVICE_CIDRS=10.244.0.0/16 AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS=192.168.0.0/16,10.244.0.0/16"}},
		"a second network of the overlay": {check, func(s *Snapshot) { s.Overlay = append(s.Overlay, "10.245.0.0/16") }, v1alpha1.VerdictFail,
			[]string{"3 kinds of paths"}, []string{`"AWS_EXTERNAL_SERVICE_CIDRS":"10.244.0.0/16,10.245.0.0/16"`}},
		"external SNAT needs one list": {check, with(func(n *Network) { n.Legacy.Settings = vpccni.Settings{ExternalSNAT: true} }), v1alpha1.VerdictFail,
			[]string{"2 kinds of paths", "cannot reach pods on the overlay, and Services"}, []string{`.env += {"AWS_EXTERNAL_SERVICE_CIDRS":"10.244.0.0/16"}`}},
		"and that one is enough": {check, with(func(n *Network) { n.Legacy.ExcludeSNATCIDRs, n.Legacy.ExternalSNAT = nil, true }), v1alpha1.VerdictPass, []string{"EXTERNALSNAT"}, nil},
		"the cluster's name is not known": {check, with(func(n *Network) { n.Legacy.Options = vpccni.Options{Managed: true} }), v1alpha1.VerdictFail, nil,
			[]string{"--cluster-name <cluster>"}},
		"BPF masquerade on old nodes": {check, with(func(n *Network) { n.Cilium.BPFMasquerade = true }), v1alpha1.VerdictFail,
			[]string{"1 kinds of paths", "Cilium with BPF masquerade", "pods of the VPC CNI cannot reach pods on the overlay of other nodes"}, []string{"kubectl cutover values check --live"}},
		"kube-proxy replacement on old nodes": {check, with(func(n *Network) { n.Cilium.KubeProxyReplacement = true }), v1alpha1.VerdictFail, []string{"load balancers and hosts outside cannot reach NodePorts"}, nil},
		"Cilium removes the rules":            {check, with(func(n *Network) { n.Cilium.StripsRules = true }), v1alpha1.VerdictFail, []string{"the Internet"}, nil},
		"nobody translates Services":          {check, with(func(n *Network) { n.KubeProxy.Found = false }), v1alpha1.VerdictUnknown, []string{"kube-system/kube-proxy does not exist"}, nil},
		"ipvs was not measured":               {check, with(func(n *Network) { n.KubeProxy.Mode = "ipvs" }), v1alpha1.VerdictUnknown, []string{"ipvs"}, nil},
		"nftables was":                        {check, with(func(n *Network) { n.KubeProxy.Mode = "nftables" }), v1alpha1.VerdictPass, nil, nil},
		"before Cilium is installed":          {check, with(func(n *Network) { n.Cilium.Found = false }), v1alpha1.VerdictPass, []string{"as kubectl cutover values installs it"}, nil},
		"a list from elsewhere": {check, with(func(n *Network) {
			n.Legacy.ExternalServiceCIDRs, n.Legacy.Elsewhere = nil, []string{"AWS_EXTERNAL_SERVICE_CIDRS"}
		}), v1alpha1.VerdictFail, []string{"counts as not set"}, nil},
		"no VPC CNI":          {check, with(func(n *Network) { n.Legacy.Found = false }), v1alpha1.VerdictUnknown, []string{"kube-system/aws-node does not exist"}, nil},
		"DaemonSets unseen":   {check, unseen("daemonsets.apps"), v1alpha1.VerdictUnknown, []string{"not seen"}, nil},
		"no overlay":          {check, func(s *Snapshot) { s.Overlay = nil }, v1alpha1.VerdictUnknown, nil, nil},
		"Cilium's mode":       {check, unseen("configmaps"), v1alpha1.VerdictUnknown, []string{"was not seen"}, nil},
		"Cilium's exceptions": {check, unseen("ciliumnodeconfigs.cilium.io"), v1alpha1.VerdictUnknown, []string{"was not seen"}, nil},
	} {
		t.Run(name, e.hold)
	}
}

func TestWhatTheOverlayLacksIsSaid(t *testing.T) {
	option := func(change func(*vpccni.Options)) func(*Snapshot) {
		return func(s *Snapshot) { change(&s.Network.Legacy.Options) }
	}
	const check = "LegacyOptions"
	for name, e := range map[string]expectation{
		"security groups for pods": {check, option(func(o *vpccni.Options) { o.PodENI = true }), v1alpha1.VerdictFail, []string{"vpc.amazonaws.com/pod-eni"}, []string{`"ENABLE_POD_ENI":"false"`}},
		"and their policies": {check, func(s *Snapshot) {
			s.Network.Legacy.PodENI, s.Network.Legacy.StrictPodENI = true, true
			s.Network.SecurityGroupPolicies = []string{"shop/db"}
		}, v1alpha1.VerdictFail, []string{"SecurityGroupPolicy/shop/db", "strict"}, []string{"kubectl -n shop delete securitygrouppolicy db"}},
		"policies alone": {check, func(s *Snapshot) { s.Network.SecurityGroupPolicies = []string{"shop/db"} }, v1alpha1.VerdictFail, []string{"ENABLE_POD_ENI false"}, nil},
		"custom networking": {check, func(s *Snapshot) {
			s.Network.Legacy.CustomNetworking, s.Network.ENIConfigs = true, []string{"ENIConfig eu-central-1a: sg-1"}
		}, v1alpha1.VerdictWarn, []string{"ENIConfig eu-central-1a: sg-1"}, []string{"security groups"}},
		"custom networking, unseen": {check, func(s *Snapshot) {
			s.Network.Legacy.CustomNetworking = true
			unseen("eniconfigs.crd.k8s.amazonaws.com")(s)
		}, v1alpha1.VerdictWarn, []string{"were not seen"}, nil},
		"prefix delegation":     {check, option(func(o *vpccni.Options) { o.PrefixDelegation = true }), v1alpha1.VerdictPass, []string{"kubectl cutover density"}, nil},
		"IPv6":                  {check, option(func(o *vpccni.Options) { o.IPv6 = true }), v1alpha1.VerdictFail, []string{"IPv6"}, nil},
		"IPv6 egress":           {check, option(func(o *vpccni.Options) { o.IPv6Egress = true }), v1alpha1.VerdictWarn, []string{"IPv6"}, nil},
		"several network cards": {check, option(func(o *vpccni.Options) { o.MultiNIC = true }), v1alpha1.VerdictFail, []string{"nicConfig"}, []string{`"ENABLE_MULTI_NIC":"false"`}},
		"several network cards, a DaemonSet of one's own": {check, option(func(o *vpccni.Options) { o.MultiNIC, o.Managed = true, false }), v1alpha1.VerdictFail, nil,
			[]string{"set env daemonset/aws-node -c aws-node ENABLE_MULTI_NIC=false"}},
		"Multus":                      {check, func(s *Snapshot) { s.Network.Multus = []string{"kube-system/kube-multus-ds"} }, v1alpha1.VerdictFail, []string{"DaemonSet/kube-system/kube-multus-ds", "sorts before"}, nil},
		"attachments":                 {check, func(s *Snapshot) { s.Network.Attachments = []string{"nf/ipvlan"} }, v1alpha1.VerdictFail, []string{"NetworkAttachmentDefinition/nf/ipvlan"}, nil},
		"an option from elsewhere":    {check, option(func(o *vpccni.Options) { o.Elsewhere = []string{"*"} }), v1alpha1.VerdictUnknown, []string{"*"}, []string{"--list --resolve"}},
		"policies that were not seen": {check, unseen("securitygrouppolicies.vpcresources.k8s.aws"), v1alpha1.VerdictUnknown, nil, nil},
		"attachments not seen":        {check, unseen("network-attachment-definitions.k8s.cni.cncf.io"), v1alpha1.VerdictUnknown, nil, nil},
		"no VPC CNI":                  {check, func(s *Snapshot) { s.Network.Legacy.Found = false }, v1alpha1.VerdictUnknown, nil, nil},
	} {
		t.Run(name, e.hold)
	}
}

func TestPoliciesThatTheMoveBreaksAreSaid(t *testing.T) {
	enforced := func(change func(*Network)) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Network.Legacy.Policies = true
			change(&s.Network)
		}
	}
	const check = "Policies"
	for name, e := range map[string]expectation{
		"enforced":                             {check, enforced(func(n *Network) { n.NetworkPolicies = 4 }), v1alpha1.VerdictFail, []string{"4 NetworkPolicies"}, []string{`.enableNetworkPolicy = "false"`}},
		"enforced by a DaemonSet of one's own": {check, enforced(func(n *Network) { n.NetworkPolicies, n.Legacy.Managed = 4, false }), v1alpha1.VerdictFail, nil, []string{"--enable-network-policy=false"}},
		"strict":                               {check, enforced(func(n *Network) { n.Legacy.StrictPolicies = true }), v1alpha1.VerdictFail, []string{"strict"}, nil},
		"there are none":                       {check, enforced(func(*Network) {}), v1alpha1.VerdictPass, []string{"there are none"}, nil},
		"they were not seen":                   {check, func(s *Snapshot) { s.Network.Legacy.Policies = true; unseen("networkpolicies.networking.k8s.io")(s) }, v1alpha1.VerdictUnknown, nil, nil},
		"nobody enforces them":                 {check, func(s *Snapshot) { s.Network.NetworkPolicies, s.Network.Legacy.StrictPolicies = 4, true }, v1alpha1.VerdictPass, nil, nil},
		"AWS' own kinds":                       {check, func(s *Snapshot) { s.Network.AWSPolicies = []string{"ClusterNetworkPolicy/isolate"} }, v1alpha1.VerdictFail, []string{"ClusterNetworkPolicy/isolate"}, nil},
		"AWS' own, not seen":                   {check, unseen("clusternetworkpolicies.networking.k8s.aws"), v1alpha1.VerdictUnknown, nil, nil},
		"no VPC CNI":                           {check, func(s *Snapshot) { s.Network.Legacy.Found = false }, v1alpha1.VerdictUnknown, nil, nil},
	} {
		t.Run(name, e.hold)
	}
}
