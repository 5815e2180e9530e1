// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package facts gathers what one node shows of itself, as plain data, and judges nothing.
//
// It writes nothing to the host and needs no capability: uid 0 (Cilium's pins are mode 0600, its sockets 0660), the host's network
// namespace, the host's bpffs, Cilium's runtime directory and the root file system mounted read-only are enough. What needs more is asked for
// only where it is there, and every part that lacks it says so:
//
//   - the programs of a device by BPF_PROG_QUERY (CAP_NET_ADMIN): Cilium pins its tcx links, and classic filters are listed by
//     rtnetlink, which asks for nothing;
//   - a program by its ID, and so the maps it uses (CAP_SYS_ADMIN): asked for only where somebody switched that on;
//   - netfilter's tables (CAP_NET_ADMIN): what the VPC CNI has left there; whether it gives packets into the tunnel another source is
//     not seen;
//   - a pod's network namespace (CAP_SYS_ADMIN and CAP_SYS_PTRACE): a pod's own MAC is not seen, only the host's end of its
//     veth pair.
//
// # What a part means
//
// Every part carries a Look of its own. Only Seen means that the data in it is complete; a part that was not looked at,
// is absent, of an unknown shape or could not be read says so, and an empty list beside such a Look means nothing.
package facts
