// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Replacement is what comes of a request to replace a node, or of one for one more node beside it (docs/external-replacement.md).
// Its zero value ends the old node at once, and a Ready Overlay node of the same zone and group joins.
type Replacement struct {
	// Nobody hears the request.
	Nobody bool
	// EndsAfter is how long the old node stays after the request, JoinsAfter how long no other joins after that.
	EndsAfter, JoinsAfter time.Duration
	// NeverJoins: the old node ends, and that is all.
	NeverJoins bool
	// Node is what joins. What is empty is as of the old node, but for its role.
	Node Node
	// Agent is how the agent there answers.
	Agent Agent
}

// OnReplace says what comes of requests from now on; it is asked once for each.
func (f *Fleet) OnReplace(decide func(old *corev1.Node) Replacement) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replaces = decide
}

func (f *Fleet) setupOwner(_ context.Context, mgr ctrl.Manager) error {
	cached := mgr.GetClient()
	return ctrl.NewControllerManagedBy(mgr).Named("fleet-owner").For(&corev1.Node{}).
		Complete(f.play(func(ctx context.Context, key client.ObjectKey) (time.Duration, error) {
			var n corev1.Node
			if err := cached.Get(ctx, key, &n); err != nil {
				return 0, client.IgnoreNotFound(err)
			}
			for _, request := range []string{v1alpha1.AnnotationSurge, v1alpha1.AnnotationReplace} {
				if n.Annotations[request] == string(n.UID) && f.hear(request, &n) {
					f.plays.Go(func() { f.carryOut(request, &n) })
				}
			}
			return 0, nil
		}))
}

// hear says whether a request is new.
func (f *Fleet) hear(request string, n *corev1.Node) bool {
	key := request + "=" + string(n.UID)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.heard[key] {
		return false
	}
	f.heard[key] = true
	return true
}

// carryOut ends the node and lets another one join; for a surge the one without the other, either way.
func (f *Fleet) carryOut(request string, old *corev1.Node) {
	f.mu.Lock()
	decide := f.replaces
	f.mu.Unlock()
	r := decide(old)
	if r.Nobody {
		return
	}
	if request == v1alpha1.AnnotationReplace {
		if !f.sleep(r.EndsAfter) || !f.end(old) || old.Annotations[v1alpha1.AnnotationSurge] == string(old.UID) {
			return
		}
	}
	if r.NeverJoins || !f.sleep(r.JoinsAfter) {
		return
	}
	n := r.Node
	n.Zone = cmp.Or(n.Zone, old.Labels[corev1.LabelTopologyZone])
	n.Group = cmp.Or(n.Group, old.Labels[groupLabel])
	n.Role = cmp.Or(n.Role, v1alpha1.RoleOverlay)
	name := f.name(n)
	f.mu.Lock()
	f.agents[name] = r.Agent
	f.mu.Unlock()
	f.insist(func(context.Context) error { return f.join(name, n) })
}

// end deletes a node that is still asked for, and says whether it was.
func (f *Fleet) end(old *corev1.Node) bool {
	asked := false
	f.insist(func(ctx context.Context) error {
		asked = false
		var now corev1.Node
		if err := f.Client.Get(ctx, client.ObjectKeyFromObject(old), &now); err != nil {
			return err
		}
		if asked = now.UID == old.UID && now.Annotations[v1alpha1.AnnotationReplace] == string(old.UID); !asked {
			return nil
		}
		return f.Client.Delete(ctx, &now, client.Preconditions{UID: &old.UID})
	})
	return asked
}
