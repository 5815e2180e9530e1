// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

//go:build ignore

/*
 * Counts what the tunnel sends and receives, at the underlay NIC. Looks, and decides nothing: every path
 * ends in TC_ACT_UNSPEC, which is TCX_NEXT as well.
 *
 *   *_direct   reads the packet in place, which a verifier may grant only with CAP_PERFMON
 *   *_copied   fetches headers by bpf_skb_load_bytes; CAP_BPF and CAP_NET_ADMIN are enough everywhere
 *
 * Both give the same numbers. The direct one has the short way for a whole packet of a peer it knows, and turns to
 * the other's for the rest: a first packet, super-packets (one for dozens), fragments, IP options, ICMP, IPv6, and a
 * NIC that left the headers in a page.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "meter.h"

/* Set once, before loading. */
const volatile __be16 tunnel_port = 0;
const volatile __u8 leased = 0;
const volatile __u8 coarse = 0; /* the kernel has the cheap clock, which came with 5.11 and is a tick behind */

/* CLOCK_MONOTONIC, ns. A leased program (classic tc: nobody removes it if its owner dies) counts only before it. */
volatile __u64 lease_end = 0;

static __always_inline int expired(void)
{
	return leased && (coarse ? bpf_ktime_get_coarse_ns() : bpf_ktime_get_ns()) > lease_end;
}

/* Later fragments carry no port: they are ours if the first one of the same datagram was. */
static __always_inline __u64 fragment_tag(__be32 peer, __be16 id, __u32 direction)
{
	return (__u64)peer << 32 | (__u64)id << 8 | direction << 1 | 1;
}

static __always_inline __u32 fragment_slot(__be32 peer, __be16 id)
{
	return (bpf_ntohs(id) ^ bpf_ntohl(peer) * 2654435761u >> 20) & (FRAGMENT_SLOTS - 1);
}

static __noinline int malformed(__u32 direction)
{
	struct strays *s = bpf_map_lookup_elem(&meter_strays, &direction);

	if (s)
		s->malformed++;
	return TC_ACT_UNSPEC;
}

/* An entry for a flow seen for the first time, or again after it was evicted. */
static __noinline int enter(__be32 peer, __u32 direction)
{
	struct flow key = {.peer = peer, .direction = direction};
	struct counters none = {};

	return bpf_map_update_elem(&meter_flows, &key, &none, BPF_NOEXIST);
}

/* The length of the inner transport header, in bytes; 0 where there is none that repeats in each segment. */
static __noinline int transport_length(struct __sk_buff *skb, __u32 offset, __u32 protocol)
{
	__u8 doff = 0;

	if (protocol == IPPROTO_UDP)
		return sizeof(struct udphdr);
	if (protocol != IPPROTO_TCP || bpf_skb_load_bytes(skb, offset + 12, &doff, 1) < 0)
		return 0;
	return (doff >> 4) * 4;
}

/* One skb. Lengths in bytes. */
struct sight {
	__u32 head;    /* what the tunnel puts before the inner IP header */
	__u32 network; /* the inner IP header */
	__u32 protocol;
	__u32 outer, inner; /* of the IP packets */
};

/* Says no where the lengths contradict each other. A super-packet has no length but that of its skb. */
static __always_inline int measure(struct __sk_buff *skb, const struct iphdr *ip, const struct encap *e, struct sight *s)
{
	__u32 frame = skb->len - ETH_HLEN, gso = skb->gso_size, room;

	s->head = (ip->ihl & 0xf) * 4 + ENCAP_LEN;
	s->outer = gso ? frame : bpf_ntohs(ip->tot_len);
	if (s->outer < s->head + IP_MIN || s->outer > frame || !(e->flags & bpf_htonl(VXLAN_HAS_VNI)))
		return 0;
	room = s->outer - s->head;
	s->inner = room;
	s->network = IP_MIN;
	s->protocol = 0;
	if (e->type == bpf_htons(ETH_P_IP)) {
		s->network = (bpf_ntohs(e->inner[0]) >> 8 & 0xf) * 4;
		s->protocol = bpf_ntohs(e->inner[4]) & 0xff;
		if (!gso)
			s->inner = bpf_ntohs(e->inner[1]);
	} else if (e->type == bpf_htons(ETH_P_IPV6)) {
		s->network = sizeof(struct ipv6hdr);
		s->protocol = bpf_ntohs(e->inner[3]) >> 8;
		if (!gso)
			s->inner = bpf_ntohs(e->inner[2]) + sizeof(struct ipv6hdr);
	}
	/* Shorter than its frame is padding. Longer than it is a lie, unless the rest is in later fragments. */
	return s->network >= IP_MIN && s->inner >= s->network && (s->inner <= room || ip->frag_off & bpf_htons(IP_MORE));
}

static __always_inline void add(struct counters *c, const struct iphdr *ip, const struct sight *s, __u32 packets)
{
	c->packets += packets;
	c->outer_bytes += s->outer;
	c->inner_bytes += s->inner;
	if (ip->frag_off & bpf_htons(IP_DONT))
		c->dont_fragment += packets;
}

