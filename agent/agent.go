// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/agent/probe"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/tunnelmeter"
)

// Times of the loop.
const (
	// debounce lets a burst of changes on the host settle: one pod brings about ten netlink messages within 50 ms.
	debounce = 150 * time.Millisecond
	// spacing keeps unasked looks to a twentieth of the time, whatever a look costs on this node and however busy it is.
	spacing = 20
	// refresh is how old what the API server said about this node may get for speaking unasked.
	refresh = 10 * time.Minute
	// firstPatience is how soon incomplete surroundings are asked for again.
	firstPatience = 5 * time.Second
	// firstRetry and lastRetry bound how soon a write that went wrong is tried again.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
	// maxSuspects bounds how many peers' Nodes are read for one answer. More peers than that which this node does
	// not know mean that it is this node that is wrong.
	maxSuspects = 32
	// watch is how long counters are watched at least before those of the look before are let go: a rise is told by what they were
	// one to two times as long ago, or at the look before that if looks are rarer.
	watch = 10 * time.Second
)

// errMoved says that the object has another question by now, so that the answer in hand is to nothing.
var errMoved = errors.New("the question was replaced while it was being answered")

// cluster is what the loop needs of the Kubernetes API.
type cluster interface {
	NodeCutover() *v1alpha1.NodeCutover
	HeardPods() facts.Pods
	Surroundings(ctx context.Context, peers bool) Surroundings
	PeerNodes(ctx context.Context, names []string) map[string]facts.PeerNode
	WantedServices(ctx context.Context, cached bool) facts.Wanted
	Publish(ctx context.Context, n *v1alpha1.NodeCutover) error
}

// Config is what an Agent is made of.
type Config struct {
	Version string
	// Interval is the mean time between looks that nothing asked for.
	Interval time.Duration
	// Off are the checks that are switched off.
	Off map[v1alpha1.CheckName]bool
	// Fallback is used where there is no Cutover.
	Fallback facts.Settings
	// Look looks at the host.
	Look func() facts.Facts
	// LookAsked adds what is looked at only when somebody asked; nil, nothing is.
	LookAsked func(*facts.Facts)
	// LookServices reads Cilium's maps of Services again; nil, they are not compared with EndpointSlices.
	LookServices func(facts.Programs) facts.Services
	// Measuring is when the tunnel meter is attached; empty is Never. StartMeter attaches it.
	Measuring  Measuring
	StartMeter func(tunnelmeter.Options) (Meter, error)
	// Probe asks the agent at an address how large a packet may be on the way there and back, up to so many bytes; nil, nobody is asked.
	Probe func(ctx context.Context, to netip.Addr, most int) (probe.Path, error)
	// Received is how many packets the tunnel's interface has taken in; nil, nobody counts them.
	Received func() (uint64, error)

	Metrics *Metrics
	Log     *slog.Logger
}

// Agent is the loop. Its methods but Changed, Asked and Looked are for one goroutine.
type Agent struct {
	Config
	api cluster

	changed chan struct{}
	asked   chan struct{}
	looked  atomic.Int64 // when the last look ended, in nanoseconds since 1970; 0 before the first

	around   Surroundings
	aroundAt time.Time
	patience time.Duration // how long they are lived with
	hurried  time.Duration // the patience with incomplete ones, doubling
	took     time.Duration // what the last look cost
	answered string        // id of the last challenge that was answered
	said     string        // meaning of that answer
	judgedBy facts.Asked   // and what it was judged by beside the host's own evidence
	refused  string        // id of the last challenge that was not for this node
	told     string        // meaning of this host's own evidence when it was last written
	toldTo   string        // UID of the object that it was written to
	retry    time.Duration
	counters [2]facts.Counters // of two looks at least watch apart, the older first

	tunnel       measurement
	measureUntil time.Time // while the mode is WhileAsked
}

// New makes an agent; Follow gives it the API.
func New(c Config) *Agent {
	return &Agent{
		Config: c, changed: make(chan struct{}, 1), asked: make(chan struct{}, 1),
		tunnel: measurement{start: c.StartMeter, log: c.Log, count: c.Metrics.measured},
	}
}

// Changed says that something on the host or one of its pods may have changed. It never blocks.
func (a *Agent) Changed() { signal(a.changed) }

// Asked says that this node's NodeCutover has changed. It never blocks.
func (a *Agent) Asked() { signal(a.asked) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}

// Looked is when the last look ended; the zero Time before the first.
func (a *Agent) Looked() time.Time {
	if n := a.looked.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// Run looks, answers and tells until ctx ends; then it lets go of the tunnel meter.
func (a *Agent) Run(ctx context.Context, api cluster) {
	a.api = api
	defer a.tunnel.close()
	due := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.asked:
			if !a.wanted() {
				continue // our own write coming back, or a question that is answered
			}
		case <-a.changed:
			if at := a.earliest(); at.Before(due) {
				due = at
				timer.Reset(time.Until(due))
			}
			continue
		case <-timer.C:
		}
		due = time.Now().Add(a.step(ctx))
		timer.Reset(time.Until(due))
	}
}

