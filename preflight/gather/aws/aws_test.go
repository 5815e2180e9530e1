// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-cutover/cni-cutover/internal/awsaccount"
	"github.com/cni-cutover/cni-cutover/internal/golden"
	"github.com/cni-cutover/cni-cutover/preflight"
)

const (
	targetGroup  = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/"
	loadBalancer = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/"
)

func group(ids ...string) []awsaccount.GroupIdentifier {
	var out []awsaccount.GroupIdentifier
	for _, id := range ids {
		out = append(out, awsaccount.GroupIdentifier{ID: id})
	}
	return out
}

// mimeOfNodes is user data for Amazon Linux 2023, as EKS writes it for a managed node group and a person beside it.
const mimeOfNodes = `MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: application/node.eks.aws

---
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: shop
    apiServerEndpoint: https://ABCD.gr7.eu-central-1.eks.amazonaws.com
    certificateAuthority: c2VjcmV0LWNlcnRpZmljYXRl
  kubelet:
    config:
      maxPods: 29
      clusterDNS: [172.20.0.10]
    flags:
      - "--node-labels=eks.amazonaws.com/nodegroup=blue,team=shop"
      - --register-with-taints="node.cilium.io/agent-not-ready=true:NoExecute"

--//
Content-Type: text/x-shellscript; charset="us-ascii"

#!/bin/bash
echo TOP-SECRET > /etc/agent-of-ours

--//--
`

