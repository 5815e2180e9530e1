// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/agent/probe"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/tunnelmeter"
)

// probes is what the probes add to the judgement of the MTU: a finding if a path is too narrow, and a sentence about how many are
// proved. A peer that does not answer, or unclearly, says nothing about this node.
func (s *scene) probes() (*v1alpha1.Finding, string, []v1alpha1.Evidence) {
	p := s.f.Probes
	switch {
	case p.Sight == facts.NotLooked:
		return nil, "no path was asked for", nil
	case p.Sight != facts.Seen:
		return nil, "no path is proved: " + p.Detail, nil
	}
	under := s.sortPaths(p.Most, v1alpha1.PathTooNarrow, "the tunnel's packets", func(x facts.Probe) probe.Path { return x.Under })
	over := s.sortPaths(p.Most-s.overhead, v1alpha1.OverlayTooNarrow, "packets inside the tunnel", func(x facts.Probe) probe.Path { return x.Over })
	past, strays := s.pastTunnel()
	evidence := []v1alpha1.Evidence{number("paths_asked", len(p.List), "peers"), number("paths_proved", under.whole, "peers"), number("tunnels_proved", over.whole, "peers"),
		number("past_tunnel", strays, "packets")}
	sentence := fmt.Sprintf("of %d peers asked %d proved that %d bytes pass both ways, and %d that %d do in the tunnel",
		len(p.List), under.whole, p.Most, over.whole, p.Most-s.overhead)
	return worst(past, under.finding(), over.finding()), sentence, evidence
}

// pastTunnel asks whether the answers that came to questions through the tunnel came out of it: the interface has taken in as many packets
// as were answers at least, and the meter has seen as many of each peer. Otherwise the network carries addresses of the overlay another way, and
// what was proved, was proved of that way. Without the meter other packets may hide it. Where the meter sees no peer at all
// although the interface takes packets in, they are encrypted on the wire, and it says nothing. The number is that of such answers.
func (s *scene) pastTunnel() (*v1alpha1.Finding, int) {
	p := s.f.Probes
	answers, strays, asked := 0, 0, 0
	var past []string
	for _, x := range p.List {
		if x.Over.Answers == 0 {
			continue
		}
		asked++
		answers += x.Over.Answers
		if x.Metered.Sight == facts.Seen && x.Metered.Packets < uint64(x.Over.Answers) {
			past = append(past, fmt.Sprintf("%s (%s)", x.Peer, x.Address))
			strays += x.Over.Answers - int(x.Metered.Packets)
		}
	}
	const advice = "an address of the overlay is routed another way, here or there, or what answers got another source: see `ip route get` of each other's CiliumInternalIP on both nodes"
	switch {
	case p.Tunnel.Sight == facts.Seen && p.Tunnel.Packets < uint64(answers):
		f := fail(v1alpha1.OverlayPastTunnel, "%d answers came from addresses of the overlay, and %s took in %d packets meanwhile: they came past the tunnel, and prove nothing of it; %s",
			answers, tunnelLink, p.Tunnel.Packets, advice)
		return &f, answers - int(p.Tunnel.Packets)
	case len(past) > 0 && s.traffic().ever[tunnelmeter.Ingress].Packets > 0:
		f := warn(v1alpha1.OverlayPastTunnel, "answers of %s came from addresses of the overlay, and the meter at %s saw fewer packets of the tunnel come from there: they came past it, and prove nothing of it; %s",
			joined(past), s.f.Meter.Device, advice)
		if 2*len(past) >= asked {
			f.Verdict = v1alpha1.VerdictFail
		}
		return &f, strays
	}
	return nil, 0
}

// sortedPaths are paths by what is known of them.
type sortedPaths struct {
	reason        v1alpha1.Reason
	whole, narrow int
	example       string // of one that is narrow
}

func (s *scene) sortPaths(most int, reason v1alpha1.Reason, what string, of func(facts.Probe) probe.Path) sortedPaths {
	out := sortedPaths{reason: reason}
	for _, x := range s.f.Probes.List {
		p := of(x)
		switch {
		case known(p.There) && p.There.Size < most:
			out.narrow++
			out.example = fmt.Sprintf("on the way to %s (%s) %s", x.Peer, x.Address, narrowness(p.There, most, what))
		case known(p.Back) && p.Back.Size < most:
			out.narrow++
			out.example = fmt.Sprintf("on the way back from %s (%s) %s", x.Peer, x.Address, narrowness(p.Back, most, what))
		case known(p.There) && known(p.Back):
			out.whole++
		}
	}
	return out
}

func known(f probe.Found) bool {
	return f.How == probe.Whole || f.How == probe.Told || f.How == probe.Tried
}

// narrowness names what is wrong with a path.
func narrowness(f probe.Found, most int, what string) string {
	if f.How == probe.Told {
		return fmt.Sprintf("a hop takes %d bytes and says so, where %d are needed: %s are cut there in silence", f.Size, most, what)
	}
	return fmt.Sprintf("%s of more than %d bytes vanish and nobody says so, a black hole, where %d are needed", what, f.Size, most)
}

// finding is a Fail if at least half of the paths that are known are narrow: then it is this node, or its node group, that they share.
func (p sortedPaths) finding() *v1alpha1.Finding {
	if p.narrow == 0 {
		return nil
	}
	out := warn(p.reason, "%s; so for %d of %d peers that answered. Compare the MTU of both nodes' NICs and of the network between their groups", p.example, p.narrow, p.narrow+p.whole)
	if p.narrow >= p.whole {
		out.Verdict = v1alpha1.VerdictFail
	}
	return &out
}
