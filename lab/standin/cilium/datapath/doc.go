// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package datapath puts on a node what Cilium 1.18 puts there in VXLAN mode with cluster-pool
// IPAM and kube-proxy: pinned maps, devices, programs, routes, rules, sysctls and iptables chains.
//
// It works on the network namespace and the bpffs of the process that calls it. What should be
// there is computed by pure functions of the node, its peers and its endpoints; what differs from
// the last computation is written, and nothing else: a fault planted from outside stays planted.
package datapath
