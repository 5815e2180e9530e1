// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"slices"
	"strings"
	"testing"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// asked is a healthy cluster whose account is known, and in which nothing is wrong.
func asked() *Snapshot {
	s := healthy()
	s.VPC, s.Callbacks[1].Ports, s.Callbacks[2].Ports = nil, []int32{10260}, []int32{10251}
	for i, id := range []string{"i-0a", "i-0b"} {
		s.Nodes[i].ProviderID, s.Nodes[i].Pods = "aws:///eu-central-1a/"+id, 58
	}
	s.Traffic.Bindings = []Binding{{Namespace: "shop", Name: "web", Service: "web", TargetType: targetInstance, Maker: "ingress", TargetGroup: "k8s-web/1"}}
	s.AWS = &AWS{
		Region: "eu-central-1", Cluster: "shop", ControlPlane: []string{"sg-cluster"},
		Networks: []string{"10.0.0.0/16"}, Routes: []Route{{"0.0.0.0/0", "nat-1"}, {"10.5.0.0/16", "pcx-1"}},
		AddOns: []AddOn{
			{Name: addOnLegacy, Managed: true, Version: "v1.23.2", Status: "ACTIVE", Configuration: `{"env":{"AWS_EXTERNAL_SERVICE_CIDRS":"10.244.0.0/16","AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS":"10.244.0.0/16"}}`},
			{Name: addOnKubeProxy},
		},
		NodeGroups:    []NodeGroup{{Name: "blue", Status: "ACTIVE", ScalingGroups: []string{"eks-blue-1"}, Template: "lt-own", Taints: []string{startupTaint}}},
		ScalingGroups: []ScalingGroup{{Name: "eks-blue-1", Max: 3, Desired: 2, Zones: []string{"eu-central-1a"}, Templates: []string{"lt-eks:3"}}},
		Templates:     []Template{{Ref: "lt-eks:3", Number: 3, IMDS: IMDS{HopLimit: 2}, SecurityGroups: []string{"sg-cluster"}, UserData: UserData{Format: "nodeadm", MaxPods: "110"}}},
		Instances: []Instance{
			{ID: "i-0a", Node: "node-a", Address: "10.0.1.10", IMDS: IMDS{HopLimit: 2}, SecurityGroups: []string{"sg-cluster"}, ScalingGroup: "eks-blue-1"},
			{ID: "i-0b", Node: "node-b", Address: "10.0.2.10", IMDS: IMDS{HopLimit: 2}, SecurityGroups: []string{"sg-cluster"}, ScalingGroup: "eks-blue-1"},
		},
		SecurityGroups: []SecurityGroup{
			{"sg-cluster", []Rule{{Protocol: "-1", From: -1, To: -1, Group: "sg-cluster"}, {Protocol: "tcp", From: 30000, To: 32767, Group: "sg-web"}, out()}},
			{"sg-web", []Rule{out()}},
		},
		LoadBalancers: []LoadBalancer{{"web", "application", []string{"sg-web"}}, {"edge", "network", nil}},
		TargetGroups: []TargetGroup{{Name: "k8s-web/1", Type: targetInstance, Protocol: "HTTP", LoadBalancers: []string{"web", "edge"}, Targets: []Target{
			{ID: "i-0a", Port: 31234, Node: "node-a", State: "healthy"}, {ID: "i-0b", Port: 31234, Node: "node-b", State: "unhealthy"},
		}}},
	}
	return s
}

// out is the rule that every security group has unless somebody takes it away.
func out() Rule {
	return Rule{Egress: true, Protocol: "-1", From: -1, To: -1, Network: "0.0.0.0/0"}
}

// rulesOf replaces the rules of a security group.
func rulesOf(id string, rules ...Rule) func(*Snapshot) {
	return func(s *Snapshot) {
		for i := range s.AWS.SecurityGroups {
			if s.AWS.SecurityGroups[i].ID == id {
				s.AWS.SecurityGroups[i].Rules = append(rules, out())
			}
		}
	}
}

// then makes one change after another.
func then(changes ...func(*Snapshot)) func(*Snapshot) {
	return func(s *Snapshot) {
		for _, change := range changes {
			change(s)
		}
	}
}

func denied(action string) func(*Snapshot) {
	return func(s *Snapshot) { s.AWS.Refused = append(s.AWS.Refused, Refused{Action: action}) }
}

// holdAsked is hold for the cluster whose account is known. Pass wants the check's one finding to be that.
func (e expectation) holdAsked(t *testing.T) {
	t.Helper()
	s := asked()
	e.change(s)
	r := Judge(s)
	all := slices.DeleteFunc(r.Findings, func(f Finding) bool { return f.Check != e.check })
	has := func(text string, words []string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
	}
	for _, f := range all {
		if f.Verdict == e.verdict && (e.verdict != v1alpha1.VerdictPass || len(all) == 1) && has(f.Message+"\n"+strings.Join(slices.Concat(f.Evidence, f.Objects), "\n"), e.says) && has(f.Mend, e.mends) {
			return
		}
	}
	t.Errorf("%s with %q and cure %q is not among %+v", e.verdict, e.says, e.mends, all)
}

