// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/agent/probe"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/tunnelmeter"
)

// asking notes whom the agent asks, and about how much. Whoever is asked carries so much.
type asking struct {
	*bench
	asked map[string]int // most, by address
	takes int
	err   error
	past  bool   // the answers through the tunnel come another way
	came  uint64 // packets out of the tunnel
}

func onPaths(t *testing.T, peers int, play func(*asking)) {
	t.Helper()
	onBench(t, WhileAsked, func(b *bench) {
		x := &asking{bench: b, asked: map[string]int{}, takes: 9001}
		b.set(func() {
			b.around.Peers.List = nil
			for i := range peers {
				b.around.Peers.List = append(b.around.Peers.List, facts.Peer{CiliumNode: facts.CiliumNode{
					Name: fmt.Sprint("n", i+2), InternalIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i + 2), 10})},
					CiliumIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, byte(i + 2), 1})},
				}})
			}
			b.agent.Probe = func(_ context.Context, to netip.Addr, most int) (probe.Path, error) {
				b.lock.Lock()
				defer b.lock.Unlock()
				x.asked[to.String()] = most
				f := probe.Found{Size: most, How: probe.Whole}
				if x.takes < most {
					f = probe.Found{Size: x.takes, How: probe.Tried}
				}
				path := probe.Path{There: f, Back: f, Answers: 4}
				if a := to.As4(); a[1] == 244 && !x.past {
					x.came += 4
					flows := maps.Clone(b.total.Flows)
					if flows == nil {
						flows = map[tunnelmeter.Flow]tunnelmeter.Counters{}
					}
					from := tunnelmeter.Flow{Peer: netip.AddrFrom4([4]byte{10, 0, a[2], 10}), Direction: tunnelmeter.Ingress}
					flows[from] = flows[from].Plus(tunnelmeter.Counters{Packets: 4, OuterBytes: 4 * 9001, InnerBytes: 4 * 8951, OuterMax: 9001, InnerMax: 8951})
					b.total.Flows = flows
				}
				return path, x.err
			}
			b.agent.Received = func() (uint64, error) {
				b.lock.Lock()
				defer b.lock.Unlock()
				return x.came, nil
			}
		})
		play(x)
	})
}

func TestAnAnswerHoldsThePathsToAFewPeers(t *testing.T) {
	onPaths(t, 50, func(x *asking) {
		x.after(time.Hour)
		if len(x.asked) > 0 {
			t.Errorf("peers were asked although nobody asked this node: %v", x.asked)
		}
		x.ask("q1", "uid-1", 2*time.Minute)
		x.after(time.Second)
		under, over := 0, 0
		for to, most := range x.asked {
			switch {
			case strings.HasPrefix(to, "10.0.") && most == 9001:
				under++
			case strings.HasPrefix(to, "10.244.") && most == 8951:
				over++
			default:
				t.Errorf("%s was asked about %d bytes", to, most)
			}
		}
		if under != askedPeers || over != askedPeers {
			t.Errorf("%d peers and %d through the tunnel were asked, want %d", under, over, askedPeers)
		}
		if m := x.finding(v1alpha1.CheckMTU).Message; !strings.Contains(m, "of 3 peers asked 3 proved that 9001 bytes pass") {
			t.Errorf("%q", m)
		}
		before := len(x.writes)
		x.set(func() { x.takes = 1500 })
		x.after(time.Minute) // looks in between ask nobody
		x.wrote(t, before)
		if x.last().ChallengeID != "q1" {
			t.Errorf("%+v", x.last())
		}
	})
}

