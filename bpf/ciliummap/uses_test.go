// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/internal/capability"
)

// named makes a map as Cilium does: with the name of its pin, of which the kernel keeps 15 characters.
func named(tb testing.TB, name string, l Layout, maxEntries uint32) *ebpf.Map {
	tb.Helper()
	spec := &ebpf.MapSpec{Name: name, Type: l.Type, KeySize: l.KeySize, ValueSize: l.ValueSize, MaxEntries: maxEntries}
	if l.Type == ebpf.LPMTrie || l.Type == ebpf.Hash {
		spec.Flags = unix.BPF_F_NO_PREALLOC
	}
	m, err := ebpf.NewMap(spec)
	if err != nil {
		tb.Fatalf("making map %s (%s): %v", name, l, err)
	}
	tb.Cleanup(func() { m.Close() })
	return m
}

func pinned(tb testing.TB, dir, name string, l Layout) *ebpf.Map {
	tb.Helper()
	m := named(tb, name, l, 16)
	if err := m.Pin(filepath.Join(dir, name)); err != nil {
		tb.Fatal(err)
	}
	return m
}

// calls makes an array of tail calls.
func calls(tb testing.TB, slots uint32, programs map[uint32]*ebpf.Program) *ebpf.Map {
	tb.Helper()
	m := named(tb, "cilium_calls_overlay_2", Layout{ebpf.ProgramArray, 4, 4}, slots)
	for slot, p := range programs {
		if err := m.Put(slot, p); err != nil {
			tb.Fatal(err)
		}
	}
	return m
}

// using loads a program that names maps and looks nothing up.
func using(tb testing.TB, maps ...*ebpf.Map) *ebpf.Program {
	tb.Helper()
	var code asm.Instructions
	for _, m := range maps {
		code = append(code, asm.LoadMapPtr(asm.R1, m.FD()))
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: append(code, asm.Mov.Imm(asm.R0, 0), asm.Return())})
	if err != nil {
		tb.Fatal("loading a program:", err)
	}
	tb.Cleanup(func() { p.Close() })
	return p
}

func idOf(tb testing.TB, p *ebpf.Program) ebpf.ProgramID {
	tb.Helper()
	info, err := p.Info()
	if err != nil {
		tb.Fatal(err)
	}
	id, _ := info.ID()
	return id
}

