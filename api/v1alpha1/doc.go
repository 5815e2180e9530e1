// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is the contract between the people, the coordinator and the agents: the API group
// cni-cutover.dev in version v1alpha1.
//
// Two cluster-scoped kinds, one writer per field:
//
//   - Cutover, a singleton named "cluster": its spec is the intent that people write, its status is the ledger
//     that the coordinator alone writes.
//   - NodeCutover, one per Node and of the same name: its spec is a question that the coordinator alone writes,
//     its status the answer that the agent of that very node alone writes.
//
// State lives in these objects and nowhere else. The package imports nothing of this project.
//
// +kubebuilder:object:generate=true
// +groupName=cni-cutover.dev
package v1alpha1
