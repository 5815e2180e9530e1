// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

/*
 * Declarations only: user space creates every one of these maps from sizes and hands them to the
 * loader as replacements, which is why the pinned maps carry no BTF (as with the original).
 */
#ifndef STANDIN_MAPS_H
#define STANDIN_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "layout.h"

/* Key: address with prefix. Value: who it is and behind which node. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct ipcache_key);
	__type(value, struct remote_endpoint_info);
	__uint(max_entries, 512000);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_ipcache_v2 SEC(".maps");

/* Key: address of this node or of a pod on it. Value: the pod's interface and MACs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct endpoint_key);
	__type(value, struct endpoint_info);
	__uint(max_entries, 65535);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_lxc SEC(".maps");

/* Key: reason, direction, source line. Value: packets and bytes, per CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__type(key, struct metrics_key);
	__type(value, struct metrics_value);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_metrics SEC(".maps");

/* Key: endpoint id. Value: the program that delivers to this endpoint. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 65535);
} cilium_call_policy SEC(".maps");

/* Key: slot. Value: second half of a program; one array a device, replaced at load by the pinned one. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 48);
} cilium_calls SEC(".maps");

#endif
