// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package tunnelmeter

import (
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/internal/capability"
)

func TestWithTCXNothingIsLeftWhenItsOwnerIsKilled(t *testing.T) {
	n := newNIC(t)
	w := n.owner(order{Options: on(TCX)})
	if w.first.Error != "" || n.tcxPrograms() != 2 {
		t.Fatalf("%+v, %d programs", w.first, n.tcxPrograms())
	}
	n.exchange()
	if got := w.packets(); got != 2 {
		t.Fatalf("the owner counts %d packets, want 2", got)
	}
	w.kill()
	eventually(t, func() string { // the kernel closes files after it has reported the end
		if n.tcxPrograms() != 0 {
			return "the programs are still attached"
		}
		return ""
	})
}

func TestWithClassicTCAProgramWhoseOwnerWasKilledStopsAndIsRemovedLater(t *testing.T) {
	const lease = 300 * time.Millisecond
	n := newNIC(t)
	n.ciliumClassic()
	others := n.filters()
	o := on(Classic)
	o.Lease = lease
	w := n.owner(order{Options: o})
	if w.first.Error != "" || w.first.Hook != Classic {
		t.Fatalf("%+v", w.first)
	}
	left := n.leftBehind(t)
	eventually(t, func() string { // a machine that is busy may let the lease lapse for a moment
		if n.seen(left) == 0 {
			return "it counts nothing while its owner lives"
		}
		return ""
	})
	w.kill()
	killed := time.Now()
	eventually(t, func() string {
		if n.seen(left) != 0 {
			return "it still counts"
		}
		return ""
	})
	if took := time.Since(killed); took > lease+5*time.Second {
		t.Errorf("it counted for %s after its owner's end, with a lease of %s", took, lease)
	}
	for range 10 {
		n.want(left, 0, "the lease has ended")
	}
	if got := len(n.filters()); got != len(others)+2 {
		t.Fatalf("filters %q: the dead owner's two should be there still", n.filters())
	}

	m := n.meter(on(TCX)) // another way than the dead one's
	if got := n.filters(); !slices.Equal(got, others) {
		t.Errorf("after the next start filters %q, want %q", got, others)
	}
	n.want(m, 2, "the next owner")
}

// leftBehind opens the maps of the program that hangs on the NIC, as only the one who is root in a test may.
func (n *nic) leftBehind(t *testing.T) *Meter {
	t.Helper()
	out := &Meter{kernel: &loaded{}}
	list, err := n.FilterList(n.space.link("eth0"), parent(Ingress))
	must(t, err)
	for _, f := range list {
		if !ours(f) {
			continue
		}
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(f.(*netlink.BpfFilter).Id))
		must(t, err)
		defer p.Close()
		info, err := p.Info()
		must(t, err)
		ids, _ := info.MapIDs()
		for _, id := range ids {
			m, err := ebpf.NewMapFromID(id)
			must(t, err)
			t.Cleanup(func() { m.Close() })
			switch m.Type() {
			case ebpf.LRUCPUHash:
				out.kernel.flows = m
			case ebpf.PerCPUArray:
				out.kernel.strays = m
			}
		}
	}
	if out.kernel.flows == nil || out.kernel.strays == nil {
		t.Fatal("there is no filter of a meter")
	}
	return out
}

func TestALeaseIsRenewedUntilItEnds(t *testing.T) {
	m := program(t, variant{access: Direct, leased: true})
	until := func() (ns uint64) {
		must(t, m.kernel.leaseEnd.Get(&ns))
		return ns
	}
	synctest.Test(t, func(t *testing.T) {
		l, err := holdLease(m.kernel.leaseEnd, DefaultLease)
		must(t, err)
		for range 5 {
			before := until()
			time.Sleep(DefaultLease / 2) // of the bubble's time, which is not the program's
			synctest.Wait()
			if until() <= before {
				t.Error("half a lease has passed, and it was not renewed")
			}
		}
		l.end()
		before := until()
		time.Sleep(2 * DefaultLease)
		if until() != before {
			t.Error("renewed after its end")
		}
	})
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	n := newNIC(t)
	cases := map[string]struct {
		order
		says, not []string
		typed     bool
	}{
		"no capability":   {order{Keep: []capability.Capability{}}, []string{"CAP_BPF (to load", "CAP_NET_ADMIN (to attach", "securityContext"}, nil, true},
		"only NET_ADMIN":  {order{Keep: []capability.Capability{capability.NetAdmin}}, []string{"CAP_BPF"}, []string{"CAP_NET_ADMIN"}, true},
		"only BPF":        {order{Keep: []capability.Capability{capability.BPF}}, []string{"CAP_NET_ADMIN"}, []string{"CAP_BPF"}, true},
		"only SYS_ADMIN":  {order{Keep: []capability.Capability{capability.SysAdmin}}, []string{"CAP_NET_ADMIN"}, []string{"CAP_BPF"}, true},
		"a profile":       {order{NoBPF: true}, []string{"operation not permitted", "seccomp"}, []string{"consider rlimit"}, false},
		"a profile, tc":   {order{NoBPF: true, Options: Options{Hook: Classic}}, []string{"operation not permitted", "seccomp"}, []string{"consider rlimit"}, false},
		"what is wanted":  {order{Keep: []capability.Capability{capability.BPF, capability.NetAdmin}}, nil, nil, false},
		"the same by tc":  {order{Keep: []capability.Capability{capability.BPF, capability.NetAdmin}, Options: Options{Hook: Classic}}, nil, nil, false},
		"copying program": {order{Keep: []capability.Capability{capability.BPF, capability.NetAdmin}, Options: Options{Access: Copied}}, nil, nil, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.Devices, c.Peers = []string{"eth0"}, 16
			w := n.owner(c.order)
			a := w.first
			for _, part := range c.says {
				if !strings.Contains(a.Error, part) {
					t.Errorf("%q does not say %q", a.Error, part)
				}
			}
			for _, part := range c.not {
				if strings.Contains(a.Error, part) {
					t.Errorf("%q says %q, which is not so", a.Error, part)
				}
			}
			if a.Typed != c.typed || len(c.says) == 0 && a.Error != "" {
				t.Errorf("%+v", a)
			}
			if len(c.says) > 0 {
				return
			}
			n.exchange()
			if got := w.packets(); got != 2 {
				t.Errorf("counts %d packets, want 2", got)
			}
			w.kill()
		})
	}
}

