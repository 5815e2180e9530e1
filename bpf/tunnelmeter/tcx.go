// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

type slot struct {
	ifindex   int
	direction Direction
}

// tcxChain holds a link for each attachment. They are not pinned: the last process that holds one takes it along.
type tcxChain struct {
	programs [2]*ebpf.Program
	links    map[slot]link.Link
}

func newTCXChain(programs [2]*ebpf.Program) *tcxChain {
	return &tcxChain{programs: programs, links: map[slot]link.Link{}}
}

func (c *tcxChain) find(ifindex int, d Direction) (State, []string, error) {
	ours, ok := c.links[slot{ifindex, d}]
	if !ok {
		return Missing, nil, nil
	}
	info, err := ours.Info()
	if err != nil {
		return "", nil, fmt.Errorf("looking at our link: %w", err)
	}
	found, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: tcxAttach(d)})
	if err != nil {
		return "", nil, err
	}
	var ahead []string
	for _, p := range found.Programs {
		if id, ok := p.LinkID(); ok && id == info.ID {
			if len(ahead) > 0 {
				return Behind, ahead, nil
			}
			return First, nil, nil
		}
		ahead = append(ahead, fmt.Sprintf("program %d", p.ID))
	}
	return Missing, nil, nil
}

// putFirst lets go of the old link first: the kernel does not take one program twice. Behind a program with final
// verdicts nothing was seen, so nothing is missed in between.
func (c *tcxChain) putFirst(ifindex int, d Direction) error {
	at := slot{ifindex, d}
	if old, ok := c.links[at]; ok {
		delete(c.links, at)
		if err := old.Close(); err != nil {
			return fmt.Errorf("letting go of a tcx link: %w", err)
		}
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: c.programs[d], Attach: tcxAttach(d), Anchor: link.Head()})
	if err != nil {
		return err
	}
	c.links[at] = l
	return nil
}

func (c *tcxChain) close() error {
	var errs []error
	for at, l := range c.links {
		errs = append(errs, l.Close())
		delete(c.links, at)
	}
	return errors.Join(errs...)
}

func tcxAttach(d Direction) ebpf.AttachType {
	if d == Ingress {
		return ebpf.AttachTCXIngress
	}
	return ebpf.AttachTCXEgress
}
