// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package values

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/golden"
)

const (
	passes, warns, fails, unsure = v1alpha1.VerdictPass, v1alpha1.VerdictWarn, v1alpha1.VerdictFail, v1alpha1.VerdictUnknown
)

type set map[string]any

// planted is our reference with something changed, and what a rule must say of it.
type planted struct {
	name    string
	phase   Phase // empty: install
	version Version
	set     set
	cluster func(*Cluster)
	rule    string
	want    v1alpha1.Verdict
	says    string
}

func faults() []planted {
	v19, shared := Version{1, 19, 0}, func(c *Cluster) { c.Install = v1alpha1.InstallShared }
	count := func(n int) func(*Cluster) { return func(c *Cluster) { c.Policies = &n } }
	running := func(changed set) func(*Cluster) {
		return func(c *Cluster) {
			c.Running = reference(Version{1, 18, 11}, Install).Values()
			for path, value := range changed {
				c.Running = c.Running.with(path, value)
			}
		}
	}
	two := []any{"10.244.0.0/16", "10.245.0.0/16"}
	return []planted{
		{"a release that strips the VPC CNI's rules", "", Version{1, 17, 9}, nil, nil, "Version", fails, "removes the VPC CNI's iptables rules"},
		{"an old release afterwards", FullEBPF, Version{1, 16, 0}, nil, nil, "Version", fails, "older"},
		{"a release that nobody has looked at", "", Version{1, 21, 0}, nil, nil, "Version", unsure, "newer than 1.20"},
		{"a release that is not known", "", Version{}, nil, nil, "Version", unsure, "--cilium-version"},

		{"an option that charts refuse", "", v19, set{"tunnel": "vxlan"}, nil, "RemovedOptions", fails, "routingMode"},
		{"a nested option that charts refuse", "", v19, set{"encryption.keyFile": "x"}, nil, "RemovedOptions", fails, "encryption.ipsec"},
		{"the pool by its old name", "", v19, set{"ipam.operator.clusterPoolIPv4PodCIDR": "10.244.0.0/16"}, nil, "RemovedOptions", fails, "default pool 10.0.0.0/8"},
		{"an option that 1.19 ignores", "", v19, set{"nodePort.enabled": true}, nil, "RemovedOptions", warns, "nodePort.enabled"},
		{"an option that 1.18 still obeys", "", Version{}, set{"nodePort.enabled": true}, nil, "RemovedOptions", passes, ""},

		{"an argument of the agent", "", v19, set{"extraArgs": []any{"--debug", "--enable-bpf-masquerade=true"}}, nil, "ExtraArgs", unsure, "bpf.masquerade"},
		{"an argument that does not matter", "", v19, set{"extraArgs": []any{"--debug"}}, nil, "ExtraArgs", passes, ""},
		{"a CiliumNodeConfig on old nodes", "", v19, nil, func(c *Cluster) {
			c.NodeConfigs, c.Overrides = []NodeConfig{{"kpr", 3, map[string]string{"kube-proxy-replacement": "true"}}}, Seen
		}, "NodeConfigs", fails, "kpr selects 3 nodes of the VPC CNI: kube-proxy replacement"},
		{"a CiliumNodeConfig that makes Cilium win there", "", v19, nil, func(c *Cluster) {
			c.NodeConfigs, c.Overrides = []NodeConfig{{"a", 1, map[string]string{"debug": "true"}}, {"win", 3, map[string]string{"custom-cni-conf": "false"}}}, Seen
		}, "NodeConfigs", fails, "win selects 3"},
		{"a harmless CiliumNodeConfig", "", v19, nil, func(c *Cluster) {
			c.NodeConfigs, c.Overrides = []NodeConfig{{"debug", 3, map[string]string{"debug": "true"}}}, Seen
		}, "NodeConfigs", passes, ""},
		{"CiliumNodeConfigs that nobody may see", "", v19, nil, func(c *Cluster) { c.Overrides = Unseen }, "NodeConfigs", unsure, "ciliumnodeconfigs.cilium.io"},

		{"a conflist on every node at once", "", v19, set{"cni.customConf": false}, nil, "CustomConf", fails, "05-cilium.conflist"},
		{"the same, wanted", "", v19, set{"cni.customConf": false}, shared, "CustomConf", passes, "Shared"},
		{"no conflist where it is wanted", "", v19, nil, shared, "CustomConf", fails, "writes none"},
		{"a conflist by another way", "", v19, set{"cni.configMap": "cni"}, nil, "CustomConf", fails, "cni.configMap"},

		{"exclusive while aws-node runs", "", v19, set{"cni.customConf": false, "cni.exclusive": true}, shared, "Exclusive", fails, "10-aws.conflist.cilium_bak"},
		{"exclusive, asleep", "", v19, set{"cni.exclusive": true}, nil, "Exclusive", warns, "sleeps"},
		{"exclusive by default", "", v19, set{"cni.customConf": false, "cni.exclusive": nil}, shared, "Exclusive", passes, ""}, // null deletes the default
		{"a conflist that goes with its pod", "", v19, set{"cni.uninstall": true}, nil, "Uninstall", fails, "without a CNI"},
		{"a chained Cilium", "", v19, set{"cni.chainingMode": "aws-cni"}, nil, "Chaining", fails, "aws-cni"},
		{"a chained Cilium by its target", "", v19, set{"cni.chainingTarget": "aws-cni"}, nil, "Chaining", fails, "aws-cni"},
		{"chaining switched off by name", "", v19, set{"cni.chainingMode": "none"}, nil, "Chaining", passes, ""},
		{"the VPC CNI's rules stripped", "", v19, set{"cni.iptablesRemoveAWSRules": true}, nil, "AWSRules", fails, "lose the Internet"},
		{"CoreDNS restarted again and again", "", v19, set{"operator.unmanagedPodWatcher.restart": true}, nil, "UnmanagedPodWatcher", fails, "CoreDNS"},
		{"old nodes tainted", "", v19, set{"operator.setNodeTaints": true}, nil, "NodeTaints", fails, "keeps pods off old nodes"},
		{"old nodes tainted, because nobody said no", "", v19, set{"operator.setNodeTaints": nil}, nil, "NodeTaints", fails, "it is the default"},
		{"taints set and never removed", FullEBPF, v19, set{"operator.removeNodeTaints": false}, nil, "NodeTaints", fails, "the chart refuses"},
		{"the startup taint stays", "", v19, set{"operator.removeNodeTaints": false}, nil, "NodeTaints", warns, "never becomes schedulable"},
		{"policies that see nodes", "", v19, set{"policyEnforcementMode": "default"}, count(3), "Policies", fails, "has 3 of them"},
		{"policies that may come", "", v19, set{"policyEnforcementMode": "default"}, count(0), "Policies", warns, "There is none now"},
		{"policies that were not counted", "", v19, set{"policyEnforcementMode": nil}, func(c *Cluster) { c.Policies = nil }, "Policies", warns, "not counted"},
		{"policy always", "", v19, set{"policyEnforcementMode": "always"}, count(0), "Policies", fails, "always"},

		{"a mode of former times", "", v19, set{"kubeProxyReplacement": "strict"}, nil, "ReplacementValue", fails, `"strict"`},
		{"replacement on old nodes", "", v19, set{"kubeProxyReplacement": true}, nil, "ReplacementOnOldNodes", fails, "NodePorts"},
		{"replacement on old nodes, quoted", "", v19, set{"kubeProxyReplacement": "true"}, nil, "ReplacementOnOldNodes", fails, "NodePorts"},
		{"BPF masquerade on old nodes", "", v19, set{"bpf.masquerade": true}, nil, "MasqueradeOnOldNodes", fails, "overlay pods of all other nodes"},
		{"masquerade that a compatibility decides", "", v19, set{"bpf.masquerade": nil, "upgradeCompatibility": "1.9"}, nil, "MasqueradeOnOldNodes", unsure, "set it"},
		{"no masquerade at all", "", v19, set{"enableIPv4Masquerade": false}, nil, "MasqueradeOnOldNodes", fails, "nothing masquerades"},
		{"masquerade without replacement, 1.18", FullEBPF, Version{1, 18, 3}, set{"kubeProxyReplacement": false}, nil, "MasqueradeNeedsReplacement", fails, "BPF masquerade requires NodePort"},
		{"masquerade without replacement, 1.18 with node ports", FullEBPF, Version{1, 18, 3}, set{"kubeProxyReplacement": false, "nodePort.enabled": true}, nil, "MasqueradeNeedsReplacement", passes, ""},
		{"masquerade without replacement, 1.19", FullEBPF, v19, set{"kubeProxyReplacement": false}, nil, "MasqueradeNeedsReplacement", passes, "1.19"},
		{"masquerade without replacement, who knows", FullEBPF, Version{}, set{"kubeProxyReplacement": false}, nil, "MasqueradeNeedsReplacement", unsure, "--cilium-version"},
		{"half of the bundle", FullEBPF, v19, set{"bpf.masquerade": false}, nil, "Bundle", fails, "bpf.masquerade is not"},
		{"the other half", FullEBPF, v19, set{"kubeProxyReplacement": false}, nil, "Bundle", fails, "kubeProxyReplacement is not"},
		{"none of it", FullEBPF, v19, set{"kubeProxyReplacement": false, "bpf.masquerade": false}, nil, "Bundle", fails, "neither"},

		{"replacement without a host", FullEBPF, v19, set{"k8sServiceHost": ""}, nil, "ServiceHost", fails, "ClusterIP"},
		{"no host yet", "", v19, set{"k8sServiceHost": nil}, nil, "ServiceHost", warns, "Old nodes do not need it"},
		{"a host from a ConfigMap", FullEBPF, v19, set{"k8sServiceHost": "", "k8sServiceHostRef.name": "api"}, nil, "ServiceHost", passes, ""},
		{"two hosts", FullEBPF, v19, set{"k8sServiceHostRef.name": "api"}, nil, "ServiceHost", fails, "keep one"},
		{"a host that only kubeadm knows", FullEBPF, v19, set{"k8sServiceHost": "auto"}, nil, "ServiceHost", fails, "cluster-info"},
		{"a host without a port", FullEBPF, v19, set{"k8sServicePort": ""}, nil, "ServiceHost", fails, "k8sServicePort"},
		{"a host with a scheme", "", v19, set{"k8sServiceHost": "https://ABCD.eks.amazonaws.com"}, nil, "ServiceHostScheme", fails, "do not start"},
		{"a host with a port", "", v19, set{"k8sServiceHost": "ABCD.eks.amazonaws.com:443"}, nil, "ServiceHostScheme", fails, "do not start"},
		{"a host with a path", "", v19, set{"k8sServiceHost": "ABCD.eks.amazonaws.com/"}, nil, "ServiceHostScheme", fails, "do not start"},
		{"an address", "", v19, set{"k8sServiceHost": "2001:db8::1"}, nil, "ServiceHostScheme", passes, ""},

		{"host routing in the last phase", FullEBPF, v19, set{"bpf.hostLegacyRouting": false}, nil, "HostRouting", warns, "169.254.170.23"},
		{"host routing that cannot be", "", v19, set{"bpf.hostLegacyRouting": false}, nil, "HostRouting", warns, "ignored"},
		{"no conflist of its own", FullEBPF, v19, set{"cni.customConf": true}, nil, "OwnConflist", fails, "no CNI"},
		{"a conflist among others", FullEBPF, v19, set{"cni.exclusive": false}, nil, "OwnConflist", warns, "sorts first"},
		{"a UI without a relay", FullEBPF, v19, set{"hubble.relay.enabled": false}, nil, "Hubble", fails, "UI without its relay"},
		{"a relay without Hubble", FullEBPF, v19, set{"hubble.enabled": false}, nil, "Hubble", fails, "relay without Hubble"},
		{"no Hubble at the end", FullEBPF, v19, set{"hubble.enabled": false, "hubble.relay.enabled": false, "hubble.ui.enabled": false}, nil, "Hubble", warns, "another restart"},

		{"native routing", "", v19, set{"routingMode": "native"}, nil, "Tunnel", fails, "no route"},
		{"Geneve", "", v19, set{"tunnelProtocol": "geneve"}, nil, "Tunnel", fails, "VXLAN"},
		{"ENI addresses", "", v19, set{"eni.enabled": true}, nil, "Tunnel", fails, "no overlay"},
		{"routes past the tunnel", "", v19, set{"autoDirectNodeRoutes": true}, nil, "Tunnel", fails, "does not start"},
		{"another port than the Cutover's", "", v19, set{"tunnelPort": 4789}, nil, "Tunnel", fails, "8472"},
		{"no port at all", "", v19, set{"tunnelPort": "high"}, nil, "Tunnel", fails, "no port"},
		{"the default port", "", v19, set{"tunnelPort": 0}, nil, "Tunnel", passes, "8472"},
		{"another port than now", "", v19, nil, running(set{"tunnelPort": 4789}), "Tunnel", fails, "4789 now"},
		{"an MTU", "", v19, set{"MTU": 9001}, nil, "MTU", warns, "9001"},
		{"the VPC as native network", "", v19, set{"ipv4NativeRoutingCIDR": "10.0.0.0/16"}, nil, "NativeRoutingCIDR", fails, "never masquerade towards 10.0.0.0/16"},
		{"a native network that is wider than the pool", "", v19, set{"ipv4NativeRoutingCIDR": "10.0.0.0/8"}, nil, "NativeRoutingCIDR", fails, "10.0.0.0/8"},
		{"the pool as native network", "", v19, set{"ipv4NativeRoutingCIDR": "10.244.0.0/16"}, nil, "NativeRoutingCIDR", passes, ""},
		{"a native network that is none", "", v19, set{"ipv4NativeRoutingCIDR": "vpc"}, nil, "NativeRoutingCIDR", fails, "no network"},
		{"interfaces to masquerade on", "", v19, set{"egressMasqueradeInterfaces": "eth+"}, nil, "EgressInterfaces", warns, "VPC CNI's pods"},
		{"interfaces in BPF", FullEBPF, v19, set{"egressMasqueradeInterfaces": []any{"eth+", "ens+"}}, nil, "EgressInterfaces", fails, "eth+ ens+"},
		{"interfaces afterwards", FullEBPF, v19, set{"egressMasqueradeInterfaces": "eth+", "bpf.masquerade": false}, nil, "EgressInterfaces", warns, "whatever leaves"},
		{"direct server return in a tunnel", FullEBPF, v19, set{"loadBalancer.mode": "dsr"}, nil, "LoadBalancerMode", fails, "dsr"},
		{"direct server return, asleep", "", v19, set{"loadBalancer.mode": "hybrid"}, nil, "LoadBalancerMode", warns, "sleeps"},
		{"IPv6", "", v19, set{"ipv6.enabled": true}, nil, "IPv6", warns, "second address"},

		{"another mode of IPAM", "", v19, set{"ipam.mode": "kubernetes"}, nil, "IPAMMode", fails, "cluster-pool"},
		{"a mode of IPAM that changes", "", v19, nil, running(set{"ipam.mode": "eni"}), "IPAMMode", fails, `"eni" now`},
		{"a pool that is none", "", v19, set{poolPath: []any{"10.244.0.0"}}, nil, "Pool", fails, "no network"},
		{"no pool", "", v19, set{poolPath: []any{}}, nil, "Pool", fails, "empty"},
		{"a pool of IPv6", "", v19, set{poolPath: []any{"fd00::/104"}}, nil, "Pool", fails, "not IPv4"},
		{"another pool than the Cutover's", "", v19, set{poolPath: []any{"10.245.0.0/16"}}, nil, "Pool", fails, "the Cutover's"},
		{"pools that overlap each other", "", v19, set{poolPath: []any{"10.244.0.0/16", "10.244.128.0/17"}}, func(c *Cluster) { c.Overlay = nil }, "Pool", fails, "same slice"},
		{"the default pool", "", v19, set{poolPath: nil}, func(c *Cluster) { c.VPC, c.NodeAddresses, c.Services = nil, nil, nil }, "PoolOverlap", unsure, "no pool"},
		{"a pool in the VPC", "", v19, set{poolPath: []any{"10.0.128.0/17"}}, nil, "PoolOverlap", fails, "10.0.0.0/16"},
		{"a pool among Services", "", v19, set{poolPath: []any{"172.16.0.0/12"}}, nil, "PoolOverlap", fails, "172.20.0.0/16"},
		{"a pool that holds a node", "", v19, set{poolPath: []any{"10.0.1.0/24"}}, func(c *Cluster) { c.VPC = nil }, "PoolOverlap", fails, "10.0.1.10"},
		{"the whole of 10/8", "", v19, set{poolPath: []any{"10.0.0.0/8"}}, func(c *Cluster) { *c = Cluster{} }, "PoolOverlap", fails, "default"},
		{"a VPC that nobody named", "", v19, nil, func(c *Cluster) { c.VPC = nil }, "PoolOverlap", unsure, "--vpc-cidr"},
		{"a pool that changes", "", v19, nil, running(set{poolPath: []any{"10.200.0.0/16"}}), "PoolChange", fails, "appended"},
		{"a pool that is taken away", "", v19, nil, running(set{poolPath: two}), "PoolChange", fails, "appended"},
		{"a pool that is appended", "", v19, set{poolPath: two}, running(nil), "PoolChange", passes, ""},
		{"a mask that changes", "", v19, nil, running(set{maskPath: 25}), "PoolChange", fails, "25 now"},
		{"a mask shorter than its pool", "", v19, set{maskPath: 15}, func(c *Cluster) { c.NodeMaskSize = 0 }, "Mask", fails, "hands out nothing"},
		{"a mask too long", "", v19, set{maskPath: 31}, nil, "Mask", fails, "1 to 30"},
		{"a mask that is none", "", v19, set{maskPath: "wide"}, nil, "Mask", fails, "wide"},
		{"another mask than the Cutover's", "", v19, set{maskPath: 25}, nil, "Mask", fails, "nodeMaskSize"},
		{"fewer slices than nodes", "", v19, set{maskPath: 16}, func(c *Cluster) { c.NodeMaskSize = 0 }, "Mask", fails, "1 slices"},
		{"several pools", "", v19, set{poolPath: two}, func(c *Cluster) { c.Overlay = nil }, "SeveralPools", warns, "10.245.0.0/16"},
	}
}

