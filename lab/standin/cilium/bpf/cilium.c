// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

//go:build ignore

/*
 * The data path of the stand-in, under the names of the original's programs.
 *
 *   a pod's packet      lxc* ingress (cil_from_container) -> the host's stack, so that kube-proxy and
 *                       iptables see it -> route over cilium_host -> cil_from_host
 *   cil_from_host       local pod: its delivery program, then its interface; remote pod: VXLAN
 *   from the tunnel     cilium_vxlan ingress (cil_from_overlay) -> the host's stack -> cilium_host
 *
 * The tunnel's and the pods' entry programs only tail call, as the original's do: what they look up
 * stands in the program of slot 7 of their cilium_calls_* array.
 * A finished verdict is TC_ACT_OK, which ends a tcx chain; also like the original.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"
#include "maps.h"

#define IPV4_SADDR_OFF (ETH_HLEN + 12)
#define IPV4_DADDR_OFF (ETH_HLEN + 16)
#define TUNNEL_TTL 64
#define IDENTITY_WORLD 2
#define IDENTITY_REMOTE_NODE 6
#define IDENTITY_HOST 1

/* Set by user space for each loaded copy. Addresses in network order. */
volatile const __u32 encap_ifindex = 0;
volatile const __be32 own_net = 0;
volatile const __be32 own_mask = 0;

static __always_inline void count(struct __sk_buff *skb, __u8 reason, __u8 dir, __u16 line, __u8 file)
{
	struct metrics_key key = {.reason = reason, .dir = dir, .line = line, .file = file};
	struct metrics_value *v = bpf_map_lookup_elem(&cilium_metrics, &key);

	if (v) {
		v->count++;
		v->bytes += skb->len;
		return;
	}
	struct metrics_value first = {.count = 1, .bytes = skb->len};
	bpf_map_update_elem(&cilium_metrics, &key, &first, BPF_ANY);
}

static __always_inline int drop(struct __sk_buff *skb, __u8 reason, __u8 dir, __u16 line, __u8 file)
{
	count(skb, reason, dir, line, file);
	return TC_ACT_SHOT;
}

static __always_inline struct remote_endpoint_info *ipcache_lookup(__be32 ip)
{
	struct ipcache_key key = {
		.prefixlen = IPCACHE_STATIC_BITS + 32,
		.family = FAMILY_IPV4,
		.ip4 = ip,
	};
	return bpf_map_lookup_elem(&cilium_ipcache_v2, &key);
}

static __always_inline __u32 identity_of(__be32 ip)
{
	struct remote_endpoint_info *info = ipcache_lookup(ip);

	return info ? info->sec_identity : IDENTITY_WORLD;
}

/* On the wire the host itself is a remote node: the VNI is what the receiver must think of us. */
static __always_inline int encap(struct __sk_buff *skb, struct remote_endpoint_info *to, __be32 saddr)
{
	struct bpf_tunnel_key key = {
		.remote_ipv4 = bpf_ntohl(to->tunnel_ip4),
		.tunnel_id = identity_of(saddr),
		.tunnel_ttl = TUNNEL_TTL,
	};

	if (key.tunnel_id == IDENTITY_HOST)
		key.tunnel_id = IDENTITY_REMOTE_NODE;
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), BPF_F_ZERO_CSUM_TX) < 0)
		return drop(skb, DROP_NO_TUNNEL_ENDPOINT, DIR_EGRESS, 35, FILE_ENCAP);
	count(skb, REASON_FORWARDED, DIR_EGRESS, 35, FILE_ENCAP);
	return bpf_redirect(encap_ifindex, 0);
}

static __always_inline int deliver(struct __sk_buff *skb, struct endpoint_info *ep)
{
	__u32 id = ep->lxc_id;

	bpf_skb_store_bytes(skb, 0, ep->mac, ETH_ALEN, 0);
	bpf_skb_store_bytes(skb, ETH_ALEN, ep->node_mac, ETH_ALEN, 0);
	count(skb, REASON_FORWARDED, DIR_INGRESS, 122, FILE_LOCAL_DELIVERY);
	skb->cb[0] = ep->ifindex;
	bpf_tail_call(skb, &cilium_call_policy, id);
	return drop(skb, DROP_EP_NOT_READY, DIR_INGRESS, 139, FILE_LOCAL_DELIVERY);
}

