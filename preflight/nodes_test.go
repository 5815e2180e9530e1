// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// linux is a machine that nobody has to worry about.
func linux() NodeInfo {
	return NodeInfo{OS: "linux", Image: "Amazon Linux 2023.9.20251117", Kernel: "6.1.158-178.288.amzn2023.x86_64", Runtime: "containerd://2.1.4", Ready: true, ProviderID: "aws:///eu-central-1a/i-0123456789abcdef0"}
}

// quietPool is a NodePool as a roll wants it.
func quietPool(change func(*NodePool)) func(*Snapshot) {
	return func(s *Snapshot) {
		p := NodePool{Name: "default", Budgets: []DisruptionBudget{{Nodes: "10%"}, {Nodes: "0"}}, StartupTaints: []string{"node.cilium.io/agent-not-ready"}}
		if change != nil {
			change(&p)
		}
		s.NodePools = []NodePool{p}
	}
}

func TestWhatNodesAreIsSaid(t *testing.T) {
	node := func(change func(*Node)) func(*Snapshot) { return func(s *Snapshot) { change(&s.Nodes[0]) } }
	labelled := func(key, value string) func(*Snapshot) {
		return node(func(n *Node) { n.Labels = map[string]string{key: value} })
	}
	unseen := func(resource string) func(*Snapshot) {
		return func(s *Snapshot) { s.Missing = []Missing{{Resource: resource}} }
	}
	claim := func(after time.Duration, drifted bool) func(*Snapshot) {
		return func(s *Snapshot) {
			at := s.TakenAt.Add(after)
			s.NodeClaims = append(s.NodeClaims, NodeClaim{Name: "default-1", Pool: "default", Expires: &at, Drifted: drifted})
		}
	}
	for name, c := range map[string]struct {
		change func(*Snapshot)
		want   v1alpha1.Verdict
		says   string
		mend   string
	}{
		"ordinary ones": {func(*Snapshot) {}, v1alpha1.VerdictPass, "can run on 2 of 2 nodes (Amazon Linux 2023: 2)", ""},
		"Bottlerocket":  {node(func(n *Node) { n.Image, n.Kernel = "Bottlerocket OS 1.49.0 (aws-k8s-1.34)", "6.12.53" }), v1alpha1.VerdictPass, "(Amazon Linux 2023: 1, Bottlerocket OS: 1)", ""},

		"Fargate by its label": {labelled("eks.amazonaws.com/compute-type", "fargate"), v1alpha1.VerdictFail, "1 node of kind Fargate", "delete-fargate-profile"},
		"Fargate in a cluster that eksctl made": {func(s *Snapshot) {
			s.Nodes[0].Labels = map[string]string{"eks.amazonaws.com/compute-type": "fargate"}
			s.Nodes[1].Labels = map[string]string{"alpha.eksctl.io/cluster-name": "shop"}
		}, v1alpha1.VerdictFail, "1 node of kind Fargate", "delete-fargate-profile --cluster-name shop --"},
		"Fargate by its name": {node(func(n *Node) {
			n.ProviderID = "aws:///eu-central-1a/0f/fargate-ip-10-0-1-10.eu-central-1.compute.internal"
		}), v1alpha1.VerdictFail, "of kind Fargate", ""},
		"Windows by its kubelet": {node(func(n *Node) {
			n.OS, n.Kernel, n.Image = "windows", "10.0.20348.4297", "Windows Server 2022 Datacenter"
		}), v1alpha1.VerdictFail, "of kind Windows", ""},
		"Windows by its label":     {labelled(corev1.LabelOSStable, "windows"), v1alpha1.VerdictFail, "of kind Windows", ""},
		"Auto Mode":                {labelled("eks.amazonaws.com/compute-type", "auto"), v1alpha1.VerdictFail, "of kind Auto Mode", "--compute-config enabled=false"},
		"hybrid by its label":      {labelled("eks.amazonaws.com/compute-type", "hybrid"), v1alpha1.VerdictFail, "of kind hybrid", "nodeadm uninstall"},
		"hybrid by its name":       {node(func(n *Node) { n.ProviderID = "eks-hybrid:///eu-central-1/shop/mi-0123456789abcdef0" }), v1alpha1.VerdictFail, "of kind hybrid", ""},
		"an old kernel":            {node(func(n *Node) { n.Kernel = "5.4.278-1.amzn2.x86_64" }), v1alpha1.VerdictFail, "needs Linux 5.10, and 1 node has too old a kernel, as node-a: 5.4.278", "Amazon Linux 2023"},
		"a kernel that is unknown": {node(func(n *Node) { n.Kernel = "linux" }), v1alpha1.VerdictUnknown, `of node-a: "linux"`, "kubectl get nodes"},
		"another runtime":          {node(func(n *Node) { n.Runtime = "cri-o://1.33.1" }), v1alpha1.VerdictUnknown, `1 node is there with another runtime, as node-a: "cri-o://1.33.1"`, ""},
		"Amazon Linux 2":           {node(func(n *Node) { n.Image, n.Kernel = "Amazon Linux 2", "5.10.245-241.978.amzn2.x86_64" }), v1alpha1.VerdictWarn, "1 node has Amazon Linux 2", "AL2023_x86_64_STANDARD"},
		"another image":            {node(func(n *Node) { n.Image = "Ubuntu 24.04.3 LTS" }), v1alpha1.VerdictWarn, "(Ubuntu 24.04.3 LTS of node-a)", "ManageForeignRoutes"},
		"a taint that stayed":      {node(func(n *Node) { n.Taints = []corev1.Taint{{Key: "a"}, {Key: startupTaint}} }), v1alpha1.VerdictWarn, "1 node is Ready with taint node.cilium.io/agent-not-ready", "kubectl taint node node-a node.cilium.io/agent-not-ready-"},
		"the monitoring agent":     {func(s *Snapshot) { s.DaemonSets = append(s.DaemonSets, "kube-system/eks-node-monitoring-agent") }, v1alpha1.VerdictWarn, "IPAMDNotRunning", `"monitors":{"networking":{"enabled":false}}`},
		"a node to be repaired": {node(func(n *Node) {
			n.Repair = "IPAMDNotRunning: no"
			n.Labels = map[string]string{"eks.amazonaws.com/nodegroup": "blue"}
		}), v1alpha1.VerdictWarn,
			"1 node says NetworkingReady=False, as node-a (IPAMDNotRunning: no)", "--nodegroup-name blue --node-repair-config enabled=false"},
		"host ports": {func(s *Snapshot) { s.Pods[1].HostPorts = []int32{443} }, v1alpha1.VerdictWarn, "1 pod (443 of shop/web-1-a)", "--replacement-nodes"},

		"a pool that is busy":             {quietPool(func(p *NodePool) { p.Budgets = nil }), v1alpha1.VerdictWarn, "nodes of 1 NodePool during the roll", `kubectl patch nodepool default --type merge -p '{"spec":{"disruption":{"budgets":[{"nodes":"0"}]}}}'`},
		"one that is still at night":      {quietPool(func(p *NodePool) { p.Budgets = []DisruptionBudget{{Nodes: "0", Schedule: "@daily"}} }), v1alpha1.VerdictWarn, "may consolidate", ""},
		"one that holds only drift":       {quietPool(func(p *NodePool) { p.Budgets = []DisruptionBudget{{Nodes: "0%", Reasons: []string{"Drifted"}}} }), v1alpha1.VerdictWarn, "may consolidate", ""},
		"nodes that have drifted":         {func(s *Snapshot) { quietPool(func(p *NodePool) { p.Budgets = nil })(s); claim(1000*time.Hour, true)(s) }, v1alpha1.VerdictWarn, "1 of their nodes have drifted", ""},
		"one whose nodes are born fenced": {quietPool(func(p *NodePool) { p.Labels = map[string]string{v1alpha1.FenceLabel: "true"} }), v1alpha1.VerdictFail, "born with it", `"path":"/spec/template/metadata/labels/io.cilium~1aws-node-enabled"`},
		"fenced by another label": {func(s *Snapshot) {
			s.Network.Legacy.FenceLabel = "a/b"
			quietPool(func(p *NodePool) { p.Labels = map[string]string{"a/b": "true"} })(s)
		}, v1alpha1.VerdictFail, "fence label a/b=true", ""},
		"one without the startup taint":         {quietPool(func(p *NodePool) { p.StartupTaints = nil }), v1alpha1.VerdictWarn, "born without startup taint", `"path":"/spec/template/spec/startupTaints","value":[{"key":"node.cilium.io/agent-not-ready"`},
		"one with another startup taint":        {quietPool(func(p *NodePool) { p.StartupTaints = []string{"a"} }), v1alpha1.VerdictWarn, "born without startup taint", `startupTaints/-","value":{"key"`},
		"one with the taint in the wrong place": {quietPool(func(p *NodePool) { p.Taints, p.StartupTaints = p.StartupTaints, nil }), v1alpha1.VerdictWarn, "not among the startupTaints", "kubectl edit nodepool default"},
		"a node that expires":                   {claim(time.Hour, false), v1alpha1.VerdictWarn, "1 NodeClaim expires within a week, the first (default-1) at 2026-11-26T13:00:00Z", "kubectl delete nodeclaim default-1"},
		"cluster-autoscaler": {func(s *Snapshot) {
			s.Autoscalers = []Autoscaler{{Namespace: "kube-system", Pod: "ca-1", Deployment: "ca", ScalesDown: true, Flags: "/spec/template/spec/containers/0/command"}}
		}, v1alpha1.VerdictWarn, "cluster-autoscaler removes nodes", `kubectl -n kube-system patch deployment ca --type json -p '[{"op":"add","path":"/spec/template/spec/containers/0/command/-","value":"--scale-down-enabled=false"}]'`},

		"nodes unseen":      {unseen("nodes"), v1alpha1.VerdictUnknown, "nodes were not seen", ""},
		"pods unseen":       {unseen("pods"), v1alpha1.VerdictUnknown, "host ports and cluster-autoscaler are not known", ""},
		"DaemonSets unseen": {unseen("daemonsets.apps"), v1alpha1.VerdictUnknown, "monitoring agent runs is not known", ""},
		"pools unseen":      {unseen("nodepools.karpenter.sh"), v1alpha1.VerdictUnknown, "Karpenter's NodePools or NodeClaims were not seen", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			c.change(s)
			finds(t, s, "Nodes", c.want, c.says, c.mend)
		})
	}
}

