// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package density

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// Inventory gathers nodes from the objects of a cluster, page by page, so that no list has to be held whole.
type Inventory struct {
	overlay  []netip.Prefix
	nodes    []Node
	at       map[string]int // index in nodes
	families map[Family]bool
}

// NewInventory is empty. Pods with an address in one of the overlay's networks count as pods of the overlay.
func NewInventory(overlay []netip.Prefix) *Inventory {
	return &Inventory{overlay: overlay, at: map[string]int{}, families: map[Family]bool{}}
}

// AddNode takes a Node; nodes come before their pods.
func (v *Inventory) AddNode(n *corev1.Node) {
	allocatable := n.Status.Allocatable
	out := Node{
		Name: n.Name, Type: n.Labels[corev1.LabelInstanceTypeStable], VCPUs: int(n.Status.Capacity.Cpu().Value()),
		MaxPods: int(allocatable.Pods().Value()), CPU: allocatable.Cpu().MilliValue(), Memory: allocatable.Memory().Value(),
	}
	switch {
	case n.Labels["eks.amazonaws.com/nodegroup"] != "":
		out.Group, v.families[ManagedGroup] = n.Labels["eks.amazonaws.com/nodegroup"], true
	case n.Labels["karpenter.sh/nodepool"] != "":
		out.Group, v.families[Karpenter] = n.Labels["karpenter.sh/nodepool"], true
	default:
		out.Group = n.Labels["alpha.eksctl.io/nodegroup-name"]
	}
	switch image := n.Status.NodeInfo.OSImage; {
	case strings.HasPrefix(image, "Bottlerocket"):
		v.families[Bottlerocket] = true
	case strings.HasPrefix(image, "Amazon Linux 2023"):
		v.families[AL2023] = true
	}
	v.at[n.Name] = len(v.nodes)
	v.nodes = append(v.nodes, out)
}

// AddPod takes a Pod. One that has ended, or that is on no node that is known, holds nothing.
func (v *Inventory) AddPod(p *corev1.Pod) {
	i, known := v.at[p.Spec.NodeName]
	if !known || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return
	}
	n := &v.nodes[i]
	switch {
	case p.Spec.HostNetwork:
		n.HostPods++
	case v.inOverlay(p.Status.PodIP):
		n.OverlayPods++
	default: // one that has no address yet will get one of the CNI that its node has
		n.VPCPods++
	}
	cpu, memory := requests(&p.Spec)
	n.CPURequests += cpu
	n.MemoryRequests += memory
}

func (v *Inventory) inOverlay(ip string) bool {
	a, err := netip.ParseAddr(ip)
	return err == nil && slices.ContainsFunc(v.overlay, func(p netip.Prefix) bool { return p.Contains(a) })
}

// requests are what the scheduler reserves for a pod: the sum of its containers and of the sidecars among its init
// containers, or the largest of what runs before them, and the overhead (k8s.io/component-helpers/resource, PodRequests).
func requests(spec *corev1.PodSpec) (cpu, memory int64) {
	var initCPU, initMemory int64
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		wantCPU, wantMemory := c.Resources.Requests.Cpu().MilliValue(), c.Resources.Requests.Memory().Value()
		initCPU, initMemory = max(initCPU, cpu+wantCPU), max(initMemory, memory+wantMemory)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			cpu, memory = cpu+wantCPU, memory+wantMemory
		}
	}
	for i := range spec.Containers {
		want := spec.Containers[i].Resources.Requests
		cpu, memory = cpu+want.Cpu().MilliValue(), memory+want.Memory().Value()
	}
	cpu, memory = max(cpu, initCPU), max(memory, initMemory)
	return cpu + spec.Overhead.Cpu().MilliValue(), memory + spec.Overhead.Memory().Value()
}

// Types are the instance types of the nodes.
func (v *Inventory) Types() []string {
	var out []string
	for i := range v.nodes {
		if name := v.nodes[i].Type; name != "" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Report judges what was gathered.
func (v *Inventory) Report(e EC2, c VPCCNI, t Target) Report {
	var families []Family
	for _, f := range Families() {
		if v.families[f] {
			families = append(families, f)
		}
	}
	if len(families) == 0 {
		families = Families()
	}
	return Judge(v.nodes, e, c, t, families...)
}

// SettingsOf reads the VPC CNI's settings from its DaemonSet. What is not a plain value there counts as not set.
func SettingsOf(ds *appsv1.DaemonSet) VPCCNI {
	env := map[string]string{}
	for _, c := range ds.Spec.Template.Spec.Containers {
		if c.Name == "aws-node" {
			for _, e := range c.Env {
				env[e.Name] = strings.TrimSpace(e.Value)
			}
		}
	}
	flag := func(name string) bool { on, err := strconv.ParseBool(env[name]); return err == nil && on }
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(env[name]); err == nil && n >= 0 {
			return n
		}
		return otherwise
	}
	return VPCCNI{
		PrefixDelegation: flag("ENABLE_PREFIX_DELEGATION"), CustomNetworking: flag("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG"),
		WarmInterfaces: number("WARM_ENI_TARGET", 1), WarmPrefixes: number("WARM_PREFIX_TARGET", 1),
		WarmAddresses: number("WARM_IP_TARGET", 0), MinAddresses: number("MINIMUM_IP_TARGET", 0),
	}
}
