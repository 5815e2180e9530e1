// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package demo shows a whole cutover in the laboratory to a person, and proves at the end, from
// the cluster and not from what the coordinator says of itself, that it was one: package stage sets
// the scene, a Cutover is applied, an autoscaling group replaces the nodes that the coordinator
// hands it, and clients ask all the time.
//
// What is shown (frame, changes) and what is concluded (prove) are pure functions of a snapshot
// and of gathered evidence.
package demo