func TestPlantedFaultsAreFound(t *testing.T) {
	found := map[string]bool{}
	for _, p := range faults() {
		phase := p.phase
		if phase == "" {
			phase = Install
		}
		if p.want != passes {
			found[p.rule] = true
		}
		t.Run(p.name, func(t *testing.T) {
			v := reference(p.version, phase).Values()
			for path, value := range p.set {
				v = v.with(path, value)
			}
			c := plain()
			if p.cluster != nil {
				p.cluster(&c)
			}
			for _, f := range Check(v, phase, c).Findings {
				if f.Rule != p.rule {
					continue
				}
				if f.Verdict != p.want || !strings.Contains(f.Message, p.says) {
					t.Errorf("%s: %s, want %s with %q", f.Verdict, f.Message, p.want, p.says)
				}
				return
			}
			t.Errorf("there is no rule %s", p.rule)
		})
	}
	for _, r := range rules() {
		if !found[r.name] {
			t.Errorf("no fault is planted for %s", r.name)
		}
		if r.source == "" || r.asks == "" || len(r.phases) == 0 || r.judge == nil {
			t.Errorf("%s is not whole: %+v", r.name, r)
		}
	}
}

// TestThePublishedMigration is the reference migration with its blockers: what went wrong there has to be said before.
func TestThePublishedMigration(t *testing.T) {
	v := must[*Values](t)(FromYAML("values.yaml", []byte(`
cni: {exclusive: false}
ipam: {mode: cluster-pool, operator: {clusterPoolIPv4PodCIDRList: [10.244.0.0/16], clusterPoolIPv4MaskSize: 24}}
routingMode: tunnel
tunnelProtocol: vxlan
kubeProxyReplacement: false
bpf: {masquerade: true}
k8sServiceHost: https://ABCD.gr7.eu-central-1.eks.amazonaws.com
k8sServicePort: 443
`), Version{1, 18, 3}))
	c := plain()
	c.Install = v1alpha1.InstallShared
	r := Check(v, Install, c)
	var out strings.Builder
	if err := r.Write(&out, false); err != nil {
		t.Fatal(err)
	}
	golden.Match(t, "testdata/published.txt", out.String())
	if r.Verdict() != fails {
		t.Errorf("the verdict is %s", r.Verdict())
	}
}

