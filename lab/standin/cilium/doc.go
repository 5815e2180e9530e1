// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package cilium stands in for Cilium 1.18 in the lab: an agent, an operator and a CNI plugin that
// obey the same ConfigMap and CiliumNodeConfigs, keep the same objects and leave the same things on
// a node, in the same order. Packets really cross VXLAN. It starts in seconds, needs no compiler on
// the node, and knows overlays of one shape only: VXLAN, IPv4, cluster-pool IPAM, kube-proxy.
package cilium
