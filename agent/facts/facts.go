// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"net/netip"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/probe"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/bpf/tunnelmeter"
	"github.com/cni-cutover/cni-cutover/cniconf"
)

// Sight is how looking at one part went.
type Sight uint8

// The sights. The zero Sight claims nothing.
const (
	NotLooked Sight = iota // nobody looked, or was asked to
	Seen                   // the data beside it is complete
	Absent                 // there is nothing where it should be
	Alien                  // there is something, of a shape that is not known here
	Failed                 // looking went wrong
)

// Look is how looking at one part went, and the system's words when it did not go well.
type Look struct {
	Sight  Sight
	Detail string
}

// Facts is everything a judgement may use.
type Facts struct {
	// At is the wall clock when the look began.
	At time.Time

	// Settings and Node come from the Kubernetes API.
	Settings Settings
	Node     Node

	// The host itself.
	ConfDir    cniconf.Directory
	Links      Links
	Routes     Routes
	Rules      Rules
	Paths      Paths
	Forwarding Forwarding
	Programs   Programs
	Pins       Pins
	Endpoints  Endpoints
	IPCache    IPCache
	Layouts    Layouts
	Services   Services
	Liveness   Liveness
	Status     CiliumStatus
	Counters   Counters
	Earlier    Counters // of an earlier look, by which a rise is told
	Meter      Meter
	Boot       Boot
	Kernel     Kernel

	// What the Kubernetes API says of this node.
	Pods Pods
	Own  Own

	Asked
}

// Asked is what is looked at only when somebody asked: it is of other nodes or of the cluster, or dear.
type Asked struct {
	Peers      Peers
	Kubernetes Kubernetes
	Wanted     Wanted
	Probes     Probes
	Health     CiliumHealth
	MapUses    MapUses
	Netfilter  Netfilter
}

// Links are the network interfaces of the host.
type Links struct {
	Look
	List []Link
}

// Link is one network interface.
type Link struct {
	Index int
	Name  string
	Kind  string // as rtnetlink names it: vxlan, veth, device, ...
	MTU   int    // bytes
	Up    bool   // administratively
	MAC   ciliummap.MAC
	Addrs []netip.Prefix
	VXLAN *VXLAN // for Kind vxlan
}

// VXLAN are the settings of a VXLAN interface.
type VXLAN struct {
	Port     int
	VNI      int
	External bool // collect-metadata: the VNI comes with each packet
}

// Routes are the host's routes, of both families: those of the main table, and by its number those of every table that somebody made.
type Routes struct {
	Look
	List   []Route
	Tables map[int][]Route
}

// Route is one route.
type Route struct {
	Dst      netip.Prefix
	Gateway  netip.Addr
	Link     int // index of the interface, 0 for a multipath or blackhole route
	Type     int // RTN_*: 1 is unicast
	Priority int // the smallest wins
	MTU      int // bytes; 0 means that the route sets none
}

// Rules are the IPv4 routing rules.
type Rules struct {
	Look
	List []Rule
}

// Rule is one routing rule.
type Rule struct {
	Priority int
	Src, Dst netip.Prefix // the zero Prefix for "all"
	Table    int
	Mark     uint32
}

// Paths are the kernel's own answers to where packets of the VPC CNI's pods to the overlay would go.
type Paths struct {
	Look
	List []Path
}

// Path is what would become of one packet.
type Path struct {
	Pod netip.Addr // source
	Iif int        // index of the host's end of the pod's veth pair
	Dst netip.Addr // an address of the overlay

	Oif     int // index of the interface that it would leave by; 0 if the kernel refuses it
	Table   int
	Refused string // the kernel's word for why

	// For a path that does not lead to HostLink, if there are not too many of them:
	Matched   netip.Prefix // destination of the route that it takes
	MarkedOif int          // index of the interface that it would leave by with PacketMark
}

// Forwarding are the settings of the host's network that decide whether it forwards packets at all.
type Forwarding struct {
	Look
	On       bool           // net.ipv4.ip_forward
	RPFilter map[string]int // what is in force on each of Cilium's interfaces: 0 off, 1 strict, 2 loose
}

// Programs are Cilium's programs on the host's interfaces and on its cgroups.
type Programs struct {
	Look
	List    []Program
	Sockets []SocketProgram
	// SocketsOnce: Cilium has its directory for links on cgroups. It makes it before it attaches anything at all, and only to
	// translate at sockets; 1.18 and 1.19 leave it, empty, when they no longer do (Cilium pkg/datapath/loader/base.go, pkg/socketlb).
	SocketsOnce bool
}

// Program is one program of Cilium's that is attached to an interface now.
type Program struct {
	Name   string // in full, as cil_from_overlay
	ID     uint32 // the kernel's
	Link   int    // index of the interface
	Egress bool
	Via    string // tcx or tc
}

