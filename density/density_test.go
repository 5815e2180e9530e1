// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package density

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/internal/golden"
)

// TestKnownAnswers: AWS's own figures (amazon-vpc-cni-k8s, misc/eni-max-pods.txt) and its calculator's with prefixes.
func TestKnownAnswers(t *testing.T) {
	prefixes, custom := VPCCNI{PrefixDelegation: true}, VPCCNI{CustomNetworking: true}
	both := VPCCNI{PrefixDelegation: true, CustomNetworking: true}
	for _, c := range []struct {
		name  string
		cni   VPCCNI
		vcpus int
		want  int
	}{
		{"t3.small", VPCCNI{}, 0, 11},
		{"t3.medium", VPCCNI{}, 0, 17},
		{"t3.large", VPCCNI{}, 0, 35},
		{"m5.large", VPCCNI{}, 0, 29},
		{"m5.xlarge", VPCCNI{}, 0, 58},
		{"m5.4xlarge", VPCCNI{}, 16, 234},
		{"c5.18xlarge", VPCCNI{}, 72, 737},
		{"p5.48xlarge", VPCCNI{}, 192, 100}, // 64 interfaces, but two on the default card
		{"t3.medium", prefixes, 2, 110},
		{"t3.nano", prefixes, 2, 34},
		{"c5.18xlarge", prefixes, 72, 250},
		{"m5.8xlarge", prefixes, 32, 250},
		{"m5.large", custom, 2, 20},
		{"t3.nano", both, 2, 18},
	} {
		t.Run(fmt.Sprintf("%s %+v", c.name, c.cni), func(t *testing.T) {
			l, known := LimitsOf(c.name)
			if !known {
				t.Fatal("not in the table")
			}
			if got := c.cni.Pods(l, c.vcpus); got != c.want {
				t.Errorf("%d pods with %+v, want %d", got, l, c.want)
			}
		})
	}
}

func TestTheTableIsWhole(t *testing.T) {
	known := 0
	last := ""
	for line := range strings.Lines(instances) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, _, _ := strings.Cut(line, ",")
		if name <= last {
			t.Errorf("%s comes after %s: the table is not as it was generated", name, last)
		}
		last = name
		if l, ok := LimitsOf(name); !ok || l.Interfaces < 1 || l.Addresses < 2 {
			t.Errorf("%s: %+v, %t", name, l, ok)
		}
		known++
	}
	if known < 1391 {
		t.Errorf("%d instance types, want at least the 1391 of amazon-vpc-cni-k8s v1.23.2", known)
	}
	for _, name := range []string{"", "#", "m5", "5.large", "m5.hugest", "zz.large", "# instance type", "m5.large,3", "\n"} {
		if l, ok := LimitsOf(name); ok {
			t.Errorf("%q has %+v", name, l)
		}
	}
}

func TestAddressesHeld(t *testing.T) {
	medium := Limits{Interfaces: 3, Addresses: 6} // t3.medium: 15 addresses for pods
	for name, c := range map[string]struct {
		cni  VPCCNI
		pods int
		want int
	}{
		"one interface is in stock, though no pod runs":       {Defaults(), 0, 5},
		"the first pod brings the second interface":           {Defaults(), 1, 11},
		"a full interface leaves one in stock":                {Defaults(), 5, 11},
		"no more than the instance has":                       {Defaults(), 14, 17},
		"single addresses in stock":                           {VPCCNI{WarmAddresses: 2, WarmInterfaces: 1}, 4, 7},
		"a minimum of addresses":                              {VPCCNI{MinAddresses: 10, WarmInterfaces: 1}, 1, 11},
		"custom networking leaves the first interface to one": {VPCCNI{CustomNetworking: true}, 5, 6},
		"a prefix in stock":                                   {VPCCNI{PrefixDelegation: true, WarmPrefixes: 1}, 17, 48},
		"prefixes for a minimum of addresses":                 {VPCCNI{PrefixDelegation: true, MinAddresses: 33}, 1, 48},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.cni.Held(medium, c.pods); got != c.want {
				t.Errorf("%d addresses, want %d", got, c.want)
			}
		})
	}
	if got := Defaults().Held(Limits{}, 7); got != 7 {
		t.Errorf("without limits %d addresses, want those of the pods", got)
	}
}

func TestASliceHasRoomForItsPods(t *testing.T) {
	for mask, want := range map[int]int{24: 252, 26: 60, 30: 0, 31: 0, 32: 0, -1: 0} {
		if got := SlicePods(mask); got != want {
			t.Errorf("/%d: %d pods, want %d", mask, got, want)
		}
	}
}

// node is a t3.medium of which its pods take half.
func node(change func(*Node)) Node {
	n := Node{
		Name: "a", Type: "t3.medium", Group: "workers", VCPUs: 2, MaxPods: 17, CPU: 1930, Memory: 3 << 30,
		CPURequests: 900, MemoryRequests: 1 << 30, VPCPods: 8, HostPods: 2,
	}
	if change != nil {
		change(&n)
	}
	return n
}

