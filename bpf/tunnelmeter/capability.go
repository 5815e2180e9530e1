// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/internal/capability"
)

// MissingCapabilityError says which capabilities the process would need and has not. Nothing was attached.
type MissingCapabilityError struct{ Names []string }

func (e *MissingCapabilityError) Error() string {
	return "the tunnel meter needs " + strings.Join(e.Names, " and ") +
		", not in this process's effective set: add it to the container's securityContext.capabilities, or switch the meter off"
}

// Allowed returns a [MissingCapabilityError] where this thread may not do what [Start] does, and changes nothing. Start asks it
// before its first call into the kernel, because libraries explain an EPERM by what it meant to them once:
// without CAP_BPF as a low RLIMIT_MEMLOCK, without CAP_NET_ADMIN as a kernel before 4.15.
func Allowed() error {
	var names []string
	if !capability.Held(capability.BPF) {
		names = append(names, "CAP_BPF (to load programs and make maps)")
	}
	if !capability.Held(capability.NetAdmin) {
		names = append(names, "CAP_NET_ADMIN (to attach programs to interfaces and see their order)")
	}
	if len(names) == 0 {
		return nil
	}
	return &MissingCapabilityError{names}
}

// explain says what an error of the kernel means for somebody who has the capabilities. The libraries' own words about an
// EPERM are left out, because they would send the reader to a limit that kernels since 5.11 do not have.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w, although the capabilities are there: it is the seccomp profile, which must let bpf(2) through, or a user "+
			"namespace (the network must be the host's own), or before kernel 5.11 a low RLIMIT_MEMLOCK; this one is %s", unix.EPERM, release())
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("%w: BPF maps count against the memory limit of the container; raise it, or let the meter hold fewer peers", err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w: this kernel is %s, and the meter wants 5.10 or later", err, release())
	}
	return err
}

func release() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "of unknown release"
	}
	return unix.ByteSliceToString(name.Release[:])
}