// shop is an account with one cluster, of a managed node group, a group of one's own and a node of Karpenter's.
func shop() *awsaccount.Account {
	encode := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	open := func(group string) []awsaccount.Rule {
		return []awsaccount.Rule{
			{Group: group, Protocol: "-1", From: -1, To: -1, Referenced: &awsaccount.GroupIdentifier{ID: group}},
			{Group: group, Egress: true, Protocol: "-1", From: -1, To: -1, Network: "0.0.0.0/0"},
			{Group: group, Egress: true, Protocol: "-1", From: -1, To: -1, Network6: "::/0"},
		}
	}
	return &awsaccount.Account{
		Clusters: []awsaccount.Cluster{{Name: "shop", Endpoint: "https://ABCD.gr7.eu-central-1.eks.amazonaws.com", VPC: awsaccount.ClusterVPC{VPC: "vpc-1", ClusterGroup: "sg-cluster", Groups: []string{"sg-control"}}}},
		AddOns: []awsaccount.AddOn{
			{Cluster: "shop", Name: "vpc-cni", Version: "v1.23.2-eksbuild.1", Statuses: []string{"ACTIVE"}, Configuration: `{"env":{"WARM_ENI_TARGET":"1"},"enableNetworkPolicy":"false"}`},
			{Cluster: "shop", Name: "kube-proxy", Version: "v1.35.4-eksbuild.2", Statuses: []string{"DEGRADED"}, Issues: []awsaccount.Issue{{Code: "InsufficientNumberOfReplicas", Message: "one is missing"}}, Configuration: `{"not":"kept"}`},
		},
		NodeGroups: []awsaccount.NodeGroup{
			{Cluster: "shop", Name: "blue", Status: "ACTIVE", ScalingGroups: []string{"eks-blue-1"}, Template: "lt-own", Labels: map[string]string{"team": "shop"}, Taints: []awsaccount.Taint{{Key: "node.cilium.io/agent-not-ready", Value: "true", Effect: "NO_EXECUTE"}}, Repair: true},
			{Cluster: "shop", Name: "idle", Status: "UPDATING", ScalingGroups: []string{"eks-idle-1"}},
			{Cluster: "other", Name: "green", Status: "ACTIVE"},
		},
		Instances: []awsaccount.Instance{
			{ID: "i-0a", VPC: "vpc-1", Address: "10.0.1.10", Groups: group("sg-cluster"), Metadata: &awsaccount.MetadataOptions{Endpoint: "enabled", HopLimit: 2},
				Tags: []awsaccount.Tag{{Key: "aws:autoscaling:groupName", Value: "eks-blue-1"}, {Key: "kubernetes.io/cluster/shop", Value: "owned"}},
				Interfaces: []awsaccount.Interface{
					{Device: 1, Groups: group("sg-pods"), Addresses: []awsaccount.PrivateAddress{{Address: "10.0.1.20", Primary: true}, {Address: "10.0.1.21"}}},
					{Groups: group("sg-extra", "sg-cluster"), Addresses: []awsaccount.PrivateAddress{{Address: "10.0.1.10", Primary: true}, {Address: "10.0.1.11"}}},
				}},
			{ID: "i-0b", VPC: "vpc-1", Address: "10.0.2.10", Groups: group("sg-cluster"), Metadata: &awsaccount.MetadataOptions{Endpoint: "disabled", HopLimit: 1},
				Tags:       []awsaccount.Tag{{Key: "aws:autoscaling:groupName", Value: "own"}, {Key: "aws:eks:cluster-name", Value: "shop"}},
				Interfaces: []awsaccount.Interface{{Groups: group("sg-cluster"), Addresses: []awsaccount.PrivateAddress{{Address: "10.0.2.10", Primary: true}}, Prefixes: []awsaccount.Prefix{{Prefix: "10.0.2.32/28"}}}}},
			{ID: "i-0c", VPC: "vpc-1", Address: "10.0.3.10", Groups: group("sg-cluster"), Metadata: &awsaccount.MetadataOptions{Endpoint: "enabled", HopLimit: 1},
				Tags: []awsaccount.Tag{{Key: "karpenter.k8s.aws/ec2nodeclass", Value: "default"}, {Key: "eks:eks-cluster-name", Value: "shop"}}},
			{ID: "i-99", VPC: "vpc-1", Address: "10.0.9.10", Groups: group("sg-other")},
		},
		Templates: []awsaccount.Template{
			{ID: "lt-eks", Number: 3, Data: awsaccount.TemplateData{Metadata: &awsaccount.MetadataOptions{HopLimit: 2}, Groups: []string{"sg-cluster"}, UserData: encode(mimeOfNodes)}},
			{ID: "lt-2", Number: 1, Default: true, Data: awsaccount.TemplateData{UserData: encode("#!/bin/sh\n/etc/eks/bootstrap.sh shop\n")}},
			{ID: "lt-2", Number: 2, Data: awsaccount.TemplateData{Metadata: &awsaccount.MetadataOptions{Endpoint: "disabled"}, Interfaces: []awsaccount.TemplateInterface{{Groups: []string{"sg-new"}}, {Device: 1, Groups: []string{"sg-pods"}}}}},
		},
		Rules: slices.Concat(open("sg-cluster"), []awsaccount.Rule{
			{Group: "sg-new", Protocol: "udp", From: 8472, To: 8472, Network: "10.0.0.0/16"},
			{Group: "sg-new", Protocol: "tcp", From: 443, To: 443, PrefixList: "pl-1"},
			{Group: "sg-web", Egress: true, Protocol: "tcp", From: 0, To: 65535, Referenced: &awsaccount.GroupIdentifier{ID: "sg-cluster"}},
			{Group: "sg-other", Protocol: "-1", From: -1, To: -1, Network: "0.0.0.0/0"},
		}),
		VPCs: []awsaccount.VPC{
			{ID: "vpc-1", Networks: []awsaccount.Association{{Network: "10.0.0.0/16", State: "associated"}, {Network: "100.64.0.0/16", State: "associated"}, {Network: "10.9.0.0/16", State: "disassociated"}}},
			{ID: "vpc-2", Networks: []awsaccount.Association{{Network: "10.244.0.0/16", State: "associated"}}},
		},
		RouteTables: []awsaccount.RouteTable{
			{VPC: "vpc-1", Routes: []awsaccount.Route{{Network: "10.0.0.0/16", Gateway: "local"}, {Network: "0.0.0.0/0", NAT: "nat-1"}, {Network: "10.5.0.0/16", Peering: "pcx-1"}, {PrefixList: "pl-s3", Gateway: "vpce-1"}}},
			{VPC: "vpc-1", Routes: []awsaccount.Route{{Network: "0.0.0.0/0", Gateway: "igw-1"}, {Network: "10.5.0.0/16", Peering: "pcx-1"}, {PrefixList: "pl-1", Transit: "tgw-1"}}},
			{VPC: "vpc-2", Routes: []awsaccount.Route{{Network: "10.6.0.0/16", Peering: "pcx-2"}}},
		},
		ScalingGroups: []awsaccount.ScalingGroup{
			{Name: "eks-blue-1", Min: 1, Max: 4, Desired: 3, Zones: []string{"eu-central-1a", "eu-central-1b"}, Mixed: &awsaccount.Mixed{Template: awsaccount.TemplateSpec{ID: "lt-eks", Version: "3"}, Overrides: []awsaccount.Override{{Type: "m5.large"}, {Type: "m7g.large", Template: &awsaccount.TemplateSpec{ID: "lt-gone", Version: "1"}}}}},
			{Name: "own", Max: 1, Desired: 1, Zones: []string{"eu-central-1a"}, Suspended: []awsaccount.SuspendedProcess{{Name: "Launch"}, {Name: "AZRebalance"}}, Template: &awsaccount.TemplateSpec{ID: "lt-2", Version: "$Latest"}},
			{Name: "eks-idle-1", LaunchConfiguration: "old"},
			{Name: "another"},
		},
		TargetGroups: []awsaccount.TargetGroup{
			{ARN: targetGroup + "k8s-pods/1", Type: "ip", Protocol: "HTTP", VPC: "vpc-1", LoadBalancers: []string{loadBalancer + "app/web/1"},
				Targets: []awsaccount.TargetHealth{{ID: "10.0.1.21", Port: 8080, States: []string{"healthy"}}, {ID: "10.0.2.40", Port: 8080, States: []string{"unhealthy"}, Description: "Request timed out"}, {ID: "10.0.1.20", Port: 8080, States: []string{"draining", "unused"}}}},
			{ARN: targetGroup + "k8s-nodes/2", Type: "instance", Protocol: "TCP", VPC: "vpc-1", LoadBalancers: []string{loadBalancer + "net/edge/2"}, Targets: []awsaccount.TargetHealth{{ID: "i-0a", Port: 31234, States: []string{"initial"}}}},
			{ARN: targetGroup + "databases/3", Type: "ip", Protocol: "TCP", VPC: "vpc-1", LoadBalancers: []string{loadBalancer + "net/db/3"}, Targets: []awsaccount.TargetHealth{{ID: "10.0.77.7", Port: 5432, States: []string{"healthy"}}}},
			{ARN: targetGroup + "elsewhere/4", Type: "instance", Protocol: "TCP", VPC: "vpc-2", Targets: []awsaccount.TargetHealth{{ID: "i-0a", Port: 1, States: []string{"healthy"}}}},
			{ARN: targetGroup + "function/5", Type: "lambda"},
		},
		LoadBalancers: []awsaccount.LoadBalancer{{ARN: loadBalancer + "app/web/1", Name: "web", Type: "application", Groups: []string{"sg-web"}}, {ARN: loadBalancer + "net/edge/2", Name: "edge", Type: "network"}},
	}
}

