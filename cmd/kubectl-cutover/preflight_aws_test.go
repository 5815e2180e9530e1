// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/internal/awsaccount"
)

// account gives the plugin an account by the variables that AWS' own tools read.
func account(t *testing.T, a *awsaccount.Account) {
	t.Helper()
	home := t.TempDir()
	for name, value := range map[string]string{
		"HOME": home, "AWS_ENDPOINT_URL": *a.Start(t).BaseEndpoint, "AWS_REGION": awsaccount.Region, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret",
		"AWS_PROFILE": "", "AWS_SESSION_TOKEN": "", "AWS_CONFIG_FILE": filepath.Join(home, "config"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(home, "credentials"),
	} {
		t.Setenv(name, value)
	}
}

// oneNode is an account with the instance of one node, which pods reach the metadata of, and a template that takes it from them.
func oneNode() *awsaccount.Account {
	group := []awsaccount.GroupIdentifier{{ID: "sg-1"}}
	return &awsaccount.Account{
		Clusters: []awsaccount.Cluster{{Name: "shop", Endpoint: "https://ABCD.gr7.eu-central-1.eks.amazonaws.com", VPC: awsaccount.ClusterVPC{VPC: "vpc-1", ClusterGroup: "sg-1"}}},
		AddOns:   []awsaccount.AddOn{{Cluster: "shop", Name: "vpc-cni", Version: "v1.23.2", Statuses: []string{"ACTIVE"}}},
		Instances: []awsaccount.Instance{{ID: "i-0a", VPC: "vpc-1", Address: "10.0.1.10", Groups: group, Metadata: &awsaccount.MetadataOptions{HopLimit: 2},
			Tags: []awsaccount.Tag{{Key: "aws:autoscaling:groupName", Value: "own"}, {Key: "kubernetes.io/cluster/shop", Value: "owned"}}}},
		ScalingGroups: []awsaccount.ScalingGroup{{Name: "own", Max: 2, Desired: 1, Zones: []string{"eu-central-1a"}, Template: &awsaccount.TemplateSpec{ID: "lt-1", Version: "$Latest"}}},
		Templates:     []awsaccount.Template{{ID: "lt-1", Number: 1, Data: awsaccount.TemplateData{Metadata: &awsaccount.MetadataOptions{HopLimit: 1}, Groups: []string{"sg-1"}}}},
		Rules:         []awsaccount.Rule{{Group: "sg-1", Protocol: "-1", Referenced: &group[0]}, {Group: "sg-1", Egress: true, Protocol: "-1", Network: "0.0.0.0/0"}},
		VPCs:          []awsaccount.VPC{{ID: "vpc-1", Networks: []awsaccount.Association{{Network: "10.0.0.0/16", State: "associated"}}}},
		RouteTables:   []awsaccount.RouteTable{{VPC: "vpc-1", Routes: []awsaccount.Route{{Network: "10.0.0.0/16", Gateway: "local"}, {Network: "0.0.0.0/0", NAT: "nat-1"}}}},
	}
}

func TestPreflightAsksAWS(t *testing.T) {
	w := newWorld(t)
	w.make(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "old", Labels: map[string]string{"topology.kubernetes.io/region": awsaccount.Region}}, Spec: corev1.NodeSpec{ProviderID: "aws:///eu-central-1a/i-0a"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.1.10"}}, NodeInfo: machine()}})

	on(t, "preflight").want(t, codeUnsure, "NotAsked AddOns, Metadata, SecurityGroups, NodeGroups, Birth, Targets: AWS was not asked; it is with --aws.", "6 not asked", "Unknown Overlap: what the VPC")

	account(t, oneNode())
	file := filepath.Join(t.TempDir(), "snapshot.tgz")
	live := on(t, "preflight", "--aws", "--save", file).want(t, codeUnsure,
		"Warn    Metadata AutoScalingGroup/own: pods reach the instance's metadata on its nodes now, and on those that come they do not",
		"Unknown Birth AutoScalingGroup/own", "Pass    SecurityGroups", "Pass    NodeGroups", "Pass    AddOns: vpc-cni is EKS' add-on (v1.23.2), kube-proxy is the cluster's own", "Pass    Overlap")
	if strings.Contains(live.stdout, "NotAsked") {
		t.Errorf("something was not asked:\n%s", live.stdout)
	}
	kept := plugin(t, "", "preflight", "--from", file).want(t, codeUnsure)
	if kept.stdout != live.stdout {
		t.Errorf("the kept snapshot is judged otherwise:\n%s\n%s", live.stdout, kept.stdout)
	}

	closed := oneNode()
	closed.Rules = closed.Rules[1:]
	account(t, closed)
	on(t, "preflight", "--aws").want(t, codeBlocked, "Fail    SecurityGroups SecurityGroup/sg-1: security groups do not let UDP 8472 through between all nodes")
}

// TestWithoutRightsAtAWSNothingIsFine: nothing blocks, and nobody could tell.
func TestWithoutRightsAtAWSNothingIsFine(t *testing.T) {
	w := newWorld(t)
	w.make(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "old"}, Spec: corev1.NodeSpec{ProviderID: "aws:///eu-central-1a/i-0a"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.1.10"}}, NodeInfo: machine()}})
	a := oneNode()
	a.Meddle(func(r awsaccount.Request) awsaccount.Fate { return awsaccount.Denied(r.Action) })
	account(t, a)
	on(t, "preflight", "--aws", "--cluster-name", "shop").want(t, codeUnsure, "0 Fail", "Unknown Rights: IAM does not allow ec2:DescribeInstances", "Unknown Rights: IAM does not allow eks:DescribeAddon of vpc-cni",
		"Unknown AddOns", "Unknown Metadata", "Unknown SecurityGroups", "Unknown NodeGroups", "Unknown Birth", "Unknown Targets", "Unknown Overlap", "docs/preflight.md#aws has the policy")
}

func TestPreflightRefusesAnAccountThatIsNotTheClusters(t *testing.T) {
	w := newWorld(t)
	w.make(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "old"}, Spec: corev1.NodeSpec{ProviderID: "aws:///eu-central-1a/i-0a"}, Status: corev1.NodeStatus{NodeInfo: machine()}})
	account(t, &awsaccount.Account{})
	on(t, "preflight", "--aws").want(t, codeFailed, "kubectl cutover: reading the nodes' instances: none of the 1, as i-0a, is in eu-central-1 of this account", "AWS_PROFILE")
	on(t, "preflight", "--cluster-name", "shop").want(t, codeFailed, "--cluster-name is for --aws")
	on(t, "preflight", "--aws", "--from", "x.tgz").want(t, codeFailed, "not for a snapshot")
}
