// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package cniconf answers one question about a node: which CNI gives the next pod its network. It reads a
// net.d directory as plain data (Read, the thin edge) and judges that data (Directory.Judge, pure: no files, no clock).
//
// # Whose rules
//
// containerd's, as its go-cni library (1.1.x) applies them with the default max_conf_num = 1:
//
//   - the names ending in .conf, .conflist or .json that are not directories form ONE list, sorted byte by byte
//     ("87-" before "9-", "05-cilium.conf" before "05-cilium.conflist"; symbolic links count, dangling ones too; the extension
//     is what follows the last dot, so "10-aws.conflist.cilium_bak" and a writer's temporary file do not count, a hidden ".x.conf" does);
//   - the first of them wins, whatever network name is inside;
//   - a first file that does not load means the node has NO network: there is no fall-back to the second, and what was loaded
//     before is dropped. The node turns NotReady. That is the state NoNetwork here;
//   - a .conflist is a network: a name and plugins, each with a type. A .conf or .json is one plugin with a type.
//
// CRI-O differs: it logs and skips a file that does not load, and one whose plugin binary is missing, and takes the next. On a
// CRI-O node, read Next where this package says NoNetwork. Multus and Cilium's chaining also pick files by rules of their own.
//
// # What is parsed by whom
//
// Whether bytes load is asked of containernetworking/cni v1.3.0 libcni, the library containerd loads with (NetworkConfFromBytes,
// ConfFromBytes, ConfListFromConf: functions of bytes), so key spelling, bool-or-string options and cniVersions are judged by the
// original. Everything that libcni would do with the file system is done here on the data that was read: the list, its order, links, sizes,
// and the plugin files libcni 1.3 adds from <directory>/<network name>/*.conf. A test compares both on real directories. Multus'
// own options and what kind of CNI a file configures are parsed here.
//
// # What it does not know
//
// It says what containerd would load now from these files, not what it has loaded: containerd reloads on write, rename and
// remove events only, so a file that arrived by link(2) or a rename from another directory waits for the next event. It does not
// look for plugin binaries, and does not run them (from cniVersion 1.1.0 on, containerd also asks plugins for their STATUS).
// Releases of containerd before libcni 1.3 do not read plugin files from the network's own directory; FromDirectory tells.
//
// Could-not-tell is an answer: the zero State is Unreadable and the zero Condition is CannotTell. They never mean yes or no.
package cniconf
