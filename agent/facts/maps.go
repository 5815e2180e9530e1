// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

func lookMaps(bpffs string) (Endpoints, IPCache) {
	globals := filepath.Join(bpffs, ciliummap.GlobalsDir)
	var (
		e         Endpoints
		c         IPCache
		err, err2 error
	)
	e.ByIP, e.Stats, err = ciliummap.ReadEndpoints(globals)
	e.Look = mapLook(bpffs, err)
	c.Entries, c.Stats, err2 = ciliummap.ReadIPCache(globals)
	c.Look = mapLook(bpffs, err2)
	return e, c
}

// lookLayouts reads the object of Cilium's alignment checker. The agent writes it anew whenever it starts, so it is of the one that runs.
func lookLayouts(run string) Layouts {
	if run == "" {
		return Layouts{Look: Look{Detail: "its runtime directory is not mounted here"}}
	}
	differ, err := ciliummap.CompareLayouts(filepath.Join(run, ciliummap.AlignCheckerFile))
	switch {
	case err == nil:
		return Layouts{Look: Look{Sight: Seen}, Differ: differ}
	case errors.Is(err, fs.ErrNotExist):
		return Layouts{Look: Look{Absent, err.Error()}}
	case errors.Is(err, fs.ErrPermission):
		return Layouts{Look: failed(err), NotAllowed: true}
	}
	return Layouts{Look: Look{Alien, err.Error()}}
}

// Cilium changes several entries when a Service changes, one after the other, and the two maps are read one after the other too: what it
// is at just then looks like a gap, and a moment later is none.
const (
	gapReads = 5
	gapPause = 50 * time.Millisecond
)

// lookServices reads the maps of Services where Cilium translates at sockets: only there do processes depend on them alone.
func lookServices(bpffs string, p Programs) Services {
	if len(p.Sockets) == 0 {
		return Services{Look: Look{Detail: "Cilium has no programs at sockets here"}}
	}
	s, gaps, err := lastingGaps(func() (ciliummap.Services, error) {
		return ciliummap.ReadServices(filepath.Join(bpffs, ciliummap.GlobalsDir))
	})
	if err != nil {
		return Services{Look: mapLook(bpffs, err)}
	}
	return Services{Look: Look{Sight: Seen}, Services: s, Gaps: gaps}
}

// lastingGaps reads until there are no gaps that every read had, at most gapReads times.
func lastingGaps(read func() (ciliummap.Services, error)) (s ciliummap.Services, gaps []ciliummap.Gap, err error) {
	for i := range gapReads {
		if s, err = read(); err != nil {
			return s, nil, err
		}
		now := s.Gaps()
		if i == 0 {
			gaps = now
		}
		gaps = slices.DeleteFunc(gaps, func(g ciliummap.Gap) bool { return !slices.Contains(now, g) })
		if len(gaps) == 0 {
			break
		}
		time.Sleep(gapPause)
	}
	return s, gaps, nil
}

func lookPins(bpffs string) Pins {
	names, err := ciliummap.ReadPins(filepath.Join(bpffs, ciliummap.GlobalsDir))
	return Pins{Look: mapLook(bpffs, err), Names: names}
}

// lookLiveness reads the clock after the stamp, so that a live agent's stamp is never younger than Now.
func lookLiveness(bpffs string) Liveness {
	c, err := ciliummap.ReadRuntimeConfig(filepath.Join(bpffs, ciliummap.GlobalsDir))
	if err != nil {
		return Liveness{Look: mapLook(bpffs, err)}
	}
	now, err := ciliummap.Monotonic()
	if err != nil {
		return Liveness{Look: failed(err)}
	}
	return Liveness{Look: Look{Sight: Seen}, Stamp: c.AgentLiveness, Now: now}
}

func lookCounters(bpffs string) Counters {
	by, err := ciliummap.ReadCounters(filepath.Join(bpffs, ciliummap.GlobalsDir))
	if err != nil {
		return Counters{Look: mapLook(bpffs, err)}
	}
	now, err := ciliummap.Monotonic()
	if err != nil {
		return Counters{Look: failed(err)}
	}
	return Counters{Look: Look{Sight: Seen}, At: now, By: by}
}

// mapLook sorts an error of ciliummap. A missing pin is Absent only where the bpffs itself is to be seen: a process that looks
// at an empty directory has learned nothing about Cilium.
func mapLook(bpffs string, err error) Look {
	unknown, tooOld := new(ciliummap.UnknownLayoutError), new(ciliummap.UnsupportedReleaseError)
	decode := new(ciliummap.DecodeError)
	switch {
	case err == nil:
		return Look{Sight: Seen}
	case errors.As(err, &unknown), errors.As(err, &tooOld), errors.As(err, &decode):
		return Look{Alien, err.Error()}
	case errors.Is(err, fs.ErrNotExist) && isBPFFS(bpffs):
		return Look{Absent, err.Error()}
	}
	return failed(err)
}
