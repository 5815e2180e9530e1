// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package probe finds out how large a packet may be on its way to another node and back, by asking that node's agent.
//
// Packets go with DF, which the tunnel's own do not: those are cut on the way and nobody is told. A router that cannot forward one
// says so by ICMP, and names the size; where it does not (a black hole), many sizes are tried at once.
//
// What a router has said of a packet with DF the kernel remembers for ten minutes and believes of the tunnel's packets too, as after any
// other packet with DF: on a path that is narrow, they are then cut here and not there.
//
// # Protocol
//
// One UDP datagram asks and at most one answers. Both begin with 32 bytes (message.go) that only who has the cluster's key can
// write; what follows is zeros. An answer never has more bytes than the question, so that nobody is hit harder by way of a node
// than by himself, and a node answers a bounded number of questions in a second. Nothing is learned from an answer but that it came.
//
// A path whose every size passes costs four packets and a round trip. A black hole costs some 280 packets and 0.9 s each way; what is searched for at the same time costs no more time.
package probe