func TestUsesTellsThePinnedMapFromTheOneBeforeIt(t *testing.T) {
	dir := globals(t)
	ipcache, lxc := pinned(t, dir, IPCachePin, ipcacheLayout()), pinned(t, dir, EndpointsPin, endpointsLayout())
	services := pinned(t, dir, ServicesPin, Layout{ebpf.Hash, 12, 12})
	before := named(t, IPCachePin, ipcacheLayout(), 16) // as of a Cilium agent that has ended
	other := named(t, "cilium_lxc", Layout{ebpf.Hash, 20, 44}, 16)
	stranger := named(t, "somebodys_map", ipcacheLayout(), 16)
	// Cut at 15 characters this is the name of the Services' map, and the map is another one for all that.
	twin := named(t, "cilium_lb4_services_twin", Layout{ebpf.LRUHash, 12, 12}, 16)
	second := using(t, calls(t, 48, map[uint32]*ebpf.Program{7: using(t, ipcache, lxc), 47: using(t, services)}))
	loop := calls(t, 48, nil)
	round := using(t, loop, lxc)
	if err := loop.Put(uint32(1), round); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		program *ebpf.Program
		want    Uses
	}{
		"the pinned ones":               {using(t, ipcache, lxc), Uses{Now: []string{IPCachePin, EndpointsPin}}},
		"no map at all":                 {using(t), Uses{}},
		"others":                        {using(t, stranger, other, twin), Uses{}},
		"the one before":                {using(t, before, lxc), Uses{Now: []string{EndpointsPin}, Old: []string{IPCachePin}}},
		"both, half replaced":           {using(t, calls(t, 48, map[uint32]*ebpf.Program{1: using(t, before), 2: using(t, ipcache)})), Uses{Now: []string{IPCachePin}, Old: []string{IPCachePin}}},
		"by a tail call":                {using(t, calls(t, 48, map[uint32]*ebpf.Program{7: using(t, ipcache)})), Uses{Now: []string{IPCachePin}}},
		"by a tail call of a tail call": {using(t, calls(t, 50, map[uint32]*ebpf.Program{0: second})), Uses{Now: []string{IPCachePin, EndpointsPin, ServicesPin}}},
		"tail calls in a circle":        {round, Uses{Now: []string{EndpointsPin}}},
		"an array by endpoints":         {using(t, calls(t, 65535, map[uint32]*ebpf.Program{9: using(t, before)})), Uses{}},
	} {
		t.Run(name, func(t *testing.T) {
			id := idOf(t, c.program)
			got, err := ReadUses(dir, []ebpf.ProgramID{id})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[ebpf.ProgramID]Uses{id: c.want}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUsesLeavesOutWhatIsGoneOrNotPinned(t *testing.T) {
	dir := globals(t)
	lxc := pinned(t, dir, EndpointsPin, endpointsLayout())
	gone, stays := using(t, lxc), using(t, lxc)
	id, other := idOf(t, gone), idOf(t, stays)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	read := func() map[ebpf.ProgramID]Uses {
		got, err := ReadUses(dir, []ebpf.ProgramID{id, other})
		if err != nil {
			t.Fatal(err)
		}
		delete(got, id) // the kernel frees a program a little after its last user is gone
		return got
	}
	if diff := cmp.Diff(map[ebpf.ProgramID]Uses{other: {Now: []string{EndpointsPin}}}, read()); diff != "" {
		t.Error(diff)
	}
	if err := os.Remove(filepath.Join(dir, EndpointsPin)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[ebpf.ProgramID]Uses{other: {}}, read()); diff != "" {
		t.Error("without the pin:", diff)
	}
	got, err := ReadUses(dir, []ebpf.ProgramID{1 << 30})
	if err != nil || len(got) != 0 {
		t.Errorf("a program that never was: %v, %v", got, err)
	}
}

// keepOnly takes every other capability from this thread.
func keepOnly(keep ...capability.Capability) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	for _, c := range keep {
		sets[c/32].Effective |= 1 << (c % 32)
		sets[c/32].Permitted |= 1 << (c % 32)
	}
	return unix.Capset(&hdr, &sets[0])
}

// TestUsesTakesSysAdminAndNothingElse asks the kernel itself as well: that nobody needs the capability unless it is for this.
func TestUsesTakesSysAdminAndNothingElse(t *testing.T) {
	dir := globals(t)
	ipcache := pinned(t, dir, IPCachePin, ipcacheLayout())
	id := idOf(t, using(t, calls(t, 48, map[uint32]*ebpf.Program{7: using(t, ipcache)})))
	for name, c := range map[string]struct {
		keep    []capability.Capability
		refused bool
	}{
		"none":                       {nil, true},
		"those of the meter":         {[]capability.Capability{capability.BPF, capability.NetAdmin, capability.Perfmon}, true},
		"SYS_ADMIN, and nothing but": {[]capability.Capability{capability.SysAdmin}, false},
	} {
		onThread(func() {
			if err := keepOnly(c.keep...); err != nil {
				t.Error(err)
				return
			}
			_, err := ebpf.NewProgramFromID(id)
			if refused := errors.Is(err, unix.EPERM); refused != c.refused {
				t.Errorf("%s: the kernel says %v", name, err)
			}
			got, err := ReadUses(dir, []ebpf.ProgramID{id})
			if as[NotAllowedError](err) != c.refused || !c.refused && len(got[id].Now) != 1 {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		})
	}
}

func BenchmarkReadUses(b *testing.B) {
	dir := globals(b)
	ipcache, lxc := pinned(b, dir, IPCachePin, ipcacheLayout()), pinned(b, dir, EndpointsPin, endpointsLayout())
	var all []ebpf.ProgramID
	for range 250 { // pods, each with programs of its own
		slots := map[uint32]*ebpf.Program{}
		for slot := range uint32(20) {
			slots[slot] = using(b, ipcache, lxc)
		}
		all = append(all, idOf(b, using(b, calls(b, 48, slots))))
	}
	for b.Loop() {
		if got, err := ReadUses(dir, all); err != nil || len(got) != len(all) {
			b.Fatal(len(got), err)
		}
	}
}