// earliest is when a change may be looked at.
func (a *Agent) earliest() time.Time {
	at, settled := a.Looked().Add(spacing*a.took), time.Now().Add(debounce)
	if at.Before(settled) {
		return settled
	}
	return at
}

// wanted says whether the NodeCutover wants something that it does not have.
func (a *Agent) wanted() bool {
	n := a.api.NodeCutover()
	if n == nil {
		return false
	}
	if c := question(n, time.Now()); c != nil {
		return c.ID != a.answered && c.ID != a.refused
	}
	return string(n.UID) != a.toldTo
}

// question is the challenge that still wants an answer, nil without one.
func question(n *v1alpha1.NodeCutover, now time.Time) *v1alpha1.Challenge {
	if n == nil || n.Spec.Challenge == nil || n.Spec.Challenge.ID == "" || !now.Before(n.Spec.Challenge.ExpiresAt.Time) {
		return nil
	}
	return n.Spec.Challenge
}

// step looks once and writes if there is a reason to. It returns when to look again at the latest.
func (a *Agent) step(ctx context.Context) time.Duration {
	n := a.api.NodeCutover()
	c := question(n, time.Now())
	var err error
	if c != nil && c.ID != a.answered {
		err = a.answer(ctx, n, c)
	} else {
		err = a.tell(ctx, n, c)
	}
	if err == nil || errors.Is(err, errMoved) {
		a.retry = 0
		return a.pause()
	}
	a.Metrics.failedWrites.Inc()
	a.Log.Warn("report not written; trying again", "error", err)
	a.retry = min(max(2*a.retry, firstRetry), lastRetry)
	return a.retry
}

// pause is the interval, a fifth more or less, so that agents that were started together drift apart.
func (a *Agent) pause() time.Duration {
	return time.Duration(float64(a.Interval) * (0.8 + 0.4*rand.Float64()))
}

// answer looks at everything now and writes what it says about the challenge. A challenge for another Node, as for one that was
// deleted and whose name this one took, is not answered.
func (a *Agent) answer(ctx context.Context, n *v1alpha1.NodeCutover, c *v1alpha1.Challenge) error {
	// With thousands of peers an answer takes more memory than all else, and an agent gives a handful of them in its life.
	defer debug.FreeOSMemory()
	began := time.Now()
	a.surround(ctx, true)
	switch {
	case a.around.Node.Sight != facts.Seen:
		return errors.New("finding out which Node this is: " + a.around.Node.Detail)
	case c.NodeUID != a.around.Node.UID || n.Spec.NodeUID != "" && n.Spec.NodeUID != c.NodeUID:
		if a.refused != c.ID {
			a.Log.Warn("challenge refused: it is for another node of this name", "challenge", c.ID, "asked", c.NodeUID, "own", a.around.Node.UID)
		}
		a.refused = c.ID
		return a.tell(ctx, n, nil)
	}
	a.measureUntil = c.ExpiresAt.Add(linger)
	f := a.look(a.around.Pods)
	f.Peers, f.Kubernetes = a.around.Peers, a.around.Kubernetes
	if a.LookAsked != nil {
		a.LookAsked(&f)
	}
	a.askSuspects(ctx, &f)
	if a.LookServices != nil && !a.Off[v1alpha1.CheckServices] {
		AskServices(ctx, &f, a.LookServices, a.api.WantedServices)
	}
	before := f.Meter
	if f.Probes = a.measurePaths(ctx, &f); f.Meter.Sight == facts.Seen {
		f.Meter = a.tunnel.look(&f, true) // which has seen the packets of that
	}
	metered(&f.Probes, before, f.Meter)
	status := Report(&f, c.Role, a.Version, a.Off)
	status.ChallengeID = c.ID
	a.Metrics.observe(&f, status, time.Since(began))
	if !time.Now().Before(c.ExpiresAt.Time) {
		return errMoved
	}
	if err := a.publish(ctx, n, status, a.unasked(f)); err != nil {
		return err
	}
	f.Wanted = facts.Wanted{} // Services change all the time: what they were now is no measure for a later look
	a.answered, a.said, a.judgedBy = c.ID, meaning(Report(&f, c.Role, a.Version, a.Off)), f.Asked
	a.Metrics.answers.Inc()
	a.Log.Info("challenge answered", "challenge", c.ID, "purpose", c.Purpose, "role", status.Role, "verdict", status.Verdict, "took", time.Since(began))
	return nil
}

