// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// callTimeout bounds one request. A challenge lives for minutes; an API server that takes longer than this for
// one object is not one to take evidence from.
const callTimeout = 5 * time.Second

// API is what the agent reads of the Kubernetes API, and the one thing that it writes.
//
// In a cluster of 5,000 nodes each agent costs the API server two watches, both selected down to this node's objects (the
// server indexes pods by node, so the others' events are not even looked at for this watch), three small reads every
// ten minutes or so (25 a second over all agents), and at a challenge default/kubernetes, its EndpointSlice and one list of CiliumNodes: about 1.2 kB a node, so 6 MB
// of JSON out of the watch cache (half a megabyte on the wire, compressed), decoded object by object into about 200 bytes
// each. Only nodes that are about to be drained or have just joined are challenged, a few at a time, so that is bearable where
// a watch of all CiliumNodes by all agents (25 million events for one change of each) would not be. CiliumNode is the
// smallest object that has the pod CIDR: the Nodes of EKS carry none.
//
// Where Cilium translates Services at sockets, a challenge costs two lists more, at most six if they differ from its maps. Reckoned, not
// measured: 1.5 kB of JSON a Service and 0.4 kB an endpoint, so 19 MB for 2,000 Services with 40,000 endpoints (some 2 MB on the wire,
// compressed), of which about 90 bytes an endpoint are held until the answer is given.
type API struct {
	node    string
	core    rest.Interface // pods and nodes, as protobuf
	cutover rest.Interface // our own objects, and CiliumNodes by path

	questions cache.Store // this node's NodeCutover
	pods      cache.Store // this node's pods, trimmed
	informers [2]cache.Controller
	noticed   func(question bool) // called when either store changed
}

// NewAPI prepares clients for the node of the given name. Nothing is asked before Watch or one of the readers is called.
// noticed is called at every change of this node's NodeCutover (true) or pods (false) and must not block.
func NewAPI(config *rest.Config, node string, noticed func(question bool)) (*API, error) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("making the scheme: %w", err)
	}
	if err := discoveryv1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("making the scheme: %w", err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("making the scheme: %w", err)
	}
	codecs := serializer.NewCodecFactory(scheme)
	base := rest.CopyConfig(config)
	base.QPS, base.Burst = 50, 100 // the default of 5 a second would hold an answer up by itself
	base.NegotiatedSerializer = codecs.WithoutConversion()
	client, err := rest.HTTPClientFor(base)
	if err != nil {
		return nil, fmt.Errorf("preparing to speak with the API server %s: %w", config.Host, err)
	}
	core := rest.CopyConfig(base)
	core.APIPath, core.GroupVersion = "/api", &corev1.SchemeGroupVersion
	core.ContentType, core.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	own := rest.CopyConfig(base)
	gv := v1alpha1.GroupVersion()
	own.APIPath, own.GroupVersion = "/apis", &gv

	a := &API{node: node, noticed: noticed}
	if a.core, err = rest.RESTClientForConfigAndClient(core, client); err != nil {
		return nil, fmt.Errorf("preparing the client for pods and nodes: %w", err)
	}
	if a.cutover, err = rest.RESTClientForConfigAndClient(own, client); err != nil {
		return nil, fmt.Errorf("preparing the client for %s: %w", v1alpha1.Group, err)
	}
	a.questions, a.informers[0] = a.informer(a.cutover, "nodecutovers", fields.OneTermEqualSelector("metadata.name", node), &v1alpha1.NodeCutover{}, true, nil)
	a.pods, a.informers[1] = a.informer(a.core, "pods", fields.OneTermEqualSelector("spec.nodeName", node), &corev1.Pod{}, false, trimPod)
	return a, nil
}

func (a *API) informer(c rest.Interface, resource string, sel fields.Selector, object runtime.Object, question bool, trim cache.TransformFunc) (cache.Store, cache.Controller) {
	note := func() { a.noticed(question) }
	return cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(c, resource, metav1.NamespaceAll, sel),
		ObjectType:    object,
		Transform:     trim,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { note() }, UpdateFunc: func(any, any) { note() }, DeleteFunc: func(any) { note() },
		},
	})
}

// trimPod keeps of a pod in the cache what facts.PodOf reads.
func trimPod(o any) (any, error) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	kept := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
		Labels: p.Labels, OwnerReferences: p.OwnerReferences, DeletionTimestamp: p.DeletionTimestamp,
	}}
	kept.Spec.HostNetwork, kept.Spec.NodeName = p.Spec.HostNetwork, p.Spec.NodeName
	kept.Status.Phase, kept.Status.PodIPs = p.Status.Phase, p.Status.PodIPs
	return kept, nil
}

// Watch follows this node's NodeCutover and pods until ctx ends. It outlives an API server that is away.
func (a *API) Watch(ctx context.Context) {
	var wg sync.WaitGroup
	for _, c := range a.informers {
		wg.Go(func() { c.RunWithContext(ctx) })
	}
	wg.Wait()
}

// Synced says whether both lists have been read once.
func (a *API) Synced() bool { return a.informers[0].HasSynced() && a.informers[1].HasSynced() }

// NodeCutover returns this node's NodeCutover as it was last heard of, nil if there is none.
func (a *API) NodeCutover() *v1alpha1.NodeCutover {
	o, found, err := a.questions.GetByKey(a.node)
	n, ok := o.(*v1alpha1.NodeCutover)
	if err != nil || !found || !ok {
		return nil
	}
	return n.DeepCopy()
}

// HeardPods returns this node's pods as they were last heard of. They may be old while the API server is away, so they serve
// for speaking unasked and never for an answer.
func (a *API) HeardPods() facts.Pods {
	if !a.informers[1].HasSynced() {
		return facts.Pods{Look: facts.Look{Sight: facts.Failed, Detail: "the API server has not sent them yet"}}
	}
	out := facts.Pods{Look: facts.Look{Sight: facts.Seen}}
	for _, o := range a.pods.List() {
		if p, ok := o.(*corev1.Pod); ok {
			out.List = append(out.List, facts.PodOf(p))
		}
	}
	return out
}

// Publish writes the status of n. Somebody else's write in between makes it look again; it gives up with
// errMoved when the question is no longer the one that n was read with.
func (a *API) Publish(ctx context.Context, n *v1alpha1.NodeCutover) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for {
		err := a.cutover.Put().Resource("nodecutovers").Name(n.Name).SubResource("status").Body(n).Do(ctx).Error()
		if !apierrors.IsConflict(err) {
			if err != nil {
				return fmt.Errorf("writing the status of NodeCutover %s: %w", n.Name, err)
			}
			return nil
		}
		live := new(v1alpha1.NodeCutover)
		if err := a.cutover.Get().Resource("nodecutovers").Name(n.Name).Do(ctx).Into(live); err != nil {
			return fmt.Errorf("reading NodeCutover %s again: %w", n.Name, err)
		}
		if live.UID != n.UID || questionID(live) != questionID(n) {
			return errMoved
		}
		n.ResourceVersion = live.ResourceVersion
	}
}

// questionID is the id of the challenge on an object, "" without one.
func questionID(n *v1alpha1.NodeCutover) string {
	if n.Spec.Challenge == nil {
		return ""
	}
	return n.Spec.Challenge.ID
}