func TestTheMetadataThatPodsLoseIsSaid(t *testing.T) {
	const check = "Metadata"
	template := func(change func(*Template)) func(*Snapshot) { return func(s *Snapshot) { change(&s.AWS.Templates[0]) } }
	now := func(limit int32) func(*Snapshot) {
		return func(s *Snapshot) {
			for i := range s.AWS.Instances {
				s.AWS.Instances[i].HopLimit = limit
			}
		}
	}
	own := func(s *Snapshot) { s.AWS.NodeGroups = nil }
	class := func(limit int32) func(*Snapshot) {
		return func(s *Snapshot) { s.NodeClasses = []NodeClass{{"default", IMDS{HopLimit: limit}}} }
	}
	of := func(name string, limit int32) func(*Snapshot) {
		return func(s *Snapshot) { s.AWS.Instances[0].NodeClass, s.AWS.Instances[0].HopLimit = name, limit }
	}
	one := func(t *Template) { t.HopLimit = 1 }
	for name, e := range map[string]expectation{
		"2 now and 1 next": {check, template(one), v1alpha1.VerdictWarn, []string{"on those that come they do not", "launch template lt-eks:3: hop limit 1", "NodeGroup/blue"},
			[]string{"create-launch-template-version --launch-template-id lt-own", `"HttpPutResponseHopLimit":2`, "aws eks update-nodegroup-version --cluster-name shop --nodegroup-name blue --launch-template id=lt-own"}},
		"and of a group of one's own":    {check, then(own, template(one)), v1alpha1.VerdictWarn, []string{"AutoScalingGroup/eks-blue-1"}, []string{"--launch-template-id lt-eks ", "let autoscaling group eks-blue-1 use the new version"}},
		"and of one that EKS made alone": {check, then(func(s *Snapshot) { s.AWS.NodeGroups[0].Template = "" }, template(one)), v1alpha1.VerdictWarn, nil, []string{"node group blue has no launch template of yours"}},
		"1 now and 1 next":               {check, then(now(1), template(one)), v1alpha1.VerdictPass, []string{"on 0 of 2 nodes"}, nil},
		"2 now and 3 next":               {check, template(func(t *Template) { t.HopLimit = 3 }), v1alpha1.VerdictPass, []string{"on 2 of 2 nodes"}, nil},
		"switched off next":              {check, template(func(t *Template) { t.NoIMDS = true }), v1alpha1.VerdictWarn, []string{"switched off"}, nil},
		"not said":                       {check, template(func(t *Template) { t.HopLimit = 0 }), v1alpha1.VerdictUnknown, []string{"depends on image and account", "hop limit not said"}, []string{"HttpPutResponseHopLimit"}},
		"not said, and 1 now":            {check, then(now(1), template(func(t *Template) { t.HopLimit = 0 })), v1alpha1.VerdictPass, nil, nil},
		"a template that is gone":        {check, func(s *Snapshot) { s.AWS.Templates = nil }, v1alpha1.VerdictUnknown, []string{"no longer there"}, nil},
		"one of two that is gone": {check, func(s *Snapshot) {
			s.AWS.ScalingGroups[0].Templates = append(s.AWS.ScalingGroups[0].Templates, "lt-gone:1")
		}, v1alpha1.VerdictUnknown, []string{"no longer there"}, nil},
		"a launch configuration": {check, func(s *Snapshot) {
			s.AWS.ScalingGroups[0].Templates, s.AWS.ScalingGroups[0].LaunchConfiguration = nil, "old"
		}, v1alpha1.VerdictUnknown, []string{"launch configuration (old)"}, nil},
		"a group without nodes":       {check, func(s *Snapshot) { s.AWS.ScalingGroups[0].Name = "idle"; s.AWS.Templates[0].HopLimit = 1 }, v1alpha1.VerdictWarn, []string{"AutoScalingGroup/idle"}, nil},
		"Karpenter, 2 now and 1 next": {check, then(class(1), of("default", 2)), v1alpha1.VerdictWarn, []string{"1 EC2NodeClass", "default: hop limit 1", "EC2NodeClass/default"}, []string{"kubectl patch ec2nodeclass default", "drift"}},
		"Karpenter, 1 now and 1 next": {check, then(class(1), of("default", 1)), v1alpha1.VerdictPass, nil, nil},
		"Karpenter, 2 next":           {check, then(class(2), of("default", 2)), v1alpha1.VerdictPass, nil, nil},
		"instances unseen":            {check, denied("ec2:DescribeInstances"), v1alpha1.VerdictUnknown, []string{"IAM does not allow ec2:DescribeInstances"}, []string{"docs/preflight.md#aws"}},
		"templates unseen":            {check, denied("ec2:DescribeLaunchTemplateVersions"), v1alpha1.VerdictUnknown, []string{"IAM does not allow ec2:DescribeLaunchTemplateVersions"}, nil},
		"groups unseen":               {check, denied("autoscaling:DescribeAutoScalingGroups"), v1alpha1.VerdictUnknown, nil, nil},
		"classes unseen":              {check, unseen("ec2nodeclasses.karpenter.k8s.aws"), v1alpha1.VerdictUnknown, []string{"EC2NodeClasses were not seen"}, nil},
		"Karpenter without AWS":       {check, func(s *Snapshot) { s.AWS = nil; class(1)(s) }, v1alpha1.VerdictWarn, []string{"whether they reach it now is known with --aws"}, nil},
		"the rest without AWS":        {check, func(s *Snapshot) { s.AWS = nil; class(1)(s) }, v1alpha1.VerdictNotAsked, []string{"--aws"}, nil},
	} {
		t.Run(name, e.holdAsked)
	}
}