// TestHeldAutoscalersAreQuiet: what a person has to do before a roll is enough.
func TestHeldAutoscalersAreQuiet(t *testing.T) {
	reasons := []DisruptionBudget{{Nodes: "0", Reasons: []string{"Underutilized", "Empty"}}, {Nodes: "0", Reasons: []string{"Drifted"}}}
	for name, change := range map[string]func(*Snapshot){
		"a pool with a budget of none": quietPool(nil),
		"one with a budget a reason":   quietPool(func(p *NodePool) { p.Budgets = reasons }),
		"an autoscaler that only adds": func(s *Snapshot) { s.Autoscalers = []Autoscaler{{Pod: "ca"}} },
		"claims that live on": func(s *Snapshot) {
			at := s.TakenAt.Add(30 * 24 * time.Hour)
			s.NodeClaims = []NodeClaim{{Name: "a", Expires: &at}, {Name: "b"}}
		},
		"a taint of a node that joins":    func(s *Snapshot) { s.Nodes[0].Ready, s.Nodes[0].Taints = false, []corev1.Taint{{Key: startupTaint}} },
		"host ports of a pod that ended":  func(s *Snapshot) { s.Pods[5].HostPorts = []int32{80} },
		"a label without the fence value": quietPool(func(p *NodePool) { p.Labels = map[string]string{v1alpha1.FenceLabel: "false"} }),
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			change(s)
			for _, f := range Judge(s).Findings {
				if f.Verdict != v1alpha1.VerdictPass && f.Verdict != v1alpha1.VerdictNotAsked {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}
