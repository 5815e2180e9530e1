// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/cniconf"
)

// Host says where the host is to be seen from this process. The network is always that of the process's own namespace.
type Host struct {
	// Root is where the host's root file system is mounted, "/" on the host itself.
	Root string
	// BPFFS is where this process sees the host's bpffs.
	BPFFS string
	// CiliumRun is where this process sees Cilium's runtime directory, "" where it does not.
	CiliumRun string
	// ConfDir is the runtime's net.d as the host names it.
	ConfDir string
	// MapUses: this process is to ask which maps Cilium's programs use.
	MapUses bool
}

// Look gathers all that the host shows by itself. It never fails as a whole: each part says how it went.
func (h Host) Look() Facts {
	var f Facts
	f.Links, f.Routes, f.Rules = lookNetwork()
	f.Paths, f.Forwarding = lookPaths(f.Links, f.Routes), lookForwarding()
	f.Programs = lookPrograms(h.BPFFS, f.Links)
	f.Pins = lookPins(h.BPFFS)
	f.Endpoints, f.IPCache = lookMaps(h.BPFFS)
	f.Layouts = lookLayouts(h.CiliumRun)
	f.Services = lookServices(h.BPFFS, f.Programs)
	f.Liveness = lookLiveness(h.BPFFS)
	f.Status = lookStatus(h.CiliumRun, f.Liveness)
	f.Counters = lookCounters(h.BPFFS)
	f.ConfDir = cniconf.ReadIn(h.Root, h.ConfDir)
	f.Boot = h.lookBoot()
	f.Kernel = lookKernel()
	return f
}

// LookServices reads the maps of Services again.
func (h Host) LookServices(p Programs) Services { return lookServices(h.BPFFS, p) }

// LookAsked adds what the host shows only to somebody who asks: what Cilium's own probes of the other nodes have found, which is not
// the host's own evidence; what is left in netfilter; and which maps its programs use. The last two may take some milliseconds.
func (h Host) LookAsked(f *Facts) {
	f.Health = lookHealth(h.CiliumRun, f.Status)
	f.Netfilter = lookNetfilter()
	if h.MapUses {
		f.MapUses = lookMapUses(h.BPFFS, f.Programs)
	}
}

const bootIDFile = "proc/sys/kernel/random/boot_id"

// lookBoot prefers the file as the host's processes see it; without it, as when only /host/etc is mounted, this process's own
// /proc tells of the same kernel.
func (h Host) lookBoot() Boot {
	b, err := os.ReadFile(filepath.Join(h.Root, bootIDFile))
	if errors.Is(err, fs.ErrNotExist) {
		b, err = os.ReadFile("/" + bootIDFile)
	}
	if err != nil {
		return Boot{Look: failed(fmt.Errorf("reading the boot id: %w", err))}
	}
	id := strings.TrimSpace(string(b))
	if id == "" {
		return Boot{Look: Look{Failed, "the boot id is empty"}}
	}
	return Boot{Look: Look{Sight: Seen}, ID: id}
}

func lookKernel() Kernel {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Kernel{Look: failed(fmt.Errorf("asking for the kernel release: %w", err))}
	}
	return Kernel{Look: Look{Sight: Seen}, Release: unix.ByteSliceToString(u.Release[:])}
}

func failed(err error) Look { return Look{Failed, err.Error()} }