func TestWhatSecurityGroupsDoNotLetThroughIsSaid(t *testing.T) {
	const check = "SecurityGroups"
	tcp := func(from, to int32) Rule { return Rule{Protocol: "tcp", From: from, To: to, Group: "sg-cluster"} }
	udp := func(from, to int32) Rule { return Rule{Protocol: "udp", From: from, To: to, Group: "sg-cluster"} }
	web := Rule{Protocol: "tcp", From: 30000, To: 32767, Group: "sg-web"}
	net := func(r Rule, network string) Rule { r.Group, r.Network = "", network; return r }
	listed := func(r Rule) Rule { r.Group, r.PrefixList = "", "pl-1"; return r }
	nodes := func(rules ...Rule) func(*Snapshot) { return rulesOf("sg-cluster", append(rules, web)...) }
	all := []Rule{udp(0, 65535), tcp(0, 65535)}
	second := func(rules ...Rule) func(*Snapshot) {
		return func(s *Snapshot) {
			s.AWS.Instances[1].SecurityGroups = []string{"sg-b"}
			s.AWS.SecurityGroups = append(s.AWS.SecurityGroups, SecurityGroup{"sg-b", append(rules, out())})
		}
	}
	next := func(rules ...Rule) func(*Snapshot) {
		return func(s *Snapshot) {
			s.AWS.Templates[0].SecurityGroups = []string{"sg-n"}
			s.AWS.SecurityGroups = append(s.AWS.SecurityGroups, SecurityGroup{"sg-n", append(rules, out())})
		}
	}
	ofPods := func(s *Snapshot) {
		s.AWS.TargetGroups[0].Type, s.AWS.TargetGroups[0].Targets = targetIP, []Target{{ID: "10.0.1.11", Port: 8080, Node: "node-a", Pod: true, State: "healthy"}}
	}
	moving := func(ignore bool) func(*Snapshot) {
		return func(s *Snapshot) { s.Callbacks[1].Backends, s.Callbacks[1].Ignore = inPod("cert-manager/w"), ignore }
	}
	for name, e := range map[string]expectation{
		"everything by ports":           {check, nodes(all...), v1alpha1.VerdictPass, []string{"1 kind of nodes"}, nil},
		"by the number of the protocol": {check, nodes(Rule{Protocol: "17", From: 0, To: 65535, Group: "sg-cluster"}, Rule{Protocol: "6", From: 0, To: 65535, Group: "sg-cluster"}), v1alpha1.VerdictPass, nil, nil},
		"by addresses that hold nodes":  {check, nodes(net(udp(0, 65535), "10.0.0.0/16"), tcp(0, 65535)), v1alpha1.VerdictPass, nil, nil},
		"by addresses in two rules":     {check, nodes(net(udp(0, 65535), "10.0.1.0/24"), net(udp(0, 65535), "10.0.2.0/24"), tcp(0, 65535)), v1alpha1.VerdictPass, nil, nil},
		"no tunnel": {check, nodes(udp(9794, 9794), tcp(0, 65535)), v1alpha1.VerdictFail, []string{"UDP 8472 through between all nodes: pods on the overlay", "nodes with sg-cluster to nodes with sg-cluster: ingress", "SecurityGroup/sg-cluster"},
			[]string{"aws ec2 authorize-security-group-ingress --group-id sg-cluster --ip-permissions 'IpProtocol=udp,FromPort=8472,ToPort=8472,UserIdGroupPairs=[{GroupId=sg-cluster}]'"}},
		"the tunnel's neighbour port": {check, nodes(udp(8473, 9794), tcp(0, 65535)), v1alpha1.VerdictFail, []string{"UDP 8472"}, nil},
		"the tunnel by TCP":           {check, nodes(udp(9794, 9794), tcp(0, 65535), tcp(8472, 8472)), v1alpha1.VerdictFail, []string{"UDP 8472"}, nil},
		"another tunnel port":         {check, then(func(s *Snapshot) { s.TunnelPort = 9999 }, nodes(udp(8472, 8472), udp(9794, 9794), tcp(0, 65535))), v1alpha1.VerdictFail, []string{"UDP 9999"}, nil},
		"a tunnel for half of them":   {check, nodes(net(udp(0, 65535), "10.0.1.0/24"), tcp(0, 65535)), v1alpha1.VerdictUnknown, []string{"UDP 8472", "prefix lists, or on rules for a part"}, nil},
		"a tunnel by a prefix list":   {check, nodes(listed(udp(0, 65535)), tcp(0, 65535)), v1alpha1.VerdictUnknown, []string{"UDP 8472"}, []string{"a rule by security group leaves no doubt"}},
		"no egress": {check, func(s *Snapshot) { s.AWS.SecurityGroups[0].Rules = s.AWS.SecurityGroups[0].Rules[:2] }, v1alpha1.VerdictFail, []string{"UDP 8472", ": egress"},
			[]string{"authorize-security-group-egress --group-id sg-cluster"}},
		"no health checks":              {check, nodes(udp(0, 65535), tcp(4241, 65535)), v1alpha1.VerdictWarn, []string{"TCP 4240"}, nil},
		"no probes":                     {check, nodes(udp(8472, 8472), tcp(0, 65535)), v1alpha1.VerdictWarn, []string{"UDP 9794"}, nil},
		"nodes of two kinds, one way":   {check, second(Rule{Protocol: "-1", Group: "sg-cluster"}, Rule{Protocol: "-1", Group: "sg-b"}), v1alpha1.VerdictFail, []string{"nodes with sg-b to nodes with sg-cluster: ingress"}, []string{"--group-id sg-cluster", "GroupId=sg-b"}},
		"nodes of two kinds, both ways": {check, then(second(Rule{Protocol: "-1", Group: "sg-cluster"}, Rule{Protocol: "-1", Group: "sg-b"}, web), nodes(append(all, Rule{Protocol: "-1", Group: "sg-b"})...)), v1alpha1.VerdictPass, []string{"2 kinds of nodes"}, nil},
		"nodes that come, not let in":   {check, next(Rule{Protocol: "-1", Group: "sg-cluster"}, Rule{Protocol: "-1", Group: "sg-n"}), v1alpha1.VerdictFail, []string{"nodes that come with sg-n to nodes with sg-cluster"}, nil},
		"nodes that come, by the VPC":   {check, then(next(Rule{Protocol: "-1", Network: "10.0.0.0/16"}), nodes(net(udp(0, 65535), "10.0.0.0/8"), net(tcp(0, 65535), "10.0.0.0/8"))), v1alpha1.VerdictPass, nil, nil},
		"nodes that come, by a subnet":  {check, then(next(Rule{Protocol: "-1", Network: "10.0.0.0/16"}), nodes(net(udp(0, 65535), "10.0.0.0/17"), net(tcp(0, 65535), "10.0.0.0/8"))), v1alpha1.VerdictUnknown, []string{"UDP 8472"}, nil},

		"a webhook on the host, its port shut": {check, nodes(udp(0, 65535), tcp(0, 10259), tcp(10261, 65535)), v1alpha1.VerdictFail, []string{"reach nodes on TCP 10260, where Service cert-manager/cert-manager-webhook", "ValidatingWebhookConfiguration/cert-manager-webhook"}, []string{"FromPort=10260"}},
		"its neighbour's":                      {check, nodes(udp(0, 65535), tcp(0, 9442), tcp(9444, 65535)), v1alpha1.VerdictPass, nil, nil},
		"one that moves gets its chart's port": {check, then(moving(false), func(s *Snapshot) { s.Callbacks[1].Ports = []int32{10250} }, nodes(udp(0, 65535), tcp(0, 10259), tcp(10261, 65535))), v1alpha1.VerdictFail, []string{"TCP 10260"}, nil},
		"one that is left out":                 {check, then(moving(true), nodes(udp(0, 65535), tcp(0, 10259), tcp(10261, 65535))), v1alpha1.VerdictWarn, []string{"TCP 10260"}, nil},
		"an unknown one keeps its port":        {check, then(moving(false), func(s *Snapshot) { s.Callbacks[1].Service, s.Callbacks[1].Ports = "mine", []int32{7443} }, nodes(udp(0, 65535), tcp(0, 7442), tcp(7444, 65535))), v1alpha1.VerdictFail, []string{"TCP 7443"}, nil},
		"one whose port was not seen":          {check, func(s *Snapshot) { s.Callbacks[1].Ports = nil }, v1alpha1.VerdictUnknown, []string{"on which port the API server calls Service cert-manager/cert-manager-webhook"}, nil},
		"a port that a part of nodes shuts":    {check, then(second(Rule{Protocol: "udp", From: 0, To: 65535, Group: "sg-cluster"}, tcp(0, 10259), tcp(10261, 65535), Rule{Protocol: "-1", Group: "sg-b"}, web), nodes(append(all, Rule{Protocol: "-1", Group: "sg-b"})...)), v1alpha1.VerdictWarn, []string{"all nodes on TCP 10260", "to nodes with sg-b: ingress"}, nil},
		"the control plane unseen":             {check, denied("eks:DescribeCluster"), v1alpha1.VerdictUnknown, []string{"IAM does not allow eks:DescribeCluster"}, nil},

		"a node port that is shut":         {check, rulesOf("sg-cluster", Rule{Protocol: "-1", Group: "sg-cluster"}, Rule{Protocol: "tcp", From: 30000, To: 31233, Group: "sg-web"}), v1alpha1.VerdictFail, []string{"load balancer web reach node ports (TCP 31234)", "TargetGroup/k8s-web/1"}, []string{"GroupId=sg-web"}},
		"one of UDP":                       {check, func(s *Snapshot) { s.AWS.TargetGroups[0].Protocol = "TCP_UDP" }, v1alpha1.VerdictFail, []string{"UDP 31234"}, nil},
		"node ports of what sends to pods": {check, then(ofPods, rulesOf("sg-cluster", Rule{Protocol: "-1", Group: "sg-cluster"}, Rule{Protocol: "tcp", From: 8080, To: 8080, Group: "sg-web"})), v1alpha1.VerdictWarn, []string{"web sends to pods now", "TCP 30000-32767"}, nil},
		"and open ones":                    {check, ofPods, v1alpha1.VerdictPass, nil, nil},
		"node ports for the VPC alone":     {check, rulesOf("sg-cluster", Rule{Protocol: "-1", Group: "sg-cluster"}, Rule{Protocol: "tcp", From: 30000, To: 32767, Network: "10.0.0.0/16"}), v1alpha1.VerdictPass, nil, nil},
		"and clients anywhere":             {check, then(func(s *Snapshot) { s.AWS.LoadBalancers[0].Type = "network" }, rulesOf("sg-cluster", Rule{Protocol: "-1", Group: "sg-cluster"}, Rule{Protocol: "tcp", From: 30000, To: 32767, Network: "10.0.0.0/16"})), v1alpha1.VerdictWarn, []string{"do not surely let load balancer web"}, nil},
		"load balancers unseen":            {check, denied("elasticloadbalancing:DescribeLoadBalancers"), v1alpha1.VerdictUnknown, []string{"IAM does not allow elasticloadbalancing:DescribeLoadBalancers"}, nil},
		"rules unseen":                     {check, denied("ec2:DescribeSecurityGroupRules"), v1alpha1.VerdictUnknown, []string{"IAM does not allow ec2:DescribeSecurityGroupRules"}, nil},
		"launch templates unseen":          {check, denied("ec2:DescribeLaunchTemplateVersions"), v1alpha1.VerdictUnknown, []string{"nodes that come"}, nil},
		"no instance":                      {check, func(s *Snapshot) { s.AWS.Instances = nil }, v1alpha1.VerdictUnknown, []string{"no node of the cluster is an instance"}, nil},
	} {
		t.Run(name, e.holdAsked)
	}
}

