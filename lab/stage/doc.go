// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package stage sets the scene of a cutover in the laboratory: a cluster whose pods are on the
// VPC CNI, three applications, Cilium beside it, this project's chart, and clients that ask the
// applications through a load balancer all the time. The demo and the end-to-end tests play on it.
//
// [Up] sets all of it; [Start] and the methods of [Env] set one piece each. A program that uses
// it calls lab.Main first thing, as with package lab itself.
package stage
