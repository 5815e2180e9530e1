// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/tunnelmeter"
)

// few is below how many packets in pieces, or messages about packets that are too big, a measurement only warns: they may be of a
// pod or a path that is mended meanwhile. A tunnel that is too narrow cuts this many in a moment.
const few = 10

// tunnelEnds are outer addresses of the tunnel's.
type tunnelEnds map[netip.Addr]bool

// tunnelEnds are the nodes that Cilium here sends tunnel packets to, and those of the peers that were asked for. What comes from
// anywhere else is no evidence about this node.
func (s *scene) tunnelEnds() tunnelEnds {
	out := tunnelEnds{}
	for _, node := range s.f.IPCache.Entries.Tunnels() {
		out[node] = true
	}
	for _, p := range s.f.Peers.List {
		for _, a := range p.InternalIPs {
			out[a] = true
		}
	}
	return out
}

// TunnelEnds is how many nodes this one has tunnels to, as far as it knows.
func TunnelEnds(f *facts.Facts) int { return len(newScene(f, v1alpha1.RoleUnknown).tunnelEnds()) }

// measured is what the meter adds to the judgement of the MTU: a finding if something is wrong, and a sentence about what the
// judgement rests on. Nothing measured claims nothing.
func (s *scene) measured() (*v1alpha1.Finding, string, []v1alpha1.Evidence) {
	m := s.f.Meter
	switch {
	case m.Sight == facts.NotLooked:
		return nil, "not measured, because the tunnel meter is at rest", nil
	case m.Sight != facts.Seen:
		return nil, "not measured, because the tunnel meter does not work", nil
	}
	t := s.traffic()
	if t.packets() == 0 && t.lately[tunnelmeter.Egress].TooBig == 0 {
		return nil, "not measured, because no packet of a peer has passed the tunnel meter yet", nil
	}
	sent, received := t.lately[tunnelmeter.Egress], t.lately[tunnelmeter.Ingress]
	overhead, _ := t.ever[tunnelmeter.Egress].Plus(t.ever[tunnelmeter.Ingress]).Overhead()
	evidence := []v1alpha1.Evidence{
		number("measured_overhead", int(overhead+0.5), "bytes"),
		number("largest_outer", int(max(sent.OuterMax, received.OuterMax, t.ever[0].OuterMax, t.ever[1].OuterMax)), "bytes"),
		number("largest_inner", int(max(t.ever[0].InnerMax, t.ever[1].InnerMax)), "bytes"),
		count("cut_sent", sent.FirstFragments, "packets"), count("cut_received", received.FirstFragments, "packets"), count("too_big", sent.TooBig, "messages"),
		number("window", int(m.Window/time.Second), "seconds"),
	}
	wrong := worst(s.cutHere(t), s.cutBefore(t), s.tooBig(t), s.overheadMeasured(t))
	return wrong, fmt.Sprintf("measured: %d packets lately, none cut, %.3f bytes added to each, the largest %d",
		sent.Packets+received.Packets, overhead, max(t.ever[0].OuterMax, t.ever[1].OuterMax)), evidence
}

// worst is the first of the worst findings, nil without any.
func worst(findings ...*v1alpha1.Finding) *v1alpha1.Finding {
	var out *v1alpha1.Finding
	for _, f := range findings {
		if f != nil && (out == nil || f.Verdict == v1alpha1.VerdictFail && out.Verdict != v1alpha1.VerdictFail) {
			out = f
		}
	}
	return out
}

// byNumber is Fail from few on, and Warn below.
func byNumber(n uint64, reason v1alpha1.Reason, format string, args ...any) *v1alpha1.Finding {
	f := warn(reason, format, args...)
	if n >= few {
		f.Verdict = v1alpha1.VerdictFail
	}
	return &f
}

