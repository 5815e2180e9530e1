// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// fakeCluster is an API server that holds one NodeCutover.
type fakeCluster struct {
	lock   sync.Mutex
	object *v1alpha1.NodeCutover
	around Surroundings
	nodes  map[string]facts.PeerNode
	wanted facts.Wanted
	broken error // what writing answers

	writes   []v1alpha1.NodeCutoverStatus
	tries    int
	listed   int // lists of peers
	asked    int // surroundings
	services int // lists of Services
	fetched  []string
}

func (c *fakeCluster) NodeCutover() *v1alpha1.NodeCutover {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.object.DeepCopy()
}

func (c *fakeCluster) HeardPods() facts.Pods {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.around.Pods
}

func (c *fakeCluster) Surroundings(_ context.Context, peers bool) Surroundings {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.asked++
	s := c.around
	if peers {
		c.listed++
	} else {
		s.Peers = facts.Peers{}
	}
	return s
}

func (c *fakeCluster) PeerNodes(_ context.Context, names []string) map[string]facts.PeerNode {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.fetched = append(c.fetched, names...)
	return c.nodes
}

func (c *fakeCluster) WantedServices(context.Context, bool) facts.Wanted {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.services++
	return c.wanted
}

func (c *fakeCluster) Publish(_ context.Context, n *v1alpha1.NodeCutover) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.tries++
	if c.broken != nil {
		return c.broken
	}
	c.object.Status = n.Status
	c.writes = append(c.writes, n.Status)
	return nil
}

// stage is an agent, its cluster and its host in a bubble with a clock of its own.
type stage struct {
	*fakeCluster
	ctx   context.Context
	agent *Agent
	host  facts.Facts
	looks int
}

func seen() facts.Look { return facts.Look{Sight: facts.Seen} }

func onStage(t *testing.T, play func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{fakeCluster: &fakeCluster{around: Surroundings{
			Settings: facts.Settings{Look: seen(), Overlay: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, TunnelPort: 8472, Install: v1alpha1.InstallSecondary},
			Node:     facts.Node{Look: seen(), Name: "n1", UID: "uid-1"},
			Own:      facts.Own{Look: seen(), CiliumNode: facts.CiliumNode{Name: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}}},
			Pods:     facts.Pods{Look: seen(), List: []facts.Pod{{Namespace: "default", Name: "a", IPs: []netip.Addr{netip.MustParseAddr("10.244.1.7")}}}},
			Peers:    facts.Peers{Look: seen(), List: []facts.Peer{{CiliumNode: facts.CiliumNode{Name: "n2"}}}},
		}}}
		s.host.Boot = facts.Boot{Look: seen(), ID: "boot-1"}
		s.host.Kernel = facts.Kernel{Look: seen(), Release: "6.1.0"}
		s.host.Rules.Look = seen()
		s.agent = New(Config{
			Version: "v1", Interval: 30 * time.Second, Metrics: NewMetrics(prometheus.NewRegistry(), "v1"), Log: slog.New(slog.DiscardHandler),
			Look: func() facts.Facts {
				time.Sleep(5 * time.Millisecond) // what a look costs
				s.lock.Lock()
				defer s.lock.Unlock()
				s.looks++
				return s.host
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s.ctx = ctx
		s.object = &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "object-1"}, Spec: v1alpha1.NodeCutoverSpec{NodeUID: "uid-1"}}
		go s.agent.Run(ctx, s)
		synctest.Wait()
		play(s)
		s.set(func() {})
		cancel()
		synctest.Wait()
	})
}

// ask puts a challenge on the object, as the coordinator does, and tells the agent as the watch does.
func (s *stage) ask(id string, uid types.UID, ttl time.Duration) {
	s.lock.Lock()
	s.object.Spec.Challenge = &v1alpha1.Challenge{
		ID: id, NodeUID: uid, Role: v1alpha1.RoleOverlay, Purpose: v1alpha1.PurposeDrain,
		ExpiresAt: metav1.NewMicroTime(time.Now().Add(ttl)), RequiredChecks: []v1alpha1.CheckName{v1alpha1.CheckKernel},
	}
	s.lock.Unlock()
	s.agent.Asked()
}

// set changes the world while the agent may be looking at it.
func (s *stage) set(change func()) {
	s.lock.Lock()
	defer s.lock.Unlock()
	change()
}

// after lets a time pass.
func (s *stage) after(d time.Duration) {
	s.set(func() {}) // what the test has read so far comes before what the agent writes from here on
	time.Sleep(d)
	synctest.Wait()
}

