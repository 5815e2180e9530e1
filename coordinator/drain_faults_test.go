// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

// fault is something that keeps a slot in a step. Each has a node of its own.
type fault struct {
	name string
	// plant is called before the node gets its slot, mend when the slot is held.
	plant, mend func(k *scene, node string)
	step        v1alpha1.Step
	reason      v1alpha1.Reason
	// words are what the slot must say.
	words []string
}

// suffer plants every fault on a node of its own, sees it named and the slot held, mends it, and sees the node replaced by
// nobody's doing but the coordinator's.
func (k *scene) suffer(faults []fault) {
	for i, f := range faults {
		node := fmt.Sprintf("node-%d", i+1)
		k.t.Logf("%s: %s", node, f.name)
		f.plant(k, node)
		k.turn(node)
		k.waits(node, f.step, f.reason, f.words...)
		k.held(node, f.step, f.reason)
		if before(f.step, v1alpha1.StepReplace) && k.node(node).Annotations[v1alpha1.AnnotationReplace] != "" {
			k.t.Errorf("%s was handed over to be replaced", node)
		}
		f.mend(k, node)
		k.replaced(node)
	}
}

// before says whether a step comes before another one.
func before(a, b v1alpha1.Step) bool {
	way := []v1alpha1.Step{v1alpha1.StepCordon, v1alpha1.StepDeregister, v1alpha1.StepConfirm, v1alpha1.StepDrain, v1alpha1.StepDetach, v1alpha1.StepReplace, v1alpha1.StepJoin, v1alpha1.StepValidate}
	return slices.Index(way, a) < slices.Index(way, b)
}

// node reads a Node.
func (k *scene) node(name string) *corev1.Node {
	k.t.Helper()
	n := &corev1.Node{}
	k.must(k.Client.Get(k.t.Context(), client.ObjectKey{Name: name}, n))
	return n
}

// budget makes a PodDisruptionBudget for the pods of an app, changed as the test wants.
func (k *scene) budget(name, app string, available int, change func(*policyv1.PodDisruptionBudget)) {
	k.t.Helper()
	least := intstr.FromInt(available)
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}},
	}
	if change != nil {
		change(b)
	}
	k.must(k.Client.Create(k.t.Context(), b))
	fleet.Eventually(k.t, 10*time.Second, func() string {
		k.must(k.Client.Get(k.t.Context(), client.ObjectKeyFromObject(b), b))
		if b.Status.ObservedGeneration == b.Generation && b.Status.ExpectedPods == 1 {
			return ""
		}
		return fmt.Sprintf("budget %s has not been looked at: %+v", name, b.Status)
	})
}

func (k *scene) endBudget(name string) {
	k.t.Helper()
	k.must(k.Client.Delete(k.t.Context(), &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}}))
}

// patch merges a text into an object of namespace default or of none.
func (k *scene) patch(o client.Object, namespace, name, body string) {
	k.t.Helper()
	o.SetNamespace(namespace)
	o.SetName(name)
	k.must(client.IgnoreNotFound(k.Client.Patch(context.WithoutCancel(k.t.Context()), o, client.RawPatch(types.MergePatchType, []byte(body)))))
}

func (k *scene) setDrain(option string, on bool) {
	k.t.Helper()
	k.Patch(fmt.Sprintf(`{"spec":{"rollout":{"drain":{%q:%t}}}}`, option, on))
}

// attach attaches a volume to a node, as far as the API server knows.
func (k *scene) attach(name, node string, source storagev1.VolumeAttachmentSource) {
	k.t.Helper()
	k.must(k.Client.Create(k.t.Context(), &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       storagev1.VolumeAttachmentSpec{Attacher: "ebs.csi.aws.com", NodeName: node, Source: source},
	}))
	k.t.Cleanup(func() { k.detach(name) })
}

func (k *scene) detach(name string) {
	k.t.Helper()
	attachment := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: name}}
	k.must(client.IgnoreNotFound(k.Client.Delete(context.WithoutCancel(k.t.Context()), attachment)))
}