// nodes of the cluster, as Kubernetes knows them.
func nodesOfShop() *preflight.Snapshot {
	node := func(name, provider string) preflight.Node {
		n := preflight.Node{Name: name}
		n.ProviderID, n.Labels = provider, map[string]string{"topology.kubernetes.io/region": awsaccount.Region}
		return n
	}
	return &preflight.Snapshot{Server: "https://abcd.gr7.eu-central-1.eks.amazonaws.com", Nodes: []preflight.Node{
		node("a", "aws:///eu-central-1a/i-0a"), node("b", "aws:///eu-central-1b/i-0b"), node("c", "aws:///eu-central-1c/i-0c"),
		node("gone", "aws:///eu-central-1a/i-0d"), node("fargate", "aws:///eu-central-1a/6f1c7c3d2a/fargate-ip-10-0-2-17"), {Name: "hybrid", NodeInfo: preflight.NodeInfo{ProviderID: "eks-hybrid:///eu-central-1/shop/mi-0123"}},
	}}
}

func gathered(t *testing.T, a *awsaccount.Account) *preflight.Snapshot {
	t.Helper()
	s := nodesOfShop()
	if err := Account(t.Context(), a.Start(t), "", s, func(string) {}); err != nil {
		t.Fatal(err)
	}
	return s
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}

// TestAnAccountBecomesAPartOfTheSnapshot, whether answers come whole or in pages, and nothing that is nobody's business does.
func TestAnAccountBecomesAPartOfTheSnapshot(t *testing.T) {
	a := shop()
	whole := asJSON(t, gathered(t, a).AWS)
	golden.Match(t, filepath.Join("testdata", "account.json"), whole)
	for _, secret := range []string{awsaccount.Number, "AKID", "arn:aws", "TOP-SECRET", "agent-of-ours", "certificateAuthority", base64.StdEncoding.EncodeToString([]byte(mimeOfNodes))[:20], `"not"`} {
		if strings.Contains(whole, secret) {
			t.Errorf("%s is in the snapshot", secret)
		}
	}
	a = shop()
	a.PageSize = 1
	if diff := cmp.Diff(whole, asJSON(t, gathered(t, a).AWS)); diff != "" {
		t.Errorf("in pages of one (-whole +pages):\n%s", diff)
	}
}

