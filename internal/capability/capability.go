// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package capability tells what the calling thread may do, so that a program says in plain words what it lacks before a library
// explains the kernel's EPERM by what that meant to the library once.
package capability

import "golang.org/x/sys/unix"

// Capability is a number of linux/capability.h.
type Capability uint

// The capabilities that something here needs.
const (
	NetAdmin Capability = unix.CAP_NET_ADMIN
	SysAdmin Capability = unix.CAP_SYS_ADMIN
	Perfmon  Capability = unix.CAP_PERFMON
	BPF      Capability = unix.CAP_BPF
)

// Held says whether this thread may do what a capability allows: bpf(2) and netlink judge the thread that calls. CAP_SYS_ADMIN contains
// CAP_BPF and CAP_PERFMON (linux/capability.h: bpf_capable, perfmon_capable). What cannot be read counts as held, so that the kernel decides.
func Held(c Capability) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if unix.Capget(&hdr, &sets[0]) != nil {
		return true
	}
	has := func(c Capability) bool { return sets[c/32].Effective&(1<<(c%32)) != 0 }
	return has(c) || (c == BPF || c == Perfmon) && has(SysAdmin)
}
