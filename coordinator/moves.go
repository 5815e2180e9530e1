// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/drain"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// moveTimeout ends every action before another coordinator can lead: none is begun later than RenewDeadline after the lease
// was renewed.
const moveTimeout = 5 * time.Second

// errNotLeading is returned for a ledger that was not written because another coordinator may lead by now.
var errNotLeading = errors.New("not certain to lead any more")

// errStale is returned for an action whose slot is no longer what it was when the world was read.
var errStale = errors.New("the slot has moved on")

// provider asks for nodes to be replaced. Both methods may be called many times for one slot.
type provider interface {
	Replace(ctx context.Context, node string, slot types.UID) error
	Surge(ctx context.Context, node string, slot types.UID) error
}

// mover carries Actions out. All writing except the ledger's is here.
type mover struct {
	client   client.Client
	live     client.Reader
	kube     kubernetes.Interface
	provider provider
	// self is the name of this coordinator's pod.
	self string
	now  func() time.Time
	// leads says whether nobody else can lead before an action that begins now has ended.
	leads func() bool
}

// run carries out the Actions of a Decision: those about one node one after the other, several nodes at once. One that fails
// does not keep the others from being tried; the next reconcile derives it again. What was refused comes in the order of the
// Actions.
func (m mover) run(ctx context.Context, w *plan.World, ledger *sharedLedger, actions []plan.Action) []refusal {
	refused := make([]*refusal, len(actions))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, ofNode := range byNode(actions) {
		group.Go(func() error {
			for _, i := range ofNode {
				refused[i] = m.try(ctx, w, ledger, actions[i])
			}
			return nil
		})
	}
	_ = group.Wait() // what failed is in refused
	var out []refusal
	for i, r := range refused {
		if r == nil {
			continue
		}
		a := actions[i]
		r.slot, r.what, r.idle = waiting(w, a), strings.TrimPrefix(fmt.Sprintf("%T", a), "plan."), idle(a)
		out = append(out, *r)
	}
	return out
}

// byNode groups Actions, by their indices, by the node that they are about, and puts the groups of slots first: those are
// what somebody waits for. Actions about no node are a group.
func byNode(actions []plan.Action) [][]int {
	at := map[string]int{}
	var slots, others [][]int
	urgent := map[string]bool{}
	for _, a := range actions {
		if slotOf(a) != "" {
			urgent[plan.About(a)] = true
		}
	}
	for i, a := range actions {
		node := plan.About(a)
		into := &others
		if urgent[node] {
			into = &slots
		}
		k, ok := at[node]
		if !ok {
			k = len(*into)
			at[node] = k
			*into = append(*into, nil)
		}
		(*into)[k] = append((*into)[k], i)
	}
	return append(slots, others...)
}

// waiting is the slot that waits for an Action: its own, or that of the node that is asked.
func waiting(w *plan.World, a plan.Action) types.UID {
	if ask, ok := a.(plan.Ask); ok {
		for _, s := range w.Cutover.Status.Slots {
			if s.Node == ask.Node || s.Replacement == ask.Node {
				return s.NodeUID
			}
		}
	}
	return slotOf(a)
}

// idle says whether nothing waits for an Action: it shows people something, or asks the scheduler a favour.
func idle(a plan.Action) bool {
	switch a.(type) {
	case plan.SetSafe, plan.SetLeaving, plan.RemoveRelease:
		return true
	}
	return false
}

// asks says whether an Action asks an agent.
func asks(a plan.Action) bool {
	switch a := a.(type) {
	case plan.Ask:
		return true
	case plan.CreateNodeCutover:
		return a.Challenge != nil
	}
	return false
}

func (m mover) try(ctx context.Context, w *plan.World, ledger *sharedLedger, a plan.Action) *refusal {
	if ctx.Err() != nil {
		return nil // told to stop: the next leader derives the action again
	}
	// What is begun is not broken off, for it ends soon. An eviction that is broken off between the budget's consent and the
	// pod's deletion blocks that budget for two minutes (DeletionTimeout of Kubernetes' pkg/controller/disruption).
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveTimeout)
	defer cancel()
	if !m.leads() {
		return nil // whoever leads derives it too
	}
	if err := ledger.check(whole, w, a); err != nil {
		return unlessStale(a, err)
	}
	if e, ok := a.(plan.Evict); ok {
		return m.evict(ctx, whole, e)
	}
	return unlessStale(a, m.do(whole, w, a))
}

// unlessStale words an error for people; a conflict or a stale slot is no news, the next look sorts it out.
func unlessStale(a plan.Action, err error) *refusal {
	if err == nil || errors.Is(err, errStale) || apierrors.IsConflict(err) {
		return nil
	}
	return refuse("trying to "+a.String(), err, v1alpha1.WriteRefused)
}

// slotOf returns the slot that an Action belongs to. Uncordon belongs to a slot that is no more.
func slotOf(a plan.Action) types.UID {
	switch a := a.(type) {
	case plan.RequestSurge:
		return a.Slot
	case plan.Cordon:
		return a.Slot
	case plan.Evict:
		return a.Slot
	case plan.RequestReplacement:
		return a.Slot
	}
	return ""
}

