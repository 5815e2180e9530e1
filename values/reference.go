// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package values

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// For is what reference values are made for.
type For struct {
	Version Version
	Phase   Phase
	// Install mode; empty: Secondary.
	Install v1alpha1.InstallMode
	Pools   []netip.Prefix
	Mask    int
	Port    int
	// Host and HostPort of the API server as agents reach it without kube-proxy; an empty host leaves a place to fill in.
	Host     string
	HostPort int
	// FenceLabel by which nodes of the VPC CNI are known.
	FenceLabel string
}

// NoHost stands where the API server's name belongs. It is no name that resolves, so that nobody installs it unseen.
const NoHost = "API-SERVER-ENDPOINT-WITHOUT-SCHEME"

// line is one value with its reason, and the rule that holds it and names the source.
type line struct {
	path  string
	value any // bool, int, text or []string
	why   string
	rule  string
}

// refuse says why a release gets no values.
func (f For) refuse() error {
	v := &Values{Version: f.Version}
	if a := version(&scene{v: v, phase: f.Phase}); a.verdict != v1alpha1.VerdictPass {
		return fmt.Errorf("choosing values: %s", a.message)
	}
	return nil
}

// lines are the values in the order in which a person reads them.
func (f For) lines() []line {
	pools := make([]string, len(f.Pools))
	for i, p := range f.Pools {
		pools[i] = p.String()
	}
	host, port := f.Host, f.HostPort
	if host == "" {
		host, port = NoHost, 443
	}
	overlay := []line{
		{"ipam.mode", "cluster-pool", "every node gets a slice of the pool; it can never change in a live cluster", "IPAMMode"},
		{poolPath, pools, "may be appended to, never changed; the default 10.0.0.0/8 would swallow most VPCs", "Pool"},
		{maskPath, f.Mask, fmt.Sprintf("a slice has addresses for %d pods; never changes", 1<<(32-f.Mask)-4), "Mask"},
		{"routingMode", "tunnel", "the VPC knows no route to the overlay", "Tunnel"},
		{"tunnelProtocol", "vxlan", "UDP, let through between all nodes by their security groups", "Tunnel"},
		{"tunnelPort", f.Port, "nodes on different ports cannot reach each other", "Tunnel"},
		{"k8sServiceHost", host, "the API server's name without https://: agents that replace kube-proxy cannot use its ClusterIP", "ServiceHost"},
		{"k8sServicePort", port, "an empty port is dialled as it is", "ServiceHost"},
	}
	if f.Phase == FullEBPF {
		return append([]line{
			{"kubeProxyReplacement", true, "one upgrade together with bpf.masquerade: each alone restarts every agent and breaks connections", "Bundle"},
			{"bpf.masquerade", true, "see above; nothing of the VPC CNI is left that needs iptables", "Bundle"},
			{"bpf.hostLegacyRouting", true, "BPF host routing was seen to break EKS Pod Identity (cilium issue 35989): a step of its own, later", "HostRouting"},
			{"cni.customConf", false, "Cilium writes its conflist everywhere; the CiliumNodeConfig that did it so far goes", "OwnConflist"},
			{"cni.exclusive", true, "and it is the only one", "OwnConflist"},
			{"cni.uninstall", false, "an upgrade must not leave a node without a CNI", "Uninstall"},
			{"cni.iptablesRemoveAWSRules", true, "what a node may still have of the VPC CNI's rules breaks paths from the host to pods", "AWSRules"},
			{"policyEnforcementMode", "default", "sources are pods again: policies see what they mean", "Policies"},
			{"operator.setNodeTaints", true, "a node whose Cilium is not ready takes no pods", "NodeTaints"},
			{"operator.unmanagedPodWatcher.restart", true, "every pod is Cilium's now", "UnmanagedPodWatcher"},
			{"hubble.enabled", true, "in the same upgrade, or every agent restarts once more", "Hubble"},
			{"hubble.relay.enabled", true, "Hubble for the whole cluster", "Hubble"},
			{"hubble.ui.enabled", true, "and for people", "Hubble"},
		}, overlay...)
	}
	custom := line{"cni.customConf", true, "writes no conflist before the coordinator says where: 05-cilium.conflist sorts before 10-aws.conflist", "CustomConf"}
	if f.Install == v1alpha1.InstallShared {
		custom = line{"cni.customConf", false, "install mode Shared: new pods of old nodes are overlay pods from the first minute", "CustomConf"}
	}
	return append([]line{
		custom,
		{"cni.exclusive", false, "leaves 10-aws.conflist alone", "Exclusive"},
		{"cni.uninstall", false, "an upgrade must not leave a node without a CNI", "Uninstall"},
		{"cni.iptablesRemoveAWSRules", false, "else pods on secondary ENIs lose the Internet at every start of a Cilium pod", "AWSRules"},
		{"kubeProxyReplacement", false, "old nodes need kube-proxy: NodePorts to VPC pods break without; replacement nodes may go without from birth", "ReplacementOnOldNodes"},
		{"bpf.masquerade", false, "old nodes need iptables masquerade: without, no VPC pod reaches an overlay pod of another node", "MasqueradeOnOldNodes"},
		{"bpf.hostLegacyRouting", true, "what comes for VPC pods passes the host's stack", "HostRouting"},
		{"policyEnforcementMode", "never", "traffic between the CNIs is NATed, so policies would see the wrong sources", "Policies"},
		{"operator.setNodeTaints", false, "a Cilium that starts must not taint a node that the VPC CNI serves", "NodeTaints"},
		{"operator.removeNodeTaints", true, "takes the startup taint off replacement nodes", "NodeTaints"},
		{"operator.unmanagedPodWatcher.restart", false, "or it restarts CoreDNS, again and again", "UnmanagedPodWatcher"},
	}, overlay...)
}

