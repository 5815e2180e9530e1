// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// startupTaint keeps pods off a node that joins until Cilium runs there; Cilium's operator takes it away.
const startupTaint = "node.cilium.io/agent-not-ready"

// monitoringAgent is the DaemonSet of EKS' add-on of that name.
const monitoringAgent = "eks-node-monitoring-agent"

func nodes(s *Snapshot) []Finding {
	if s.unseen("nodes") {
		return []Finding{unknown("the nodes were not seen")}
	}
	var out []Finding
	for _, tell := range []func() []Finding{s.foreign, s.kernels, s.runtimes, s.images, s.tainted, s.monitored, s.portsOfNodes, s.karpenter, s.autoscaled} {
		out = append(out, tell()...)
	}
	for i := range out {
		out[i].Mend = strings.ReplaceAll(out[i].Mend, "<cluster>", s.cluster())
	}
	ours := s.where(func(n *Node) bool { return n.kind() == "" })
	return append(out, pass("an agent of Cilium can run on %d of %d nodes (%s)", len(ours), len(s.Nodes), families(ours)))
}

// cluster is EKS' name of it, by its own word, aws-node's or eksctl's, and else a place to fill it in.
func (s *Snapshot) cluster() string {
	if s.AWS != nil {
		return s.AWS.Cluster
	}
	name := s.Network.Legacy.Cluster
	for i := range s.Nodes {
		name = cmp.Or(name, s.Nodes[i].Labels["alpha.eksctl.io/cluster-name"])
	}
	return cmp.Or(name, "<cluster>")
}

// where are the nodes that are such.
func (s *Snapshot) where(such func(*Node) bool) []*Node {
	var out []*Node
	for i := range s.Nodes {
		if such(&s.Nodes[i]) {
			out = append(out, &s.Nodes[i])
		}
	}
	return out
}

func nodeObjects(nodes []*Node) []string {
	out := make([]string, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, "Node/"+n.Name)
	}
	return out
}

// families counts nodes by the family of their image: what stands before the first number with a dot.
func families(nodes []*Node) string {
	n := map[string]int{}
	for _, node := range nodes {
		name := node.Image
		if i := strings.IndexByte(name, '.'); i > 0 {
			name = strings.TrimRight(name[:i], "0123456789 ")
			if strings.HasPrefix(node.Image, "Amazon Linux 2023") {
				name = "Amazon Linux 2023"
			}
		}
		n[cmp.Or(name, "no image named")]++
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%s: %d", name, n[name]))
	}
	return strings.Join(parts, ", ")
}

// foreign are nodes without an agent of Cilium (EKS' user guide: other CNIs run on
// EC2's Linux nodes alone).
func (s *Snapshot) foreign() []Finding {
	var out []Finding
	for _, k := range []struct{ kind, mend string }{
		{fargate, "aws eks list-fargate-profiles --cluster-name <cluster>; aws eks delete-fargate-profile --cluster-name <cluster> --fargate-profile-name <profile>, and let EC2 nodes take their pods"},
		{windows, "aws eks delete-nodegroup --cluster-name <cluster> --nodegroup-name <group>, once their pods run in another cluster"},
		{autoMode, `aws eks update-cluster-config --name <cluster> --compute-config enabled=false --kubernetes-network-config '{"elasticLoadBalancing":{"enabled":false}}' --storage-config '{"blockStorage":{"enabled":false}}', once node groups or Karpenter can take their pods`},
		{hybrid, "kubectl drain <node> --ignore-daemonsets, then nodeadm uninstall on the machine: hybrid nodes have a Cilium of their own, which one release for the cluster would clash with"},
	} {
		found := s.where(func(n *Node) bool { return n.kind() == k.kind })
		if len(found) == 0 {
			continue
		}
		f := fail("no agent of ours or of this Cilium runs on %s of kind %s: their pods will never reach a pod of the overlay, CoreDNS included", count(len(found), "node"), k.kind)
		f.Objects, f.Mend = nodeObjects(found), k.mend
		out = append(out, f)
	}
	return out
}

func (s *Snapshot) kernels() []Finding {
	var out []Finding
	oldest := version.MustParseGeneric(fmt.Sprintf("%d.%d", v1alpha1.OldestKernelMajor, v1alpha1.OldestKernelMinor))
	var old, unread []*Node
	for _, n := range s.where(func(n *Node) bool { return n.kind() == "" }) {
		switch is, err := version.ParseGeneric(n.Kernel); {
		case err != nil:
			unread = append(unread, n)
		case is.LessThan(oldest):
			old = append(old, n)
		}
	}
	if len(old) > 0 {
		f := fail("Cilium 1.18 needs Linux %s, and %s too old a kernel, as %s: %s", oldest, count(len(old), "node has", "nodes have"), old[0].Name, old[0].Kernel)
		f.Objects, f.Mend = nodeObjects(old), "replace them by nodes with a newer image before Cilium is installed, as Amazon Linux 2023 (6.1)"
		out = append(out, f)
	}
	if len(unread) > 0 {
		f := unknown("the kernel of %s is not known, as of %s: %q", count(len(unread), "node"), unread[0].Name, unread[0].Kernel)
		f.Objects, f.Mend = nodeObjects(unread), "kubectl get nodes -o wide"
		out = append(out, f)
	}
	return out
}

// runtimes: net.d is judged as containerd reads it (cniconf), and others read it otherwise.
func (s *Snapshot) runtimes() []Finding {
	other := s.where(func(n *Node) bool { return n.kind() == "" && !strings.HasPrefix(n.Runtime, "containerd://") })
	if len(other) == 0 {
		return nil
	}
	f := unknown("which file in net.d gives pods their network is known for containerd alone, and %s with another runtime, as %s: %q", count(len(other), "node is there", "nodes are there"), other[0].Name, other[0].Runtime)
	f.Objects, f.Mend = nodeObjects(other), "replace them by nodes with containerd"
	return []Finding{f}
}

