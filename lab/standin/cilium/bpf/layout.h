// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

/*
 * The layouts that Cilium 1.18 gives its pinned maps, byte for byte. No struct is packed: every hole
 * is written out, so that a key built on the stack has its padding at zero.
 */
#ifndef STANDIN_LAYOUT_H
#define STANDIN_LAYOUT_H

#include <linux/types.h>

#define FAMILY_IPV4 1

/* Bits of an address plus 32: the LPM trie counts cluster_id, pad and family as fixed prefix. */
#define IPCACHE_STATIC_BITS 32

struct ipcache_key {
	__u32 prefixlen;
	__u16 cluster_id;
	__u8 pad;
	__u8 family;
	__be32 ip4;
	__be32 rest[3];
};

#define INFO_HAS_TUNNEL 0x02

struct remote_endpoint_info {
	__u32 sec_identity;
	__be32 tunnel_ip4;
	__be32 tunnel_rest[3];
	__u16 pad;
	__u8 key;
	__u8 flags;
};

struct endpoint_key {
	__be32 ip4;
	__be32 rest[3];
	__u8 family;
	__u8 key;
	__u16 cluster_id;
};

#define ENDPOINT_F_HOST 0x1

struct endpoint_info {
	__u32 ifindex;
	__u16 unused;
	__u16 lxc_id;
	__u32 flags;
	__u32 hole;
	__u8 mac[8];
	__u8 node_mac[8];
	__u32 sec_id;
	__u32 parent_ifindex;
	__u32 pad[2];
};

struct metrics_key {
	__u8 reason;
	__u8 dir;
	__u16 line;
	__u8 file;
	__u8 pad[3];
};

struct metrics_value {
	__u64 count;
	__u64 bytes;
};

/* Directions and reasons of cilium_metrics; reasons from 130 are drops. */
#define DIR_INGRESS 1
#define DIR_EGRESS 2
#define REASON_FORWARDED 0
#define REASON_PLAINTEXT 3
#define DROP_UNKNOWN_L3 139
#define DROP_MISSED_TAIL_CALL 140
#define DROP_UNROUTABLE 151
#define DROP_NO_TUNNEL_ENDPOINT 160
#define DROP_EP_NOT_READY 203

/* Source files of the original, as its metrics name them. */
#define FILE_HOST 1
#define FILE_LXC 2
#define FILE_OVERLAY 3
#define FILE_LOCAL_DELIVERY 110
#define FILE_ENCAP 112

/* Slots of a cilium_calls_* array. */
#define CALL_DROP_NOTIFY 1
#define CALL_IPV4 7

#endif