// YAML returns values for helm install --values, each line with its reason.
func (f For) YAML() (string, error) {
	if err := f.refuse(); err != nil {
		return "", err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "# Cilium %s, %s. helm upgrade --install cilium cilium/cilium --version %s --namespace kube-system --values <this file>\n", f.Version, titles()[f.Phase], f.Version)
	fmt.Fprintf(&out, "# In brackets the rule that holds a value; `kubectl cutover values rules` names its source.\n")
	if f.Host == "" {
		fmt.Fprintf(&out, "# Fill in k8sServiceHost before you use it.\n")
	}
	var open []string // blocks that the last line was in
	for _, l := range f.lines() {
		keys := strings.Split(l.path, ".")
		blocks, key := keys[:len(keys)-1], keys[len(keys)-1]
		same := 0
		for same < len(blocks) && same < len(open) && blocks[same] == open[same] {
			same++
		}
		for i := same; i < len(blocks); i++ {
			fmt.Fprintf(&out, "%s%s:\n", strings.Repeat("  ", i), blocks[i])
		}
		open = blocks
		pad := strings.Repeat("  ", len(blocks))
		fmt.Fprintf(&out, "%s# %s [%s]\n%s%s: %s\n", pad, l.why, l.rule, pad, key, printed(l.value))
	}
	return out.String(), nil
}

func titles() map[Phase]string {
	return map[Phase]string{Install: "beside the VPC CNI (phases InstallCilium to RemoveLegacy)", FullEBPF: "after the VPC CNI (phase FullEBPF)"}
}

func printed(value any) string {
	if words, ok := value.([]string); ok {
		return "[" + strings.Join(words, ", ") + "]"
	}
	return fmt.Sprint(value)
}

// Values are the reference as values that can be judged.
func (f For) Values() *Values {
	set := map[string]any{}
	for _, l := range f.lines() {
		value := l.value
		if words, ok := value.([]string); ok {
			items := make([]any, len(words))
			for i := range words {
				items[i] = words[i]
			}
			value = items
		}
		set[l.path] = value
	}
	return &Values{Origin: "reference", Version: f.Version, set: set, defaults: chartDefaults()}
}

// ReplacementNodes returns what makes replacement nodes be born with kube-proxy replacement and BPF masquerade, so that phase
// FullEBPF switches no live node: a CiliumNodeConfig, and the command that keeps kube-proxy off them.
func (f For) ReplacementNodes(namespace string) (string, error) {
	if err := f.refuse(); err != nil {
		return "", err
	}
	if f.Phase != Install {
		return "", fmt.Errorf("choosing values for replacement nodes: in phase %s the values of every node say it already", f.Phase)
	}
	return fmt.Sprintf(`# Replacement nodes with kube-proxy replacement and BPF masquerade from birth: phase FullEBPF then switches no live node (where it
# was measured, 5 of 20 connections broke in such a switch). Old nodes must not have it. Both selectors below go by the fence
# label, so do this between FenceLegacy and RollNodes:
#
#   1. Not before condition FenceIntact of the Cutover is True: until then no node carries the label, and this would select old
#      nodes. kubectl get cutover cluster -o jsonpath='{.status.conditions[?(@.type=="FenceIntact")].status}'
#   2. Cilium must run with k8sServiceHost and k8sServicePort.
#   3. kubectl apply --server-side -f <this file>
#   4. Keep kube-proxy off nodes without the label (a managed add-on: in its configuration, or an update puts it back):
#      kubectl -n kube-system patch daemonset kube-proxy --type merge -p '{"spec":{"template":{"spec":{"nodeSelector":{%[2]q:%[3]q}}}}}'
#   5. Only then approve RollNodes: a node that was replaced before would have neither kube-proxy nor its replacement.
#
# It stands beside the coordinator's CiliumNodeConfig %[4]s and says other things.
apiVersion: cilium.io/v2
kind: CiliumNodeConfig
metadata:
  name: cni-cutover-replacement
  namespace: %[1]s
spec:
  nodeSelector:
    matchExpressions:
      - {key: %[2]s, operator: DoesNotExist}
  defaults:
    kube-proxy-replacement: "true"
    kube-proxy-replacement-healthz-bind-address: "0.0.0.0:10256"  # kube-proxy's: load balancers ask there for a node's health
    enable-bpf-masquerade: "true"
`, namespace, f.FenceLabel, v1alpha1.FenceValue, v1alpha1.NodeConfigName), nil
}
