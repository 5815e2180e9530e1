// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package agent is the loop that runs on every node: it looks (package facts), judges (package check) and tells (the status of
// this node's NodeCutover). It answers a challenge at once, and speaks unasked only when what it sees of its own host has
// changed its meaning: 5,000 agents watch a cluster and must not all write because one node joins.
//
// It changes nothing on the host but for the tunnel meter, which it attaches to the NIC while the coordinator asks (measure.go), and
// nothing in the cluster but the status of the one object that bears its node's name.
package agent
