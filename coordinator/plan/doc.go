// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package plan decides. It is pure: a World goes in (what the API server shows, read a moment ago), a Decision comes out
// (what the ledger should say next, what to do in the cluster now, and when to look again). It reads no clock, no network
// and no file, so whole rollouts can be simulated, and everything the coordinator would do can be read before it does it.
//
// Two rules hold everything together:
//
//   - A step is derived from the world, never from what an earlier Decision intended. Deciding twice on the same World
//     gives the same Decision, so a coordinator may die at any line.
//   - An Action of a slot belongs to the step that the ledger HAD when the world was read, never to a step that this very
//     Decision enters. Permission is written first, used afterwards.
package plan