// TestAnswersAreHeldAgainstWhatCameOutOfTheTunnel by the interface's counter and by the meter's, which knows whose packets they were.
func TestAnswersAreHeldAgainstWhatCameOutOfTheTunnel(t *testing.T) {
	for name, c := range map[string]struct {
		meddle func(*asking)
		want   v1alpha1.Reason
	}{
		"they came out of it": {func(*asking) {}, v1alpha1.AsWanted},
		"they came past it":   {func(x *asking) { x.past = true }, v1alpha1.OverlayPastTunnel},
		"past it, while others' came out of it": {func(x *asking) {
			x.past = true
			x.agent.Received = func() (uint64, error) { // of whom, it does not say
				x.lock.Lock()
				defer x.lock.Unlock()
				x.came += 1000
				return x.came, nil
			}
		}, v1alpha1.OverlayPastTunnel},
		"past it, and there is no meter": {func(x *asking) { x.past, x.agent.Measuring = true, Never }, v1alpha1.OverlayPastTunnel},
		"out of it, and the meter was not first meanwhile": {func(x *asking) {
			ask := x.agent.Probe
			x.agent.Probe = func(ctx context.Context, to netip.Addr, most int) (probe.Path, error) {
				x.set(func() { x.state, x.past = tunnelmeter.Behind, true; x.came += 4 }) // so it saw nothing of it
				return ask(ctx, to, most)
			}
		}, v1alpha1.AsWanted},
	} {
		t.Run(name, func(t *testing.T) {
			onPaths(t, 3, func(x *asking) {
				x.ask("q1", "uid-1", time.Minute) // by now the meter has seen every peer
				x.after(2 * time.Minute)
				x.set(func() { c.meddle(x) })
				x.ask("q2", "uid-1", time.Minute)
				x.after(time.Second)
				if f := x.finding(v1alpha1.CheckMTU); x.last().ChallengeID != "q2" || f.Reason != c.want {
					t.Errorf("%s: %s %s", x.last().ChallengeID, f.Reason, f.Message)
				}
			})
		})
	}
}

func TestANarrowPathIsNotAskedThroughItsTunnel(t *testing.T) {
	onPaths(t, 2, func(x *asking) {
		x.set(func() { x.takes = 1500 })
		x.ask("q1", "uid-1", 2*time.Minute)
		x.after(time.Second)
		for to := range x.asked {
			if strings.HasPrefix(to, "10.244.") {
				t.Errorf("asked %s: the packets of that are cut on the way", to)
			}
		}
		x.says(t, v1alpha1.CheckMTU, v1alpha1.VerdictFail, v1alpha1.PathTooNarrow)
	})
}

func TestProbesThatFailBreakNothing(t *testing.T) {
	onPaths(t, 2, func(x *asking) {
		x.set(func() { x.err = errors.New("there is no key") })
		x.ask("q1", "uid-1", 2*time.Minute)
		x.after(time.Second)
		x.says(t, v1alpha1.CheckMTU, v1alpha1.VerdictPass, v1alpha1.AsWanted)
		if m := x.finding(v1alpha1.CheckMTU).Message; !strings.Contains(m, "no path is proved: there is no key") {
			t.Errorf("%q", m)
		}
	})
}

// TestWhatCiliumsProbesFoundIsPartOfAnAnswer and of nothing that the agent says unasked: when a peer's host goes, its peers must not all write.
func TestWhatCiliumsProbesFoundIsPartOfAnAnswer(t *testing.T) {
	onStage(t, func(s *stage) {
		asked, reached := 0, 0
		s.set(func() {
			s.host.Liveness = facts.Liveness{Look: seen(), Stamp: time.Hour, Now: time.Hour}
			s.host.Status = facts.CiliumStatus{Look: seen(), State: "Ok"}
			s.agent.LookAsked = func(f *facts.Facts) {
				s.lock.Lock()
				defer s.lock.Unlock()
				if asked++; f.Status.State != "Ok" {
					t.Errorf("asked with %+v", f.Status)
				}
				f.Health = facts.CiliumHealth{Look: seen(), At: time.Now(), Interval: time.Minute, Hosts: 2, HostsReached: 2, Endpoints: 2, EndpointsReached: reached}
			}
		})
		s.after(10 * time.Minute)
		if asked > 0 {
			t.Errorf("asked %d times, and nobody asked this node", asked)
		}
		alive := func() v1alpha1.Reason {
			for _, f := range s.last().Findings {
				if f.Check == v1alpha1.CheckCiliumAlive {
					return f.Reason
				}
			}
			return ""
		}
		s.ask("q1", "uid-1", 2*time.Minute)
		s.after(time.Second)
		if asked != 1 || alive() != v1alpha1.CiliumProbesFail {
			t.Errorf("asked %d times, and answered %s", asked, alive())
		}
		before := len(s.writes)
		s.set(func() { reached = 2 })
		s.after(time.Minute) // looks in between ask nothing
		s.wrote(t, before)
		s.ask("q2", "uid-1", 2*time.Minute)
		s.after(time.Second)
		if asked != 2 || alive() != v1alpha1.AsWanted {
			t.Errorf("asked %d times, and answered %s", asked, alive())
		}
	})
}
