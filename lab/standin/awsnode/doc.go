// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package awsnode is the lab's stand-in for the AWS VPC CNI, version 1.23: the aws-node
// daemon, its IPAM and the aws-cni plugin. What it leaves on a node (ip rules, routing
// tables, iptables, the nftables table, files, the conflist) has the form that
// amazon-vpc-cni-k8s leaves there, and it obeys the same environment variables; only
// where the addresses come from differs, a file instead of the EC2 API.
//
// [Agent] is the daemon, [CNI] and [EgressCNI] are the plugins; all three are one binary.
// Nothing is taken back when the daemon stops: neither does the original.
package awsnode
