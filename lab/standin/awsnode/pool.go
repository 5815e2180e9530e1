// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

// errNoAddress is the end of an instance's density: every secondary address is in use.
var errNoAddress = errors.New("no address available: every secondary address of the instance's interfaces is in use")

// sandbox names one attachment of a pod's sandbox to a network.
type sandbox struct {
	NetworkName string `json:"networkName"`
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

// podName says whose sandbox it is.
type podName struct {
	Namespace string `json:"k8sPodNamespace,omitempty"`
	Name      string `json:"k8sPodName,omitempty"`
}

// allocation is one entry of the checkpoint.
type allocation struct {
	sandbox
	IPv4      netip.Addr `json:"ipv4"`
	Timestamp int64      `json:"allocationTimestamp"` // Unix time, nanoseconds
	Pod       podName    `json:"metadata"`
}

// address is a pod's address and the device number of the interface that owns it.
type address struct {
	IP           netip.Addr `json:"ip"`
	DeviceNumber int        `json:"deviceNumber"`
}

// pool hands out the secondary addresses of the interfaces. It is not safe for use by
// several goroutines at once.
type pool struct {
	interfaces  []vpc.Interface // by device number
	allocations map[sandbox]allocation
	released    map[netip.Addr]time.Time
}

// newPool starts with the allocations of a checkpoint; those whose address is no longer
// the instance's are dropped.
func newPool(interfaces []vpc.Interface, known []allocation) *pool {
	p := &pool{
		interfaces:  slices.SortedFunc(slices.Values(interfaces), func(a, b vpc.Interface) int { return cmp.Compare(a.DeviceNumber, b.DeviceNumber) }),
		allocations: map[sandbox]allocation{},
		released:    map[netip.Addr]time.Time{},
	}
	for _, a := range known {
		if _, owned := p.locate(a.IPv4); owned {
			p.allocations[a.sandbox] = a
		}
	}
	return p
}

// assign gives the sandbox an address, the same one when it asks again. It takes the
// interface with the fewest pods, so that pods alternate between the interfaces, and of
// its free addresses the one that has been free longest, because peers may still hold
// connections to one that was released just now.
func (p *pool) assign(key sandbox, pod podName, now time.Time) (address, error) {
	if a, found := p.lookup(key); found {
		return a, nil
	}
	used := map[netip.Addr]bool{}
	pods := map[int]int{}
	for _, a := range p.allocations {
		used[a.IPv4] = true
		if at, owned := p.locate(a.IPv4); owned {
			pods[at.DeviceNumber]++
		}
	}
	var best vpc.Interface
	var free []netip.Addr
	for _, eni := range p.interfaces {
		available := slices.DeleteFunc(slices.Clone(eni.Secondary), func(ip netip.Addr) bool { return used[ip] })
		if len(available) > 0 && (free == nil || pods[eni.DeviceNumber] < pods[best.DeviceNumber]) {
			best, free = eni, available
		}
	}
	if free == nil {
		return address{}, errNoAddress
	}
	ip := slices.MinFunc(free, func(a, b netip.Addr) int { return p.released[a].Compare(p.released[b]) })
	p.allocations[key] = allocation{sandbox: key, IPv4: ip, Timestamp: now.UnixNano(), Pod: pod}
	return address{IP: ip, DeviceNumber: best.DeviceNumber}, nil
}

func (p *pool) lookup(key sandbox) (address, bool) {
	a, found := p.allocations[key]
	if !found {
		return address{}, false
	}
	return p.locate(a.IPv4)
}

func (p *pool) release(key sandbox, now time.Time) {
	if a, found := p.allocations[key]; found {
		p.released[a.IPv4] = now
		delete(p.allocations, key)
	}
}

// locate finds the interface that owns a secondary address.
func (p *pool) locate(ip netip.Addr) (address, bool) {
	for _, eni := range p.interfaces {
		if slices.Contains(eni.Secondary, ip) {
			return address{IP: ip, DeviceNumber: eni.DeviceNumber}, true
		}
	}
	return address{}, false
}

// list returns the allocations, oldest first.
func (p *pool) list() []allocation {
	return slices.SortedFunc(maps.Values(p.allocations), func(a, b allocation) int {
		return cmp.Or(cmp.Compare(a.Timestamp, b.Timestamp), a.IPv4.Compare(b.IPv4))
	})
}

// capacity is how many pods the instance can hold.
func (p *pool) capacity() int {
	total := 0
	for _, eni := range p.interfaces {
		total += len(eni.Secondary)
	}
	return total
}
