// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/cni-cutover/cni-cutover/internal/capability"
)

const (
	// callSlots bounds the arrays of tail calls that are followed: a device's or endpoint's own have 48 to 50 slots. Those by
	// endpoint ID, of 65,535, hold programs that were loaded together with the ones that are followed here.
	callSlots = 256
	// maxPrograms bounds what is followed: 250 pods have about 20 programs each.
	maxPrograms = 1 << 15
)

// NotAllowedError says that this thread may not ask which maps a program uses. Nothing was asked.
type NotAllowedError struct{}

func (NotAllowedError) Error() string {
	return "asking which maps a program uses takes CAP_SYS_ADMIN (programs by their IDs), which is not in this process's effective set: " +
		"add it to the container's securityContext.capabilities, or do not ask"
}

// MayAskUses returns a [NotAllowedError] where this thread may not do what [ReadUses] does.
func MayAskUses() error {
	if !capability.Held(capability.SysAdmin) {
		return NotAllowedError{}
	}
	return nil
}

// Uses is what a program, and all that it calls, use of the maps that judgements rest on. Both are names of pins, in order.
type Uses struct {
	Now []string // those whose map it uses
	// Old are those of which it uses another map, of the same kernel name, type and sizes: one that was pinned there before. What is
	// written into the pinned one then never reaches this program.
	Old []string
}

// ReadUses asks which of the maps that this package reads each of some programs uses. Tail calls are followed: most of Cilium's programs
// that are attached only call those that look anything up. Programs that are gone by now are left out. It takes CAP_SYS_ADMIN, in the
// initial user namespace (kernel/bpf/syscall.c: bpf_prog_get_fd_by_id, bpf_map_get_fd_by_id), and only for that: the info of a program
// holds its maps whoever asks.
//
// Cilium makes its ipcache anew whenever its agent starts, so there is a time in which the pin is ahead of the programs
// (Cilium pkg/maps/ipcache: Recreate).
func ReadUses(globalsDir string, programs []ebpf.ProgramID) (map[ebpf.ProgramID]Uses, error) {
	if err := MayAskUses(); err != nil {
		return nil, err
	}
	pins, err := readPinnedMaps(globalsDir)
	if err != nil {
		return nil, err
	}
	k := kernelObjects{maps: map[ebpf.MapID]pinnedMap{}, used: map[ebpf.ProgramID][]ebpf.MapID{}, calls: map[ebpf.MapID][]ebpf.ProgramID{}}
	out := make(map[ebpf.ProgramID]Uses, len(programs))
	for _, p := range programs {
		all, err := k.reached(p)
		if err != nil {
			return nil, fmt.Errorf("asking which maps program %d uses: %w", p, err)
		}
		if all != nil {
			out[p] = usesOf(all, pins)
		}
	}
	return out, nil
}

// pinnedMap tells one map from another.
type pinnedMap struct {
	pin  string
	id   ebpf.MapID
	name string // the kernel's, of 15 characters at most
	Layout
	slots uint32 // of an array of programs
}

func infoOf(m *ebpf.Map) (pinnedMap, error) {
	info, err := m.Info()
	if err != nil {
		return pinnedMap{}, fmt.Errorf("reading the info of a map: %w", err)
	}
	id, ok := info.ID()
	if !ok {
		return pinnedMap{}, errors.New("reading the info of a map: this kernel gives maps no IDs (4.13 does)")
	}
	return pinnedMap{id: id, name: info.Name, Layout: Layout{info.Type, info.KeySize, info.ValueSize}, slots: info.MaxEntries}, nil
}

// readPinnedMaps reads which maps are pinned now, of those that this package reads.
func readPinnedMaps(globalsDir string) ([]pinnedMap, error) {
	names, err := ReadPins(globalsDir)
	if err != nil {
		return nil, err
	}
	var out []pinnedMap
	for _, pin := range []string{newestIPCache(names), EndpointsPin, CountersPin, RuntimeConfigPin, ServicesPin, BackendsPin} {
		path := filepath.Join(globalsDir, pin)
		m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
		if errors.Is(err, fs.ErrNotExist) {
			continue // who needs it says so
		}
		if err != nil {
			return nil, explain(path, err)
		}
		p, err := infoOf(m)
		_ = m.Close()
		if err != nil {
			return nil, err
		}
		p.pin = pin
		out = append(out, p)
	}
	return out, nil
}

