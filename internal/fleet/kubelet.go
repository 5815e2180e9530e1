// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// leaseEvery is how often a node's lease is renewed: half of the grace that internal/apiserver gives silent nodes. For 5,000
// nodes that is 21 writes a second.
const leaseEvery = 240 * time.Second

const byNode = "spec.nodeName"

// SetGrace makes deleted pods stay for so long before they go; zero, at once.
func (f *Fleet) SetGrace(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grace = d
}

// onlyLife keeps of a pod what kubelets are played by; 15,000 whole pods would be a gigabyte.
func onlyLife(object any) (any, error) {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	p.Spec, p.ManagedFields, p.Annotations = corev1.PodSpec{NodeName: p.Spec.NodeName}, nil, nil
	p.Status = corev1.PodStatus{Phase: p.Status.Phase}
	return p, nil
}

func (f *Fleet) setupKubelets(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &corev1.Pod{}, byNode, func(o client.Object) []string {
		if p, ok := o.(*corev1.Pod); ok && p.Spec.NodeName != "" {
			return []string{p.Spec.NodeName}
		}
		return nil
	})
	if err != nil {
		return err
	}
	k := &kubelets{fleet: f, cached: mgr.GetClient(), live: mgr.GetAPIReader(), renewed: map[string]time.Time{}}
	gone := predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false }, UpdateFunc: func(event.UpdateEvent) bool { return false },
		DeleteFunc: func(event.DeleteEvent) bool { return true }, GenericFunc: func(event.GenericEvent) bool { return false },
	}
	err = ctrl.NewControllerManagedBy(mgr).Named("fleet-pods").For(&corev1.Pod{}).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(k.podsOf), builder.WithPredicates(gone)).
		Complete(f.play(k.pod))
	if err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).Named("fleet-leases").For(&corev1.Node{}).Complete(f.play(k.lease))
}

// kubelets play the kubelets of all nodes, and the collector of the pods of nodes that are gone.
type kubelets struct {
	fleet  *Fleet
	cached client.Client
	live   client.Reader

	mu      sync.Mutex
	renewed map[string]time.Time
}

func (k *kubelets) podsOf(ctx context.Context, node client.Object) []reconcile.Request {
	var pods corev1.PodList
	if err := k.cached.List(ctx, &pods, client.MatchingFields{byNode: node.GetName()}); err != nil {
		return nil
	}
	requests := make([]reconcile.Request, 0, len(pods.Items))
	for i := range pods.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&pods.Items[i])})
	}
	return requests
}

// pod carries one pod on: a bound one runs, a deleted one goes after the grace, and one whose node is gone goes at once.
func (k *kubelets) pod(ctx context.Context, key client.ObjectKey) (time.Duration, error) {
	var p corev1.Pod
	if err := k.cached.Get(ctx, key, &p); err != nil || p.Spec.NodeName == "" {
		return 0, client.IgnoreNotFound(err)
	}
	alive, err := k.alive(ctx, p.Spec.NodeName)
	if err != nil {
		return 0, err
	}
	switch {
	case !alive:
		return 0, k.remove(ctx, &p)
	case p.DeletionTimestamp != nil:
		if left := time.Until(k.goesAt(&p)); left > 0 {
			return left, nil
		}
		return 0, k.remove(ctx, &p)
	case p.Status.Phase == corev1.PodPending:
		return 0, k.run(ctx, &p)
	}
	return 0, nil
}

// alive says whether there is a Node of a name; a cache may not show one yet that was just created.
func (k *kubelets) alive(ctx context.Context, node string) (bool, error) {
	err := k.cached.Get(ctx, client.ObjectKey{Name: node}, &corev1.Node{})
	if apierrors.IsNotFound(err) {
		err = k.live.Get(ctx, client.ObjectKey{Name: node}, &corev1.Node{})
	}
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

func (k *kubelets) goesAt(p *corev1.Pod) time.Time {
	asked := p.DeletionTimestamp.Time
	if p.DeletionGracePeriodSeconds != nil {
		asked = asked.Add(-time.Duration(*p.DeletionGracePeriodSeconds) * time.Second)
	}
	k.fleet.mu.Lock()
	defer k.fleet.mu.Unlock()
	return asked.Add(k.fleet.grace)
}

func (k *kubelets) remove(ctx context.Context, p *corev1.Pod) error {
	return client.IgnoreNotFound(k.cached.Delete(ctx, p, client.GracePeriodSeconds(0), client.Preconditions{UID: &p.UID}))
}

func (k *kubelets) run(ctx context.Context, p *corev1.Pod) error {
	next, now := p.DeepCopy(), metav1.Now()
	next.Status.Phase, next.Status.StartTime = corev1.PodRunning, &now
	for _, c := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		next.Status.Conditions = append(next.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	return client.IgnoreNotFound(k.cached.Status().Patch(ctx, next, client.StrategicMergeFrom(p)))
}

// lease renews the lease of a node that is older than leaseEvery: until then its registration counts as its heartbeat.
func (k *kubelets) lease(ctx context.Context, key client.ObjectKey) (time.Duration, error) {
	var n corev1.Node
	if err := k.cached.Get(ctx, key, &n); err != nil {
		return 0, client.IgnoreNotFound(err)
	}
	k.mu.Lock()
	last, renewed := k.renewed[n.Name]
	k.mu.Unlock()
	if !renewed || last.Before(n.CreationTimestamp.Time) {
		last = n.CreationTimestamp.Time
	}
	if left := time.Until(last.Add(leaseEvery)); left > 0 {
		return left, nil
	}
	if err := k.renew(ctx, n.Name); err != nil {
		return 0, err
	}
	k.mu.Lock()
	k.renewed[n.Name] = time.Now()
	k.mu.Unlock()
	return leaseEvery, nil
}

func (k *kubelets) renew(ctx context.Context, node string) error {
	now, seconds := metav1.NowMicro(), int32(leaseEvery.Seconds())
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: node},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &node, LeaseDurationSeconds: &seconds, RenewTime: &now},
	}
	err := k.cached.Create(ctx, lease)
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	// A patch, because an update of a Lease must name the version that it replaces, and nobody else writes this one.
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"renewTime": now}})
	if err != nil {
		return fmt.Errorf("encoding the lease of %s: %w", node, err)
	}
	return k.cached.Patch(ctx, lease, client.RawPatch(types.MergePatchType, body))
}