func TestGroupsThatKeepReplacementsAwayAreTold(t *testing.T) {
	const check = "NodeGroups"
	group := func(change func(*ScalingGroup)) func(*Snapshot) {
		return func(s *Snapshot) { change(&s.AWS.ScalingGroups[0]) }
	}
	zones := func(g *ScalingGroup) { g.Zones = []string{"eu-central-1a", "eu-central-1b"} }
	surge := func(slots int, most int32) func(*Snapshot) {
		return func(s *Snapshot) { s.Rollout.Surge, s.Joining, s.AWS.ScalingGroups[0].Max = true, slots, most }
	}
	own := func(s *Snapshot) { s.AWS.NodeGroups = nil }
	for name, e := range map[string]expectation{
		"Launch is suspended":                  {check, group(func(g *ScalingGroup) { g.Suspended = []string{"Launch"} }), v1alpha1.VerdictFail, []string{"no replacement comes", "NodeGroup/blue"}, []string{"resume-processes --auto-scaling-group-name eks-blue-1 --scaling-processes Launch"}},
		"others are":                           {check, group(func(g *ScalingGroup) { g.Suspended = []string{"AlarmNotification", "ReplaceUnhealthy", "Terminate"} }), v1alpha1.VerdictWarn, []string{"(Terminate, ReplaceUnhealthy)"}, []string{"--scaling-processes Terminate ReplaceUnhealthy"}},
		"one that does not matter":             {check, group(func(g *ScalingGroup) { g.Suspended = []string{"AlarmNotification", "ScheduledActions"} }), v1alpha1.VerdictPass, nil, nil},
		"in a group that the roll leaves out":  {check, then(group(func(g *ScalingGroup) { g.Suspended = []string{"Launch"} }), func(s *Snapshot) { s.Nodes[0].OptedOut, s.Nodes[1].OptedOut = true, true }), v1alpha1.VerdictPass, []string{"in 0 autoscaling groups"}, nil},
		"no room for surge":                    {check, surge(1, 2), v1alpha1.VerdictFail, []string{"at most 2 nodes and wants 2 now", "needs 3"}, []string{"update-nodegroup-config --cluster-name shop --nodegroup-name blue --scaling-config maxSize=3"}},
		"none in a group of one's own":         {check, then(own, surge(5, 3)), v1alpha1.VerdictFail, []string{"needs 4"}, []string{"update-auto-scaling-group --auto-scaling-group-name eks-blue-1 --max-size 4"}},
		"room for surge":                       {check, surge(1, 3), v1alpha1.VerdictPass, nil, nil},
		"none is needed without":               {check, group(func(g *ScalingGroup) { g.Max = 2 }), v1alpha1.VerdictPass, nil, nil},
		"several zones":                        {check, group(zones), v1alpha1.VerdictWarn, []string{"1 autoscaling group is spread over several zones"}, []string{"suspend-processes --auto-scaling-group-name eks-blue-1 --scaling-processes AZRebalance"}},
		"several zones, and nobody rebalances": {check, group(func(g *ScalingGroup) { zones(g); g.Suspended = []string{"AZRebalance"} }), v1alpha1.VerdictPass, nil, nil},
		"auto-repair":                          {check, func(s *Snapshot) { s.AWS.NodeGroups[0].Repair = true }, v1alpha1.VerdictWarn, []string{"auto-repair is on in 1 node group", "NodeGroup/blue"}, []string{"--node-repair-config enabled=false"}},
		"a group that EKS changes":             {check, func(s *Snapshot) { s.AWS.NodeGroups[0].Status = "UPDATING" }, v1alpha1.VerdictWarn, []string{"UPDATING"}, nil},
		"groups unseen":                        {check, denied("autoscaling:DescribeAutoScalingGroups"), v1alpha1.VerdictUnknown, []string{"autoscaling:DescribeAutoScalingGroups"}, nil},
		"instances unseen":                     {check, denied("ec2:DescribeInstances"), v1alpha1.VerdictUnknown, []string{"ec2:DescribeInstances"}, nil},
		"node groups unseen":                   {check, denied("eks:DescribeNodegroup"), v1alpha1.VerdictUnknown, []string{"eks:DescribeNodegroup"}, nil},
		"a selector that is none":              {check, func(s *Snapshot) { s.Selector = "a in" }, v1alpha1.VerdictUnknown, []string{"which nodes the roll takes"}, nil},
	} {
		t.Run(name, e.holdAsked)
	}
}

