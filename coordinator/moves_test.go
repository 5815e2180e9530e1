// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"slices"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// evicting counts the evictions that reach the API server and calls then after each.
func evicting(then func()) (*fake.Clientset, *[]string) {
	client, asked := fake.NewClientset(), &[]string{}
	client.PrependReactor("create", "pods/eviction", func(a clienttesting.Action) (bool, runtime.Object, error) {
		e := a.(clienttesting.CreateAction).GetObject().(*policyv1.Eviction)
		*asked = append(*asked, e.Name)
		then()
		return true, e, nil
	})
	return client, asked
}

// noon is what the clock of these tests says.
var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func atNoon() time.Time { return noon }

// always is a lease that is never lost.
func always() bool { return true }

func pods(names ...string) plan.Evict {
	e := plan.Evict{Until: noon.Add(time.Minute)}
	for _, n := range names {
		e.Pods = append(e.Pods, plan.Pod{Namespace: "shop", Name: n})
	}
	return e
}

func TestTheCoordinatorsOwnPodGoesLast(t *testing.T) {
	client, asked := evicting(func() {})
	m := mover{kube: client, self: "me", now: atNoon}
	m.evict(t.Context(), t.Context(), pods("me", "a", "b"))
	m.evict(t.Context(), t.Context(), pods("me"))
	if want := []string{"a", "b", "me"}; !slices.Equal(*asked, want) {
		t.Errorf("evicted %v, want %v", *asked, want)
	}
}

func TestAnEvictionInProgressIsNotBrokenOff(t *testing.T) {
	stop, cancel := context.WithCancel(t.Context())
	client, asked := evicting(cancel)
	whole := context.WithoutCancel(stop)
	mover{kube: client, now: atNoon}.evict(stop, whole, pods("a", "b"))
	if want := []string{"a"}; !slices.Equal(*asked, want) {
		t.Errorf("evicted %v after being told to stop during the first, want %v", *asked, want)
	}
	if whole.Err() != nil {
		t.Error("the eviction in progress was broken off")
	}
}

func TestNobodyIsEvictedOnAnAnswerThatExpiresMeanwhile(t *testing.T) {
	now := noon
	client, asked := evicting(func() { now = now.Add(time.Minute) })
	m := mover{kube: client, now: func() time.Time { return now }}
	m.evict(t.Context(), t.Context(), pods("a", "b"))
	if want := []string{"a"}; !slices.Equal(*asked, want) {
		t.Errorf("evicted %v, want %v: the answer expired during the first", *asked, want)
	}
}

// TestACordonIsNotUndoneWhileItsSlotIsInTheLedger: a coordinator that led before has read the ledger without the slot, and
// then seen the cordon that its successor has made for it.
func TestACordonIsNotUndoneWhileItsSlotIsInTheLedger(t *testing.T) {
	for name, tt := range map[string]struct {
		slots   []v1alpha1.Slot
		patches int
	}{
		"its slot is there":   {slots: []v1alpha1.Slot{{NodeUID: "uid-1", Node: "n1"}}},
		"another slot is":     {slots: []v1alpha1.Slot{{NodeUID: "uid-2", Node: "n2"}}, patches: 1},
		"no slot is any more": {patches: 1},
	} {
		t.Run(name, func(t *testing.T) {
			n := node("n1", "uid-1")
			n.Spec.Unschedulable, n.Annotations = true, map[string]string{v1alpha1.AnnotationCordon: `{"slot":"uid-1"}`}
			kube := fake.NewClientset(n)
			ledger := &v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName}, Status: v1alpha1.CutoverStatus{Slots: tt.slots}}
			m := mover{kube: kube, live: reader(t, nil, ledger), leads: always}
			if refused := m.run(t.Context(), &plan.World{Cutover: &v1alpha1.Cutover{}}, &sharedLedger{live: m.live}, []plan.Action{plan.Uncordon{Slot: "uid-1", Node: "n1"}}); len(refused) > 0 {
				t.Errorf("refused: %v", refused)
			}
			patches := 0
			for _, a := range kube.Actions() {
				if a.GetVerb() == "patch" {
					patches++
				}
			}
			if patches != tt.patches {
				t.Errorf("the node was patched %d times, want %d", patches, tt.patches)
			}
		})
	}
}

// TestALostLabelIsNotPutBackOnANodeThatHasRestarted: the node was Legacy in the boot that its agent has reported of. Without
// the label, Cilium has its next pods after the restart.
func TestALostLabelIsNotPutBackOnANodeThatHasRestarted(t *testing.T) {
	for name, tt := range map[string]struct {
		fenced bool
		boot   string
		want   bool
	}{
		"the fence stands, another boot":              {fenced: true, boot: "boot-2"},
		"the fence stands, the same boot":             {fenced: true, boot: "boot-1", want: true},
		"the fence is being built, so all are marked": {boot: "boot-2", want: true},
	} {
		t.Run(name, func(t *testing.T) {
			n := node("n1", "uid-1")
			n.Status.NodeInfo.BootID = tt.boot
			kube := fake.NewClientset(n)
			w := &plan.World{
				Legacy:  plan.Legacy{Fenced: tt.fenced},
				Nodes:   []plan.Node{{Name: "n1", UID: "uid-1", BootID: "boot-1"}},
				Cutover: &v1alpha1.Cutover{Spec: v1alpha1.CutoverSpec{Legacy: v1alpha1.Legacy{FenceLabel: v1alpha1.FenceLabel}}},
			}
			mover{kube: kube, leads: always}.run(t.Context(), w, &sharedLedger{}, []plan.Action{plan.SetFenceLabel{Node: "n1", UID: "uid-1", On: true}})
			got, err := kube.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if labelled := got.Labels[v1alpha1.FenceLabel] == v1alpha1.FenceValue; labelled != tt.want {
				t.Errorf("labelled: %t, want %t", labelled, tt.want)
			}
		})
	}
}

// TestACordonThatItsOwnerTookBackIsOurs: somebody had cordoned the node before us and uncordons it while our slot is under way.
// The cordon that is put back is ours alone, and goes with the slot.
func TestACordonThatItsOwnerTookBackIsOurs(t *testing.T) {
	n := node("n1", "uid-1")
	n.Spec.Unschedulable = true
	kube := fake.NewClientset(n)
	m := mover{kube: kube, live: reader(t, nil, &v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName}}), leads: always}
	if err := m.cordon(t.Context(), plan.Cordon{Slot: "uid-1", Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := kube.CoreV1().Nodes().Patch(t.Context(), "n1", types.MergePatchType, []byte(`{"spec":{"unschedulable":false}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := m.cordon(t.Context(), plan.Cordon{Slot: "uid-1", Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	if err := m.uncordon(t.Context(), plan.Uncordon{Slot: "uid-1", Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	got, err := kube.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Spec.Unschedulable {
		t.Error("the node is left cordoned, and nobody wants that")
	}
}