func usesOf(used []pinnedMap, pins []pinnedMap) Uses {
	var out Uses
	for _, p := range pins {
		if slices.ContainsFunc(used, func(m pinnedMap) bool { return m.id == p.id }) {
			out.Now = append(out.Now, p.pin)
		}
		if slices.ContainsFunc(used, func(m pinnedMap) bool { return m.id != p.id && m.name == p.name && m.Layout == p.Layout }) {
			out.Old = append(out.Old, p.pin)
		}
	}
	return out
}

// kernelObjects are programs and maps that were asked about, so that each is asked once. IDs are not given again within a read:
// the kernel counts on from the last one.
type kernelObjects struct {
	maps  map[ebpf.MapID]pinnedMap
	used  map[ebpf.ProgramID][]ebpf.MapID // nil: gone
	calls map[ebpf.MapID][]ebpf.ProgramID // what an array of programs holds
}

// reached returns every map of a program and of all that it can call, nil for one that is gone.
func (k *kernelObjects) reached(root ebpf.ProgramID) ([]pinnedMap, error) {
	todo, met := []ebpf.ProgramID{root}, map[ebpf.ProgramID]bool{root: true}
	seen := map[ebpf.MapID]bool{}
	var out []pinnedMap
	for len(todo) > 0 {
		p := todo[0]
		todo = todo[1:]
		used, err := k.mapsOf(p)
		if err != nil {
			return nil, err
		}
		if used == nil && p == root {
			return nil, nil
		}
		for _, id := range used {
			m, ok, err := k.mapOf(id)
			if err != nil {
				return nil, err
			}
			if !ok || seen[id] {
				continue
			}
			seen[id] = true
			out = append(out, m)
			for _, next := range k.calls[id] {
				if !met[next] {
					met[next] = true
					todo = append(todo, next)
				}
			}
		}
	}
	if out == nil {
		out = []pinnedMap{} // it is there and uses none
	}
	return out, nil
}

// mapsOf asks for the maps of one program, nil if it is gone.
func (k *kernelObjects) mapsOf(id ebpf.ProgramID) ([]ebpf.MapID, error) {
	if used, known := k.used[id]; known {
		return used, nil
	}
	if len(k.used) >= maxPrograms {
		return nil, fmt.Errorf("there are more than %d programs to be followed, which no node of Cilium's has", maxPrograms)
	}
	p, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, fs.ErrNotExist) {
		k.used[id] = nil
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return nil, fmt.Errorf("reading the info of program %d: %w", id, err)
	}
	used, _ := info.MapIDs()
	k.used[id] = append([]ebpf.MapID{}, used...)
	return k.used[id], nil
}

// mapOf asks about one map, and for what it holds if programs are called by it; false if it is gone.
func (k *kernelObjects) mapOf(id ebpf.MapID) (pinnedMap, bool, error) {
	if m, known := k.maps[id]; known {
		return m, m.id == id, nil
	}
	m, err := ebpf.NewMapFromID(id)
	if errors.Is(err, fs.ErrNotExist) {
		k.maps[id] = pinnedMap{}
		return pinnedMap{}, false, nil
	}
	if err != nil {
		return pinnedMap{}, false, fmt.Errorf("opening map %d: %w", id, err)
	}
	defer m.Close()
	info, err := infoOf(m)
	if err != nil {
		return pinnedMap{}, false, err
	}
	k.maps[id] = info
	if info.Type == ebpf.ProgramArray && info.slots <= callSlots {
		if k.calls[id], err = calledBy(m, info.slots); err != nil {
			return pinnedMap{}, false, err
		}
	}
	return info, true, nil
}

// calledBy reads which programs an array of tail calls holds.
func calledBy(m *ebpf.Map, slots uint32) ([]ebpf.ProgramID, error) {
	var out []ebpf.ProgramID
	for slot := range slots {
		var id uint32
		switch err := m.Lookup(slot, &id); {
		case errors.Is(err, ebpf.ErrKeyNotExist):
		case err != nil:
			return nil, fmt.Errorf("reading slot %d of an array of tail calls: %w", slot, err)
		default:
			out = append(out, ebpf.ProgramID(id))
		}
	}
	return out, nil
}
