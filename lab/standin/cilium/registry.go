// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/datapath"
)

// Owners of the node's own addresses in the registry, where pods have a container id.
const (
	healthOwner = "health"
	routerOwner = "router"
)

// record is what outlives the agent, in <run directory>/state/endpoints.json.
type record struct {
	HostID    uint16                       `json:"hostID"`
	Endpoints map[string]datapath.Endpoint `json:"endpoints"` // by owner
}

// registry knows the endpoints of this node and hands out addresses of its slice.
type registry struct {
	file string

	mu     sync.Mutex
	record record
	slice  netip.Prefix
	taken  map[netip.Addr]string // address to owner; also of pods whose endpoint does not exist yet
}

func openRegistry(runDir string) (*registry, error) {
	r := &registry{file: filepath.Join(runDir, "state", "endpoints.json"), taken: map[netip.Addr]string{}}
	if err := os.MkdirAll(filepath.Dir(r.file), 0o770); err != nil {
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	raw, err := os.ReadFile(r.file)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("reading the endpoints of the agent before: %w", err)
	default:
		if err := json.Unmarshal(raw, &r.record); err != nil {
			return nil, fmt.Errorf("reading the endpoints of the agent before, %s (remove it to start afresh; running pods lose their network): %w", r.file, err)
		}
	}
	if r.record.Endpoints == nil {
		r.record.Endpoints = map[string]datapath.Endpoint{}
	}
	for owner, ep := range r.record.Endpoints {
		r.taken[ep.IP] = owner
	}
	if r.record.HostID == 0 {
		r.record.HostID = r.freeID()
	}
	return r, r.save()
}

func (r *registry) hostID() uint16 { return r.record.HostID }

// open sets the slice from which allocate takes addresses.
func (r *registry) open(slice netip.Prefix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slice = slice
}

// allocate returns the address of owner: the one it has, the hint if that is free, or a random one
// as the original does.
func (r *registry) allocate(owner string, hint netip.Addr) (netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for addr, of := range r.taken {
		if of == owner && r.slice.Contains(addr) {
			return addr, nil
		}
	}
	if hint.IsValid() && r.free(hint) {
		r.taken[hint] = owner
		return hint, nil
	}
	first := randomIn(r.slice)
	for addr, wrapped := first, false; ; addr = addr.Next() {
		if !r.slice.Contains(addr) {
			addr = r.slice.Masked().Addr()
		}
		if addr == first && wrapped {
			return netip.Addr{}, fmt.Errorf("allocating an address for %s: none of %s is free (%d in use); delete pods or add nodes", owner, r.slice, len(r.taken))
		}
		wrapped = true
		if r.free(addr) {
			r.taken[addr] = owner
			return addr, nil
		}
	}
}

// free says whether addr may be handed out: neither taken nor the first or last of the slice.
func (r *registry) free(addr netip.Addr) bool {
	_, used := r.taken[addr]
	return r.slice.Contains(addr) && !used && addr != r.slice.Masked().Addr() && r.slice.Contains(addr.Next())
}

func randomIn(p netip.Prefix) netip.Addr {
	addr := p.Masked().Addr()
	for range rand.IntN(1 << (p.Addr().BitLen() - p.Bits())) {
		addr = addr.Next()
	}
	return addr
}

// complete gives the endpoint its id and remembers it on disk.
func (r *registry) complete(owner string, ep datapath.Endpoint) (datapath.Endpoint, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ep.ID = r.record.Endpoints[owner].ID
	if ep.ID == 0 {
		ep.ID = r.freeID()
	}
	r.record.Endpoints[owner] = ep
	r.taken[ep.IP] = owner
	return ep, r.save()
}

// find returns the endpoint of owner.
func (r *registry) find(owner string) (datapath.Endpoint, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ep, ok := r.record.Endpoints[owner]
	return ep, ok
}

// release forgets an owner, its endpoint and its addresses. Doing it again is no error.
func (r *registry) release(owner string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for addr, of := range r.taken {
		if of == owner {
			delete(r.taken, addr)
		}
	}
	delete(r.record.Endpoints, owner)
	return r.save()
}

// all returns the endpoints by owner.
func (r *registry) all() map[string]datapath.Endpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := make(map[string]datapath.Endpoint, len(r.record.Endpoints))
	for owner, ep := range r.record.Endpoints {
		found[owner] = ep
	}
	return found
}

func (r *registry) freeID() uint16 {
	used := []uint16{0, r.record.HostID}
	for _, ep := range r.record.Endpoints {
		used = append(used, ep.ID)
	}
	for {
		if id := uint16(1 + rand.IntN(4095)); !slices.Contains(used, id) {
			return id
		}
	}
}

func (r *registry) save() error {
	raw, err := json.MarshalIndent(r.record, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the endpoints: %w", err)
	}
	return replaceFile(r.file, raw, 0o600)
}
