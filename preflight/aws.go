// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// AWS is what AWS itself says of a cluster, without accounts, credentials and user data. A snapshot that was taken without
// --aws has none.
type AWS struct {
	Region string `json:"region"`
	// Cluster is EKS' name of it, ControlPlane the security groups of its API servers' interfaces in the VPC.
	Cluster      string   `json:"cluster"`
	ControlPlane []string `json:"controlPlane,omitempty"`
	// Networks are those of the VPC, Routes those that lead out of it.
	Networks       []string        `json:"networks,omitempty"`
	Routes         []Route         `json:"routes,omitempty"`
	AddOns         []AddOn         `json:"addOns,omitempty"`
	NodeGroups     []NodeGroup     `json:"nodeGroups,omitempty"`
	ScalingGroups  []ScalingGroup  `json:"scalingGroups,omitempty"`
	Templates      []Template      `json:"templates,omitempty"`
	Instances      []Instance      `json:"instances,omitempty"`
	SecurityGroups []SecurityGroup `json:"securityGroups,omitempty"`
	TargetGroups   []TargetGroup   `json:"targetGroups,omitempty"`
	LoadBalancers  []LoadBalancer  `json:"loadBalancers,omitempty"`
	// Refused is what may not be asked.
	Refused []Refused `json:"refused,omitempty"`
}

// Refused is an action that IAM does not allow.
type Refused struct {
	// Action as IAM names it, as ec2:DescribeInstances; Of what, if it was one of several.
	Action string `json:"action"`
	Of     string `json:"of,omitempty"`
}

// Route leads from the VPC to a network, by the name of what it goes through: pcx-1, tgw-1, vgw-1. Networks that only a
// prefix list knows are named by that.
type Route struct {
	Network string `json:"network"`
	Via     string `json:"via"`
}

// The add-ons that matter to the move.
const (
	addOnLegacy    = "vpc-cni"
	addOnKubeProxy = "kube-proxy"
)

// AddOn is one of EKS' add-ons.
type AddOn struct {
	Name string `json:"name"`
	// Managed: EKS has it. Otherwise what runs under that name is the cluster's own.
	Managed bool     `json:"managed"`
	Version string   `json:"version,omitempty"`
	Status  string   `json:"status,omitempty"`
	Issues  []string `json:"issues,omitempty"`
	// Configuration is what EKS was given for the VPC CNI, JSON or YAML as it was written; of others it is not kept.
	Configuration string `json:"configuration,omitempty"`
}

// NodeGroup is a managed node group.
type NodeGroup struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	// ScalingGroups are those that make its nodes. Template is the launch template that a person gave it; empty: EKS has its own
	// alone, and user data cannot change.
	ScalingGroups []string `json:"scalingGroups,omitempty"`
	Template      string   `json:"template,omitempty"`
	// Taints and Labels that nodes are born with; of taints the keys.
	Taints []string          `json:"taints,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	// Repair: EKS replaces nodes that it takes for broken.
	Repair bool `json:"repair,omitempty"`
}

// ScalingGroup is an autoscaling group.
type ScalingGroup struct {
	Name    string `json:"name"`
	Max     int32  `json:"max"`
	Desired int32  `json:"desired"`
	// Suspended processes, as AWS names them.
	Suspended []string `json:"suspended,omitempty"`
	Zones     []string `json:"zones,omitempty"`
	// Templates are those that nodes are made by, as Template.Ref. LaunchConfiguration is their forerunner, which is not read.
	Templates           []string `json:"templates,omitempty"`
	LaunchConfiguration string   `json:"launchConfiguration,omitempty"`
}

// Template is a version of a launch template.
type Template struct {
	// Ref is how scaling groups name it, id:version; Number is the version that this was.
	Ref    string `json:"ref"`
	Number int64  `json:"number"`
	IMDS
	SecurityGroups []string `json:"securityGroups,omitempty"`
	UserData       UserData `json:"userData"`
}

// IMDS is how far an instance's metadata service answers.
type IMDS struct {
	// HopLimit is how many hops away: 1 the host network, 2 pods too. 0: it does not say.
	HopLimit int32 `json:"hopLimit,omitempty"`
	// NoIMDS: it does not answer at all.
	NoIMDS bool `json:"noIMDS,omitempty"`
}

// UserData is what was found in a launch template's user data.
type UserData struct {
	// Format is nodeadm, bottlerocket or bootstrap; empty: it was not understood, and Trouble says why.
	Format  string `json:"format,omitempty"`
	Trouble string `json:"trouble,omitempty"`
	// Taints are the keys of those that the kubelet registers with, Labels the labels.
	Taints []string          `json:"taints,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	// MaxPods is what it says of that, a number or an expression; empty: nothing.
	MaxPods string `json:"maxPods,omitempty"`
}

// Instance is the instance of a node.
type Instance struct {
	ID      string `json:"id"`
	Node    string `json:"node"`
	Address string `json:"address"`
	IMDS
	// SecurityGroups of its first interface, from which packets of the node itself and of the overlay leave.
	SecurityGroups []string `json:"securityGroups,omitempty"`
	// ScalingGroup that made it, NodeClass of Karpenter's that it was made by.
	ScalingGroup string `json:"scalingGroup,omitempty"`
	NodeClass    string `json:"nodeClass,omitempty"`
}

// SecurityGroup is a security group by its rules for IPv4.
type SecurityGroup struct {
	ID    string `json:"id"`
	Rules []Rule `json:"rules,omitempty"`
}