func TestWhatBoundsANode(t *testing.T) {
	type answer struct {
		Now, AsIs, After       int
		NowBy, AsIsBy, AfterBy Bound
	}
	for name, c := range map[string]struct {
		change func(*Node)
		cni    VPCCNI
		target Target
		want   answer
	}{
		"requests, once maxPods is raised": {
			nil, Defaults(), Target{110, 24},
			answer{17, 17, 20, ByMaxPods, ByMaxPods, ByMemory}, // 3072 MiB less 93 × 11 MiB, by 102.4 MiB a pod
		},
		"CPU, where it is scarcer": {
			func(n *Node) { n.CPURequests = 1800 }, Defaults(), Target{110, 24},
			answer{17, 10, 10, ByMaxPods, ByCPU, ByCPU},
		},
		"maxPods, of pods that request nothing": {
			func(n *Node) { n.CPURequests, n.MemoryRequests = 0, 0 }, Defaults(), Target{110, 24},
			answer{17, 17, 110, ByMaxPods, ByMaxPods, ByMaxPods},
		},
		"the slice, where it is small": {
			func(n *Node) { n.CPURequests, n.MemoryRequests = 0, 0 }, Defaults(), Target{110, 27},
			answer{17, 17, 30, ByMaxPods, ByMaxPods, BySlice}, // 28 and two on the host network
		},
		"interfaces, where the kubelet admits more than they carry": {
			func(n *Node) { n.MaxPods = 110; n.CPURequests, n.MemoryRequests = 0, 0 }, Defaults(), Target{110, 24},
			answer{17, 110, 110, ByInterfaces, ByMaxPods, ByMaxPods},
		},
		"no room is gained where prefixes gave it": {
			func(n *Node) { n.MaxPods = 110; n.CPURequests, n.MemoryRequests = 0, 0 }, VPCCNI{PrefixDelegation: true}, Target{110, 24},
			answer{110, 110, 110, ByMaxPods, ByMaxPods, ByMaxPods},
		},
		"a node that has moved": {
			func(n *Node) { n.VPCPods, n.OverlayPods, n.CPURequests, n.MemoryRequests = 0, 8, 0, 0 }, Defaults(), Target{110, 24},
			answer{17, 17, 110, ByMaxPods, ByMaxPods, ByMaxPods},
		},
		"an instance type that is not known": {
			func(n *Node) { n.Type = "m99.large"; n.CPURequests, n.MemoryRequests = 0, 0 }, Defaults(), Target{110, 24},
			answer{17, 17, 110, ByMaxPods, ByMaxPods, ByMaxPods},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := Judge([]Node{node(c.change)}, EC2{}, c.cni, c.target).Nodes[0]
			got := answer{r.Now, r.AsIs, r.After, r.NowBy, r.AsIsBy, r.AfterBy}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestEC2GoesBeforeTheTable, type by type.
func TestEC2GoesBeforeTheTable(t *testing.T) {
	says := func(name string, is InstanceType) EC2 {
		return EC2{Region: "eu-central-1", Types: map[string]InstanceType{name: is}}
	}
	prefixes := VPCCNI{PrefixDelegation: true}
	for name, c := range map[string]struct {
		ec2     EC2
		cni     VPCCNI
		kind    string
		formula int // 0: the type is not known
		differs bool
	}{
		"both agree":                       {says("t3.medium", InstanceType{Limits{3, 6}, 2, true}), Defaults(), "t3.medium", 17, false},
		"both know it and differ":          {says("t3.medium", InstanceType{Limits{4, 6}, 2, true}), Defaults(), "t3.medium", 22, true},
		"EC2 alone knows it":               {says("m99.large", InstanceType{Limits{3, 10}, 2, true}), Defaults(), "m99.large", 29, false},
		"the table alone knows it":         {says("m99.large", InstanceType{Limits{3, 10}, 2, true}), Defaults(), "t3.medium", 17, false},
		"nobody knows it":                  {says("t3.medium", InstanceType{Limits{3, 6}, 2, true}), Defaults(), "m99.large", 0, false},
		"EC2 was not allowed to say":       {EC2{Region: "eu-central-1", Refused: "ec2:DescribeInstanceTypes"}, Defaults(), "t3.medium", 17, false},
		"prefixes, by EC2's vCPUs":         {says("m99.large", InstanceType{Limits{15, 50}, 30, true}), prefixes, "m99.large", 250, false},
		"no prefixes on what is not Nitro": {says("t2.micro", InstanceType{Limits{2, 2}, 1, false}), prefixes, "t2.micro", 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := Offline([]string{c.kind}, 0, c.ec2, c.cni, Target{110, 24})
			got := 0
			for _, n := range r.Nodes {
				got = n.Formula
			}
			if got != c.formula || (len(r.Unknown) == 0) != (c.formula > 0) || (len(r.Differences) > 0) != c.differs {
				t.Errorf("%d pods, unknown %q, differences %+v", got, r.Unknown, r.Differences)
			}
		})
	}
}

func TestAnUnknownTypeIsNamedAndNotGuessed(t *testing.T) {
	r := Judge([]Node{node(func(n *Node) { n.Type = "m99.large" }), node(func(n *Node) { n.Name, n.Type = "b", "" })}, EC2{}, Defaults(), Target{110, 24})
	if want := []string{"(no instance type: b)", "m99.large"}; !slices.Equal(r.Unknown, want) {
		t.Errorf("unknown: %q, want %q", r.Unknown, want)
	}
	if n := r.Nodes[0]; n.Formula != 0 || n.Held != n.VPCPods {
		t.Errorf("something was made up: %+v", n)
	}
	moved := Judge([]Node{node(func(n *Node) { n.Type, n.VPCPods, n.OverlayPods = "m99.large", 0, 3 })}, EC2{}, Defaults(), Target{110, 24})
	if len(moved.Unknown) != 0 {
		t.Errorf("a node that has moved needs no interfaces to be judged: %q", moved.Unknown)
	}
}

func TestGroupsAndTheClusterAreSums(t *testing.T) {
	r := Judge([]Node{
		node(nil), node(func(n *Node) { n.Name = "b" }),
		node(func(n *Node) { n.Name, n.Group, n.Type, n.MaxPods = "c", "big", "m5.4xlarge", 234 }),
		// Without pods of its own a group's pods are taken for those of the cluster.
		node(func(n *Node) {
			n.Name, n.Group, n.VPCPods, n.HostPods, n.CPURequests, n.MemoryRequests = "d", "idle", 0, 0, 0, 0
		}),
	}, EC2{}, Defaults(), Target{110, 24})
	var nodes, pods, now, after, held int
	for _, g := range r.Groups {
		nodes, pods, now, after, held = nodes+g.Nodes, pods+g.Pods, now+g.Now, after+g.After, held+g.Held
	}
	c := r.Cluster
	if len(r.Groups) != 3 || nodes != 4 || c.Nodes != 4 || pods != 30 || c.Pods != 30 || now != c.Now || after != c.After || held != c.Held || c.Now != 17*3+234 {
		t.Errorf("groups %+v and cluster %+v", r.Groups, c)
	}
	if idle := r.Groups[1]; idle.Group != "idle" || idle.AfterBy != ByMemory {
		t.Errorf("the idle group is not judged by the cluster's pods: %+v", idle)
	}
}

func quantities(cpu, memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}}
}

