// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package figures finds in the API server's audit log what a cutover costs and how fast it is: from an agent's answer to the
// coordinator's next move, the share of the slots' time in which the coordinator was the one being waited for, the writes for
// one node, the requests of a whole roll. All times are the API server's: when a request came in and when it was answered.
//
// It reads the bodies of requests, not of responses, so that a cluster of thousands can be audited at level Request, and it
// knows nodes by their names: a fleet (internal/fleet) never uses one twice. Its benchmarks make the figures of
// docs/figures.md.
package figures
