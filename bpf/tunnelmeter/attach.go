// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Hook is a place in the kernel that runs programs for the packets of an interface.
type Hook string

// The two places.
const (
	TCX     Hook = "tcx" // since 6.6; the kernel detaches what the process held
	Classic Hook = "tc"  // a clsact qdisc with filters, which stay until somebody removes them
)

// State is where a program of the meter was found.
type State string

// Where a program can be.
const (
	First    State = "first"     // nothing runs before it: it sees every packet
	Behind   State = "behind"    // others run before it, and one that gives a final verdict (Cilium's do) hides the packet
	Missing  State = "missing"   // attached nowhere
	NoDevice State = "no device" // the interface is not there
)

// Placement is one program on one device.
type Placement struct {
	Device    string
	Direction Direction
	State     State    // as found
	Ahead     []string // what runs before it: filters by name, tcx programs by ID
	Restored  bool     // Ensure has put it first again
}

func (p Placement) String() string {
	s := fmt.Sprintf("%s %s: %s", p.Device, p.Direction, p.State)
	if len(p.Ahead) > 0 {
		s += " " + strings.Join(p.Ahead, ", ")
	}
	if p.Restored {
		s += ", restored"
	}
	return s
}

// chain is what a hook runs for one device and direction, one after the other.
type chain interface {
	// find says where the meter's program is, and what runs before it.
	find(ifindex int, d Direction) (State, []string, error)
	// putFirst attaches the program before all others, wherever it was.
	putFirst(ifindex int, d Direction) error
	// close takes away what the meter attached, and nothing else.
	close() error
}

// Check looks at where the programs are and changes nothing.
func (m *Meter) Check() ([]Placement, error) { return m.look(false) }

// Ensure puts first again what is not: Cilium attaches itself at the head whenever its agent starts, and on kernels
// without tcx deletes filters and adds them again. Call it every few seconds and before a reading that
// has to be complete; one that finds all in order costs a few netlink requests. What was counted is kept. A device that was made
// anew under its name is attached to; one that is not there is reported, and no error once the meter has started.
func (m *Meter) Ensure() ([]Placement, error) { return m.look(true) }

func (m *Meter) look(restore bool) ([]Placement, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Placement
	var errs []error
	for _, name := range m.devices {
		ifindex, err := device(name)
		if gone(err) && m.started {
			out = append(out, Placement{Device: name, Direction: Ingress, State: NoDevice}, Placement{Device: name, Direction: Egress, State: NoDevice})
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, d := range []Direction{Ingress, Egress} {
			p, err := m.place(name, ifindex, d, restore)
			out = append(out, p)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s of %s: %w", d, name, explain(err)))
			}
		}
	}
	return out, errors.Join(errs...)
}

func (m *Meter) place(name string, ifindex int, d Direction, restore bool) (Placement, error) {
	p := Placement{Device: name, Direction: d}
	var err error
	if p.State, p.Ahead, err = m.chain.find(ifindex, d); err != nil || p.State == First || !restore {
		return p, err
	}
	if err := m.chain.putFirst(ifindex, d); err != nil {
		return p, err
	}
	after, ahead, err := m.chain.find(ifindex, d)
	if err == nil && after != First {
		err = fmt.Errorf("putting the program first: it is %s again, after %v; another program does the same all the time", after, ahead)
	}
	p.Restored = err == nil
	return p, err
}

// choose asks the kernel, on the first device, whether it has tcx.
func choose(want Hook, name string) (Hook, error) {
	if want == Classic {
		return Classic, nil
	}
	ifindex, err := device(name)
	if err != nil {
		return "", err
	}
	_, err = link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: ebpf.AttachTCXIngress})
	switch {
	case err == nil:
		return TCX, nil
	case !errors.Is(err, unix.EINVAL) && !errors.Is(err, ebpf.ErrNotSupported):
		return "", fmt.Errorf("asking for the programs of %s: %w", name, explain(err))
	case want == TCX:
		return "", fmt.Errorf("asking for the programs of %s: this kernel (%s) has no tcx, which came with 6.6; leave the choice to the meter", name, release())
	}
	return Classic, nil
}