func TestTheInventoryCountsWhatIsThere(t *testing.T) {
	v := NewInventory([]netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")})
	v.AddNode(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{corev1.LabelInstanceTypeStable: "t3.large", "karpenter.sh/nodepool": "pool"}},
		Status: corev1.NodeStatus{
			NodeInfo:    corev1.NodeSystemInfo{OSImage: "Bottlerocket OS 1.40.0 (aws-k8s-1.33)"},
			Capacity:    corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")},
			Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("35"), corev1.ResourceCPU: resource.MustParse("1930m"), corev1.ResourceMemory: resource.MustParse("7Gi")},
		},
	})
	always := corev1.ContainerRestartPolicyAlways
	pod := func(node, ip string, change func(*corev1.Pod)) {
		p := &corev1.Pod{
			Spec:   corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Resources: quantities("100m", "100Mi")}}},
			Status: corev1.PodStatus{PodIP: ip},
		}
		if change != nil {
			change(p)
		}
		v.AddPod(p)
	}
	pod("n", "10.0.1.5", nil)
	pod("n", "", nil) // has no address yet
	pod("n", "10.244.3.7", func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Resources: quantities("50m", "50Mi"), RestartPolicy: &always}, {Resources: quantities("500m", "10Mi")}}
	})
	pod("n", "10.0.1.1", func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	pod("n", "10.0.1.6", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
	pod("", "", nil)
	pod("elsewhere", "10.0.1.7", nil)
	want := Node{
		Name: "n", Type: "t3.large", Group: "pool", VCPUs: 2, MaxPods: 35, CPU: 1930, Memory: 7 << 30,
		VPCPods: 2, OverlayPods: 1, HostPods: 1,
		CPURequests: 100 + 100 + 550 + 100, MemoryRequests: (100 + 100 + 150 + 100) << 20,
	}
	r := v.Report(EC2{}, Defaults(), Target{110, 24})
	if diff := cmp.Diff(want, r.Nodes[0].Node); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var families []Family
	for _, a := range r.Advice {
		families = append(families, a.Family)
	}
	if want := []Family{Bottlerocket, Karpenter}; !slices.Equal(families, want) {
		t.Errorf("advice for %q, want %q", families, want)
	}
}

func TestSettingsComeFromTheDaemonSet(t *testing.T) {
	ds := &appsv1.DaemonSet{}
	ds.Spec.Template.Spec.Containers = []corev1.Container{
		{Name: "other", Env: []corev1.EnvVar{{Name: "ENABLE_PREFIX_DELEGATION", Value: "false"}}},
		{Name: "aws-node", Env: []corev1.EnvVar{
			{Name: "ENABLE_PREFIX_DELEGATION", Value: "true"}, {Name: "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", Value: "true"},
			{Name: "WARM_ENI_TARGET", Value: "0"}, {Name: "WARM_IP_TARGET", Value: "3"}, {Name: "MINIMUM_IP_TARGET", Value: "-1"}, {Name: "WARM_PREFIX_TARGET", Value: "many"},
		}},
	}
	want := VPCCNI{PrefixDelegation: true, CustomNetworking: true, WarmAddresses: 3, WarmPrefixes: 1}
	if diff := cmp.Diff(want, SettingsOf(ds)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Defaults(), SettingsOf(&appsv1.DaemonSet{})); diff != "" {
		t.Errorf("without settings (-want +got):\n%s", diff)
	}
}

func TestReportsAreWritten(t *testing.T) {
	for name, write := range map[string]func(*strings.Builder) error{
		"offline.txt": func(b *strings.Builder) error {
			r := Offline([]string{"t3.small", "t3.medium", "m99.large", "m5.4xlarge"}, 0, EC2{}, Defaults(), Target{110, 24})
			return r.WriteOffline(b)
		},
		"offline-prefixes.txt": func(b *strings.Builder) error {
			r := Offline([]string{"m5.xlarge"}, 0, EC2{}, VPCCNI{PrefixDelegation: true}, Target{110, 24})
			return r.WriteOffline(b)
		},
		"offline-ec2.txt": func(b *strings.Builder) error {
			e := EC2{Region: "eu-central-1", Types: map[string]InstanceType{"t2.micro": {Limits{2, 2}, 1, false}, "m99.large": {Limits{3, 10}, 2, true}, "m5.xlarge": {Limits{5, 15}, 4, true}}}
			r := Offline([]string{"m99.large", "t2.micro", "m5.xlarge", "t3.small", "m99.none"}, 0, e, VPCCNI{PrefixDelegation: true}, Target{110, 24})
			return r.WriteOffline(b)
		},
		"offline-denied.txt": func(b *strings.Builder) error {
			r := Offline([]string{"t3.small", "m99.large"}, 0, EC2{Region: "eu-central-1", Refused: "ec2:DescribeInstanceTypes"}, Defaults(), Target{110, 24})
			return r.WriteOffline(b)
		},
		"cluster.txt": func(b *strings.Builder) error {
			r := Judge([]Node{
				node(nil), node(func(n *Node) { n.Name, n.VPCPods, n.OverlayPods = "b", 0, 8 }),
				node(func(n *Node) { n.Name, n.Group, n.Type, n.MaxPods = "c", "", "m99.large", 234 }),
			}, EC2{}, Defaults(), Target{110, 24}, AL2023)
			return r.Write(b, true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := write(&b); err != nil {
				t.Fatal(err)
			}
			golden.Match(t, filepath.Join("testdata", name), b.String())
		})
	}
}

// BenchmarkInventory counts and judges 5,000 nodes with ten pods each.
func BenchmarkInventory(b *testing.B) {
	room := corev1.ResourceList{corev1.ResourcePods: resource.MustParse("58"), corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("15Gi")}
	var nodes []corev1.Node
	var pods []corev1.Pod
	for i := range 5000 {
		name := fmt.Sprintf("node-%d", i)
		nodes = append(nodes, corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelInstanceTypeStable: "m5.xlarge", "eks.amazonaws.com/nodegroup": fmt.Sprintf("group-%d", i%20)}},
			Status:     corev1.NodeStatus{Capacity: room, Allocatable: room},
		})
		for range 10 {
			pods = append(pods, corev1.Pod{Spec: corev1.PodSpec{NodeName: name, Containers: []corev1.Container{{Resources: quantities("100m", "100Mi")}}}, Status: corev1.PodStatus{PodIP: "10.0.1.5"}})
		}
	}
	for b.Loop() {
		v := NewInventory([]netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")})
		for i := range nodes {
			v.AddNode(&nodes[i])
		}
		for i := range pods {
			v.AddPod(&pods[i])
		}
		if r := v.Report(EC2{}, Defaults(), Target{110, 24}); r.Cluster.Pods != 50000 {
			b.Fatalf("%d pods", r.Cluster.Pods)
		}
	}
}
