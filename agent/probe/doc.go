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
// # Cost
//
// A path whose every size passes costs eight questions (four of them small) and two round trips; one with a low hop that says so, twelve
// and three; a black hole some 280 questions and 0.9 s each way, so both ways take less than two seconds. What is narrow there is not asked
// about on the way back beyond that.
//
// A node asks three peers for each answer to the coordinator, over the NICs and, where those paths are whole, through the tunnel: with NICs
// of 9,001 bytes 0.4 MB out and 0.3 MB back, and 8 MB out where all three are black holes. The coordinator asks the nodes of its slots, a
// few at a time. Should all 5,000 nodes be asked at once, each is asked by three others on average and by fifteen at most (rendezvous
// hashing), which a responder's limit of 2,000 answers a second takes in its stride; what is over the limit is not answered, and not claimed.
package probe