/* cilium_host, egress: everything that the host's routing sends into the overlay. */
SEC("tc")
int cil_from_host(struct __sk_buff *skb)
{
	struct endpoint_key to = {.family = FAMILY_IPV4};
	struct remote_endpoint_info *info;
	struct endpoint_info *ep;
	__be32 saddr, daddr;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_OK;
	if (bpf_skb_load_bytes(skb, IPV4_SADDR_OFF, &saddr, 4) < 0 ||
	    bpf_skb_load_bytes(skb, IPV4_DADDR_OFF, &daddr, 4) < 0)
		return TC_ACT_SHOT;
	to.ip4 = daddr;
	ep = bpf_map_lookup_elem(&cilium_lxc, &to);
	if (ep && (ep->flags & ENDPOINT_F_HOST))
		return TC_ACT_OK;
	if (ep)
		return deliver(skb, ep);
	if ((daddr & own_mask) == own_net)
		return drop(skb, DROP_UNROUTABLE, DIR_EGRESS, 712, FILE_HOST);
	info = ipcache_lookup(daddr);
	if (!info || !(info->flags & INFO_HAS_TUNNEL) || !info->tunnel_ip4)
		return drop(skb, DROP_NO_TUNNEL_ENDPOINT, DIR_EGRESS, 750, FILE_HOST);
	return encap(skb, info, saddr);
}

/* Slot of the delivery program of an endpoint: from the host's side into the pod. */
SEC("tc")
int cil_lxc_policy(struct __sk_buff *skb)
{
	__u32 ifindex = skb->cb[0];

	count(skb, REASON_FORWARDED, DIR_INGRESS, 2057, FILE_LXC);
	return bpf_redirect(ifindex, 0);
}

/* Slot of an endpoint in cilium_egresscall_policy. No policy is enforced here. */
SEC("tc")
int cil_lxc_policy_egress(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

/* The host endpoint's delivery program: the stack delivers. */
SEC("tc")
int cil_host_policy(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

/* cilium_host and cilium_net, ingress. */
SEC("tc")
int cil_to_host(struct __sk_buff *skb)
{
	count(skb, REASON_PLAINTEXT, DIR_INGRESS, 1167, FILE_HOST);
	return TC_ACT_OK;
}

/* Every native device, ingress. Looks the sender up, decides nothing: services are kube-proxy's. */
SEC("tc")
int cil_from_netdev(struct __sk_buff *skb)
{
	__be32 saddr;

	if (skb->protocol == bpf_htons(ETH_P_IP) && bpf_skb_load_bytes(skb, IPV4_SADDR_OFF, &saddr, 4) == 0)
		skb->cb[0] = identity_of(saddr);
	count(skb, REASON_PLAINTEXT, DIR_INGRESS, 1151, FILE_HOST);
	return TC_ACT_OK;
}

/* cilium_vxlan, ingress. */
SEC("tc")
int cil_from_overlay(struct __sk_buff *skb)
{
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_OK;
	bpf_tail_call(skb, &cilium_calls, CALL_IPV4);
	return drop(skb, DROP_MISSED_TAIL_CALL, DIR_INGRESS, 753, FILE_OVERLAY);
}

/*
 * Slot 7 of cilium_calls_overlay_2. The inner frame carries the MACs of the sending side, so the kernel
 * takes it for another host's; from here on it is ours.
 */
SEC("tc")
int tail_handle_ipv4_from_overlay(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {};
	__be32 saddr;

	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0) < 0)
		return drop(skb, DROP_NO_TUNNEL_ENDPOINT, DIR_INGRESS, 690, FILE_OVERLAY);
	if (bpf_skb_load_bytes(skb, IPV4_SADDR_OFF, &saddr, 4) < 0)
		return TC_ACT_SHOT;
	skb->cb[0] = key.tunnel_id == IDENTITY_REMOTE_NODE ? identity_of(saddr) : key.tunnel_id;
	count(skb, REASON_PLAINTEXT, DIR_INGRESS, 753, FILE_OVERLAY);
	bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	return TC_ACT_OK;
}

/* cilium_vxlan, egress. */
SEC("tc")
int cil_to_overlay(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

/* lxc* and lxc_health, ingress: what a pod sends. No IPv6 here: dropped and counted, as the original does. */
SEC("tc")
int cil_from_container(struct __sk_buff *skb)
{
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return TC_ACT_OK;
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return drop(skb, DROP_UNKNOWN_L3, DIR_EGRESS, 1571, FILE_LXC);
	bpf_tail_call(skb, &cilium_calls, CALL_IPV4);
	return drop(skb, DROP_MISSED_TAIL_CALL, DIR_EGRESS, 1560, FILE_LXC);
}

/* Slot 7 of cilium_calls_NNNNN. */
SEC("tc")
int tail_handle_ipv4(struct __sk_buff *skb)
{
	__be32 daddr;

	if (bpf_skb_load_bytes(skb, IPV4_DADDR_OFF, &daddr, 4) < 0)
		return TC_ACT_SHOT;
	skb->cb[0] = identity_of(daddr);
	count(skb, REASON_FORWARDED, DIR_EGRESS, 1371, FILE_LXC);
	return TC_ACT_OK;
}

/* Slot 1 of every cilium_calls_* array. */
SEC("tc")
int tail_drop_notify(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
