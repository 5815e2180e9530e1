// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// manyDrops is how many packets dropped between two looks are worth a finding. While pods and nodes come and go a few are normal.
const manyDrops = 10

// dropNames are the reasons that mean broken forwarding (Cilium pkg/monitor/api/drop.go; the same numbers in 1.18, 1.19 and 1.20).
// Left out is what happens on a node that is well: what policies refuse (133), packets for pods that are gone (151, 164), and
// protocols that Cilium does not carry (139).
func dropNames() map[uint8]string {
	return map[uint8]string{
		140: "missed tail call", 147: "tunnel key not set", 160: "no tunnel endpoint", 169: "FIB lookup failed", 170: "encapsulation prohibited",
		190: "no connection tracking map", 191: "no NAT map", 202: "host datapath not ready", 203: "program of endpoint not ready",
	}
}

// DropReason names a reason of Cilium's, by its number if it is none that means broken forwarding.
func DropReason(reason uint8) string {
	if name, ok := dropNames()[reason]; ok {
		return name
	}
	return fmt.Sprintf("reason %d", reason)
}

// drops asks whether Cilium's programs drop packets because something in the datapath is missing. It can only warn: a counter tells
// neither whose packets they were nor whether it goes on.
func drops(s *scene) v1alpha1.Finding {
	now, then := s.f.Counters, s.f.Earlier
	switch {
	case now.Sight != facts.Seen:
		return unknown(v1alpha1.DropsUnknown, "Cilium's counters could not be read: %s", now.Detail)
	case then.Sight != facts.Seen || now.At <= then.At:
		return unknown(v1alpha1.DropsUnmeasured, "there is no earlier look with which Cilium's counters could be compared")
	}
	var all, broken, forwarded uint64
	var named []string
	for c, n := range now.By {
		if n.Packets < then.By[c].Packets {
			return unknown(v1alpha1.DropsUnmeasured, "Cilium's counters have begun anew since the last look")
		}
		rise := n.Packets - then.By[c].Packets
		switch _, bad := dropNames()[c.Reason]; {
		case bad && rise > 0:
			broken += rise
			named = append(named, fmt.Sprintf("%s (%d)", DropReason(c.Reason), rise))
			all += rise
		case c.Dropped():
			all += rise
		case c.Reason == 0:
			forwarded += rise
		}
	}
	slices.Sort(named)
	window := now.At - then.At
	evidence := []v1alpha1.Evidence{
		number("window", int(window.Milliseconds()), "milliseconds"), number("forwarded", int(forwarded), "packets"),
		number("dropped", int(all), "packets"), number("dropped_broken", int(broken), "packets"),
	}
	if broken >= manyDrops {
		return with(warn(v1alpha1.ForwardingDrops, "in %s Cilium's programs dropped %d packets of this node for want of something in the datapath: %s; see the other findings, then `cilium-dbg monitor --type drop` in Cilium's pod on this node",
			window.Round(time.Second), broken, joined(named)), evidence...)
	}
	return with(pass(v1alpha1.AsWanted, "in %s Cilium's programs dropped %d packets that mean broken forwarding, and forwarded %d", window.Round(time.Second), broken, forwarded), evidence...)
}
