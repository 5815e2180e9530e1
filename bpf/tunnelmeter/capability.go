// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

type capability uint

// linux/capability.h
const (
	capNetAdmin capability = unix.CAP_NET_ADMIN
	capSysAdmin capability = unix.CAP_SYS_ADMIN // contains the next two
	capPerfmon  capability = unix.CAP_PERFMON   // only for reading packets in place
	capBPF      capability = unix.CAP_BPF
)

// MissingCapabilityError says which capabilities the process would need and has not. Nothing was attached.
type MissingCapabilityError struct{ Names []string }

func (e *MissingCapabilityError) Error() string {
	return "the tunnel meter needs " + strings.Join(e.Names, " and ") +
		", not in this process's effective set: add it to the container's securityContext.capabilities, or switch the meter off"
}

// have looks at this thread: bpf(2) and netlink judge the thread that calls. What cannot be read counts as there, so
// that the kernel decides.
func have(c capability) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if unix.Capget(&hdr, &sets[0]) != nil {
		return true
	}
	holds := func(c capability) bool { return sets[c/32].Effective&(1<<(c%32)) != 0 }
	return holds(c) || c != capNetAdmin && holds(capSysAdmin)
}

// missing comes before the first call into the kernel, because libraries explain an EPERM by what it meant to them once:
// without CAP_BPF as a low RLIMIT_MEMLOCK, without CAP_NET_ADMIN as a kernel before 4.15.
func missing() error {
	var names []string
	if !have(capBPF) {
		names = append(names, "CAP_BPF (to load programs and make maps)")
	}
	if !have(capNetAdmin) {
		names = append(names, "CAP_NET_ADMIN (to attach programs to interfaces and see their order)")
	}
	if len(names) == 0 {
		return nil
	}
	return &MissingCapabilityError{names}
}

// explain adds to an error of the kernel what it means for somebody who has the capabilities.
func explain(err error) error {
	advice := ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		advice = "the capabilities are there, so it is the seccomp profile (bpf(2) must be let through), a user namespace " +
			"that owns this network (only the host's own will do), or before kernel 5.11 RLIMIT_MEMLOCK"
	case errors.Is(err, unix.ENOMEM):
		advice = "BPF maps count against the memory limit of the container: raise it, or let the meter hold fewer peers"
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL):
		advice = "this kernel (" + release() + ") cannot do it; the meter wants 5.10 or later"
	default:
		return err
	}
	return fmt.Errorf("%w: %s", err, advice)
}

func release() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "of unknown release"
	}
	return unix.ByteSliceToString(name.Release[:])
}
