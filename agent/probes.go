// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/agent/probe"
	"github.com/cni-cutover/cni-cutover/bpf/tunnelmeter"
)

const (
	// askedPeers are how many peers a node asks: enough to tell its own fault from another's, and so few that a whole cluster of 5,000
	// that is asked at once sends each node 15 times the packets of one path.
	askedPeers = 3
	// probing bounds how long an answer waits for its paths; two black holes, one each way, take less.
	probing = 3 * time.Second
	// jitter keeps nodes that are asked together from asking one peer in the same moment.
	jitter = 20 * time.Millisecond
)

// measurePaths asks some of the peers how large a packet may be on the way to them and back.
func (a *Agent) measurePaths(ctx context.Context, f *facts.Facts) facts.Probes {
	if a.Probe == nil {
		return facts.Probes{}
	}
	under, over := check.LargestPackets(f)
	if under == 0 {
		return facts.Probes{Look: facts.Look{Sight: facts.Failed, Detail: "how large a packet the tunnel sends is not known"}}
	}
	asked := choosePeers(f)
	out := facts.Probes{Look: facts.Look{Sight: facts.Seen}, Most: under, List: make([]facts.Probe, len(asked))}
	before, errBefore := a.received()
	ctx, cancel := context.WithTimeout(ctx, probing)
	defer cancel()
	var (
		wg   sync.WaitGroup
		lock sync.Mutex
	)
	for i, p := range asked {
		wg.Go(func() {
			pause(ctx, rand.N(jitter))
			path, err := a.measurePath(ctx, p, under, over)
			lock.Lock()
			defer lock.Unlock()
			if out.List[i] = path; err != nil {
				out.Look = facts.Look{Sight: facts.Failed, Detail: err.Error()}
			}
		})
	}
	wg.Wait()
	if after, err := a.received(); errBefore != nil || err != nil {
		out.Tunnel.Look = facts.Look{Sight: facts.Failed, Detail: errors.Join(errBefore, err).Error()}
	} else if after >= before { // not made anew meanwhile
		out.Tunnel = facts.Received{Look: facts.Look{Sight: facts.Seen}, Packets: after - before}
	}
	return out
}

func (a *Agent) received() (uint64, error) {
	if a.Received == nil {
		return 0, errors.New("nobody counts what the tunnel's interface takes in")
	}
	return a.Received()
}

// metered adds what the meter saw of each peer between two of its looks, if it was first at the NIC all the while.
func metered(out *facts.Probes, before, after facts.Meter) {
	if before.Sight != facts.Seen || after.Sight != facts.Seen || before.Device != after.Device || after.Window == 0 {
		return
	}
	for i := range out.List {
		from := tunnelmeter.Flow{Peer: out.List[i].Address, Direction: tunnelmeter.Ingress}
		then, now := before.Total.Flows[from].Packets, after.Total.Flows[from].Packets
		if now >= then { // it holds a bounded number of peers
			out.List[i].Metered = facts.Received{Look: facts.Look{Sight: facts.Seen}, Packets: now - then}
		}
	}
}

// measurePath asks through the tunnel only where the path below it is whole: elsewhere its packets would be cut on the way, and prove nothing.
func (a *Agent) measurePath(ctx context.Context, p facts.Peer, under, over int) (facts.Probe, error) {
	out := facts.Probe{Peer: p.Name, Address: ipv4(p.InternalIPs)}
	var err error
	if out.Under, err = a.Probe(ctx, out.Address, under); err != nil {
		return out, err
	}
	through := ipv4(p.CiliumIPs)
	if out.Under.There.How == probe.Whole && out.Under.Back.How == probe.Whole && through.IsValid() {
		out.Over, err = a.Probe(ctx, through, over)
	}
	return out, err
}

// choosePeers picks the peers to ask: for each node others, and always the same.
func choosePeers(f *facts.Facts) []facts.Peer {
	byName := make(map[string]facts.Peer, len(f.Peers.List))
	var all []probe.Candidate
	for _, p := range f.Peers.List {
		if ipv4(p.InternalIPs).IsValid() {
			byName[p.Name] = p
			all = append(all, probe.Candidate{Name: p.Name, Zone: p.Zone})
		}
	}
	var out []facts.Peer
	for _, c := range probe.Choose(f.Node.Name, all, askedPeers) {
		out = append(out, byName[c.Name])
	}
	return out
}

// ipv4 is the first IPv4 address, the zero Addr without one.
func ipv4(all []netip.Addr) netip.Addr {
	for _, ip := range all {
		if ip.Is4() {
			return ip
		}
	}
	return netip.Addr{}
}