static __always_inline void raise(struct counters *c, __u32 outer, __u32 inner)
{
	if (outer > c->outer_max)
		c->outer_max = outer;
	if (inner > c->inner_max)
		c->inner_max = inner;
}

/*
 * A super-packet (GSO before the wire, GRO after it) counts as the packets it is on the wire: each has the
 * headers of the first one, and none carries more than gso_size.
 */
static __always_inline int add_super(struct __sk_buff *skb, struct counters *c, const struct iphdr *ip, const struct sight *s)
{
	__u32 gso = skb->gso_size, packets = 1, largest = s->inner, payload, repeated;

	repeated = s->network + transport_length(skb, ETH_HLEN + s->head + s->network, s->protocol);
	if (s->inner > repeated) {
		payload = s->inner - repeated;
		packets = (payload + gso - 1) / gso;
		c->outer_bytes += (__u64)(packets - 1) * (s->head + repeated);
		c->inner_bytes += (__u64)(packets - 1) * repeated;
		largest = repeated + (payload < gso ? payload : gso);
	}
	add(c, ip, s, packets);
	raise(c, s->head + largest, largest);
	return TC_ACT_UNSPEC;
}

static __noinline int count_later_fragment(struct __sk_buff *skb, __u32 direction)
{
	struct flow key = {.direction = direction};
	struct counters *c;
	struct iphdr ip;
	__u32 slot, bytes;
	__u64 *tag;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) < 0)
		return TC_ACT_UNSPEC;
	key.peer = direction == INGRESS ? ip.saddr : ip.daddr;
	bytes = bpf_ntohs(ip.tot_len);
	slot = fragment_slot(key.peer, ip.id);
	tag = bpf_map_lookup_elem(&meter_fragments, &slot);
	if (!tag || *tag != fragment_tag(key.peer, ip.id, direction))
		return TC_ACT_UNSPEC;
	if (bytes <= (__u32)(ip.ihl & 0xf) * 4 || bytes > skb->len - ETH_HLEN)
		return malformed(direction);
	c = bpf_map_lookup_elem(&meter_flows, &key);
	if (!c || expired())
		return TC_ACT_UNSPEC;
	c->later_fragments++;
	c->outer_bytes += bytes;
	if (bytes > c->outer_max)
		c->outer_max = bytes;
	return TC_ACT_UNSPEC;
}

/* A router says that a packet of ours was too big: it quotes our header and eight bytes, which hold the port. */
static __noinline int count_too_big(struct __sk_buff *skb, __u32 offset, __be32 daddr)
{
	struct flow key = {.direction = EGRESS};
	struct counters *c;
	struct iphdr quoted;
	struct icmp icmp;
	__be16 port;
	__u32 mtu;

	if (bpf_skb_load_bytes(skb, offset, &icmp, sizeof(icmp)) < 0 ||
	    icmp.type != ICMP_UNREACHABLE || icmp.code != ICMP_TOO_BIG ||
	    bpf_skb_load_bytes(skb, offset + sizeof(icmp), &quoted, sizeof(quoted)) < 0 ||
	    quoted.protocol != IPPROTO_UDP || quoted.saddr != daddr || quoted.ihl < 5 ||
	    quoted.frag_off & bpf_htons(IP_OFFSET) ||
	    bpf_skb_load_bytes(skb, offset + sizeof(icmp) + quoted.ihl * 4 + 2, &port, sizeof(port)) < 0 ||
	    port != tunnel_port || expired())
		return TC_ACT_UNSPEC;
	key.peer = quoted.daddr;
	c = bpf_map_lookup_elem(&meter_flows, &key); /* to whom we sent nothing, nothing was too big */
	if (!c)
		return TC_ACT_UNSPEC;
	c->too_big++;
	mtu = bpf_ntohs(icmp.mtu);
	if (mtu && (!c->too_big_mtu || mtu < c->too_big_mtu))
		c->too_big_mtu = mtu;
	return TC_ACT_UNSPEC;
}

static __noinline int count_ipv6(struct __sk_buff *skb, __u32 direction)
{
	struct strays *s;
	__be16 port;

	if (bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct ipv6hdr) + 2, &port, sizeof(port)) < 0 ||
	    port != tunnel_port || expired())
		return TC_ACT_UNSPEC;
	s = bpf_map_lookup_elem(&meter_strays, &direction);
	if (s) {
		s->ipv6_skbs++;
		s->ipv6_bytes += skb->len - ETH_HLEN;
	}
	return TC_ACT_UNSPEC;
}

