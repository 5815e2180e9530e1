// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// filterName begins the name of every filter of ours, and of no one else's.
const filterName = "cni-cutover-meter-"

const (
	priority = 1    // Cilium's default (bpf.tc-filter-priority): of two filters of one priority the newer runs first
	handle   = 2    // Cilium's is 1
	handles  = 0xff // the last that is tried where 2 is another's
)

// classicChain attaches filters to a clsact qdisc, which outlive the process; that is what the lease is for.
type classicChain struct {
	programs [2]*ebpf.Program
	ids      [2]int       // of the programs
	used     map[int]bool // interfaces, by index; true: the clsact qdisc was made here
}

func newClassicChain(programs [2]*ebpf.Program) (*classicChain, error) {
	c := &classicChain{programs: programs, used: map[int]bool{}}
	for d, p := range programs {
		info, err := p.Info()
		if err != nil {
			return c, fmt.Errorf("looking at our program: %w", err)
		}
		id, _ := info.ID()
		c.ids[d] = int(id)
	}
	return c, nil
}

func (c *classicChain) find(ifindex int, d Direction) (State, []string, error) {
	filters, err := filtersOf(ifindex, d)
	if err != nil {
		return "", nil, err
	}
	var ahead []string
	for _, f := range filters { // the order of the dump is the order in which they run
		if ours(f) && f.(*netlink.BpfFilter).Id == c.ids[d] {
			if len(ahead) > 0 {
				return Behind, ahead, nil
			}
			return First, nil, nil
		}
		ahead = append(ahead, describe(f))
	}
	return Missing, nil, nil
}

// putFirst deletes our filter before it adds it again: only a new one goes to the front, and two would count twice.
func (c *classicChain) putFirst(ifindex int, d Direction) error {
	if err := c.ensureQdisc(ifindex); err != nil {
		return err
	}
	filters, err := filtersOf(ifindex, d)
	if err != nil {
		return err
	}
	taken := map[uint32]bool{}
	for _, f := range filters {
		if ours(f) {
			if err := deleteFilter(f); err != nil {
				return err
			}
		} else if f.Attrs().Priority == priority {
			taken[f.Attrs().Handle] = true
		}
	}
	free := uint32(handle)
	for taken[free] && free < handles {
		free++
	}
	err = netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs:  netlink.FilterAttrs{LinkIndex: ifindex, Parent: parent(d), Handle: free, Protocol: unix.ETH_P_ALL, Priority: priority},
		Fd:           c.programs[d].FD(),
		Name:         filterName + d.String(),
		DirectAction: true,
	})
	if err != nil {
		return fmt.Errorf("adding a tc filter (priority %d, handle %d) beside %d others; one of another kind or protocol at this priority would shut it out: %w",
			priority, free, len(taken), err)
	}
	return nil
}

func (c *classicChain) ensureQdisc(ifindex int) error {
	err := netlink.QdiscAdd(clsact(ifindex))
	switch {
	case err == nil:
		c.used[ifindex] = true
	case !errors.Is(err, unix.EEXIST):
		return fmt.Errorf("adding a clsact qdisc, which an ingress qdisc in its place would shut out: %w", err)
	case !c.used[ifindex]:
		c.used[ifindex] = false
	}
	return nil
}

func (c *classicChain) close() error {
	var errs []error
	for ifindex, made := range c.used {
		left := 0
		for _, d := range []Direction{Ingress, Egress} {
			filters, err := filtersOf(ifindex, d)
			errs = append(errs, err)
			for _, f := range filters {
				if ours(f) {
					errs = append(errs, deleteFilter(f))
				} else {
					left++
				}
			}
		}
		if made && left == 0 && errors.Join(errs...) == nil {
			errs = append(errs, deleteQdisc(ifindex))
		}
		delete(c.used, ifindex)
	}
	return errors.Join(errs...)
}

// removeLeftovers deletes the filters of an owner that died, from every interface of this network namespace, and says
// how many there were. The qdiscs stay, because nobody knows any more who made them; an empty one costs a packet nothing.
func removeLeftovers() (int, error) {
	qdiscs, err := dump(func() ([]netlink.Qdisc, error) { return netlink.QdiscList(nil) })
	if err != nil {
		return 0, fmt.Errorf("listing qdiscs, to find filters that a meter left: %w", err)
	}
	removed := 0
	for _, q := range qdiscs {
		if q.Type() != "clsact" {
			continue
		}
		for _, d := range []Direction{Ingress, Egress} {
			filters, err := filtersOf(q.Attrs().LinkIndex, d)
			if err != nil {
				return removed, err
			}
			for _, f := range filters {
				if !ours(f) {
					continue
				}
				if err := deleteFilter(f); err != nil {
					return removed, err
				}
				removed++
			}
		}
	}
	return removed, nil
}

// ours looks at the name, which only we give, and never at the handle alone.
func ours(f netlink.Filter) bool {
	bpf, ok := f.(*netlink.BpfFilter)
	return ok && (bpf.Name == filterName+Ingress.String() || bpf.Name == filterName+Egress.String())
}

func describe(f netlink.Filter) string {
	if bpf, ok := f.(*netlink.BpfFilter); ok {
		return bpf.Name
	}
	return fmt.Sprintf("a %s filter (priority %d)", f.Type(), f.Attrs().Priority)
}

// filtersOf lists the filters of one direction as they run; none where there is no clsact, or no interface any more.
func filtersOf(ifindex int, d Direction) ([]netlink.Filter, error) {
	filters, err := dump(func() ([]netlink.Filter, error) {
		return netlink.FilterList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}, parent(d))
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the tc filters of interface %d, %s: %w", ifindex, d, err)
	}
	return filters, nil
}

// dump asks again while somebody changes what is listed: the kernel then may have left something out.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	const tries = 5
	for try := 1; ; try++ {
		out, err := list()
		if try == tries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
}

func deleteFilter(f netlink.Filter) error {
	if err := netlink.FilterDel(f); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("deleting our tc filter from interface %d: %w", f.Attrs().LinkIndex, err)
	}
	return nil
}

func deleteQdisc(ifindex int) error {
	if err := netlink.QdiscDel(clsact(ifindex)); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("deleting the clsact qdisc that we made on interface %d: %w", ifindex, err)
	}
	return nil
}

func clsact(ifindex int) netlink.Qdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
		QdiscType:  "clsact",
	}
}

func parent(d Direction) uint32 {
	if d == Ingress {
		return netlink.HANDLE_MIN_INGRESS
	}
	return netlink.HANDLE_MIN_EGRESS
}