// images: networkd of an image that is not made for it takes away the rules of both CNIs (awslabs/amazon-eks-ami:
// EKS' own say ManageForeignRoutes=no). For Kubernetes 1.34 and later EKS publishes no Amazon Linux 2.
func (s *Snapshot) images() []Finding {
	var out []Finding
	second := s.where(func(n *Node) bool {
		return n.kind() == "" && strings.HasPrefix(n.Image, "Amazon Linux 2") && !strings.HasPrefix(n.Image, "Amazon Linux 2023")
	})
	if len(second) > 0 {
		f := warn("%s Amazon Linux 2, of which EKS publishes no image for Kubernetes 1.34 and later: the roll is the time to change the image, and user data with it", count(len(second), "node has", "nodes have"))
		f.Objects, f.Mend = nodeObjects(second), "aws eks create-nodegroup ... --ami-type AL2023_x86_64_STANDARD, or amiSelectorTerms of the EC2NodeClass: alias: al2023@latest"
		out = append(out, f)
	}
	other := s.where(func(n *Node) bool {
		return n.kind() == "" && n.Image != "" && !strings.HasPrefix(n.Image, "Amazon Linux") && !strings.HasPrefix(n.Image, "Bottlerocket")
	})
	if len(other) > 0 {
		f := warn("the image of %s is none of EKS' own (%s of %s): if systemd-networkd runs there and manages foreign routes, it takes away the routes and rules of both CNIs", count(len(other), "node"), other[0].Image, other[0].Name)
		f.Objects = nodeObjects(other)
		f.Mend = fmt.Sprintf("kubectl debug node/%s -it --image=busybox -- grep -rh ManageForeign /host/etc/systemd/networkd.conf /host/etc/systemd/networkd.conf.d: both ManageForeignRoutes and ManageForeignRoutingPolicyRules must be no", other[0].Name)
		out = append(out, f)
	}
	return out
}

// tainted are nodes that work and still have the taint of nodes that join.
func (s *Snapshot) tainted() []Finding {
	var found []*Node
	for _, n := range s.where(func(n *Node) bool { return n.Ready }) {
		for _, t := range n.Taints {
			if t.Key == startupTaint {
				found = append(found, n)
				break
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	f := warn("%s Ready with taint %s: pods stay away until Cilium's operator removes it, and it must not set it on nodes that the VPC CNI serves (operator.setNodeTaints=false)", count(len(found), "node is", "nodes are"), startupTaint)
	f.Objects, f.Mend = nodeObjects(found), fmt.Sprintf("kubectl -n kube-system logs deployment/cilium-operator; kubectl taint node %s %s-", found[0].Name, startupTaint)
	return []Finding{f}
}

// monitored: EKS' node monitoring agent takes a node on which aws-node is gone for broken, and auto-repair replaces it.
func (s *Snapshot) monitored() []Finding {
	const quiet = `aws eks update-addon --cluster-name <cluster> --addon-name eks-node-monitoring-agent --configuration-values '{"monitors":{"networking":{"enabled":false}}}'`
	var out []Finding
	switch {
	case s.unseen("daemonsets.apps"):
		out = append(out, unknown("DaemonSets were not seen, so whether EKS' node monitoring agent runs is not known"))
	case slices.ContainsFunc(s.DaemonSets, func(id string) bool { return strings.HasSuffix(id, "/"+monitoringAgent) }):
		f := warn("EKS' node monitoring agent can take a node on which aws-node is gone for broken (IPAMDNotRunning), and auto-repair then replaces it without a slot")
		for _, id := range s.DaemonSets {
			if strings.HasSuffix(id, "/"+monitoringAgent) {
				f.Objects = append(f.Objects, "DaemonSet/"+id)
			}
		}
		f.Mend = quiet
		out = append(out, f)
	}
	if found := s.where(func(n *Node) bool { return n.Repair != "" }); len(found) > 0 {
		f := warn("%s NetworkingReady=False, as %s (%s): auto-repair may replace them by itself", count(len(found), "node says", "nodes say"), found[0].Name, found[0].Repair)
		f.Objects, f.Mend = nodeObjects(found), "mend the node; during the roll: aws eks update-nodegroup-config --cluster-name <cluster> --nodegroup-name "+group(found[0])+" --node-repair-config enabled=false"
		out = append(out, f)
	}
	return out
}

func group(n *Node) string {
	if g := n.Labels["eks.amazonaws.com/nodegroup"]; g != "" {
		return g
	}
	return "<group>"
}

// portsOfNodes: without kube-proxy replacement nothing on an overlay node opens host ports (Cilium's guide of the portmap
// chain), and chaining is no way out beside the VPC CNI.
func (s *Snapshot) portsOfNodes() []Finding {
	if s.unseen("pods") {
		return []Finding{unknown("pods were not seen, so host ports and cluster-autoscaler are not known")}
	}
	var found []*Pod
	for i := range s.Pods {
		if p := &s.Pods[i]; len(p.HostPorts) > 0 && !p.finished() {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		return nil
	}
	f := warn("host ports of %s (%d of %s) are not opened on overlay nodes, unless these replace kube-proxy from birth", count(len(found), "pod"), found[0].HostPorts[0], found[0].ID())
	f.Objects, f.Mend = objects(found), "kubectl cutover values --replacement-nodes --cilium-version <version> > replacement-nodes.yaml makes replacement nodes go without kube-proxy from birth; or put such pods on the host network"
	return []Finding{f}
}