// evict posts an Eviction for every pod, until stop is done or the answer that allows it has expired, and returns the first
// refusal. The coordinator's own pod goes
// last and alone: evicted among the others it would leave them to the next leader.
func (m mover) evict(stop, whole context.Context, e plan.Evict) *refusal {
	var first *refusal
	for _, pod := range e.Pods {
		if stop.Err() != nil || !m.now().Before(e.Until) {
			break
		}
		if pod.Name == m.self && len(e.Pods) > 1 {
			continue
		}
		if err := drain.Evict(whole, m.kube, pod); err != nil && first == nil {
			first = refuse("node "+e.Node, err, v1alpha1.EvictionRefused)
		}
	}
	return first
}

// do carries out every Action that is one write.
func (m mover) do(ctx context.Context, w *plan.World, a plan.Action) error {
	switch a := a.(type) {
	case plan.CreateNodeCutover:
		return m.createNodeCutover(ctx, a)
	case plan.Ask:
		return m.ask(ctx, w, a)
	case plan.SetFenceLabel:
		return m.setFenceLabel(ctx, w, a)
	case plan.FenceDaemonSet:
		return m.fenceDaemonSet(ctx, w, a)
	case plan.WriteNodeConfig:
		return m.writeNodeConfig(ctx, w)
	case plan.DeleteCiliumPod:
		return m.deleteCiliumPod(ctx, a)
	case plan.SetLeaving:
		return m.setLeaving(ctx, a)
	case plan.SetSafe:
		return m.setSafe(ctx, a)
	case plan.RequestSurge:
		return m.provider.Surge(ctx, a.Node, a.Slot)
	case plan.RequestReplacement:
		return m.provider.Replace(ctx, a.Node, a.Slot)
	case plan.Cordon:
		return m.cordon(ctx, a)
	case plan.Uncordon:
		return m.uncordon(ctx, a)
	case plan.RemoveRelease:
		return m.removeRelease(ctx, w, a)
	case plan.DeleteLegacy:
		return m.deleteLegacy(ctx, w, a)
	}
	return fmt.Errorf("action %T is not known to this coordinator", a)
}

func (m mover) createNodeCutover(ctx context.Context, a plan.CreateNodeCutover) error {
	yes := true
	err := m.client.Create(ctx, &v1alpha1.NodeCutover{
		ObjectMeta: metav1.ObjectMeta{
			Name:            a.Node,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: a.Node, UID: a.UID, Controller: &yes}},
		},
		Spec: v1alpha1.NodeCutoverSpec{NodeUID: a.UID, Challenge: a.Challenge},
	})
	if apierrors.IsAlreadyExists(err) {
		// Of an earlier node of this name: it is collected with that node, and then created again.
		return nil
	}
	return err
}

// ask writes a challenge onto the very object that the Decision saw: if it has changed since, another look is due first.
func (m mover) ask(ctx context.Context, w *plan.World, a plan.Ask) error {
	for i := range w.Nodes {
		nc := w.Nodes[i].Cutover
		if nc == nil || nc.Name != a.Node {
			continue
		}
		asked := nc.DeepCopy()
		asked.Spec.Challenge = &a.Challenge
		return m.client.Patch(ctx, asked, client.MergeFromWithOptions(nc, client.MergeFromWithOptimisticLock{}))
	}
	return nil
}

func (m mover) removeRelease(ctx context.Context, w *plan.World, a plan.RemoveRelease) error {
	for i := range w.Nodes {
		nc := w.Nodes[i].Cutover
		if nc == nil || nc.Name != a.Node {
			continue
		}
		without := nc.DeepCopy()
		delete(without.Annotations, v1alpha1.AnnotationRelease)
		return m.client.Patch(ctx, without, client.MergeFrom(nc))
	}
	return nil
}

func (m mover) deleteCiliumPod(ctx context.Context, a plan.DeleteCiliumPod) error {
	err := m.kube.CoreV1().Pods(a.Pod.Namespace).Delete(ctx, a.Pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &a.Pod.UID}})
	return client.IgnoreNotFound(err)
}

func (m mover) deleteLegacy(ctx context.Context, w *plan.World, a plan.DeleteLegacy) error {
	ds := w.Cutover.Spec.Legacy.DaemonSet
	background := metav1.DeletePropagationBackground
	err := m.kube.AppsV1().DaemonSets(ds.Namespace).Delete(ctx, ds.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &a.UID}, PropagationPolicy: &background,
	})
	return client.IgnoreNotFound(err)
}

func (m mover) writeNodeConfig(ctx context.Context, w *plan.World) error {
	wanted := newNodeConfig(w.Cutover.Spec.Cilium.DaemonSet.Namespace, w.Cutover.Spec.Legacy.FenceLabel)
	if !w.NodeConfig.Found {
		return m.client.Create(ctx, wanted)
	}
	found := emptyNodeConfig()
	if err := m.live.Get(ctx, client.ObjectKeyFromObject(wanted), found); err != nil {
		return err
	}
	wanted.SetResourceVersion(found.GetResourceVersion())
	return m.client.Update(ctx, wanted)
}