func (s *stage) last() v1alpha1.NodeCutoverStatus {
	if len(s.writes) == 0 {
		return v1alpha1.NodeCutoverStatus{}
	}
	return s.writes[len(s.writes)-1]
}

func (s *stage) wrote(t *testing.T, want int) {
	t.Helper()
	if len(s.writes) != want {
		t.Errorf("%d reports written, want %d: %+v", len(s.writes), want, s.writes)
	}
}

// TestOnlyARiseOfDropsIsNews lets Cilium's counters begin, rise a little, rise much, and rest.
func TestOnlyARiseOfDropsIsNews(t *testing.T) {
	onStage(t, func(s *stage) {
		counted := func(at time.Duration, dropped uint64) {
			s.set(func() {
				s.host.Counters = facts.Counters{Look: seen(), At: at, By: map[ciliummap.Counter]ciliummap.Count{{Reason: 160, Direction: 2}: {Packets: dropped}}}
			})
			s.after(40 * time.Second) // a look or two
		}
		verdict := func() v1alpha1.Verdict {
			w := s.last()
			return w.Findings[slices.Index(check.Names(), v1alpha1.CheckDrops)].Verdict
		}
		counted(1*time.Minute, 1000)
		counted(2*time.Minute, 1005)
		s.wrote(t, 1) // that of the start
		counted(3*time.Minute, 1100)
		s.wrote(t, 2)
		if v := verdict(); v != v1alpha1.VerdictWarn {
			t.Errorf("95 packets dropped: %s", v)
		}
		counted(4*time.Minute, 1100)
		counted(5*time.Minute, 1100)
		s.wrote(t, 3)
		if v := verdict(); v != v1alpha1.VerdictPass {
			t.Errorf("none dropped any more: %s", v)
		}
	})
}

func TestTellsOnceWhatItSeesAndThenKeepsQuiet(t *testing.T) {
	onStage(t, func(s *stage) {
		s.after(10 * time.Millisecond)
		s.wrote(t, 1)
		w := s.last()
		if w.Role != v1alpha1.RoleOverlay || w.JudgedRole != w.Role || w.ChallengeID != "" || w.NodeUID != "uid-1" || w.BootID != "boot-1" || w.AgentVersion != "v1" || len(w.Findings) != len(check.Names()) {
			t.Errorf("%+v", w)
		}
		s.after(10 * time.Minute)
		s.wrote(t, 1)
		if s.looks < 15 || s.looks > 27 {
			t.Errorf("%d looks in ten minutes at a mean of 30 s", s.looks)
		}
		if s.listed != 0 {
			t.Errorf("peers were listed %d times although nobody asked", s.listed)
		}
		if s.asked > 3 {
			t.Errorf("the API server was asked %d times in ten minutes", s.asked)
		}
	})
}

func TestAnswersAChallengeAtOnce(t *testing.T) {
	onStage(t, func(s *stage) {
		s.after(time.Second)
		s.wrote(t, 1)
		s.ask("q1", "uid-1", 2*time.Minute)
		s.after(20 * time.Millisecond)
		s.wrote(t, 2)
		if w := s.last(); w.ChallengeID != "q1" || w.NodeUID != "uid-1" || w.BootID != "boot-1" || w.JudgedRole != v1alpha1.RoleOverlay {
			t.Errorf("%+v", w)
		}
		if s.listed != 1 || fmt.Sprint(s.fetched) != "[n2]" {
			t.Errorf("peers listed %d times, Nodes asked: %v", s.listed, s.fetched)
		}
		s.agent.Asked() // our own write coming back
		s.after(time.Minute)
		s.wrote(t, 2)
		s.ask("q2", "uid-1", 2*time.Minute)
		s.after(20 * time.Millisecond)
		s.wrote(t, 3)
		if s.last().ChallengeID != "q2" {
			t.Errorf("%+v", s.last())
		}
	})
}

func TestDoesNotAnswerForANodeThatHadItsName(t *testing.T) {
	onStage(t, func(s *stage) {
		s.after(time.Second)
		s.ask("q1", "uid-of-the-node-before", 2*time.Minute)
		s.after(5 * time.Minute)
		for _, w := range s.writes {
			if w.ChallengeID != "" {
				t.Errorf("answered %+v", w)
			}
		}
	})
	onStage(t, func(s *stage) { // the object was made for another Node than the challenge names
		s.lock.Lock()
		s.object.Spec.NodeUID = "uid-of-the-node-before"
		s.lock.Unlock()
		s.ask("q1", "uid-1", 2*time.Minute)
		s.after(5 * time.Minute)
		for _, w := range s.writes {
			if w.ChallengeID != "" {
				t.Errorf("answered %+v", w)
			}
		}
	})
}

