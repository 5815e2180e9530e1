// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bufio"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	scalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	ekstypes "github.com/aws/aws-sdk-go-v2/service/eks/types"
	balancing "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	balancingtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/cni-cutover/cni-cutover/internal/awsaccount"
	"github.com/cni-cutover/cni-cutover/preflight"
)

// moto starts moto's server on loopback, at a port that it chooses, until the test ends.
func moto(t *testing.T) *url.URL {
	t.Helper()
	program, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("there is no moto_server on PATH (pip install 'moto[server]' 5.2): whether our own account answers as moto does was not tried")
	}
	runtime.LockOSThread() // Pdeathsig is about the thread that forked
	t.Cleanup(runtime.UnlockOSThread)
	cmd := exec.Command(program, "--host", "127.0.0.1", "--port", "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting moto_server: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	silence := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() }) // ends the reading below
	defer silence.Stop()
	var said strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if m := regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`).FindStringSubmatch(lines.Text()); m != nil {
			go func() {
				for lines.Scan() { // or it would wait for a reader of its log
				}
			}()
			at, err := url.Parse(m[1])
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
	}
	t.Fatalf("moto_server ended, or did not say in 2 minutes where it listens:\n%s", said.String())
	return nil
}

// must is what a call gave.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// world makes a cluster in an account by AWS' API, and in ours beside it.
type world struct {
	t         *testing.T
	ec2       *ec2.Client
	eks       *eks.Client
	scaling   *autoscaling.Client
	balancing *balancing.Client
	ours      *awsaccount.Account
	// what others refer to
	vpc, group string
	subnets    []string
}

func (w *world) network() {
	t, ctx := w.t, w.t.Context()
	vpc := must(w.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: sdk.String("10.0.0.0/16")}))(t).Vpc
	w.vpc = *vpc.VpcId
	must(w.ec2.AssociateVpcCidrBlock(ctx, &ec2.AssociateVpcCidrBlockInput{VpcId: vpc.VpcId, CidrBlock: sdk.String("100.64.0.0/16")}))(t)
	other := must(w.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: sdk.String("10.5.0.0/16")}))(t).Vpc
	peering := must(w.ec2.CreateVpcPeeringConnection(ctx, &ec2.CreateVpcPeeringConnectionInput{VpcId: vpc.VpcId, PeerVpcId: other.VpcId}))(t).VpcPeeringConnection
	table := must(w.ec2.CreateRouteTable(ctx, &ec2.CreateRouteTableInput{VpcId: vpc.VpcId}))(t).RouteTable
	must(w.ec2.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: table.RouteTableId, DestinationCidrBlock: sdk.String("10.5.0.0/16"), VpcPeeringConnectionId: peering.VpcPeeringConnectionId}))(t)
	for i, zone := range []string{"eu-central-1a", "eu-central-1b"} {
		block := []string{"10.0.1.0/24", "10.0.2.0/24"}[i]
		s := must(w.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.VpcId, CidrBlock: &block, AvailabilityZone: &zone}))(t).Subnet
		w.subnets = append(w.subnets, *s.SubnetId)
	}
	w.group = *must(w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{VpcId: vpc.VpcId, GroupName: sdk.String("nodes"), Description: sdk.String("nodes")}))(t).GroupId
	must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &w.group, IpPermissions: []ec2types.IpPermission{
		{IpProtocol: sdk.String("-1"), UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: &w.group}}},
		{IpProtocol: sdk.String("udp"), FromPort: sdk.Int32(8472), ToPort: sdk.Int32(8472), IpRanges: []ec2types.IpRange{{CidrIp: sdk.String("10.0.0.0/16")}}},
	}}))(t)
	w.ours.VPCs = []awsaccount.VPC{{ID: w.vpc, Networks: []awsaccount.Association{{Network: "10.0.0.0/16", State: "associated"}, {Network: "100.64.0.0/16", State: "associated"}}}}
	w.ours.RouteTables = []awsaccount.RouteTable{{VPC: w.vpc, Routes: []awsaccount.Route{{Network: "10.0.0.0/16", Gateway: "local"}, {Network: "10.5.0.0/16", Peering: *peering.VpcPeeringConnectionId}}}}
	w.ours.Rules = []awsaccount.Rule{
		{Group: w.group, Egress: true, Protocol: "-1", From: -1, To: -1, Network: "0.0.0.0/0"},
		{Group: w.group, Protocol: "-1", From: -1, To: -1, Referenced: &awsaccount.GroupIdentifier{ID: w.group}},
		{Group: w.group, Protocol: "udp", From: 8472, To: 8472, Network: "10.0.0.0/16"},
	}
}

// nodes makes instances by a launch template and an autoscaling group, and one by hand with a second address.
func (w *world) nodes() []string {
	t, ctx := w.t, w.t.Context()
	data := base64.StdEncoding.EncodeToString([]byte(mimeOfNodes))
	template := must(w.ec2.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: sdk.String("nodes"), LaunchTemplateData: &ec2types.RequestLaunchTemplateData{
		ImageId: sdk.String("ami-12c6146b"), InstanceType: ec2types.InstanceTypeM5Large, UserData: &data, SecurityGroupIds: []string{w.group},
		MetadataOptions: &ec2types.LaunchTemplateInstanceMetadataOptionsRequest{HttpPutResponseHopLimit: sdk.Int32(1), HttpTokens: ec2types.LaunchTemplateHttpTokensStateRequired},
	}}))(t).LaunchTemplate
	id := template.LaunchTemplateId
	must(w.scaling.CreateAutoScalingGroup(ctx, &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: sdk.String("own"), MinSize: sdk.Int32(0), MaxSize: sdk.Int32(3), DesiredCapacity: sdk.Int32(1),
		VPCZoneIdentifier: sdk.String(strings.Join(w.subnets, ",")), LaunchTemplate: &scalingtypes.LaunchTemplateSpecification{LaunchTemplateId: id, Version: sdk.String("$Latest")},
	}))(t)
	must(w.scaling.SuspendProcesses(ctx, &autoscaling.SuspendProcessesInput{AutoScalingGroupName: sdk.String("own"), ScalingProcesses: []string{"Launch", "AZRebalance"}}))(t)
	w.ours.Templates = []awsaccount.Template{{ID: *id, Number: 1, Default: true, Data: awsaccount.TemplateData{Metadata: &awsaccount.MetadataOptions{HopLimit: 1}, Groups: []string{w.group}, UserData: data}}}
	w.ours.ScalingGroups = []awsaccount.ScalingGroup{{
		Name: "own", Max: 3, Desired: 1, Zones: []string{"eu-central-1a", "eu-central-1b"}, Suspended: []awsaccount.SuspendedProcess{{Name: "Launch"}, {Name: "AZRebalance"}},
		Template: &awsaccount.TemplateSpec{ID: *id, Version: "$Latest"},
	}}
	must(w.ec2.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: sdk.String("ami-12c6146b"), InstanceType: ec2types.InstanceTypeM5Large, MinCount: sdk.Int32(1), MaxCount: sdk.Int32(1), SubnetId: &w.subnets[0], SecurityGroupIds: []string{w.group},
		MetadataOptions:   &ec2types.InstanceMetadataOptionsRequest{HttpPutResponseHopLimit: sdk.Int32(2), HttpEndpoint: ec2types.InstanceMetadataEndpointStateEnabled},
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeInstance, Tags: []ec2types.Tag{{Key: sdk.String("kubernetes.io/cluster/shop"), Value: sdk.String("owned")}}}},
	}))(t)
	var ids []string
	for _, r := range must(w.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{}))(t).Reservations {
		for _, i := range r.Instances {
			ids = append(ids, *i.InstanceId)
			w.ours.Instances = append(w.ours.Instances, copied(&i))
		}
	}
	if len(ids) != 2 {
		t.Fatalf("%d instances, want 2", len(ids))
	}
	return ids
}

// copied is an instance of ours like one of the other account's: these have ids and addresses that only that account knows.
func copied(from *ec2types.Instance) awsaccount.Instance {
	out := awsaccount.Instance{ID: *from.InstanceId, VPC: *from.VpcId, Address: *from.PrivateIpAddress}
	if m := from.MetadataOptions; m != nil {
		out.Metadata = &awsaccount.MetadataOptions{Endpoint: string(m.HttpEndpoint), HopLimit: int(sdk.ToInt32(m.HttpPutResponseHopLimit))}
	}
	for _, g := range from.SecurityGroups {
		out.Groups = append(out.Groups, group(*g.GroupId)...)
	}
	for _, tag := range from.Tags {
		out.Tags = append(out.Tags, awsaccount.Tag{Key: *tag.Key, Value: *tag.Value})
	}
	for _, n := range from.NetworkInterfaces {
		i := awsaccount.Interface{Device: int(sdk.ToInt32(n.Attachment.DeviceIndex)), Groups: out.Groups}
		for _, a := range n.PrivateIpAddresses {
			i.Addresses = append(i.Addresses, awsaccount.PrivateAddress{Address: *a.PrivateIpAddress, Primary: sdk.ToBool(a.Primary)})
		}
		out.Interfaces = append(out.Interfaces, i)
	}
	return out
}

func (w *world) cluster() {
	t, ctx := w.t, w.t.Context()
	role := sdk.String("arn:aws:iam::" + awsaccount.Number + ":role/eks")
	c := must(w.eks.CreateCluster(ctx, &eks.CreateClusterInput{Name: sdk.String("shop"), RoleArn: role, ResourcesVpcConfig: &ekstypes.VpcConfigRequest{SubnetIds: w.subnets, SecurityGroupIds: []string{w.group}}}))(t).Cluster
	n := must(w.eks.CreateNodegroup(ctx, &eks.CreateNodegroupInput{
		ClusterName: sdk.String("shop"), NodegroupName: sdk.String("blue"), NodeRole: role, Subnets: w.subnets, Labels: map[string]string{"team": "shop"},
		Taints: []ekstypes.Taint{{Key: sdk.String("node.cilium.io/agent-not-ready"), Value: sdk.String("true"), Effect: ekstypes.TaintEffectNoExecute}},
	}))(t).Nodegroup
	w.ours.Clusters = []awsaccount.Cluster{{Name: "shop", Endpoint: *c.Endpoint, VPC: awsaccount.ClusterVPC{VPC: sdk.ToString(c.ResourcesVpcConfig.VpcId), ClusterGroup: sdk.ToString(c.ResourcesVpcConfig.ClusterSecurityGroupId), Groups: c.ResourcesVpcConfig.SecurityGroupIds}}}
	g := awsaccount.NodeGroup{Cluster: "shop", Name: "blue", Status: string(n.Status), Labels: n.Labels, Taints: []awsaccount.Taint{{Key: "node.cilium.io/agent-not-ready", Value: "true", Effect: "NO_EXECUTE"}}}
	for _, a := range n.Resources.AutoScalingGroups {
		g.ScalingGroups = append(g.ScalingGroups, *a.Name)
	}
	w.ours.NodeGroups = []awsaccount.NodeGroup{g}
}

func (w *world) targets(ids []string) {
	t, ctx := w.t, w.t.Context()
	l := must(w.balancing.CreateLoadBalancer(ctx, &balancing.CreateLoadBalancerInput{Name: sdk.String("web"), Type: balancingtypes.LoadBalancerTypeEnumApplication, Subnets: w.subnets, SecurityGroups: []string{w.group}}))(t).LoadBalancers[0]
	w.ours.LoadBalancers = []awsaccount.LoadBalancer{{ARN: *l.LoadBalancerArn, Name: "web", Type: "application", Groups: []string{w.group}}}
	for _, kind := range []balancingtypes.TargetTypeEnum{balancingtypes.TargetTypeEnumInstance, balancingtypes.TargetTypeEnumIp} {
		g := must(w.balancing.CreateTargetGroup(ctx, &balancing.CreateTargetGroupInput{Name: sdk.String("k8s-" + string(kind)), TargetType: kind, Protocol: balancingtypes.ProtocolEnumHttp, Port: sdk.Int32(80), VpcId: &w.vpc}))(t).TargetGroups[0]
		target := awsaccount.TargetHealth{ID: ids[0], Port: 31234, States: []string{"healthy"}}
		if kind == balancingtypes.TargetTypeEnumIp {
			target.ID, target.Port = w.ours.Instances[1].Address, 8080
		}
		must(w.balancing.RegisterTargets(ctx, &balancing.RegisterTargetsInput{TargetGroupArn: g.TargetGroupArn, Targets: []balancingtypes.TargetDescription{{Id: &target.ID, Port: sdk.Int32(int32(target.Port))}}}))(t)
		ours := awsaccount.TargetGroup{ARN: *g.TargetGroupArn, Type: string(kind), Protocol: "HTTP", VPC: w.vpc, Targets: []awsaccount.TargetHealth{target}}
		if kind == balancingtypes.TargetTypeEnumInstance {
			must(w.balancing.CreateListener(ctx, &balancing.CreateListenerInput{LoadBalancerArn: l.LoadBalancerArn, Port: sdk.Int32(80), Protocol: balancingtypes.ProtocolEnumHttp,
				DefaultActions: []balancingtypes.Action{{Type: balancingtypes.ActionTypeEnumForward, TargetGroupArn: g.TargetGroupArn}}}))(t)
			ours.LoadBalancers = []string{*l.LoadBalancerArn}
		}
		w.ours.TargetGroups = append(w.ours.TargetGroups, ours)
	}
}

// TestOurAccountAnswersAsMotoDoes: the same cluster in both gives the same snapshot. Moto has no add-ons; those it is asked for
// are answered by ours.
func TestOurAccountAnswersAsMotoDoes(t *testing.T) {
	at := moto(t)
	ours := &awsaccount.Account{}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(at); r.Out.Host = r.In.Host }}
	both := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/addons/") {
			ours.ServeHTTP(w, r)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(both.Close)
	config := awsaccount.Config(both.URL)
	w := &world{t: t, ours: ours, ec2: ec2.NewFromConfig(config), eks: eks.NewFromConfig(config), scaling: autoscaling.NewFromConfig(config), balancing: balancing.NewFromConfig(config)}
	w.network()
	ids := w.nodes()
	w.cluster()
	w.targets(ids)

	gather := func(config sdk.Config) *preflight.AWS {
		s := &preflight.Snapshot{}
		for i, id := range ids {
			n := preflight.Node{Name: string(rune('a' + i))}
			n.ProviderID = "aws:///eu-central-1a/" + id
			s.Nodes = append(s.Nodes, n)
		}
		if err := Account(t.Context(), config, "shop", s, func(string) {}); err != nil {
			t.Fatal(err)
		}
		return s.AWS
	}
	theirs := gather(config)
	if diff := cmp.Diff(asJSON(t, theirs), asJSON(t, gather(ours.Start(t)))); diff != "" {
		t.Errorf("(-moto +ours):\n%s", diff)
	}
	if len(theirs.Instances) != 2 || len(theirs.Templates) != 1 || len(theirs.TargetGroups) != 2 || len(theirs.Routes) != 1 || len(theirs.SecurityGroups) == 0 || theirs.SecurityGroups[0].Rules == nil {
		t.Errorf("too little was read for this to prove anything:\n%s", asJSON(t, theirs))
	}
}
