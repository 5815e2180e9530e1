// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package ciliummap reads the BPF objects that Cilium 1.18, 1.19 and 1.20 pin in a bpffs, as data.
//
// It opens maps read-only, writes nothing, creates nothing in the kernel and asks for no capability:
// uid 0 (Cilium's pins are mode 0600) and a seccomp profile that lets bpf(2) through are enough. The tests prove it
// for the kernel they run on; older kernels with kernel.unprivileged_bpf_disabled set want CAP_BPF.
// Only [ReadUses] opens objects by their IDs, which takes CAP_SYS_ADMIN; nothing else needs it.
//
// # What a return means
//
// A nil error means that the layout was recognised and every entry decoded. Every other outcome is
// "could not tell", never "not there", and the error says which kind:
//
//   - [fs.ErrNotExist]: the pin is missing (Cilium re-creates cilium_ipcache_v2 at every agent start, so look again);
//   - [fs.ErrPermission]: the kernel refused; the [OpenError] names what is needed;
//   - [UnknownLayoutError], [UnsupportedReleaseError]: a map of another shape than this package knows;
//   - [DecodeError]: the shape matched and a byte contradicts it;
//   - [ErrUnstable]: the map changed faster than it could be read.
//
// # Reading while others write
//
// The kernel has no snapshot of a map. When the key that an enumeration stands on is deleted, LPM tries
// and hashes start over: entries come twice, and kernel and library report no error. Readers
// therefore keep one of each key, the newest, and bound the total. An entry that stays in the map for the time of the read is
// returned exactly once with the value it has. One that is added, changed or deleted meanwhile may or may not
// appear; one deleted from an LPM trie may appear with the value of the prefix that covers it, because the
// kernel enumerates a key and looks its value up in two steps and an LPM lookup answers with the longest match.
package ciliummap