/* Anything on the tunnel's port but a later fragment. */
static __always_inline int count(struct __sk_buff *skb, __u32 direction, const struct iphdr *ip, const struct encap *e)
{
	struct flow key = {.peer = direction == INGRESS ? ip->saddr : ip->daddr, .direction = direction};
	struct counters *c;
	struct sight s;

	if (!measure(skb, ip, e, &s))
		return malformed(direction);
	if (expired())
		return TC_ACT_UNSPEC;
	c = bpf_map_lookup_elem(&meter_flows, &key);
	if (!c) {
		enter(key.peer, direction);
		c = bpf_map_lookup_elem(&meter_flows, &key);
		if (!c)
			return TC_ACT_UNSPEC;
	}
	if (skb->gso_size)
		return add_super(skb, c, ip, &s);
	add(c, ip, &s, 1);
	raise(c, s.outer, s.inner);
	if (ip->frag_off & bpf_htons(IP_MORE)) {
		__u32 slot = fragment_slot(key.peer, ip->id);
		__u64 *tag = bpf_map_lookup_elem(&meter_fragments, &slot);

		c->first_fragments++;
		if (tag)
			*tag = fragment_tag(key.peer, ip->id, direction);
	}
	return TC_ACT_UNSPEC;
}

static __noinline int count_copied(struct __sk_buff *skb, __u32 direction)
{
	struct {
		struct iphdr ip;
		__be16 ports[2];
	} outer; /* what cannot be loaded is zero */
	struct iphdr *ip = &outer.ip;
	struct encap e;
	__u32 offset;

	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		__u8 next = 0;

		bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, nexthdr), &next, 1);
		return next == IPPROTO_UDP ? count_ipv6(skb, direction) : TC_ACT_UNSPEC;
	}
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_UNSPEC;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &outer, sizeof(outer)) < 0 &&
	    bpf_skb_load_bytes(skb, ETH_HLEN, ip, sizeof(*ip)) < 0) /* a last fragment may be shorter */
		return TC_ACT_UNSPEC;
	offset = ETH_HLEN + (ip->ihl & 0xf) * 4;
	if (ip->ihl < 5)
		return TC_ACT_UNSPEC;
	if (ip->protocol == IPPROTO_ICMP && direction == INGRESS && !(ip->frag_off & bpf_htons(IP_OFFSET)))
		return count_too_big(skb, offset, ip->daddr);
	if (ip->protocol != IPPROTO_UDP)
		return TC_ACT_UNSPEC;
	if (ip->frag_off & bpf_htons(IP_OFFSET))
		return count_later_fragment(skb, direction);
	if (ip->ihl != 5 && bpf_skb_load_bytes(skb, offset, outer.ports, sizeof(outer.ports)) < 0)
		return TC_ACT_UNSPEC;
	if (outer.ports[1] != tunnel_port)
		return TC_ACT_UNSPEC;
	if (bpf_skb_load_bytes(skb, offset, &e, ENCAP_LEN + IP_MIN) < 0)
		return malformed(direction);
	return count(skb, direction, ip, &e);
}

static __always_inline int count_direct(struct __sk_buff *skb, __u32 direction)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct encap *e = (void *)(ip + 1);

	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip6 = data + ETH_HLEN;

		if ((void *)(ip6 + 1) > end)
			return count_copied(skb, direction);
		return ip6->nexthdr == IPPROTO_UDP ? count_ipv6(skb, direction) : TC_ACT_UNSPEC;
	}
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_UNSPEC;
	if ((void *)(ip + 1) > end)
		return count_copied(skb, direction);
	if (ip->protocol != IPPROTO_UDP) {
		if (ip->protocol == IPPROTO_ICMP && direction == INGRESS)
			return count_copied(skb, direction);
		return TC_ACT_UNSPEC;
	}
	if (ip->ihl != 5 || ip->frag_off & bpf_htons(IP_OFFSET) || (void *)(e->ports + 2) > end)
		return count_copied(skb, direction);
	if (e->ports[1] != tunnel_port)
		return TC_ACT_UNSPEC;
	if ((void *)e + ENCAP_LEN + IP_MIN > end)
		return count_copied(skb, direction);

	struct flow key = {.peer = direction == INGRESS ? ip->saddr : ip->daddr, .direction = direction};
	struct counters *c = bpf_map_lookup_elem(&meter_flows, &key);
	struct sight s;

	if (!c || skb->gso_size || ip->frag_off & bpf_htons(IP_MORE))
		return count_copied(skb, direction);
	if (expired())
		return TC_ACT_UNSPEC;
	if (!measure(skb, ip, e, &s))
		return malformed(direction);
	add(c, ip, &s, 1);
	raise(c, s.outer, s.inner);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int in_direct(struct __sk_buff *skb)
{
	return count_direct(skb, INGRESS);
}

SEC("tc")
int out_direct(struct __sk_buff *skb)
{
	return count_direct(skb, EGRESS);
}

SEC("tc")
int in_copied(struct __sk_buff *skb)
{
	return count_copied(skb, INGRESS);
}

SEC("tc")
int out_copied(struct __sk_buff *skb)
{
	return count_copied(skb, EGRESS);
}

char _license[] SEC("license") = "Apache-2.0";