// TestThePolicyIsWhatIsAsked: the page has exactly the actions that preflight of a cluster with everything, and density, need.
func TestThePolicyIsWhatIsAsked(t *testing.T) {
	a := shop()
	gathered(t, a)
	typesOf(t, a.Start(t), "t3.small")
	var asked []string
	for _, r := range a.Asked() {
		asked = append(asked, r.Action)
	}
	slices.Sort(asked)
	page, err := os.ReadFile("../../../docs/preflight.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("docs/preflight.md has no policy")
	}
	var policy struct {
		Statement []struct {
			Effect, Resource string
			Action           []string
		}
	}
	if err := json.Unmarshal(block[1], &policy); err != nil || len(policy.Statement) != 1 {
		t.Fatalf("reading the policy: %v: %+v", err, policy)
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(policy.Statement[0].Action)), slices.Compact(asked)); diff != "" {
		t.Errorf("(-page +asked):\n%s", diff)
	}
}

// TestWhatIAMDeniesIsNoted, action by action, and everything else is read.
func TestWhatIAMDeniesIsNoted(t *testing.T) {
	all := shop()
	gathered(t, all)
	var actions []string
	for _, r := range all.Asked() {
		actions = append(actions, r.Action)
	}
	slices.Sort(actions)
	for _, action := range slices.Compact(actions) {
		t.Run(action, func(t *testing.T) {
			a := shop()
			a.Meddle(func(r awsaccount.Request) awsaccount.Fate {
				if r.Action == action {
					return awsaccount.Denied(action)
				}
				return awsaccount.Fate{}
			})
			s := nodesOfShop()
			if err := Account(t.Context(), a.Start(t), "shop", s, func(string) {}); err != nil {
				t.Fatal(err)
			}
			if len(s.AWS.Refused) == 0 || slices.ContainsFunc(s.AWS.Refused, func(r preflight.Refused) bool { return r.Action != action }) {
				t.Errorf("refused: %+v", s.AWS.Refused)
			}
			if action != "ec2:DescribeInstances" && len(s.AWS.Instances) != 3 {
				t.Errorf("%d instances", len(s.AWS.Instances))
			}
		})
	}
	t.Run("everything", func(t *testing.T) {
		a := shop()
		a.Meddle(func(r awsaccount.Request) awsaccount.Fate { return awsaccount.Denied(r.Action) })
		s := nodesOfShop()
		if err := Account(t.Context(), a.Start(t), "shop", s, func(string) {}); err != nil {
			t.Fatal(err)
		}
		golden.Match(t, filepath.Join("testdata", "denied.json"), asJSON(t, s.AWS))
	})
}

// TestFaults: those that pass are waited out, and those that stay are told.
func TestFaults(t *testing.T) {
	once := func(fate func(string) awsaccount.Fate) func(awsaccount.Request) awsaccount.Fate {
		return func(r awsaccount.Request) awsaccount.Fate {
			if r.Count == 0 {
				return fate(r.Action)
			}
			return awsaccount.Fate{}
		}
	}
	t.Run("each action is throttled once", func(t *testing.T) {
		want, a := asJSON(t, gathered(t, shop()).AWS), shop()
		a.Meddle(once(awsaccount.Throttled))
		if diff := cmp.Diff(want, asJSON(t, gathered(t, a).AWS)); diff != "" {
			t.Errorf("(-calm +throttled):\n%s", diff)
		}
	})
	for name, c := range map[string]struct {
		fate func(awsaccount.Request) awsaccount.Fate
		says []string
	}{
		"throttled for ever": {func(r awsaccount.Request) awsaccount.Fate { return awsaccount.Throttled(r.Action) }, []string{"asking AWS for ec2:DescribeInstances in eu-central-1", "RequestLimitExceeded"}},
		"an answer that ends in its middle": {func(r awsaccount.Request) awsaccount.Fate {
			return awsaccount.Fate{Cut: r.Action == "eks:DescribeNodegroup"}
		},
			[]string{"asking AWS for eks:DescribeNodegroup in eu-central-1"}},
		"credentials that have ended": {func(awsaccount.Request) awsaccount.Fate { return awsaccount.Fate{Code: "ExpiredToken"} },
			[]string{"asking AWS for ec2:DescribeInstances", "ExpiredToken"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := shop()
			a.Meddle(c.fate)
			err := Account(t.Context(), a.Start(t), "", nodesOfShop(), func(string) {})
			for _, want := range c.says {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q", err, want)
				}
			}
		})
	}
	t.Run("an answer that does not come", func(t *testing.T) {
		a := shop()
		a.Meddle(func(awsaccount.Request) awsaccount.Fate { return awsaccount.Fate{After: 1 << 40} })
		ctx, cancel := context.WithCancel(t.Context())
		s := nodesOfShop()
		err := Account(ctx, a.Start(t), "", s, func(string) { cancel() })
		if err == nil || s.AWS != nil {
			t.Errorf("%v, %+v", err, s.AWS)
		}
	})
}