// drainFaults are the obstacles that users put into the way of a drain.
func drainFaults() []fault {
	endBudget := func(k *scene, _ string) { k.endBudget("budget") }
	return []fault{
		{
			name: "a budget that needs every pod there is", step: v1alpha1.StepDrain, reason: v1alpha1.EvictionBlocked,
			words: []string{"default/needed", "disruption budget budget needs 1 healthy pods and has 1 currently", "widen it"},
			plant: func(k *scene, node string) {
				k.Pod(node, "needed", nil)
				k.budget("budget", "needed", 1, nil)
			},
			mend: endBudget,
		},
		{
			name: "a budget of which no pod is healthy", step: v1alpha1.StepDrain, reason: v1alpha1.EvictionBlocked,
			words: []string{"default/ill", "needs 1 healthy pods and has 0 currently"},
			plant: func(k *scene, node string) {
				p := k.Pod(node, "ill", nil)
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
				k.must(k.Client.Status().Update(k.t.Context(), p))
				k.budget("budget", "ill", 1, nil)
			},
			mend: func(k *scene, _ string) {
				k.patch(&policyv1.PodDisruptionBudget{}, metav1.NamespaceDefault, "budget", `{"spec":{"unhealthyPodEvictionPolicy":"AlwaysAllow"}}`)
			},
		},
		{
			name: "two budgets on one pod, though both would allow it", step: v1alpha1.StepDrain, reason: v1alpha1.BudgetsOverlap,
			words: []string{"default/twice", "more than one PodDisruptionBudget", "leave only one"},
			plant: func(k *scene, node string) {
				k.Pod(node, "twice", nil)
				k.budget("first", "twice", 0, nil)
				k.budget("second", "twice", 0, nil)
			},
			mend: func(k *scene, _ string) { k.endBudget("second") },
		},
		{
			name: "a pod that nobody would make again", step: v1alpha1.StepDrain, reason: v1alpha1.DrainImpossible,
			words: []string{"default/bare", "rollout.drain.force"},
			plant: func(k *scene, node string) {
				k.setDrain("force", false)
				k.Pod(node, "bare", nil)
			},
			mend: func(k *scene, _ string) {
				k.EndPod("bare")
				k.setDrain("force", true)
			},
		},
		{
			name: "a pod whose data would be lost", step: v1alpha1.StepDrain, reason: v1alpha1.DrainImpossible,
			words: []string{"default/data", "rollout.drain.deleteEmptyDirData"},
			plant: func(k *scene, node string) {
				k.setDrain("deleteEmptyDirData", false)
				k.Pod(node, "data", func(p *corev1.Pod) {
					p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
				})
			},
			mend: func(k *scene, _ string) {
				k.EndPod("data")
				k.setDrain("deleteEmptyDirData", true)
			},
		},
		{
			name: "a pod that has an hour to end", step: v1alpha1.StepDrain, reason: v1alpha1.Evicting,
			words: []string{"default/slow", "grace period", "ends at"},
			plant: func(k *scene, node string) {
				k.Pod(node, "slow", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(3600)) })
				k.SetGrace(time.Hour)
			},
			mend: func(k *scene, _ string) {
				k.SetGrace(0)
				k.EndPod("slow")
			},
		},
		{
			name: "a finalizer that nobody removes", step: v1alpha1.StepDrain, reason: v1alpha1.PodStuck,
			words: []string{"default/kept", "finalizers", "example.com/keep", "should have been gone at"},
			plant: func(*scene, string) {}, // it needs to be overdue, so it was planted before all others
			mend: func(k *scene, _ string) {
				k.patch(&corev1.Pod{}, metav1.NamespaceDefault, "kept", `{"metadata":{"finalizers":null}}`)
			},
		},
		{
			name: "a volume that does not leave", step: v1alpha1.StepDetach, reason: v1alpha1.VolumesAttached, words: []string{"pv-of-a-database"},
			plant: func(k *scene, node string) {
				k.attach("csi-1", node, storagev1.VolumeAttachmentSource{PersistentVolumeName: new("pv-of-a-database")})
			},
			mend: func(k *scene, _ string) { k.detach("csi-1") },
		},
		{
			name: "a volume without a PersistentVolume that does not leave", step: v1alpha1.StepDetach, reason: v1alpha1.VolumesAttached, words: []string{"csi-2"},
			plant: func(k *scene, node string) {
				k.attach("csi-2", node, storagev1.VolumeAttachmentSource{InlineVolumeSpec: &corev1.PersistentVolumeSpec{
					AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "ebs.csi.aws.com", VolumeHandle: "vol-1"}},
				}})
			},
			mend: func(k *scene, _ string) { k.detach("csi-2") },
		},
	}
}

func TestWhatKeepsADrainIsNamedHeldAndOutlived(t *testing.T) {
	faults := drainFaults()
	k := newScene(t, make([]fleet.Node, len(faults))...)
	for i, f := range faults {
		if f.reason == v1alpha1.PodStuck {
			p := k.Pod(fmt.Sprintf("node-%d", i+1), "kept", func(p *corev1.Pod) { p.Finalizers = []string{"example.com/keep"} })
			k.must(k.Client.Delete(t.Context(), p))
			t.Cleanup(func() { f.mend(k, "") })
		}
	}
	k.rolling(nil)
	k.suffer(faults)
}