func TestWhatNodesAreBornWithIsSaid(t *testing.T) {
	const check = "Birth"
	data := func(change func(*UserData)) func(*Snapshot) {
		return func(s *Snapshot) { change(&s.AWS.Templates[0].UserData) }
	}
	bare := func(s *Snapshot) { s.AWS.NodeGroups[0].Taints = []string{"dedicated"} }
	pods := func(n int64) func(*Snapshot) { return func(s *Snapshot) { s.Nodes[0].Pods, s.Nodes[1].Pods = n, n } }
	for name, e := range map[string]expectation{
		"by the node group":                  {check, func(*Snapshot) {}, v1alpha1.VerdictPass, []string{"1 autoscaling group are born with startup taint"}, nil},
		"by user data":                       {check, then(bare, data(func(u *UserData) { u.Taints = []string{startupTaint} })), v1alpha1.VerdictPass, nil, nil},
		"without the taint":                  {check, bare, v1alpha1.VerdictWarn, []string{"born without startup taint node.cilium.io/agent-not-ready", "NodeGroup/blue"}, []string{"aws eks update-nodegroup-config --cluster-name shop --nodegroup-name blue --taints"}},
		"without it in a group of one's own": {check, func(s *Snapshot) { s.AWS.NodeGroups = nil }, v1alpha1.VerdictWarn, []string{"AutoScalingGroup/eks-blue-1"}, []string{"--register-with-taints=node.cilium.io/agent-not-ready=true:NoExecute"}},
		"with it in one of two templates": {check, func(s *Snapshot) {
			bare(s)
			s.AWS.Templates[0].UserData.Taints = []string{startupTaint}
			s.AWS.Templates = append(s.AWS.Templates, Template{Ref: "lt-2:1", UserData: UserData{Format: "nodeadm", MaxPods: "110"}})
			s.AWS.ScalingGroups[0].Templates = append(s.AWS.ScalingGroups[0].Templates, "lt-2:1")
		}, v1alpha1.VerdictWarn, []string{"born without"}, nil},
		"user data that was not understood":              {check, then(bare, data(func(u *UserData) { u.Trouble = "a script" })), v1alpha1.VerdictUnknown, []string{"launch template lt-eks:3: a script"}, []string{"--launch-template-id lt-eks --versions '3'", "base64 -d"}},
		"and does not matter":                            {check, data(func(u *UserData) { u.Trouble = "a script" }), v1alpha1.VerdictPass, nil, nil},
		"a template that is gone":                        {check, func(s *Snapshot) { s.AWS.Templates = nil }, v1alpha1.VerdictUnknown, []string{"no longer there"}, nil},
		"the fence label by the node group":              {check, func(s *Snapshot) { s.AWS.NodeGroups[0].Labels = map[string]string{v1alpha1.FenceLabel: "true"} }, v1alpha1.VerdictFail, []string{"born with the fence label"}, []string{"removeLabels=io.cilium/aws-node-enabled"}},
		"the fence label by user data":                   {check, data(func(u *UserData) { u.Labels = map[string]string{v1alpha1.FenceLabel: "true"} }), v1alpha1.VerdictFail, []string{"born with the fence label"}, nil},
		"a label that is not the fence":                  {check, data(func(u *UserData) { u.Labels = map[string]string{v1alpha1.FenceLabel: "false", "team": "true"} }), v1alpha1.VerdictPass, nil, nil},
		"as many pods as now":                            {check, data(func(u *UserData) { u.MaxPods = "58" }), v1alpha1.VerdictWarn, []string{"no more pods than now", "maxPods 58; its nodes hold 58"}, []string{"kubectl cutover density"}},
		"not said":                                       {check, data(func(u *UserData) { u.MaxPods = "" }), v1alpha1.VerdictWarn, []string{"maxPods not said"}, nil},
		"an expression":                                  {check, data(func(u *UserData) { u.MaxPods = "max_pods * 2" }), v1alpha1.VerdictPass, nil, nil},
		"a node has plenty already":                      {check, then(pods(110), data(func(u *UserData) { u.MaxPods = "" })), v1alpha1.VerdictPass, nil, nil},
		"templates unseen":                               {check, denied("ec2:DescribeLaunchTemplateVersions"), v1alpha1.VerdictUnknown, []string{"ec2:DescribeLaunchTemplateVersions"}, nil},
		"instances unseen, so groups may be unknown too": {check, denied("ec2:DescribeInstances"), v1alpha1.VerdictUnknown, []string{"ec2:DescribeInstances"}, nil},
	} {
		t.Run(name, e.holdAsked)
	}
}

