// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"errors"
	"fmt"
	"math/bits"
	"sort"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Defaults of Options.
const (
	DefaultPort  = 8472 // Cilium's tunnel-port for VXLAN
	DefaultPeers = 5000
	DefaultLease = 10 * time.Second
)

// maxPeers is far above any cluster, and 13 GB on 64 CPUs.
const maxPeers = 1 << 20

// Options say where and how to measure. Zero means the default, but for Devices.
type Options struct {
	Devices []string // names of the underlay's NICs; a packet that passes two of them counts twice
	Port    uint16   // UDP port of the tunnel
	Peers   int      // how many are held at once, before the one least heard of is forgotten; see Memory
	Hook    Hook     // TCX where the kernel has it, else Classic, which sees nothing that a tcx program ends
	Access  Access   // Direct where the kernel lets it be loaded, else Copied
	// Lease is how long a classic program still counts after its owner has died.
	Lease time.Duration
}

// Meter is attached until Close, or until its process ends. Its methods may be called by several goroutines. They act
// on the network namespace of the thread that calls, which has to be the one in which Start was called.
type Meter struct {
	hook    Hook
	access  Access
	reason  string
	devices []string

	mu     sync.Mutex
	kernel *loaded
	chain  chain
	lease  *lease // nil: the kernel removes the programs with the process
	// started: every device was there once.
	started bool
}

// Start loads the program and attaches it to both directions of every device. First it removes the filters that an
// owner which died has left in this network namespace. If it returns an error, nothing is attached.
func Start(o Options) (*Meter, error) {
	o = o.withDefaults()
	if len(o.Devices) == 0 {
		return nil, errors.New("starting the tunnel meter: no device is named; name the NICs that carry the tunnel")
	}
	if o.Peers < 1 || o.Peers > maxPeers || o.Lease < time.Millisecond {
		return nil, fmt.Errorf("starting the tunnel meter: %d peers and a lease of %s; want 1 to %d peers and a millisecond or more", o.Peers, o.Lease, maxPeers)
	}
	if err := Allowed(); err != nil {
		return nil, fmt.Errorf("starting the tunnel meter: %w", err)
	}
	m, err := start(o)
	if err != nil {
		return nil, fmt.Errorf("starting the tunnel meter on %v: %w", o.Devices, err)
	}
	return m, nil
}

func start(o Options) (*Meter, error) {
	if _, err := removeLeftovers(); err != nil {
		return nil, err
	}
	hook, err := choose(o.Hook, o.Devices[0])
	if err != nil {
		return nil, err
	}
	m := &Meter{hook: hook, access: o.Access, devices: o.Devices}
	entries, err := entries(o.Peers)
	if err != nil {
		return nil, err
	}
	v := variant{access: o.Access, port: o.Port, entries: entries, leased: hook == Classic}
	v.coarse = v.leased && haveCoarseClock()
	if v.access == "" {
		m.kernel, m.access, m.reason, err = loadBest(v, load)
	} else {
		m.kernel, err = load(v)
	}
	if err != nil {
		return nil, fmt.Errorf("loading the program: %w", explain(err))
	}
	if hook == Classic {
		m.chain, err = newClassicChain(m.kernel.programs)
		if err == nil {
			m.lease, err = holdLease(m.kernel.leaseEnd, o.Lease)
		}
	} else {
		m.chain = newTCXChain(m.kernel.programs)
	}
	if err == nil {
		_, err = m.Ensure()
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	m.started = true
	return m, nil
}

func (o Options) withDefaults() Options {
	if o.Port == 0 {
		o.Port = DefaultPort
	}
	if o.Peers == 0 {
		o.Peers = DefaultPeers
	}
	if o.Lease == 0 {
		o.Lease = DefaultLease
	}
	return o
}

// Hook is where the programs are attached.
func (m *Meter) Hook() Hook { return m.hook }

// Access is which program the kernel runs. Where it is Copied and nobody asked for it, the text says why.
func (m *Meter) Access() (Access, string) { return m.access, m.reason }

// Close detaches the programs and frees what they counted. A second one does nothing.
func (m *Meter) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var err error
	if m.chain != nil {
		err = m.chain.close()
	}
	if m.lease != nil {
		m.lease.end()
		m.lease = nil
	}
	m.kernel.all.Close()
	if err != nil {
		return fmt.Errorf("detaching the tunnel meter: %w", err)
	}
	return nil
}

// slack is what each CPU may keep aside of an LRU map's free entries (LOCAL_FREE_TARGET, kernel/bpf/bpf_lru_list.c):
// without it peers would be forgotten before the map is full.
const slack = 128

func entries(peers int) (uint32, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return 0, fmt.Errorf("counting the CPUs: %w", err)
	}
	return uint32(2*peers + slack*cpus), nil
}

// Memory is what the kernel allocates for the flows of that many peers on a machine of that many possible CPUs, in
// bytes. It is allocated at once, grows no further, and counts against the memory limit of the container. At 5,000
// peers: 4.0 MB on 4 CPUs, 15 MB on 16, 86 MB on 64.
func Memory(peers, cpus int) int {
	const (
		counters = 72     // struct counters, on each CPU
		element  = 56 + 8 // struct htab_elem and its key, rounded up, and the pointer to the counters
		bucket   = 16     // struct bucket
	)
	n := 2*peers + slack*cpus
	return n*(counters*cpus+element) + bucket<<bits.Len(uint(n-1))
}

// Fit is how many peers, up to want, can be held on this machine in that much memory, in bytes; 0 where not even one can: on
// hundreds of CPUs, each of which has counters of its own for every flow.
func Fit(want, memory int) (int, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return 0, fmt.Errorf("counting the CPUs: %w", err)
	}
	return fit(want, memory, cpus), nil
}

func fit(want, memory, cpus int) int {
	return sort.Search(want, func(n int) bool { return Memory(n+1, cpus) > memory })
}

// device returns the index of a NIC on which packets begin with an Ethernet header, as the program expects.
func device(name string) (int, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("looking for device %s: %w", name, err)
	}
	if kind := link.Attrs().EncapType; kind != "ether" {
		return 0, fmt.Errorf("looking at device %s: its packets begin with no Ethernet header (%s); name the NIC under the tunnel", name, kind)
	}
	return link.Attrs().Index, nil
}

// gone is whether an error of device means that there is none.
func gone(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV)
}