// tell looks at the host and writes only if its own evidence means something else than when it was last written. While
// a challenge is open, that makes its answer void, and it is answered anew; so does a host that no longer fits the peers that
// the answer was judged by, as when a route goes. They are not listed again for that.
func (a *Agent) tell(ctx context.Context, n *v1alpha1.NodeCutover, open *v1alpha1.Challenge) error {
	began := time.Now()
	pods := a.api.HeardPods()
	if a.stale(began) || n != nil && string(n.UID) != a.toldTo {
		a.surround(ctx, false)
		pods = a.around.Pods // newer, and there before the watch has begun
	}
	f := a.look(pods)
	status := a.unasked(f)
	a.Metrics.observe(&f, status, time.Since(began))
	switch {
	case n == nil:
		return nil // the coordinator makes the object; until then there is nobody to tell
	case open != nil && a.void(f, open):
		return a.answer(ctx, n, open)
	case meaning(status) == a.told && string(n.UID) == a.toldTo:
		return nil
	case open != nil:
		return a.answer(ctx, n, open)
	case a.told == "" && meaning(status) == meaning(n.Status):
		a.told, a.toldTo = meaning(status), string(n.UID) // said before this process began
		return nil
	}
	if err := a.publish(ctx, n, status, status); err != nil {
		return err
	}
	a.Log.Info("report published", "role", status.Role, "verdict", status.Verdict)
	return nil
}

// unasked is what this host says by itself. What its peers sent and the paths to them are left out as they themselves are: one node
// whose packets come in pieces must not make all others write.
func (a *Agent) unasked(f facts.Facts) v1alpha1.NodeCutoverStatus {
	f.Asked, f.Meter = facts.Asked{}, facts.Meter{}
	return Report(&f, "", a.Version, a.Off)
}

// void says whether the answer to an open challenge would be another one now.
func (a *Agent) void(f facts.Facts, open *v1alpha1.Challenge) bool {
	f.Asked = a.judgedBy
	status := Report(&f, open.Role, a.Version, a.Off)
	return meaning(status) != a.said
}

// surround asks the API server anew. What it cannot say now replaces what it said before: old evidence is none.
func (a *Agent) surround(ctx context.Context, peers bool) {
	a.around = a.api.Surroundings(ctx, peers)
	a.aroundAt = time.Now()
	if a.complete() {
		a.patience, a.hurried = refresh, 0
	} else {
		a.hurried = min(max(2*a.hurried, firstPatience), refresh)
		a.patience = a.hurried
	}
	if a.around.Settings.Sight == facts.Absent && a.Fallback.Sight == facts.Seen {
		a.around.Settings = a.Fallback
	}
}

// stale says whether the API server should be asked again. What is incomplete, as the CiliumNode of a node that has just joined,
// is asked for soon, and ever more rarely if it does not come: a cluster without a Cutover has nothing to hurry for.
func (a *Agent) stale(now time.Time) bool {
	return a.aroundAt.IsZero() || now.Sub(a.aroundAt) > a.patience
}

func (a *Agent) complete() bool {
	s := a.around
	return s.Settings.Sight == facts.Seen && s.Node.Sight == facts.Seen && s.Own.Sight == facts.Seen && len(s.Own.PodCIDRs) > 0
}

// look looks at the host. The pods must have been read before: whatever the API server knows of a pod, the host knew first.
func (a *Agent) look(pods facts.Pods) facts.Facts {
	at := time.Now()
	f := a.Config.Look()
	f.At = at
	f.Settings, f.Node, f.Own, f.Pods = a.around.Settings, a.around.Node, a.around.Own, pods
	f.Earlier = a.earlier(f.Counters)
	f.Meter = a.tunnel.look(&f, a.Measuring == Always || a.Measuring == WhileAsked && at.Before(a.measureUntil))
	a.took = time.Since(at)
	a.looked.Store(time.Now().UnixNano())
	return f
}

// earlier returns the counters by which a rise is told now, the zero Counters with the first look, and keeps these for later.
func (a *Agent) earlier(now facts.Counters) facts.Counters {
	then := a.counters[0]
	switch {
	case now.Sight != facts.Seen:
	case then.Sight != facts.Seen:
		a.counters = [2]facts.Counters{now, now}
	case now.At-a.counters[1].At >= watch:
		a.counters = [2]facts.Counters{a.counters[1], now}
	}
	return then
}

// askSuspects reads the Nodes of the peers that this node does not know as they are: a young or broken peer is excused.
func (a *Agent) askSuspects(ctx context.Context, f *facts.Facts) {
	AskSuspects(f, func(names []string) map[string]facts.PeerNode { return a.api.PeerNodes(ctx, names) })
}

// AskSuspects fills in the Nodes of the peers that a judgement depends on, at most 32 of them.
func AskSuspects(f *facts.Facts, ask func([]string) map[string]facts.PeerNode) {
	suspects := check.Suspects(f)
	if len(suspects) == 0 {
		return
	}
	nodes := ask(suspects[:min(len(suspects), maxSuspects)])
	for i := range f.Peers.List {
		if n, ok := nodes[f.Peers.List[i].Name]; ok {
			f.Peers.List[i].Node = n
		}
	}
}

// publish writes a status and remembers the meaning of the host's own evidence in it.
func (a *Agent) publish(ctx context.Context, n *v1alpha1.NodeCutover, status, own v1alpha1.NodeCutoverStatus) error {
	n = n.DeepCopy()
	n.Status = status
	if err := a.api.Publish(ctx, n); err != nil {
		return err
	}
	a.Metrics.writes.Inc()
	a.told, a.toldTo = meaning(own), string(n.UID)
	return nil
}