func TestWithoutTCXTheMeterTakesClassicTCUnlessItMustNot(t *testing.T) {
	n := newNIC(t)
	n.ciliumClassic()
	w := n.owner(order{Options: on(""), NoTCX: true})
	if w.first.Hook != Classic {
		t.Fatalf("%+v", w.first)
	}
	n.exchange()
	if got := w.packets(); got != 2 {
		t.Errorf("counts %d packets, want 2", got)
	}
	w.kill()
	w = n.owner(order{Options: on(TCX), NoTCX: true})
	if !strings.Contains(w.first.Error, "has no tcx") {
		t.Errorf("%+v", w.first)
	}
}

// A kernel that refuses to read in place is one that this test cannot have: the choice is made on its answer alone.
func TestTheCopyingProgramIsTakenWhereTheOtherIsRefusedAndSaysWhy(t *testing.T) {
	needsRoot(t)
	refuse := func(which ...Access) func(variant) (*loaded, error) {
		return func(v variant) (*loaded, error) {
			if slices.Contains(which, v.access) {
				return nil, errors.New("the verifier refuses the " + string(v.access) + " program")
			}
			return load(v)
		}
	}
	l, access, why, err := loadBest(variant{port: testPort, entries: 1024}, refuse(Direct))
	must(t, err)
	l.all.Close()
	if access != Copied || !strings.Contains(why, "refuses the direct program") {
		t.Errorf("access %s, why %q", access, why)
	}
	if _, _, _, err := loadBest(variant{port: testPort, entries: 1024}, refuse(Direct, Copied)); err == nil || !strings.Contains(err.Error(), "refuses the copied program") {
		t.Errorf("err = %v", err)
	}
}

func from(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// visit shows one packet from a peer, or to it.
func (m *Meter) visit(tb testing.TB, d Direction, i int) {
	tb.Helper()
	p := tunnelled(d, innerUDP(100), ip4{})
	copy(p[14+12+4*int(d):], from(i).AsSlice()) // source or destination
	m.show(tb, d, p, 0)
}

func TestAStrangerCannotMakeTheMeterGrow(t *testing.T) {
	m := program(t, variant{access: Direct})
	most := int(m.kernel.flows.MaxEntries())
	for i := range 4 * most {
		m.visit(t, Ingress, i)
	}
	r := m.read(t)
	if len(r.Flows) > most {
		t.Errorf("%d flows, and the map was made for %d", len(r.Flows), most)
	}
	if _, ok := r.Flows[Flow{from(4*most - 1), Ingress}]; !ok {
		t.Error("the last peer that spoke is not there")
	}
}

func TestNoPeerIsForgottenUpToThePromisedNumber(t *testing.T) {
	const peers = DefaultPeers // each with two flows
	m := programFor(t, peers, variant{access: Direct})
	cpus, err := ebpf.PossibleCPU()
	must(t, err)
	done := make(chan struct{})
	go func() { // each CPU keeps free entries of its own
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is bound to a CPU
		for i := range 2 * peers {
			if i%500 == 0 {
				var set unix.CPUSet
				set.Set(i / 500 % cpus)
				_ = unix.SchedSetaffinity(0, &set) // a possible CPU may be offline
			}
			m.visit(t, Ingress, i)
		}
	}()
	<-done
	if got := len(m.read(t).Flows); got != 2*peers {
		t.Errorf("%d flows, want %d", got, 2*peers)
	}
}

func TestAsManyPeersAreHeldAsFit(t *testing.T) {
	const memory = 64 << 20
	for cpus, all := range map[int]bool{2: true, 16: true, 64: false, 96: false} {
		n := fit(DefaultPeers, memory, cpus)
		if all != (n == DefaultPeers) || n > 0 && Memory(n, cpus) > memory || n < DefaultPeers && Memory(n+1, cpus) <= memory {
			t.Errorf("%d peers on %d CPUs, which take %d bytes", n, cpus, Memory(n, cpus))
		}
	}
	if n := fit(DefaultPeers, memory, 448); n != 0 {
		t.Errorf("%d peers on 448 CPUs", n)
	}
}

func TestMemoryIsWhatTheKernelAllocates(t *testing.T) {
	needsRoot(t)
	for _, peers := range []int{100, DefaultPeers} {
		n, err := entries(peers)
		must(t, err)
		l, err := load(variant{access: Direct, port: testPort, entries: n})
		must(t, err)
		defer l.all.Close()
		info, err := l.flows.Info()
		must(t, err)
		kernel, ok := info.Memlock()
		if !ok {
			t.Fatal("this kernel does not tell the memory of a map")
		}
		cpus, err := ebpf.PossibleCPU()
		must(t, err)
		if said := float64(Memory(peers, cpus)); said < 0.95*float64(kernel) || said > 1.05*float64(kernel) {
			t.Errorf("%d peers on %d CPUs: Memory says %.0f bytes, the kernel %d", peers, cpus, said, kernel)
		}
	}
}