func TestTargetsThatNobodyAnswersForAreTold(t *testing.T) {
	const check = "Targets"
	target := func(change func(*TargetGroup)) func(*Snapshot) {
		return func(s *Snapshot) { change(&s.AWS.TargetGroups[0]) }
	}
	pod := func(state string) Target {
		return Target{ID: "10.0.1.11", Port: 8080, Node: "node-a", Pod: true, State: state, Reason: "timed out"}
	}
	ofPods := target(func(g *TargetGroup) { g.Type, g.Targets = targetIP, []Target{pod("healthy")} })
	unbound := func(s *Snapshot) { s.Traffic.Bindings = nil }
	for name, e := range map[string]expectation{
		"pods that a binding put there": {check, ofPods, v1alpha1.VerdictPass, []string{"1 target group"}, nil},
		"pods that somebody else did":   {check, then(ofPods, unbound), v1alpha1.VerdictFail, []string{"the addresses of 1 pod", "TargetGroup/k8s-web/1"}, []string{"find out who registers them"}},
		"nodes that somebody else did":  {check, unbound, v1alpha1.VerdictPass, nil, nil},
		"an address that is a node's": {check, then(unbound, target(func(g *TargetGroup) {
			g.Type, g.Targets = targetIP, []Target{{ID: "10.0.1.10", Node: "node-a", State: "healthy"}}
		})), v1alpha1.VerdictPass, nil, nil},
		"bindings unseen":                  {check, then(ofPods, unseen("targetgroupbindings.elbv2.k8s.aws")), v1alpha1.VerdictUnknown, []string{"TargetGroupBindings were not seen"}, nil},
		"a pod that is ill":                {check, target(func(g *TargetGroup) { g.Type, g.Targets = targetIP, []Target{pod("healthy"), pod("unhealthy")} }), v1alpha1.VerdictWarn, []string{"(1 healthy, 1 unhealthy)", "10.0.1.11:8080: timed out"}, nil},
		"all nodes ill":                    {check, target(func(g *TargetGroup) { g.Targets[0].State = "unhealthy" }), v1alpha1.VerdictWarn, []string{"(2 unhealthy)"}, nil},
		"targets that come and go":         {check, target(func(g *TargetGroup) { g.Targets[0].State, g.Targets[1].State = "initial", "draining" }), v1alpha1.VerdictPass, nil, nil},
		"health unseen":                    {check, denied("elasticloadbalancing:DescribeTargetHealth"), v1alpha1.VerdictUnknown, []string{"elasticloadbalancing:DescribeTargetHealth"}, nil},
		"no instance, so no address known": {check, func(s *Snapshot) { s.AWS.Instances = nil }, v1alpha1.VerdictUnknown, []string{"no node of the cluster is an instance"}, nil},
	} {
		t.Run(name, e.holdAsked)
	}
}

