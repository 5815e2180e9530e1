// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/bpf/tunnelmeter"
)

var peer = netip.MustParseAddr("10.0.2.10")

// bench is a NIC of a stage to which meters are attached.
type bench struct {
	*stage
	attached []tunnelmeter.Options // of all that were ever
	closed   int
	broken   error // what starting says
	total    tunnelmeter.Reading
	state    tunnelmeter.State
	err      error // what looking at the programs says
}

func (b *bench) Ensure() ([]tunnelmeter.Placement, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	found := []tunnelmeter.Placement{{Device: "ens5", State: b.state, Restored: b.state != tunnelmeter.First}}
	if b.state != tunnelmeter.NoDevice {
		b.state = tunnelmeter.First
	}
	return found, b.err
}

func (b *bench) Read() (tunnelmeter.Reading, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.total, nil
}

func (b *bench) Close() error {
	b.lock.Lock()
	defer b.lock.Unlock()
	b.closed++
	return nil
}

// holds says how many meters are attached now.
func (b *bench) holds(t *testing.T, want int) {
	t.Helper()
	b.lock.Lock()
	defer b.lock.Unlock()
	if got := len(b.attached) - b.closed; got != want {
		t.Errorf("%d meters are attached, want %d (%d attached, %d closed)", got, want, len(b.attached), b.closed)
	}
}

// sends lets the node send packets to its peer, so many of them in two pieces.
func (b *bench) sends(packets, cut uint64) {
	b.set(func() {
		flows := map[tunnelmeter.Flow]tunnelmeter.Counters{}
		at := tunnelmeter.Flow{Peer: peer, Direction: tunnelmeter.Egress}
		flows[at] = b.total.Flows[at].Plus(tunnelmeter.Counters{
			Packets: packets, OuterBytes: packets*9001 + cut*20, InnerBytes: packets * 8951, FirstFragments: cut, LaterFragments: cut, OuterMax: 9001, InnerMax: 8951,
		})
		b.total.Flows = flows
	})
}