// cutHere judges packets that this node itself sends in pieces. The largest inner packet tells the two causes apart.
func (s *scene) cutHere(t traffic) *v1alpha1.Finding {
	c := t.lately[tunnelmeter.Egress]
	if c.FirstFragments == 0 {
		return nil
	}
	window := s.f.Meter.Window.Round(time.Second)
	nic, _ := s.underlay()
	if room := nic.MTU - overheadIPv4; int(c.InnerMax) > room {
		return byNumber(c.FirstFragments, v1alpha1.FragmentsSent, "the overlay's MTU is too large: in %s this node sent %d packets in pieces; inside they have up to %d bytes, and %s takes %d; "+
			"a ping does not show it, and connections are several times slower", window, c.FirstFragments, c.InnerMax, nic.Name, room)
	}
	return byNumber(c.FirstFragments, v1alpha1.FragmentsSent, "in %s this node sent %d packets in pieces although none is too large for %s: the kernel has heard of a narrower path to %s; "+
		"look for the hop with `ip route get` and tracepath", window, c.FirstFragments, nic.Name, joined(s.cut(tunnelmeter.Egress)))
}

// cut are the peers with packets in pieces in the window, one way, in order.
func (s *scene) cut(d tunnelmeter.Direction) []netip.Addr {
	known := s.tunnelEnds()
	var out []netip.Addr
	for flow, c := range s.f.Meter.Recent.Flows {
		if flow.Direction == d && known[flow.Peer] && c.FirstFragments > 0 {
			out = append(out, flow.Peer)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// cutBefore judges packets that arrive in pieces. One peer's are that peer's, or its path's, and its own agent judges them; this node is
// to blame only if it is what several have in common: nobody's larger packets come whole.
func (s *scene) cutBefore(t traffic) *v1alpha1.Finding {
	c := t.lately[tunnelmeter.Ingress]
	if c.FirstFragments == 0 {
		return nil
	}
	known, whole, many := s.tunnelEnds(), 0, 0
	var largest uint32 // piece
	for flow, c := range s.f.Meter.Recent.Flows {
		if flow.Direction == tunnelmeter.Ingress && known[flow.Peer] && c.FirstFragments >= few {
			many++
			largest = max(largest, c.OuterMax)
		}
	}
	for flow, c := range s.f.Meter.Total.Flows {
		if flow.Direction == tunnelmeter.Ingress && known[flow.Peer] && c.FirstFragments == 0 && c.OuterMax > largest {
			whole++
		}
	}
	from, window := s.cut(tunnelmeter.Ingress), s.f.Meter.Window.Round(time.Second)
	if many > 1 && whole == 0 {
		f := fail(v1alpha1.FragmentsReceived, "a hop before this node is too narrow: in %s %d packets came in pieces, from %d peers (%s), and no larger one came whole; "+
			"compare the MTU of this node's network with that of the others", window, c.FirstFragments, len(from), joined(from))
		return &f
	}
	f := warn(v1alpha1.FragmentsReceived, "in %s %d packets came in pieces, from %s: the overlay's MTU there is too large, or a hop on the way is too narrow; see those nodes' reports",
		window, c.FirstFragments, joined(from))
	return &f
}

// tooBig judges what routers report. They do so only of packets with DF, which Cilium's tunnel does not set by default: a report
// about anything else may be anybody's invention.
func (s *scene) tooBig(t traffic) *v1alpha1.Finding {
	c := t.lately[tunnelmeter.Egress]
	if c.TooBig == 0 {
		return nil
	}
	believed := uint64(0)
	if t.ever[tunnelmeter.Egress].DontFragment > 0 {
		believed = c.TooBig
	}
	return byNumber(believed, v1alpha1.TooBigReported, "in %s routers reported %d packets of the tunnel as too big, the narrowest for a hop of %d bytes (%d packets were sent with DF): a hop is narrower than this node's NIC",
		s.f.Meter.Window.Round(time.Second), c.TooBig, c.TooBigMTU, t.ever[tunnelmeter.Egress].DontFragment)
}

// overheadMeasured compares what the tunnel adds with what VXLAN adds, where pieces do not explain the difference.
func (s *scene) overheadMeasured(t traffic) *v1alpha1.Finding {
	all := t.ever[tunnelmeter.Egress].Plus(t.ever[tunnelmeter.Ingress])
	got, ok := all.Overhead()
	if !ok || all.FirstFragments+all.LaterFragments > 0 || got < overheadIPv4+1 {
		return nil
	}
	f := warn(v1alpha1.OverheadUnexpected, "the tunnel adds %.3f bytes to a packet and VXLAN over IPv4 adds %d: something else encapsulates as well, so large packets may not fit", got, overheadIPv4)
	return &f
}