func TestDoesNotAnswerAnExpiredChallenge(t *testing.T) {
	onStage(t, func(s *stage) {
		s.after(time.Second)
		s.ask("q1", "uid-1", -time.Second)
		s.after(5 * time.Minute)
		s.wrote(t, 1)
	})
	onStage(t, func(s *stage) { // it expires while the agent looks
		s.after(time.Second)
		s.ask("q1", "uid-1", 3*time.Millisecond)
		s.after(5 * time.Minute)
		s.wrote(t, 1)
	})
}

func TestDoesNotAnswerWithoutKnowingWhichNodeItIs(t *testing.T) {
	onStage(t, func(s *stage) {
		s.after(time.Second)
		s.set(func() { s.around.Node = facts.Node{Look: facts.Look{Sight: facts.Failed, Detail: "timeout"}} })
		s.ask("q1", "uid-1", time.Minute)
		s.after(5 * time.Second)
		s.wrote(t, 1)
		s.set(func() { s.around.Node = facts.Node{Look: seen(), Name: "n1", UID: "uid-1"} })
		s.after(20 * time.Second) // the next try
		if s.last().ChallengeID != "q1" {
			t.Errorf("%+v", s.last())
		}
	})
}

func TestTellsWhenTheMeaningChangesAndOnlyThen(t *testing.T) {
	onStage(t, func(s *stage) {
		s.after(time.Second)
		s.set(func() { s.host.Kernel.Release = "6.1.1" }) // another sentence, no other meaning
		s.agent.Changed()
		s.after(time.Second)
		s.wrote(t, 1)
		if s.looks != 2 {
			t.Errorf("%d looks", s.looks)
		}
		s.set(func() { s.host.Kernel.Release = "4.18.0" })
		s.agent.Changed()
		s.after(100 * time.Millisecond)
		if s.looks != 2 {
			t.Error("looked before the burst could settle")
		}
		s.after(100 * time.Millisecond)
		s.wrote(t, 2)
	})
}

func TestABurstOfChangesCostsAFewLooks(t *testing.T) {
	onStage(t, func(s *stage) {
		s.after(time.Second)
		before := s.looks
		for range 1000 {
			s.agent.Changed()
			time.Sleep(time.Millisecond)
		}
		s.after(time.Second)
		if n := s.looks - before; n < 2 || n > 8 {
			t.Errorf("%d looks in a second of changes", n)
		}
	})
}

func TestAnOpenAnswerIsGivenAnewWhenTheHostChanges(t *testing.T) {
	onStage(t, func(s *stage) {
		s.after(time.Second)
		s.ask("q1", "uid-1", 2*time.Minute)
		s.after(time.Second)
		s.wrote(t, 2)
		s.set(func() { s.host.Kernel.Release = "4.18.0" })
		s.agent.Changed()
		s.after(time.Second)
		s.wrote(t, 3)
		if w := s.last(); w.ChallengeID != "q1" || s.listed != 2 {
			t.Errorf("%+v, peers listed %d times", w, s.listed)
		}
	})
}