// Rule opens ports to one of a security group, a network or a prefix list.
type Rule struct {
	Egress bool `json:"egress,omitempty"`
	// Protocol is tcp, udp, a number, or -1 for all; From and To are its ports, -1 for all.
	Protocol   string `json:"protocol"`
	From       int32  `json:"from"`
	To         int32  `json:"to"`
	Group      string `json:"group,omitempty"`
	Network    string `json:"network,omitempty"`
	PrefixList string `json:"prefixList,omitempty"`
}

// LoadBalancer is one that sends to a target group of the cluster's.
type LoadBalancer struct {
	Name           string   `json:"name"`
	Type           string   `json:"type"` // application or network
	SecurityGroups []string `json:"securityGroups,omitempty"`
}

// TargetGroup is one that holds nodes or pods of the cluster.
type TargetGroup struct {
	// Name is what its ARN ends in, name/id.
	Name          string   `json:"name"`
	Type          string   `json:"type"`
	Protocol      string   `json:"protocol"`
	LoadBalancers []string `json:"loadBalancers,omitempty"`
	Targets       []Target `json:"targets,omitempty"`
}

// Target is an instance or an address in a target group.
type Target struct {
	ID   string `json:"id"`
	Port int32  `json:"port"`
	// Node whose instance it is, or on whose interface the address is; empty: no node of the cluster.
	Node string `json:"node,omitempty"`
	// Pod: the address is none of the node's own.
	Pod bool `json:"pod,omitempty"`
	// State as AWS names it: healthy, unhealthy, initial, draining, unused. Reason is why it is not healthy.
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

// notAskedText is what a check says whose answers stand at AWS.
const notAskedText = "AWS was not asked; it is with --aws"

// allowIt mends what IAM refuses.
const allowIt = "allow it: docs/preflight.md#aws has the policy"

// atAWS runs a check that needs AWS.
func atAWS(run func(s *Snapshot) []Finding) func(s *Snapshot) []Finding {
	return func(s *Snapshot) []Finding {
		if s.AWS == nil {
			return []Finding{{Verdict: v1alpha1.VerdictNotAsked, Message: notAskedText}}
		}
		return run(s)
	}
}

// refused names those of the actions that may not be asked; empty: all may.
func (a *AWS) refused(actions ...string) string {
	var out []string
	for _, r := range a.Refused {
		if slices.Contains(actions, r.Action) && !slices.Contains(out, r.Action) {
			out = append(out, r.Action)
		}
	}
	return strings.Join(out, ", ")
}

// unasked is what a check says of something for which IAM allows too little; nil: it allows all of it.
func (a *AWS) unasked(what string, actions ...string) []Finding {
	missing := a.refused(actions...)
	if missing == "" {
		return nil
	}
	f := unknown("%s not seen: IAM does not allow %s", what, missing)
	f.Mend = allowIt
	return []Finding{f}
}

// addOn is one of EKS' add-ons; nil: AWS was not asked, or did not say.
func (s *Snapshot) addOn(name string) *AddOn {
	if s.AWS == nil {
		return nil
	}
	for i := range s.AWS.AddOns {
		if s.AWS.AddOns[i].Name == name {
			return &s.AWS.AddOns[i]
		}
	}
	return nil
}

// instancesOf are the instances that are such.
func (a *AWS) instancesOf(such func(*Instance) bool) []*Instance {
	var out []*Instance
	for i := range a.Instances {
		if such(&a.Instances[i]) {
			out = append(out, &a.Instances[i])
		}
	}
	return out
}

// templatesOf are those that a scaling group makes nodes by.
func (a *AWS) templatesOf(g *ScalingGroup) []*Template {
	var out []*Template
	for i := range a.Templates {
		if slices.Contains(g.Templates, a.Templates[i].Ref) {
			out = append(out, &a.Templates[i])
		}
	}
	return out
}

// whole says whether all templates of a scaling group are known.
func (g *ScalingGroup) whole(known []*Template) bool {
	return len(known) > 0 && len(known) == len(g.Templates)
}

// nodeGroupOf is the managed node group that a scaling group belongs to; nil: none.
func (a *AWS) nodeGroupOf(g *ScalingGroup) *NodeGroup {
	for i := range a.NodeGroups {
		if slices.Contains(a.NodeGroups[i].ScalingGroups, g.Name) {
			return &a.NodeGroups[i]
		}
	}
	return nil
}

// object is a scaling group in a finding, by the name that people know.
func (a *AWS) object(g *ScalingGroup) string {
	if n := a.nodeGroupOf(g); n != nil {
		return "NodeGroup/" + n.Name
	}
	return "AutoScalingGroup/" + g.Name
}

// changeTemplate is how the launch template of a group's next nodes is changed; data is JSON for it. A node group that gets another
// version is rolled by EKS itself.
func (a *AWS) changeTemplate(g *ScalingGroup, t *Template, data string) string {
	id, then := t.id(), ""
	switch n := a.nodeGroupOf(g); {
	case n != nil && n.Template == "":
		return fmt.Sprintf("node group %s has no launch template of yours, so this cannot change: make another one with a launch template, and let it take the place of %s", n.Name, n.Name)
	case n != nil:
		id = n.Template
		then = fmt.Sprintf("; then, before the move begins, for EKS replaces its nodes by itself: aws eks update-nodegroup-version --cluster-name %s --nodegroup-name %s --launch-template id=%s,version=<the new one>", a.Cluster, n.Name, id)
	case t.version() != "$Latest":
		then = fmt.Sprintf("; then let autoscaling group %s use the new version", g.Name)
	}
	return fmt.Sprintf("aws ec2 create-launch-template-version --launch-template-id %s --source-version '$Latest' --launch-template-data '%s'", id, data) + then
}

// id and version are how a scaling group names it.
func (t *Template) id() string      { id, _, _ := strings.Cut(t.Ref, ":"); return id }
func (t *Template) version() string { _, version, _ := strings.Cut(t.Ref, ":"); return version }
