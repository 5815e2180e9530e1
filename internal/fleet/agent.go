// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Agent is how the agent of a node answers. Its zero value answers at once that every check passes, for the role that the
// node has.
type Agent struct {
	// Verdict and Reason of every finding; empty for Pass and AsWanted.
	Verdict v1alpha1.Verdict
	Reason  v1alpha1.Reason
	// Delay from a challenge to its answer.
	Delay time.Duration
	// Silent says nothing at all.
	Silent bool
	// Bend changes what is about to be said: another UID, an older version, a finding left out. Nil for the truth.
	Bend func(*v1alpha1.NodeCutoverStatus)
}

// SetAgent changes how the agent of a node answers from now on, and lets it look again.
func (f *Fleet) SetAgent(node string, a Agent) {
	f.mu.Lock()
	f.agents[node] = a
	f.mu.Unlock()
	select {
	case f.wake <- event.GenericEvent{Object: &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: node}}}:
	case <-f.ctx.Done():
	}
}

func (f *Fleet) agent(node string) Agent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.agents[node]
}

func (f *Fleet) setupAgents(_ context.Context, mgr ctrl.Manager) error {
	a := agents{fleet: f, cached: mgr.GetClient(), live: mgr.GetAPIReader()}
	host := predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*corev1.Node)
		after, ok2 := e.ObjectNew.(*corev1.Node)
		return ok && ok2 && (before.Status.NodeInfo.BootID != after.Status.NodeInfo.BootID || before.Annotations[RoleAnnotation] != after.Annotations[RoleAnnotation])
	}}
	return ctrl.NewControllerManagedBy(mgr).Named("fleet-agents").For(&v1alpha1.NodeCutover{}).
		Watches(&corev1.Node{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(host)).
		WatchesRawSource(source.Channel(f.wake, &handler.EnqueueRequestForObject{})).
		Complete(f.play(a.answer))
}

// agents play the agents of all nodes.
type agents struct {
	fleet  *Fleet
	cached client.Client
	live   client.Reader
}

// answer answers the question to a node if it is for this very node and has not expired; without one it tells the node's
// role, once for as long as that stays true.
func (a agents) answer(ctx context.Context, key client.ObjectKey) (time.Duration, error) {
	var nc v1alpha1.NodeCutover
	if err := a.cached.Get(ctx, key, &nc); err != nil {
		return 0, client.IgnoreNotFound(err)
	}
	n, err := a.node(ctx, &nc)
	if err != nil || n == nil {
		return 0, err
	}
	as := a.fleet.agent(n.Name)
	if as.Silent {
		return 0, nil
	}
	c := nc.Spec.Challenge
	if c != nil && (c.NodeUID != n.UID || !time.Now().Before(c.ExpiresAt.Time)) {
		c = nil
	}
	if c != nil && as.Delay > 0 && c.ID != nc.Status.ChallengeID {
		if left := time.Until(a.fleet.since(c.ID).Add(as.Delay)); left > 0 {
			return left, nil
		}
	}
	next := report(n, c, as)
	if same(nc.Status, next, c == nil) {
		return 0, nil
	}
	nc.Status = next
	return 0, a.cached.Status().Update(ctx, &nc)
}

// node returns the Node that a NodeCutover is about, nil if it is gone. A cache may still show an earlier one of its name.
func (a agents) node(ctx context.Context, nc *v1alpha1.NodeCutover) (*corev1.Node, error) {
	for _, from := range []client.Reader{a.cached, a.live} {
		var n corev1.Node
		err := from.Get(ctx, client.ObjectKey{Name: nc.Name}, &n)
		if err == nil && n.UID == nc.Spec.NodeUID {
			return &n, nil
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
	}
	return nil, nil
}

// since is when a challenge was first seen.
func (f *Fleet) since(challenge string) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, seen := f.waited[challenge]
	if !seen {
		at = time.Now()
		f.waited[challenge] = at
	}
	return at
}

func report(n *corev1.Node, c *v1alpha1.Challenge, as Agent) v1alpha1.NodeCutoverStatus {
	role := v1alpha1.Role(n.Annotations[RoleAnnotation])
	verdict := cmp.Or(as.Verdict, v1alpha1.VerdictPass)
	s := v1alpha1.NodeCutoverStatus{
		NodeUID: n.UID, BootID: n.Status.NodeInfo.BootID, Role: role, JudgedRole: role, AgentVersion: "fleet",
		ObservedAt: metav1.NowMicro(), Verdict: verdict,
	}
	checks := []v1alpha1.CheckName{v1alpha1.CheckConflist}
	if c != nil {
		s.ChallengeID, s.JudgedRole, checks = c.ID, c.Role, c.RequiredChecks
	}
	for _, check := range checks {
		s.Findings = append(s.Findings, v1alpha1.Finding{Check: check, Verdict: verdict, Reason: cmp.Or(as.Reason, v1alpha1.AsWanted), Message: "as the test says"})
	}
	if as.Bend != nil {
		as.Bend(&s)
	}
	return s
}

// same says whether a report would say nothing new. One that nobody asked for is about the host alone.
func same(said, next v1alpha1.NodeCutoverStatus, unasked bool) bool {
	if unasked {
		return said.NodeUID == next.NodeUID && said.BootID == next.BootID && said.Role == next.Role && said.Verdict == next.Verdict
	}
	said.ObservedAt, next.ObservedAt = metav1.MicroTime{}, metav1.MicroTime{}
	return equality.Semantic.DeepEqual(said, next)
}
