// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the tests in which everything is real at once: the cluster of package lab, the scene of package stage,
// our chart from our images. A fault is a row of a table: how to plant it on a node, how to cure it, and what the agent must
// say of it. A comment over each table says why the fault stays until it is cured, or what was stopped so that it does. One
// cluster serves all of them: four old nodes, and while faults are planted, a fifth that joined behind the fence.
//
// What is asserted is read from the cluster: objects, Events, metrics as Prometheus would read them, and the API server's
// audit log.
package e2e