func TestAnOpenAnswerIsGivenAnewWhenAPeerIsLost(t *testing.T) {
	onStage(t, func(s *stage) {
		s.set(func() {
			s.around.Peers.List = []facts.Peer{{CiliumNode: facts.CiliumNode{Name: "n2", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.2.0/24")}}}}
		})
		s.set(func() { s.nodes = map[string]facts.PeerNode{"n2": {Look: seen(), Ready: true}} })
		nic := facts.Link{Index: 2, Name: "ens5", MTU: 9001, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.10/24")}}
		s.set(func() { s.around.Node.InternalIPs = []netip.Addr{netip.MustParseAddr("10.0.1.10")} })
		s.set(func() {
			s.host.Links = facts.Links{Look: seen(), List: []facts.Link{nic, {Index: 3, Name: "cilium_host"}}}
		})
		own := facts.Route{Dst: netip.MustParsePrefix("10.244.9.0/24"), Link: 3, Type: 1, MTU: 8951} // keeps what is said unasked the same
		s.set(func() {
			s.host.Paths, s.host.Forwarding = facts.Paths{Look: seen()}, facts.Forwarding{Look: seen(), On: true}
			s.host.Routes = facts.Routes{Look: seen(), List: []facts.Route{own, {Dst: netip.MustParsePrefix("10.244.2.0/24"), Link: 3, Type: 1, MTU: 8951}}}
		})
		routes := func() v1alpha1.Verdict {
			for _, f := range s.last().Findings {
				if f.Check == v1alpha1.CheckOverlayRoutes {
					return f.Verdict
				}
			}
			return ""
		}
		s.ask("q1", "uid-1", 2*time.Minute)
		s.after(time.Second)
		if s.last().ChallengeID != "q1" || routes() != v1alpha1.VerdictPass {
			t.Fatalf("%+v", s.last())
		}
		s.set(func() { s.host.Routes.List = s.host.Routes.List[:1] })
		s.agent.Changed()
		s.after(time.Second)
		if s.last().ChallengeID != "q1" || routes() != v1alpha1.VerdictFail {
			t.Errorf("%+v", s.last())
		}
		n := len(s.writes)
		s.after(10 * time.Minute) // the challenge is over, and unasked there is nothing new to say
		s.wrote(t, n)
	})
}

func TestAnExpiredChallengeMakesNobodyWrite(t *testing.T) {
	onStage(t, func(s *stage) {
		s.after(time.Second)
		s.ask("q1", "uid-1", time.Minute)
		s.after(10 * time.Minute)
		s.wrote(t, 2)
	})
}

func TestTriesAgainWhenAWriteGoesWrong(t *testing.T) {
	onStage(t, func(s *stage) {
		s.after(time.Second)
		s.set(func() { s.broken = errors.New("the server is down") })
		s.ask("q1", "uid-1", 2*time.Minute)
		s.after(10 * time.Second)
		if s.tries < 4 || s.tries > 8 {
			t.Errorf("%d tries in ten seconds", s.tries)
		}
		s.set(func() { s.broken = nil })
		s.after(lastRetry)
		if s.last().ChallengeID != "q1" {
			t.Errorf("%+v", s.last())
		}
	})
}

func TestWaitsForTheObjectAndTellsANewOne(t *testing.T) {
	onStage(t, func(s *stage) {
		s.after(time.Second)
		object := s.object.DeepCopy()
		s.lock.Lock()
		s.object = nil
		s.lock.Unlock()
		s.agent.Asked()
		s.after(5 * time.Minute)
		s.wrote(t, 1)

		object.UID, object.Status = "object-2", v1alpha1.NodeCutoverStatus{}
		s.set(func() {
			s.object = object
			s.around.Node.UID = "uid-2" // the Node was made anew, and so was its object
		})
		s.agent.Asked()
		s.after(10 * time.Millisecond)
		s.wrote(t, 2)
		if s.last().NodeUID != "uid-2" {
			t.Errorf("told of Node %s", s.last().NodeUID)
		}
	})
}

func TestARestartRepeatsNothing(t *testing.T) {
	onStage(t, func(s *stage) {
		s.after(time.Second)
		config := s.agent.Config
		config.Look = func() facts.Facts {
			s.lock.Lock()
			defer s.lock.Unlock()
			return s.host
		}
		again := New(config)
		go again.Run(s.ctx, s)
		s.after(5 * time.Minute)
		s.wrote(t, 1)
	})
}

func TestTheFlagsServeWhereThereIsNoCutover(t *testing.T) {
	onStage(t, func(s *stage) {
		s.set(func() { s.agent.Fallback = s.around.Settings })
		s.set(func() { s.around.Settings = facts.Settings{Look: facts.Look{Sight: facts.Absent}} })
		s.ask("q1", "uid-1", time.Minute)
		s.after(time.Second)
		if s.last().Role != v1alpha1.RoleOverlay {
			t.Errorf("with flags: %s", s.last().Role)
		}
		s.set(func() { s.around.Settings = facts.Settings{Look: facts.Look{Sight: facts.Failed}} }) // a Cutover that cannot be read may say otherwise
		s.ask("q2", "uid-1", time.Minute)
		s.after(time.Second)
		if s.last().Role != v1alpha1.RoleUnknown {
			t.Errorf("where the Cutover cannot be read: %s", s.last().Role)
		}
	})
}

func TestAtMostThirtyTwoSuspectsAreLookedUp(t *testing.T) {
	f := facts.Facts{At: time.Now()}
	for i := range 100 {
		f.Peers.List = append(f.Peers.List, facts.Peer{CiliumNode: facts.CiliumNode{Name: fmt.Sprint("n", i)}})
	}
	AskSuspects(&f, func(names []string) map[string]facts.PeerNode {
		if len(names) != 32 {
			t.Errorf("%d Nodes asked for", len(names))
		}
		return map[string]facts.PeerNode{"n3": {Ready: true}}
	})
	if !f.Peers.List[3].Node.Ready || f.Peers.List[4].Node.Ready {
		t.Error("the Nodes were not filled in")
	}
}
