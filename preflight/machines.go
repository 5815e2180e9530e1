// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// NodeInfo is what else a Node says, and its kubelet of the machine.
type NodeInfo struct {
	Labels     map[string]string `json:"labels,omitempty"`
	Taints     []corev1.Taint    `json:"taints,omitempty"`
	ProviderID string            `json:"providerID,omitempty"`
	// OS is linux or windows, Image the name of its release, Kernel that of its kernel, Runtime as scheme://version.
	OS      string `json:"os,omitempty"`
	Image   string `json:"image,omitempty"`
	Kernel  string `json:"kernel,omitempty"`
	Runtime string `json:"runtime,omitempty"`
	Ready   bool   `json:"ready,omitempty"`
	// CPU in thousandths, Memory in bytes and Pods are what the kubelet gives to pods.
	CPU    int64 `json:"cpu,omitempty"`
	Memory int64 `json:"memory,omitempty"`
	Pods   int64 `json:"pods,omitempty"`
	// Role is which CNI owns its pods, as its agent reported in this boot; empty without a report.
	Role v1alpha1.Role `json:"role,omitempty"`
	// Unschedulable: it is cordoned.
	Unschedulable bool `json:"unschedulable,omitempty"`
	// OptedOut: people keep it out of the roll by an annotation.
	OptedOut bool `json:"optedOut,omitempty"`
	// Repair is why EKS' node monitoring agent thinks that the node's network is broken (condition NetworkingReady).
	Repair string `json:"repair,omitempty"`
}

// NodePool is Karpenter's.
type NodePool struct {
	Name string `json:"name"`
	// Budgets bound how many nodes Karpenter disrupts at once of its own will.
	Budgets []DisruptionBudget `json:"budgets,omitempty"`
	// Labels, Taints and StartupTaints are those that nodes are born with; of taints the keys.
	Labels        map[string]string `json:"labels,omitempty"`
	Taints        []string          `json:"taints,omitempty"`
	StartupTaints []string          `json:"startupTaints,omitempty"`
}

// DisruptionBudget is one of a NodePool. Of those that are active the tightest counts; one without a schedule always is.
type DisruptionBudget struct {
	// Nodes is a number or a percentage.
	Nodes    string   `json:"nodes"`
	Reasons  []string `json:"reasons,omitempty"`
	Schedule string   `json:"schedule,omitempty"`
}

// NodeClaim is a node of Karpenter's.
type NodeClaim struct {
	Name string `json:"name"`
	Node string `json:"node,omitempty"`
	Pool string `json:"pool,omitempty"`
	// Expires is when Karpenter ends it whatever the budgets say; nil: never.
	Expires *time.Time `json:"expires,omitempty"`
	// Drifted: it is not as its NodePool wants it, so Karpenter will replace it.
	Drifted bool `json:"drifted,omitempty"`
}

// NodeClass is Karpenter's EC2NodeClass.
type NodeClass struct {
	Name string `json:"name"`
	IMDS
}

// Autoscaler is a pod of cluster-autoscaler.
type Autoscaler struct {
	Namespace  string `json:"namespace"`
	Pod        string `json:"pod"`
	Deployment string `json:"deployment,omitempty"`
	// ScalesDown: it removes nodes that are little used.
	ScalesDown bool `json:"scalesDown,omitempty"`
	// Flags is where another flag goes, as a JSON patch of the Deployment names it.
	Flags string `json:"flags"`
}

// The kinds of nodes on which no agent of Cilium runs. Their pods never reach one of the overlay.
const (
	fargate  = "Fargate"
	windows  = "Windows"
	autoMode = "Auto Mode"
	hybrid   = "hybrid"
)

// kind is which of those kinds a node is of, by the labels that EKS gives and its instance's name; empty: none of them.
func (n *Node) kind() string {
	switch n.Labels["eks.amazonaws.com/compute-type"] {
	case "fargate":
		return fargate
	case "auto":
		return autoMode
	case "hybrid":
		return hybrid
	}
	switch {
	case strings.Contains(n.ProviderID, "/fargate-"):
		return fargate
	case strings.HasPrefix(n.ProviderID, "eks-hybrid:"):
		return hybrid
	case n.OS == "windows" || n.Labels[corev1.LabelOSStable] == "windows":
		return windows
	}
	return ""
}

// rolled are the nodes that the roll will take: those with an agent that the Cutover selects, nobody keeps out, and that have
// not moved.
func (s *Snapshot) rolled() (map[string]bool, error) {
	selector, err := labels.Parse(s.Selector)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if !n.OptedOut && n.Role != v1alpha1.RoleOverlay && n.kind() == "" && selector.Matches(labels.Set(n.Labels)) {
			out[n.Name] = true
		}
	}
	return out, nil
}
