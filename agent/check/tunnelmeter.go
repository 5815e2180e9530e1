// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/tunnelmeter"
)

// tunnelMeter asks whether our own meter sees what the tunnel carries. What that is, mtu judges: this one says only how much the
// numbers are worth, and no drain waits for it, because a node may have nothing to say to its peers.
func tunnelMeter(s *scene) v1alpha1.Finding {
	m := s.f.Meter
	switch {
	case m.Sight == facts.NotLooked:
		return finding(v1alpha1.VerdictNotAsked, v1alpha1.MeterAtRest, "nothing is measured: the tunnel meter is attached only while the coordinator asks")
	case m.NotAllowed:
		return unknown(v1alpha1.MeterNotAllowed, "%s; without it MTU rests on devices and routes alone", m.Detail)
	case m.Sight != facts.Seen:
		return unknown(v1alpha1.MeterFailed, "nothing is measured, so MTU rests on devices and routes alone: %s", m.Detail)
	}
	t := s.traffic()
	evidence := []v1alpha1.Evidence{count("received", t.ever[tunnelmeter.Ingress].Packets, "packets"), count("sent", t.ever[tunnelmeter.Egress].Packets, "packets"),
		number("peers", t.peers, "nodes"), count("strangers", t.strangers, "packets")}
	if t.packets() == 0 {
		return with(unknown(v1alpha1.NothingMeasured, "the meter at %s has seen no packet between this node and a peer yet (%d of others)", m.Device, t.strangers), evidence...)
	}
	return with(pass(v1alpha1.AsWanted, "the meter at %s has seen %d packets to and %d from %d peers", m.Device,
		t.ever[tunnelmeter.Egress].Packets, t.ever[tunnelmeter.Ingress].Packets, t.peers), evidence...)
}

// traffic is what the meter has counted between this node and its peers, by direction.
type traffic struct {
	ever   [2]tunnelmeter.Counters // since it was attached
	lately [2]tunnelmeter.Counters // in the window; maxima are those of ever
	peers  int
	// strangers are packets with addresses that are no peer's. Whoever can reach the port can send them, so they prove nothing.
	strangers uint64
}

func (t traffic) packets() uint64 {
	return t.ever[tunnelmeter.Ingress].Packets + t.ever[tunnelmeter.Egress].Packets
}

func (s *scene) traffic() traffic {
	var t traffic
	known, spoke := s.tunnelEnds(), tunnelEnds{}
	for flow, c := range s.f.Meter.Total.Flows {
		if !known[flow.Peer] {
			t.strangers += c.Packets
			continue
		}
		t.ever[flow.Direction] = t.ever[flow.Direction].Plus(c)
		if c.Packets > 0 {
			spoke[flow.Peer] = true
		}
	}
	for flow, c := range s.f.Meter.Recent.Flows {
		if known[flow.Peer] {
			t.lately[flow.Direction] = t.lately[flow.Direction].Plus(c)
		}
	}
	t.peers = len(spoke)
	return t
}