// TestTheClusterIsTheOneThatIsMeant: a name, a region and an account that are not certain are not taken for the cluster's.
func TestTheClusterIsTheOneThatIsMeant(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*awsaccount.Account, *preflight.Snapshot)
		flag   string
		want   string // the cluster, or else what is said
	}{
		"by tags": {func(*awsaccount.Account, *preflight.Snapshot) {}, "", "shop"},
		"by a flag": {func(a *awsaccount.Account, s *preflight.Snapshot) {
			a.Clusters[0].Name, s.Server = "store", "https://127.0.0.1:6443"
		}, "store", "store"},
		"by aws-node and eksctl": {func(a *awsaccount.Account, s *preflight.Snapshot) {
			for i := range a.Instances {
				a.Instances[i].Tags = nil
			}
			s.Network.Legacy.Cluster, s.Nodes[0].Labels["alpha.eksctl.io/cluster-name"] = "shop", "shop"
		}, "", "shop"},
		"by two names": {func(_ *awsaccount.Account, s *preflight.Snapshot) { s.Network.Legacy.Cluster = "store" }, "", "name 2 (shop, store); give it with --cluster-name"},
		"by none": {func(a *awsaccount.Account, _ *preflight.Snapshot) {
			for i := range a.Instances {
				a.Instances[i].Tags = nil
			}
		}, "", "name 0 ()"},
		"another cluster of that name": {func(_ *awsaccount.Account, s *preflight.Snapshot) {
			s.Server = "https://OTHER.gr7.us-east-1.eks.amazonaws.com"
		}, "", "its endpoint is abcd.gr7.eu-central-1.eks.amazonaws.com, and the kubeconfig's is other.gr7.us-east-1.eks.amazonaws.com"},
		"another account":            {func(a *awsaccount.Account, _ *preflight.Snapshot) { a.Instances = nil }, "shop", "none of the 4, as i-0a, is in eu-central-1 of this account"},
		"a name that does not exist": {func(*awsaccount.Account, *preflight.Snapshot) {}, "shopp", "asking AWS for eks:DescribeCluster"},
		"nodes of two regions": {func(_ *awsaccount.Account, s *preflight.Snapshot) {
			s.Nodes[1].Labels["topology.kubernetes.io/region"] = "eu-west-1"
		}, "", "shop"},
		"a region that nobody knows": {func(_ *awsaccount.Account, s *preflight.Snapshot) { s.Nodes = nil }, "shop", "shop"},
	} {
		t.Run(name, func(t *testing.T) {
			a, s := shop(), nodesOfShop()
			c.change(a, s)
			err := Account(t.Context(), a.Start(t), c.flag, s, func(string) {})
			if err == nil && s.AWS.Cluster != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %+v; want %s", err, s.AWS, c.want)
			}
		})
	}
	config := shop().Start(t)
	config.Region = ""
	if err := Account(t.Context(), config, "shop", &preflight.Snapshot{}, func(string) {}); err == nil || !strings.Contains(err.Error(), "AWS_REGION") {
		t.Errorf("without a region: %v", err)
	}
}

// TestMuchIsAskedInBatches that the services take.
func TestMuchIsAskedInBatches(t *testing.T) {
	a, s := shop(), &preflight.Snapshot{}
	for range 450 {
		n := preflight.Node{Name: "n"}
		n.ProviderID = "aws:///eu-central-1a/i-0a"
		s.Nodes = append(s.Nodes, n)
	}
	for i := range 45 {
		arn := fmt.Sprintf("%sapp/web-%d/1", loadBalancer, i)
		a.TargetGroups[0].LoadBalancers = append(a.TargetGroups[0].LoadBalancers, arn)
		a.LoadBalancers = append(a.LoadBalancers, awsaccount.LoadBalancer{ARN: arn, Name: fmt.Sprintf("web-%d", i), Type: "application"})
	}
	if err := Account(t.Context(), a.Start(t), "shop", s, func(string) {}); err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, r := range a.Asked() {
		n[r.Action]++
	}
	if n["ec2:DescribeInstances"] != 3 || n["elasticloadbalancing:DescribeLoadBalancers"] != 3 || len(s.AWS.LoadBalancers) != 47 {
		t.Errorf("450 instances and 47 load balancers were asked for in %v, and there are %d", n, len(s.AWS.LoadBalancers))
	}
}