// SocketProgram is one program of Cilium's that is attached to a cgroup now.
type SocketProgram struct {
	Name string // in full, as cil_sock4_connect
	ID   uint32 // the kernel's
}

// MapUses is which of the maps that Cilium has pinned its attached programs use. NotLooked also where this process is not to ask.
type MapUses struct {
	Look
	// NotAllowed: it Failed because this process lacks a capability.
	NotAllowed bool
	By         map[uint32]ciliummap.Uses // by the IDs of programs; those that were gone are missing
}

// Netfilter is what the VPC CNI makes in netfilter's tables and is there now, in words. Found holds what was found even if something
// could not be read, which the Look then says.
type Netfilter struct {
	Look
	// NotAllowed: it Failed because this process lacks a capability.
	NotAllowed bool
	Found      []string
}

// Pins are the names of the maps that Cilium has pinned.
type Pins struct {
	Look
	Names []string
}

// Endpoints is Cilium's map of this node's endpoints.
type Endpoints struct {
	Look
	Stats ciliummap.Stats
	ByIP  map[netip.Addr]ciliummap.Endpoint
}

// IPCache is Cilium's map from prefixes to the nodes behind which they live.
type IPCache struct {
	Look
	Stats   ciliummap.Stats
	Entries ciliummap.IPCache
}

// Services is what Cilium translates Services by. They are read only where it does so at sockets.
type Services struct {
	Look
	ciliummap.Services
	// Gaps are places that led nowhere in every one of several reads.
	Gaps []ciliummap.Gap
}

// Layouts are how what Cilium itself compiled on this node agrees with the layouts by which its maps are read here.
type Layouts struct {
	Look
	// NotAllowed: it Failed because this process may not read the object.
	NotAllowed bool
	Differ     []string // a sentence for each field that lies elsewhere
}

// Liveness is when Cilium's agent last said that it lives. Both are readings of CLOCK_MONOTONIC.
type Liveness struct {
	Look
	Stamp time.Duration // 0: never
	Now   time.Duration
}

// CiliumStatus is what Cilium's agent says of itself at its socket.
type CiliumStatus struct {
	Look
	// NotAllowed: it Failed because this process may not use the socket.
	NotAllowed bool
	State      string // of Cilium as a whole: Ok, Warning, Failure or Disabled
	Message    string // its version, and what is wrong
	SocketLB   *bool  // Services are translated at sockets; nil: it does not say
	DeviceMTU  int    // of the interfaces that it makes, in bytes
	RouteMTU   int    // of the routes into the tunnel, in bytes
}

// CiliumHealth is what Cilium's own probes of the other nodes have found.
type CiliumHealth struct {
	Look
	At       time.Time     // when the last round of probes began; the zero Time before the first
	Interval time.Duration // between two rounds
	// Of the other nodes, whose host was probed and answered; and whose health endpoint was, through the tunnel.
	Hosts, HostsReached         int
	Endpoints, EndpointsReached int
}

// Counters are what Cilium's programs did with packets since Cilium made the map. At is a reading of CLOCK_MONOTONIC.
type Counters struct {
	Look
	At time.Duration
	By map[ciliummap.Counter]ciliummap.Count
}

// Meter is what our tunnel meter has counted at the underlay's NIC. NotLooked means that it is not attached, because nobody asks
// or because it is switched off.
type Meter struct {
	Look
	// NotAllowed: it Failed because this process lacks a capability.
	NotAllowed bool
	// Device is the NIC.
	Device string
	// Total is what was counted since the meter was attached.
	Total tunnelmeter.Reading
	// Recent is the part of it that was counted in the last Window, during which the meter saw every packet. Maxima are those of Total.
	Recent tunnelmeter.Reading
	Window time.Duration
}

// Probes are how large a packet may be between this node and some of its peers.
type Probes struct {
	Look
	// Most is the largest packet that was asked about, in bytes: what the tunnel sends at most.
	Most int
	List []Probe
	// Tunnel is what the tunnel's interface took in meanwhile, of whomever.
	Tunnel Received
}

// Probe is the way to one peer and back, as both agents found out. Whoever does not answer is Silent.
type Probe struct {
	Peer    string
	Address netip.Addr
	Under   probe.Path // from NIC to NIC
	Over    probe.Path // through the tunnel, whose overhead is off the sizes; the zero Path where Under was not whole
	// Metered is what the tunnel meter saw come from Address in the tunnel meanwhile.
	Metered Received
}

// Received is how many packets came in at some place while paths were asked for.
type Received struct {
	Look
	Packets uint64
}

// Boot is the kernel's boot id.
type Boot struct {
	Look
	ID string
}

// Kernel is the kernel's release, as uname -r prints it.
type Kernel struct {
	Look
	Release string
}
