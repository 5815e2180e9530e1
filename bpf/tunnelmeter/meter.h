// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

/* What the kernel side shares with its reader (read.go, byte for byte), and the wire formats that it reads. */
#ifndef TUNNELMETER_METER_H
#define TUNNELMETER_METER_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define INGRESS 0
#define EGRESS 1

struct flow {
	__be32 peer;
	__u32 direction;
};

/* Bytes are those of IP packets on the wire: from the outer and from the inner IP header on. */
struct counters {
	__u64 packets; /* of the tunnel; one cut into fragments is one */
	__u64 outer_bytes;
	__u64 inner_bytes;
	__u64 dont_fragment; /* packets whose outer header says DF */
	__u64 first_fragments;
	__u64 later_fragments;
	__u64 too_big; /* ICMP about packets to this peer; egress only */
	__u32 outer_max;
	__u32 inner_max;
	__u32 too_big_mtu; /* the smallest that was named */
	__u32 pad;
};

struct strays {
	__u64 ipv6_skbs;
	__u64 ipv6_bytes;
	__u64 malformed;
};

/* Key: peer and direction. User space sets the size: two for each peer, and what the CPUs keep aside. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__type(key, struct flow);
	__type(value, struct counters);
	__uint(max_entries, 1);
} meter_flows SEC(".maps");

/* Key: direction. Value: what was on the port and is in no flow. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct strays);
	__uint(max_entries, 2);
} meter_strays SEC(".maps");

/* Key: hash of peer and IP ID. Value: tag of the datagram of the tunnel whose first fragment came last. */
#define FRAGMENT_SLOTS 4096
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, FRAGMENT_SLOTS);
} meter_fragments SEC(".maps");

/* Flags and offset of an IPv4 header. */
#define IP_DONT 0x4000
#define IP_MORE 0x2000
#define IP_OFFSET 0x1fff

/* A header that is shorter is none, and the part of an inner header that is read. */
#define IP_MIN 20

/* RFC 7348: UDP, VXLAN, inner Ethernet. Halves, because the inner header is aligned to two bytes only. */
struct encap {
	__be16 ports[2];
	__be16 udp_length, udp_checksum;
	__be32 flags, vni;
	__be16 macs[6];
	__be16 type;
	__be16 inner[10];
};
#define ENCAP_LEN 30
#define VXLAN_HAS_VNI 0x08000000

/* RFC 1191. linux/icmp.h would bring in the C library's headers. */
struct icmp {
	__u8 type, code;
	__be16 checksum, unused, mtu;
};
#define ICMP_UNREACHABLE 3
#define ICMP_TOO_BIG 4

#endif
