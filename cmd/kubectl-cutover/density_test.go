// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/density"
	"github.com/cni-cutover/cni-cutover/internal/awsaccount"
)

func TestInstanceTypesNeedNoCluster(t *testing.T) {
	plugin(t, "", "density", "--instance-type", "m5.xlarge,t3.medium").want(t, codeClean, "m5.xlarge", "58", "t3.medium", "17", "maxPodsExpression")
	o := plugin(t, "", "density", "--instance-type", "t3.small,t3.medium,t3.large,m5.4xlarge", "-o", "json").want(t, codeClean)
	var r density.Report
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatal(err)
	}
	known := map[string]int{"t3.small": 11, "t3.medium": 17, "t3.large": 35, "m5.4xlarge": 234}
	for _, n := range r.Nodes {
		if n.Now != known[n.Type] || n.Formula != known[n.Type] {
			t.Errorf("%s: %d pods now, formula %d, want %d", n.Type, n.Now, n.Formula, known[n.Type])
		}
		delete(known, n.Type)
	}
	if len(known) > 0 {
		t.Errorf("nothing is said of %v", known)
	}
	plugin(t, "", "density", "--instance-type", "m5.16xlarge", "--prefix-delegation", "--vcpus", "64").want(t, codeClean, "250")
	plugin(t, "", "density", "--instance-type", "m99.large").want(t, codeUnsure, "Could not tell: m99.large", "With --aws EC2 is asked")
	for _, wrong := range [][]string{{"--max-pods", "0"}, {"--node-mask-size", "30"}, {"--instance-type", "m5.large", "--vcpus", "-1"}, {"--vcpus", "2"}, {"--overlay", "x"}, {"pods"}} {
		on(t, append([]string{"density"}, wrong...)...).want(t, codeFailed)
	}
}

// offered is an account whose region has these instance types.
func offered() *awsaccount.Account {
	kind := func(name, hypervisor string, vcpus, interfaces, addresses int) awsaccount.InstanceType {
		return awsaccount.InstanceType{Name: name, Hypervisor: hypervisor, VCPUs: vcpus, Addresses: addresses, Cards: []awsaccount.NetworkCard{{Interfaces: interfaces}}}
	}
	return &awsaccount.Account{InstanceTypes: []awsaccount.InstanceType{
		kind("t3.small", "nitro", 2, 3, 4), kind("t3.medium", "nitro", 2, 3, 6), kind("t3.large", "nitro", 2, 3, 12), kind("m5.4xlarge", "nitro", 16, 8, 30),
		kind("m99.16xlarge", "nitro", 64, 15, 50), kind("m5.large", "nitro", 2, 4, 10),
	}}
}

func TestEC2IsAskedAboutInstanceTypes(t *testing.T) {
	account(t, offered())
	o := plugin(t, "", "density", "--aws", "--instance-type", "t3.small,t3.medium,t3.large,m5.4xlarge,m99.16xlarge", "-o", "json").want(t, codeClean)
	var r density.Report
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, n := range r.Nodes {
		got[n.Type] = n.Now
	}
	if diff := cmp.Diff(map[string]int{"t3.small": 11, "t3.medium": 17, "t3.large": 35, "m5.4xlarge": 234, "m99.16xlarge": 737}, got); diff != "" || r.EC2.Region != awsaccount.Region {
		t.Errorf("pods now, as %+v says (-want +got):\n%s", r.EC2, diff)
	}
	plugin(t, "", "density", "--aws", "--instance-type", "m99.16xlarge", "--prefix-delegation").want(t, codeClean, "m99.16xlarge  15          50              250")
	plugin(t, "", "density", "--aws", "--instance-type", "t3.small,m99.none").want(t, codeUnsure, "t3.small  3           4               11", "Could not tell: m99.none: neither EC2 in eu-central-1 nor")
	plugin(t, "", "density", "--aws", "--instance-type", "m5.large").want(t, codeClean, "38", "m5.large: EC2 has 4 interfaces with 10 addresses each, amazon-vpc-cni-k8s v1.23.2 3 with 10: EC2's are used.")

	denied := offered()
	denied.Meddle(func(r awsaccount.Request) awsaccount.Fate { return awsaccount.Denied(r.Action) })
	account(t, denied)
	plugin(t, "", "density", "--aws", "--instance-type", "t3.small").want(t, codeUnsure, "t3.small  3           4               11", "Could not tell what EC2 says: IAM does not allow ec2:DescribeInstanceTypes in eu-central-1")
	t.Setenv("AWS_REGION", "")
	plugin(t, "", "density", "--aws", "--instance-type", "t3.small").want(t, codeFailed, "finding the region", "AWS_REGION")
}

// awsNode is the VPC CNI's DaemonSet, on no node.
func awsNode() *appsv1.DaemonSet {
	labels := map[string]string{"k8s-app": "aws-node"}
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "aws-node"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					NodeSelector: map[string]string{"no": "node"},
					Containers:   []corev1.Container{{Name: "aws-node", Image: "none", Env: []corev1.EnvVar{{Name: "WARM_ENI_TARGET", Value: "1"}}}},
				},
			},
		},
	}
}

func TestTheClusterIsCounted(t *testing.T) {
	w := newWorld(t)
	node := func(name, kind, group string) *corev1.Node {
		room := corev1.ResourceList{corev1.ResourcePods: resource.MustParse("17"), corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("4Gi")}
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelInstanceTypeStable: kind, "eks.amazonaws.com/nodegroup": group}},
			Status:     corev1.NodeStatus{Capacity: room, Allocatable: room, NodeInfo: corev1.NodeSystemInfo{OSImage: "Amazon Linux 2023.9"}},
		}
	}
	pod := func(i int, node, ip string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("pod-%d", i)},
			Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "none", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m")}}}}},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}},
		}
	}
	w.make(awsNode(), node("old", "t3.medium", "workers"), node("new", "t3.medium", "workers"))
	w.make(pod(1, "old", "10.0.1.20"), pod(2, "old", "10.0.1.21"), pod(3, "new", "10.250.1.20"))
	w.make(newCutover(nil)) // its overlay is 10.250.0.0/16 with slices of /25
	o := on(t, "density", "-o", "json").want(t, codeClean)
	var r density.Report
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatal(err)
	}
	c := r.Cluster
	if c.Nodes != 2 || c.Pods != 3 || c.Now != 34 || c.AsIs != 34 || c.After != 80 || c.AfterBy != density.ByCPU || c.InUse != 2 || c.Held != 11 || r.Target.NodeMaskSize != 25 {
		t.Errorf("%+v", r)
	}
	on(t, "density", "-o", "wide").want(t, codeClean, "old", "new", "2 in use, about 11 with the warm pool", "AL2023:", "managed node group:")
	w.make(node("odd", "m99.large", "odd"))
	on(t, "density").want(t, codeUnsure, "Could not tell: m99.large")

	knows := offered()
	knows.InstanceTypes[4].Name = "m99.large"
	account(t, knows)
	t.Setenv("AWS_REGION", "us-east-1") // where this account is not: the nodes' region is asked
	region := node("elsewhere", "t3.small", "odd")
	region.Labels[corev1.LabelTopologyRegion] = awsaccount.Region
	w.make(region)
	on(t, "density", "--aws", "-o", "wide").want(t, codeClean, "737", "t3.small")
}