func TestNetworksThatAWSNamesCount(t *testing.T) {
	const check = "Overlap"
	routes := func(r ...Route) func(*Snapshot) { return func(s *Snapshot) { s.AWS.Routes = r } }
	for name, e := range map[string]expectation{
		"all is known":                  {check, func(*Snapshot) {}, v1alpha1.VerdictPass, []string{"clear of 3 networks"}, nil},
		"a second network of the VPC":   {check, func(s *Snapshot) { s.AWS.Networks = append(s.AWS.Networks, "10.244.128.0/20") }, v1alpha1.VerdictFail, []string{"10.244.128.0/20 of the VPC"}, nil},
		"a peer's":                      {check, routes(Route{"10.240.0.0/12", "tgw-1"}), v1alpha1.VerdictFail, []string{"10.240.0.0/12 of the VPC or of what is routed to it"}, nil},
		"everything elsewhere":          {check, routes(Route{"0.0.0.0/0", "tgw-1"}), v1alpha1.VerdictUnknown, []string{"(0.0.0.0/0 through tgw-1)", "--vpc-cidr"}, nil},
		"everything to the Internet":    {check, routes(Route{"0.0.0.0/0", "igw-1"}), v1alpha1.VerdictPass, nil, nil},
		"a prefix list":                 {check, routes(Route{"pl-1", "tgw-1"}), v1alpha1.VerdictUnknown, []string{"pl-1 through tgw-1"}, nil},
		"what is hidden was named":      {check, then(routes(Route{"0.0.0.0/0", "tgw-1"}), func(s *Snapshot) { s.VPC = []string{"192.168.0.0/16"} }), v1alpha1.VerdictPass, []string{"clear of 3 networks"}, nil},
		"routes unseen":                 {check, denied("ec2:DescribeRouteTables"), v1alpha1.VerdictUnknown, []string{"ec2:DescribeRouteTables"}, nil},
		"the VPC unseen":                {check, func(s *Snapshot) { s.AWS.Networks = nil }, v1alpha1.VerdictUnknown, []string{"--vpc-cidr"}, nil},
		"unseen routes that were named": {check, then(denied("ec2:DescribeRouteTables"), func(s *Snapshot) { s.VPC = []string{"10.5.0.0/16"} }), v1alpha1.VerdictPass, nil, nil},
	} {
		t.Run(name, e.holdAsked)
	}
}

// TestNothingThatWasRefusedPasses: without any right each check that needs AWS could not tell, and says by which action.
func TestNothingThatWasRefusedPasses(t *testing.T) {
	s := asked()
	s.AWS = &AWS{Region: "eu-central-1", Cluster: "shop", Refused: []Refused{{Action: "ec2:DescribeInstances"}, {Action: "eks:DescribeCluster"}, {Action: "eks:DescribeAddon", Of: "vpc-cni"}, {Action: "eks:DescribeAddon", Of: "kube-proxy"}, {Action: "eks:ListNodegroups"}}}
	r := Judge(s)
	if r.Verdict() != v1alpha1.VerdictUnknown {
		t.Errorf("%s", r.Verdict())
	}
	for _, f := range r.Findings {
		if slices.Contains([]string{"Rights", "Overlap", "AddOns", "Metadata", "SecurityGroups", "NodeGroups", "Birth", "Targets"}, f.Check) && f.Verdict != v1alpha1.VerdictUnknown {
			t.Errorf("%s %s: %s", f.Verdict, f.Check, f.Message)
		}
	}
}
