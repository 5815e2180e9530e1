// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package tunnelmeter measures the VXLAN tunnel where it meets the wire: an eBPF program of ours at the underlay's NICs,
// both ways, and its owner in Go.
//
// Per peer and direction it counts packets, outer and inner bytes, the largest of both, DF, fragments of the outer packet,
// and what routers say about packets that were too big: see [Counters] for what exactly. A ping and a TCP connection pass
// through a tunnel whose MTU is too large; they are five times slower, because every large packet is cut in two, and only
// fragments and an overhead above 50 bytes a packet show it. The underlay is IPv4; IPv6 on the tunnel's port is only seen to
// be there, and a tunnel inside IPsec or WireGuard is not seen at all.
//
// # To the byte
//
// The kernel hands over super-packets: up to 64 KiB in one skb, before the NIC cuts them (GSO) and after it has merged them
// (GRO). The program counts the packets that they are on the wire. The tests compare both ends of a real tunnel,
// where one end has super-packets and the other single ones, with the interfaces' own counters. Two things are not to the
// byte: super-packets of SCTP count as one packet, and of IPv6 with extension headers only up to those headers.
//
// Which fragments after the first are the tunnel's is known by the IP ID of the first one, not by the peer alone. Packets
// and ICMP messages that contradict themselves, or are about nothing that was sent, enter no flow; anybody
// who can reach the tunnel's port can make flows of invented peers, and the oldest are forgotten for them.
//
// # Beside Cilium
//
// Cilium's programs end the chain with their verdict, so ours has to come first. With tcx (kernel 6.6 and later) it is
// attached at the head. On older kernels it is a filter of Cilium's priority with another handle, added later, which then
// runs first. Both are lost when Cilium attaches again; [Meter.Check] says so and [Meter.Ensure] mends it. What others attached is
// never touched: filters are ours by their name, and a clsact qdisc is deleted only by the meter that made it, when no
// filter is left in it. (If somebody adds one between that look and the deletion, it goes along: the kernel has no
// deletion on condition.)
//
// # When the process goes
//
// tcx links are not pinned: the kernel detaches them with the last process that holds them, also after kill -9. Classic
// filters stay, so their program counts only while its owner renews a lease, 10 s by default, and the next [Start] removes
// them, whichever hook it uses. Until then each costs a packet as much as one with nothing to count. A clsact qdisc that a killed owner
// had made stays, empty.
//
// # What it needs, and what it costs
//
// CAP_BPF and CAP_NET_ADMIN; without one of them [Start] returns a [MissingCapabilityError] and has attached nothing. There are two
// programs: [Direct] reads packets in place, [Copied] copies headers out first. Start takes the first that the kernel
// lets it load. 6.18 loads Direct without CAP_PERFMON too; that capability then only spares the program what the kernel adds
// to it against speculation.
//
// Nanoseconds a packet on 6.18, net of an empty program (BenchmarkMeter, medians; one peer, so its counters are in the cache):
//
//	                         VXLAN   TCP, other UDP, IPv6   ARP
//	direct                      13                    0-2     0
//	direct, by classic tc       20                    0-2     0
//	direct, no CAP_PERFMON      32                    0-2     0
//	copied                      35                   9-11     0
//	copied, no CAP_PERFMON      82                  11-18     0
//
// A super-packet and a fragment take the way of the copied program, once for dozens of packets. Memory is fixed at [Start]: see
// [Memory]. Reading 5,000 peers both ways takes 7 ms of processor time.
package tunnelmeter
