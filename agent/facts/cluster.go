// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Settings is what the Cutover (or, without an API server, the command line) says a node should be like.
type Settings struct {
	Look
	// Overlay are the pod CIDRs of the overlay.
	Overlay []netip.Prefix
	// TunnelPort is the UDP port of the tunnel.
	TunnelPort int
	// Install is how Cilium was put beside the VPC CNI.
	Install v1alpha1.InstallMode
	// Legacy is the VPC CNI's DaemonSet.
	Legacy v1alpha1.ObjectRef
}

// Node is this node's Node object.
type Node struct {
	Look
	Name        string
	UID         types.UID
	InternalIPs []netip.Addr
}

// Kubernetes is the Service default/kubernetes, by which every pod finds the API server, as the API server has it.
type Kubernetes struct {
	Look
	Frontend  netip.AddrPort
	Endpoints []netip.AddrPort // ready ones, of its EndpointSlice
}

// Pods are the pods that the Kubernetes API has bound to this node.
type Pods struct {
	Look
	List []Pod
}

// Pod is one pod, as little of it as judgement needs.
type Pod struct {
	Namespace   string
	Name        string
	HostNetwork bool
	Finished    bool // Succeeded or Failed: it has no network any more, whatever address it still shows
	Terminating bool
	DaemonSet   string // name of the DaemonSet that controls it, "" for none
	App         string // value of the label k8s-app
	IPs         []netip.Addr
}

// Own is this node's own CiliumNode.
type Own struct {
	Look
	CiliumNode
}

// Peers are the other nodes' CiliumNodes.
type Peers struct {
	Look
	List []Peer
}

// Peer is another node as this one must know it.
type Peer struct {
	CiliumNode
	Node PeerNode
}

// CiliumNode is what Cilium publishes of a node.
type CiliumNode struct {
	Name        string
	Created     time.Time
	InternalIPs []netip.Addr // the node's own addresses, at which it takes tunnel packets
	CiliumIPs   []netip.Addr // the address of cilium_host
	HealthIP    netip.Addr   // the address of lxc_health; the zero Addr without one
	PodCIDRs    []netip.Prefix
	Zone        string // "" where it is not known
}

// PeerNode is a peer's Node object; it is looked at only for peers that something is wrong with.
type PeerNode struct {
	Look
	Created time.Time
	Ready   bool
}
