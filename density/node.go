// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package density

import "math"

// Node is what is known of one node.
type Node struct {
	Name  string `json:"name"`
	Type  string `json:"instanceType"`
	Group string `json:"group"`
	// VCPUs of its capacity; 0: not known.
	VCPUs int `json:"vCPUs"`
	// MaxPods is what its kubelet admits (status.allocatable.pods).
	MaxPods int `json:"maxPods"`
	// Allocatable, and what its pods request; thousandths of a CPU, bytes.
	CPU            int64 `json:"allocatableMilliCPU"`
	Memory         int64 `json:"allocatableMemory"`
	CPURequests    int64 `json:"requestedMilliCPU"`
	MemoryRequests int64 `json:"requestedMemory"`
	// Pods that run there, by where their address comes from.
	VPCPods     int `json:"vpcPods"`
	OverlayPods int `json:"overlayPods"`
	HostPods    int `json:"hostNetworkPods"`
}

// Pods are all pods of the node.
func (n *Node) Pods() int { return n.VPCPods + n.OverlayPods + n.HostPods }

// moved says whether the overlay serves the node's pods already.
func (n *Node) moved() bool { return n.OverlayPods > 0 && n.VPCPods == 0 }

// Target is what nodes get after the move.
type Target struct {
	// MaxPods that user data will tell the kubelet; a node that admits more already keeps that.
	MaxPods int `json:"maxPods"`
	// NodeMaskSize is the prefix length of a node's slice of the overlay.
	NodeMaskSize int `json:"nodeMaskSize"`
}

// Bound is what limits the number of pods.
type Bound string

// The bounds.
const (
	ByInterfaces Bound = "network interfaces"
	ByMaxPods    Bound = "maxPods"
	BySlice      Bound = "slice"
	ByCPU        Bound = "CPU requests"
	ByMemory     Bound = "memory requests"
)

// Row is the arithmetic of one node.
type Row struct {
	Node
	// Known says whether EC2 or the table knows the instance type; if not, Formula is 0 and Now rests on maxPods alone.
	Known bool `json:"known"`
	// Formula is AWS's figure for the node (VPCCNI.Pods).
	Formula int `json:"formula"`
	// Now is how many pods can run, and NowBy what limits it.
	Now   int   `json:"now"`
	NowBy Bound `json:"nowBy"`
	// AsIs is how many can run after the move if user data stays as it is.
	AsIs   int   `json:"afterAsIs"`
	AsIsBy Bound `json:"afterAsIsBy"`
	// After is how many can run after the move once user data says Target.MaxPods.
	After   int   `json:"after"`
	AfterBy Bound `json:"afterBy"`
	// InUse are the VPC's addresses of the node's pods; Held about how many the node takes besides its own one. All of them are
	// freed when the node is replaced.
	InUse int `json:"vpcAddressesInUse"`
	Held  int `json:"vpcAddressesHeld"`
}

// reserved is what the kubelet of an EKS node keeps of its memory for each pod that it may run, in bytes: 11 MiB
// (awslabs/amazon-eks-ami, nodeadm/internal/kubelet; Bottlerocket has the same).
const reserved = 11 << 20

// ownAddresses are those of a slice that Cilium takes itself: its router (cilium_host) and its health endpoint.
const ownAddresses = 2

// SlicePods returns how many pods a node's slice of the overlay has addresses for. The first and the last address of a
// slice are not handed out.
func SlicePods(maskSize int) int {
	if maskSize < 0 || maskSize > 30 {
		return 0
	}
	return 1<<(32-maskSize) - 2 - ownAddresses
}

// mean is the average request of a pod.
type mean struct{ cpu, memory float64 }

// judge computes the row of a node whose pods request what the pods of its group do.
func judge(n *Node, e *EC2, c VPCCNI, t Target, pod mean) Row {
	r := Row{Node: *n, InUse: n.VPCPods}
	l, known := e.limitsOf(n.Type)
	c = e.settings(n.Type, c)
	// Pods on the host network need no address, and there may be more of them than the two that every node has.
	host := max(n.HostPods, hostPods)
	slice := bound{SlicePods(t.NodeMaskSize) + host, BySlice}
	kubelet := bound{n.MaxPods, ByMaxPods}
	r.Known = known
	switch {
	case n.moved():
		r.Now, r.NowBy = least(kubelet, slice)
	case known:
		r.Formula = c.Pods(l, n.VCPUs)
		addresses := c.slots(l)
		if c.PrefixDelegation {
			addresses *= prefixAddresses
		}
		r.Now, r.NowBy = least(kubelet, bound{addresses + host, ByInterfaces})
		r.Held = max(c.Held(l, n.VPCPods), n.VPCPods)
	default:
		r.Now, r.NowBy = least(kubelet)
		r.Held = n.VPCPods
	}
	r.AsIs, r.AsIsBy = least(append([]bound{kubelet, slice}, n.requests(pod, 0)...)...)
	raised := max(t.MaxPods, n.MaxPods)
	more := int64(raised-n.MaxPods) * reserved
	r.After, r.AfterBy = least(append([]bound{{raised, ByMaxPods}, slice}, n.requests(pod, more)...)...)
	return r
}

// requests bounds the pods of a node by what they ask for, once so much of its memory is reserved for more of them. What
// nobody requests bounds nothing.
func (n *Node) requests(pod mean, taken int64) []bound {
	var out []bound
	if pod.cpu > 0 && n.CPU > 0 {
		out = append(out, bound{int(math.Floor(float64(n.CPU) / pod.cpu)), ByCPU})
	}
	if pod.memory > 0 && n.Memory > 0 {
		out = append(out, bound{int(math.Floor(float64(max(n.Memory-taken, 0)) / pod.memory)), ByMemory})
	}
	return out
}

type bound struct {
	pods int
	by   Bound
}

// least returns the tightest bound, the first of equal ones.
func least(bounds ...bound) (int, Bound) {
	out := bounds[0]
	for _, b := range bounds[1:] {
		if b.pods < out.pods {
			out = b
		}
	}
	return out.pods, out.by
}