// TestEveryLineNamesItsRule: the reason of a value leads to a source.
func TestEveryLineNamesItsRule(t *testing.T) {
	known := map[string]bool{}
	for _, r := range rules() {
		known[r.name] = true
	}
	for _, p := range []Phase{Install, FullEBPF} {
		for _, l := range reference(Version{1, 18, 11}, p).lines() {
			if l.why == "" || !known[l.rule] {
				t.Errorf("%s %s: %q [%s]", p, l.path, l.why, l.rule)
			}
		}
	}
}

// TestTheReadmeAndTheLaboratoryAgree: there is one truth about Cilium's values.
func TestTheReadmeAndTheLaboratoryAgree(t *testing.T) {
	readme := string(must[[]byte](t)(os.ReadFile("../README.md")))
	_, after, found := strings.Cut(readme, "--values - <<'VALUES'\n")
	block, _, closed := strings.Cut(after, "VALUES\n")
	if !found || !closed {
		t.Fatal("the README shows no values of Cilium's any more")
	}
	shown := must[*Values](t)(FromYAML("README.md", []byte(block), Version{1, 18, 11}))
	ref := reference(Version{1, 18, 11}, Install)
	ref.Host = ""
	want := ref.Values()
	for path := range shown.set {
		if got, want := strings.Join(shown.list(path), " "), strings.Join(want.list(path), " "); got != want {
			t.Errorf("README.md: %s is %q, our values say %q", path, got, want)
		}
	}
	for path := range want.set {
		if !shown.given(path) {
			t.Errorf("README.md does not show %s", path)
		}
	}
	clean(t, Check(shown, Install, plain()))

	manifest := string(must[[]byte](t)(os.ReadFile("../lab/standin/cilium/cilium.yaml")))
	for document := range strings.SplitSeq(manifest, "\n---\n") {
		var config corev1.ConfigMap
		if err := yaml.Unmarshal([]byte(document), &config); err != nil || config.Kind != "ConfigMap" {
			continue
		}
		lab := FromCluster(&config, nil, Version{1, 18, 11})
		for _, o := range options() {
			if _, there := config.Data[o.key]; !there || !want.given(o.path) || o.path == "cni.exclusive" {
				continue
			}
			if got, want := strings.Join(lab.list(o.path), " "), strings.Join(want.list(o.path), " "); got != want {
				t.Errorf("the lab's %s is %q, our values say %q", o.key, got, want)
			}
		}
		for _, f := range Check(lab, Install, plain()).Findings {
			if f.Verdict == fails {
				t.Errorf("the lab's Cilium: %s: %s", f.Rule, f.Message)
			}
		}
		return
	}
	t.Error("the lab has no cilium-config any more")
}

// TestThePageListsTheRules renders the table of docs/values.md.
func TestThePageListsTheRules(t *testing.T) {
	const begin, end = "<!-- rules: rendered from values/rules.go -->\n", "<!-- end of rules -->\n"
	const page = "../docs/values.md"
	text := string(must[[]byte](t)(os.ReadFile(page)))
	head, rest, found := strings.Cut(text, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the rules: put %q and %q there", page, begin, end)
	}
	var table strings.Builder
	table.WriteString("\n| rule | phase | asks | source |\n|---|---|---|---|\n")
	for _, r := range rules() {
		fmt.Fprintf(&table, "| %s | %s | %s? | %s |\n", r.name, r.in(), r.asks, strings.ReplaceAll(r.source, "*", "\\*"))
	}
	golden.Match(t, page, head+begin+table.String()+"\n"+end+tail)
}

func TestPrefixesAreWrittenAsYAML(t *testing.T) {
	if got := list([]netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.245.0.0/16")}); got != "[10.244.0.0/16, 10.245.0.0/16]" {
		t.Error(got)
	}
}
