// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package oracle judges a cutover by the API server's audit log, and by nothing that this project says of itself: who wrote
// what onto which object, and how the API server answered. It keeps its own books of nodes, pods, answers and the ledger
// and holds every write of the coordinator against the laws:
//
//   - a slot is granted only while fewer slots than rollout.maxConcurrent are held, and only while no more nodes than
//     rollout.maxUnavailable are out of service, this one included;
//   - an eviction needs a slot in step Confirm or Drain of that very node (by UID), and a passing answer of that node's agent to a
//     question before a drain, not expired when the eviction was asked for;
//   - a cordon needs a slot, and one is undone only if it was ours, of a slot that is no more, and not there before us;
//   - no node loses the VPC CNI before it is replaced: DESIRED of its DaemonSet is constant while the fence goes up and falls
//     later only with nodes that are gone;
//   - no node ever serves pods of both CNIs (install mode Secondary).
//
// The audit policy has to record the bodies of writes on these objects: lab/controlplane/servers/audit.yaml does.
package oracle
