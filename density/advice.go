// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package density

import (
	"fmt"
	"slices"
)

// Family is a way in which nodes learn their maxPods.
type Family string

// The families.
const (
	AL2023       Family = "AL2023"
	Bottlerocket Family = "Bottlerocket"
	ManagedGroup Family = "managed node group"
	Karpenter    Family = "Karpenter"
)

// Families returns all of them.
func Families() []Family { return []Family{AL2023, Bottlerocket, ManagedGroup, Karpenter} }

// StaysBound says what surprises people: the move alone makes no room.
const StaysBound = "The move alone changes no node's maxPods: the kubelet goes on with the figure of the network interfaces until its user data says another one. " +
	"Change it before RollNodes, so that each node is replaced once."

// Advice is what to change for one family.
type Advice struct {
	Family Family `json:"family"`
	Do     string `json:"do"`
	Change string `json:"change,omitempty"`
	Source string `json:"source"`
}

func adviceFor(maxPods int, families []Family) []Advice {
	all := []Advice{
		{
			AL2023,
			"in the user data of the launch template. Not spec.kubelet.config.maxPods: the memory that the kubelet reserves (11 MiB a pod and 255 MiB) is computed from the expression, and too little would be kept.",
			fmt.Sprintf("apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  kubelet:\n    maxPodsExpression: %q\n", fmt.Sprint(maxPods)),
			"awslabs/amazon-eks-ami, nodeadm",
		},
		{
			Bottlerocket, "in the user data of the launch template.",
			fmt.Sprintf("[settings.kubernetes]\nmax-pods = %d\n", maxPods),
			"bottlerocket.dev, settings.kubernetes.max-pods",
		},
		{
			ManagedGroup,
			"a group without an AMI of its own gets a maxPods from EKS, one for all its instance types: name an AMI in the launch template and put the user data of its family there. " +
				"A group that was created without a launch template cannot get one: make a new group. A new version of the template makes EKS roll the group by itself; let the cutover replace the nodes instead, or do it before.",
			"",
			"EKS user guide, customizing managed nodes with launch templates; eksctl-io/eksctl issue 8037",
		},
		{
			Karpenter,
			"in the EC2NodeClass. Any edit of it makes every node of the class drift, and Karpenter replaces drifted nodes by itself: set spec.disruption.budgets to nodes: \"0\" in its NodePools first.",
			fmt.Sprintf("spec:\n  kubelet:\n    maxPods: %d\n", maxPods),
			"karpenter.sh, NodeClasses and Disruption",
		},
	}
	return slices.DeleteFunc(all, func(a Advice) bool { return !slices.Contains(families, a.Family) })
}