// onBench plays with a node that has a NIC, a peer and room for the tunnel.
func onBench(t *testing.T, mode Measuring, play func(*bench)) {
	t.Helper()
	onStage(t, func(s *stage) {
		b := &bench{stage: s, state: tunnelmeter.First}
		s.set(func() {
			s.around.Node.InternalIPs = []netip.Addr{netip.MustParseAddr("10.0.1.10")}
			s.host.Links = facts.Links{Look: seen(), List: []facts.Link{
				{Index: 2, Name: "ens5", MTU: 9001, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.10/24")}},
				{Index: 3, Name: "cilium_host", MTU: 9001}, {Index: 4, Name: "cilium_vxlan", MTU: 9001},
			}}
			s.host.Routes = facts.Routes{Look: seen(), List: []facts.Route{{Dst: netip.MustParsePrefix("10.244.2.0/24"), Link: 3, Type: 1, MTU: 8951}}}
			s.host.IPCache = facts.IPCache{Look: seen(), Entries: ciliummap.NewIPCache(map[netip.Prefix]ciliummap.RemoteEndpoint{netip.MustParsePrefix("10.244.2.0/24"): {Tunnel: peer}})}
			s.agent.Measuring = mode
			s.agent.tunnel.start = func(o tunnelmeter.Options) (Meter, error) {
				s.lock.Lock()
				defer s.lock.Unlock()
				if b.broken != nil {
					return nil, b.broken
				}
				b.attached, b.total = append(b.attached, o), tunnelmeter.Reading{}
				return b, nil
			}
		})
		s.after(15 * time.Minute) // by then the API server has been asked again
		play(b)
	})
}

func (b *bench) finding(check v1alpha1.CheckName) v1alpha1.Finding {
	for _, f := range b.last().Findings {
		if f.Check == check {
			return f
		}
	}
	return v1alpha1.Finding{}
}

func (b *bench) says(t *testing.T, check v1alpha1.CheckName, verdict v1alpha1.Verdict, reason v1alpha1.Reason) {
	t.Helper()
	if f := b.finding(check); f.Verdict != verdict || f.Reason != reason {
		t.Errorf("%s is %s %s (%s), want %s %s", check, f.Verdict, f.Reason, f.Message, verdict, reason)
	}
}

func TestTheMeterIsAttachedWhileSomebodyAsksAndForAWhileAfter(t *testing.T) {
	onBench(t, WhileAsked, func(b *bench) {
		b.holds(t, 0)
		b.says(t, v1alpha1.CheckTunnelMeter, v1alpha1.VerdictNotAsked, v1alpha1.MeterAtRest)
		b.ask("q1", "uid-1", 2*time.Minute)
		b.after(time.Second)
		b.holds(t, 1)
		b.says(t, v1alpha1.CheckTunnelMeter, v1alpha1.VerdictUnknown, v1alpha1.NothingMeasured)
		b.says(t, v1alpha1.CheckMTU, v1alpha1.VerdictPass, v1alpha1.AsWanted)
		if o := b.attached[0]; o.Devices[0] != "ens5" || o.Port != 8472 || o.Peers < 256 {
			t.Errorf("attached with %+v", o)
		}
		b.after(9 * time.Minute)
		b.ask("q2", "uid-1", 2*time.Minute) // the end of a soak finds the same meter
		b.after(11 * time.Minute)
		b.holds(t, 1)
		b.after(3 * time.Minute)
		b.holds(t, 0)
		if len(b.attached) != 1 {
			t.Errorf("attached %d times", len(b.attached))
		}
	})
}

func TestTheMeterStaysAlwaysOrNeverIfTheChartSaysSo(t *testing.T) {
	onBench(t, Always, func(b *bench) {
		b.holds(t, 1)
		b.after(24 * time.Hour)
		b.holds(t, 1)
	})
	onBench(t, Never, func(b *bench) {
		b.ask("q1", "uid-1", 2*time.Minute)
		b.after(time.Minute)
		b.holds(t, 0)
		if len(b.attached) != 0 {
			t.Error("it was attached")
		}
	})
}

func TestTheMeterGoesWithTheAgent(t *testing.T) {
	var left *bench
	onBench(t, Always, func(b *bench) { left = b })
	left.holds(t, 0)
}

func TestAQuestionForAnotherNodeAttachesNothing(t *testing.T) {
	onBench(t, WhileAsked, func(b *bench) {
		b.ask("q1", "uid-of-the-node-before", 2*time.Minute)
		b.after(time.Minute)
		b.holds(t, 0)
	})
}

func TestWhatIsMeasuredWhileAQuestionIsOpenMakesItsAnswerVoid(t *testing.T) {
	onBench(t, WhileAsked, func(b *bench) {
		b.ask("q1", "uid-1", 2*time.Minute)
		b.after(time.Second)
		b.says(t, v1alpha1.CheckMTU, v1alpha1.VerdictPass, v1alpha1.AsWanted)
		b.sends(1000, 500)
		b.after(time.Minute)
		if b.last().ChallengeID != "q1" {
			t.Errorf("%+v", b.last())
		}
		b.says(t, v1alpha1.CheckMTU, v1alpha1.VerdictFail, v1alpha1.FragmentsSent)
		b.says(t, v1alpha1.CheckTunnelMeter, v1alpha1.VerdictPass, v1alpha1.AsWanted)
	})
}

// TestWhatIsMendedIsForgottenSoon: what was cut before somebody mended it must not hold a node for long.
func TestWhatIsMendedIsForgottenSoon(t *testing.T) {
	onBench(t, Always, func(b *bench) {
		b.sends(1000, 500)
		b.ask("q1", "uid-1", 2*time.Minute)
		b.after(time.Second)
		b.says(t, v1alpha1.CheckMTU, v1alpha1.VerdictFail, v1alpha1.FragmentsSent)
		for range 30 {
			b.sends(1000, 0)
			b.after(6 * time.Second)
		}
		b.ask("q2", "uid-1", 2*time.Minute)
		b.after(time.Second)
		b.says(t, v1alpha1.CheckMTU, v1alpha1.VerdictPass, v1alpha1.AsWanted)
	})
}

func TestTheFirstPacketMakesNobodyAnswerAnew(t *testing.T) {
	onBench(t, WhileAsked, func(b *bench) {
		b.ask("q1", "uid-1", 2*time.Minute)
		b.after(time.Second)
		before := len(b.writes)
		b.says(t, v1alpha1.CheckTunnelMeter, v1alpha1.VerdictUnknown, v1alpha1.NothingMeasured)
		b.sends(1000, 0)
		b.after(time.Minute)
		b.wrote(t, before)
	})
}

// TestWhatPeersSendMakesNobodyWriteUnasked: one node with a wrong MTU sends to thousands.
func TestWhatPeersSendMakesNobodyWriteUnasked(t *testing.T) {
	onBench(t, Always, func(b *bench) {
		before := len(b.writes)
		for range 20 {
			b.sends(1000, 500)
			b.after(time.Minute)
		}
		b.wrote(t, before)
	})
}

func TestAMeterThatCannotStartIsSaidAndBreaksNothing(t *testing.T) {
	onBench(t, WhileAsked, func(b *bench) {
		b.set(func() { b.broken = &tunnelmeter.MissingCapabilityError{Names: []string{"CAP_BPF (to load programs)"}} })
		b.ask("q1", "uid-1", 2*time.Minute)
		b.after(time.Second)
		b.says(t, v1alpha1.CheckTunnelMeter, v1alpha1.VerdictUnknown, v1alpha1.MeterNotAllowed)
		if m := b.finding(v1alpha1.CheckTunnelMeter).Message; !strings.Contains(m, "CAP_BPF") || !strings.Contains(m, "MTU rests on devices and routes") {
			t.Errorf("%q", m)
		}
		b.says(t, v1alpha1.CheckMTU, v1alpha1.VerdictPass, v1alpha1.AsWanted)
		b.set(func() { b.broken = errors.New("the kernel has had enough") })
		b.ask("q2", "uid-1", 2*time.Minute)
		b.after(time.Second)
		b.says(t, v1alpha1.CheckTunnelMeter, v1alpha1.VerdictUnknown, v1alpha1.MeterFailed)
		b.set(func() { b.broken = nil })
		b.ask("q3", "uid-1", 2*time.Minute)
		b.after(time.Second)
		b.holds(t, 1)
	})
}

func TestTheMeterFollowsTheNICAndThePort(t *testing.T) {
	onBench(t, Always, func(b *bench) {
		b.set(func() { b.host.Links.List[0].Name = "ens6" })
		b.after(time.Minute)
		b.set(func() { b.around.Settings.TunnelPort = 8473 })
		b.after(15 * time.Minute) // the Cutover is read again
		b.holds(t, 1)
		if n := len(b.attached); n != 3 || b.attached[1].Devices[0] != "ens6" || b.attached[2].Port != 8473 {
			t.Errorf("attached with %+v", b.attached)
		}
		b.set(func() { b.around.Settings.Look = facts.Look{Sight: facts.Failed, Detail: "the API server is away"} })
		b.after(15 * time.Minute)
		if n := len(b.attached); n != 3 {
			t.Errorf("attached with %+v because the API server was away", b.attached)
		}
		b.set(func() { b.state = tunnelmeter.NoDevice })
		b.after(time.Minute)
		b.set(func() { b.state = tunnelmeter.First })
		b.after(time.Minute)
		b.holds(t, 1)
		b.set(func() { b.err = errors.New("another program is first all the time") })
		b.after(time.Minute)
		b.set(func() { b.host.Links.Look = facts.Look{Sight: facts.Failed} })
		b.after(time.Minute)
		b.holds(t, 0)
	})
}

// TestNoWindowReachesBehindATimeAtWhichTheMeterWasNotFirst: what it did not see then cannot be said to be none.
func TestNoWindowReachesBehindATimeAtWhichTheMeterWasNotFirst(t *testing.T) {
	onBench(t, Always, func(b *bench) {
		b.sends(1000, 500)
		b.after(time.Minute)
		b.set(func() { b.state = tunnelmeter.Behind })
		b.ask("q1", "uid-1", 2*time.Minute)
		b.after(time.Second)
		for _, e := range b.finding(v1alpha1.CheckMTU).Evidence {
			if e.Name == "window" && e.Value != 0 {
				t.Errorf("a window of %d s", e.Value)
			}
		}
	})
}

func TestMetricsOfTheTunnelGoOnWhenTheMeterIsAttachedAgain(t *testing.T) {
	onBench(t, WhileAsked, func(b *bench) {
		for _, id := range []string{"q1", "q2"} {
			b.ask(id, "uid-1", time.Minute)
			b.after(time.Second)
			b.sends(100, 7)
			b.after(time.Minute)
			if got := testutil.ToFloat64(b.agent.Metrics.tunnel.attached); got != 1 {
				t.Errorf("attached is %v", got)
			}
			b.after(20 * time.Minute)
			b.holds(t, 0)
		}
		m := b.agent.Metrics.tunnel
		for name, got := range map[string]float64{
			"packets": testutil.ToFloat64(m.packets.WithLabelValues("egress")), "cut": testutil.ToFloat64(m.cut.WithLabelValues("egress")) / 7 * 100,
			"inner bytes": testutil.ToFloat64(m.inner.WithLabelValues("egress")) / 8951,
		} {
			if got < 199.9 || got > 200.1 {
				t.Errorf("%s: %v, want 200", name, got)
			}
		}
		if got := testutil.ToFloat64(m.attached); got != 0 {
			t.Errorf("at the end attached is %v", got)
		}
	})
}
