// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package coordinator is the only part that acts on the cluster. It photographs the API server (gather), lets plan decide,
// carries the actions out (moves), writes the ledger, and tells people (events, metrics).
//
// One Reconciler works on one object. Every reconcile reads the ledger live and derives everything again from what is
// there: it may be killed at any line. The ledger is written by compare-and-swap, so of two coordinators that both believe
// they lead, one fails; every action of a slot reads that slot live first and ends before a lost lease could be taken over.
package coordinator
