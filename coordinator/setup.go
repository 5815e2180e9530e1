// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/replace"
)

// Options are what a coordinator needs to know besides its cluster.
type Options struct {
	// Holder is the name of this coordinator, as its pod's.
	Holder string
	// OwnNode is the name of the node on which it runs; empty if it runs on none.
	OwnNode string
	// Leads says whether nobody else can lead before an action that begins now has ended (Lease.Certain); nil for a coordinator
	// that is the only one.
	Leads func() bool
	// Registry receives the metrics; nil for the manager's own.
	Registry prometheus.Registerer
	// Sight tells when the caches of the manager fail; nil for never.
	Sight *Sight
	// DryRun receives every action that would be taken; nil for the real thing.
	DryRun io.Writer
}

// Setup adds the coordinator to a manager.
func Setup(mgr ctrl.Manager, o Options) error {
	config := rest.CopyConfig(mgr.GetConfig())
	// A node's pods are long in JSON. The manager's own clients ask for protobuf by themselves.
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a Kubernetes client: %w", err)
	}
	if o.Registry == nil {
		o.Registry = ctrlmetrics.Registry
	}
	if o.Leads == nil {
		o.Leads = func() bool { return true }
	}
	m := newMetrics()
	if err := o.Registry.Register(m); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	if o.Sight == nil {
		o.Sight = &Sight{}
	}
	recorder := mgr.GetEventRecorder("cutover-coordinator")
	o.Sight.tell = func(why *refusal) { newTeller(recorder).once(context.Background(), unread(), why) }
	r := &Reconciler{
		sight: o.Sight,
		gather: gatherer{
			cached: mgr.GetClient(), live: mgr.GetAPIReader(), client: kube,
			term: rand.String(8), holder: o.Holder, ownNode: o.OwnNode, now: time.Now, due: &due{}, config: &knownConfig{},
		},
		move: mover{
			client: mgr.GetClient(), live: mgr.GetAPIReader(), kube: kube, provider: replace.External{Client: kube}, self: o.Holder,
			now: time.Now, leads: o.Leads,
		},
		client:  mgr.GetClient(),
		tell:    newTeller(recorder),
		metrics: m,
		dryRun:  o.DryRun,
	}
	one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{requestFor()}
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("cutover").
		WithOptions(controller.Options{
			// Growing to the default of 16 minutes, the wait after an error would outlast its cause.
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](5*time.Millisecond, retryAfter),
		}).
		For(&v1alpha1.Cutover{}, builder.WithPredicates(cutoverChanges())).
		Watches(&v1alpha1.NodeCutover{}, one).
		Watches(&corev1.Node{}, one, builder.WithPredicates(nodeChanges())).
		Watches(&appsv1.DaemonSet{}, one).
		Watches(&corev1.Pod{}, one, builder.WithPredicates(podChanges())).
		Complete(r)
}

// cutoverChanges lets through what people change: the status is nobody's but ours, and after each write of it the coordinator
// looks again anyway.
func cutoverChanges() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || e.ObjectOld.GetUID() != e.ObjectNew.GetUID() ||
			!maps.Equal(e.ObjectOld.GetAnnotations(), e.ObjectNew.GetAnnotations()) ||
			(e.ObjectOld.GetDeletionTimestamp() == nil) != (e.ObjectNew.GetDeletionTimestamp() == nil)
	}}
}

// nodeChanges lets only those updates of Nodes through that plan can see: a kubelet's heartbeat is none.
func nodeChanges() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*corev1.Node)
		after, ok2 := e.ObjectNew.(*corev1.Node)
		if !ok || !ok2 {
			return true
		}
		a, b := toNode(before, "", nil), toNode(after, "", nil)
		return a.Ready != b.Ready || a.SafeShown != b.SafeShown || before.Status.NodeInfo.BootID != after.Status.NodeInfo.BootID ||
			!equality.Semantic.DeepEqual(before.Labels, after.Labels) || !equality.Semantic.DeepEqual(before.Annotations, after.Annotations) ||
			!equality.Semantic.DeepEqual(before.Spec, after.Spec) || (before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil)
	}}
}

// podChanges lets through what changes where the CNIs' pods are.
func podChanges() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*corev1.Pod)
		after, ok2 := e.ObjectNew.(*corev1.Pod)
		return !ok || !ok2 || before.Spec.NodeName != after.Spec.NodeName || before.Status.Phase != after.Status.Phase ||
			(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil)
	}}
}
