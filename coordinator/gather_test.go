// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

func node(name string, uid types.UID) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: uid}}
}

// reader holds some objects and shows every list's options to see.
func reader(t *testing.T, see func(*client.ListOptions), objects ...client.Object) client.Reader {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if see != nil {
				see((&client.ListOptions{}).ApplyOptions(options))
			}
			return c.List(ctx, list, options...)
		},
	}).Build()
}

// TestFreshFactsAreTheNewest: resourceVersion 0 means any version, from whichever API server answers, and one of several may
// lag behind what another has shown already.
func TestFreshFactsAreTheNewest(t *testing.T) {
	lists := 0
	live := reader(t, func(o *client.ListOptions) {
		lists++
		if o.Raw != nil && o.Raw.ResourceVersion != "" {
			t.Errorf("a fresh list accepts version %q", o.Raw.ResourceVersion)
		}
	})
	g := gatherer{cached: live, live: live, client: fake.NewClientset(), now: time.Now, due: &due{}, config: &knownConfig{}}
	cutover := &v1alpha1.Cutover{Spec: v1alpha1.CutoverSpec{Cilium: v1alpha1.Cilium{Install: v1alpha1.InstallShared}}}
	if _, err := g.everything(t.Context(), cutover); err != nil {
		t.Fatal(err)
	}
	if lists == 0 {
		t.Error("nothing was listed")
	}
}

// TestPodsOfALaterNodeOfTheSameNameAreLeftAlone: a slot's node is gone and another one has taken its name, but the cache
// still shows the first.
func TestPodsOfALaterNodeOfTheSameNameAreLeftAlone(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "p"}, Spec: corev1.PodSpec{NodeName: "n1"}}
	for name, tt := range map[string]struct {
		live   *corev1.Node
		looked bool
	}{
		"the slot's node":            {node("n1", "uid-1"), true},
		"another node of its name":   {node("n1", "uid-2"), false},
		"no node of its name at all": {node("n2", "uid-2"), false},
	} {
		t.Run(name, func(t *testing.T) {
			g := gatherer{
				cached: reader(t, nil, node("n1", "uid-1")), live: reader(t, nil, tt.live), client: fake.NewClientset(pod), now: time.Now, due: &due{}, config: &knownConfig{},
			}
			cutover := &v1alpha1.Cutover{
				Spec:   v1alpha1.CutoverSpec{Cilium: v1alpha1.Cilium{Install: v1alpha1.InstallShared}},
				Status: v1alpha1.CutoverStatus{Slots: []v1alpha1.Slot{{NodeUID: "uid-1", Node: "n1", Step: v1alpha1.StepDrain, Terms: v1alpha1.Terms{Drain: v1alpha1.Drain{Force: true}}}}},
			}
			w, err := g.world(t.Context(), cutover)
			if err != nil {
				t.Fatal(err)
			}
			if left, looked := w.Drains["uid-1"]; looked != tt.looked || len(left.Evict) > 0 != tt.looked {
				t.Errorf("looked %t with %d pods to evict, want looked %t", looked, len(left.Evict), tt.looked)
			}
		})
	}
}

// TestANodeOfASlotIsGoneOnlyIfTheAPIServerSaysSo: a cache that is older than the ledger does not show a node yet that a slot
// is about, or that it has claimed.
func TestANodeOfASlotIsGoneOnlyIfTheAPIServerSaysSo(t *testing.T) {
	for name, tt := range map[string]struct {
		live []client.Object
		slot v1alpha1.Slot
		want int
	}{
		"the slot's node is there":            {[]client.Object{node("n1", "uid-1")}, v1alpha1.Slot{Step: v1alpha1.StepCordon}, 1},
		"another node has its name":           {[]client.Object{node("n1", "uid-3")}, v1alpha1.Slot{Step: v1alpha1.StepCordon}, 0},
		"it is gone":                          {nil, v1alpha1.Slot{Step: v1alpha1.StepCordon}, 0},
		"it has been given up":                {[]client.Object{node("n1", "uid-1")}, v1alpha1.Slot{Step: v1alpha1.StepJoin}, 0},
		"the node that it claimed is there":   {[]client.Object{node("n2", "uid-2")}, v1alpha1.Slot{Step: v1alpha1.StepSoak, Replacement: "n2", ReplacementUID: "uid-2"}, 1},
		"the node that it claimed is no more": {nil, v1alpha1.Slot{Step: v1alpha1.StepSoak, Replacement: "n2", ReplacementUID: "uid-2"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			g := gatherer{cached: reader(t, nil), live: reader(t, nil, tt.live...), client: fake.NewClientset(), now: time.Now, due: &due{}, config: &knownConfig{}}
			tt.slot.Node, tt.slot.NodeUID = "n1", "uid-1"
			w, err := g.world(t.Context(), &v1alpha1.Cutover{
				Spec:   v1alpha1.CutoverSpec{Cilium: v1alpha1.Cilium{Install: v1alpha1.InstallShared}},
				Status: v1alpha1.CutoverStatus{Slots: []v1alpha1.Slot{tt.slot}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(w.Nodes) != tt.want {
				t.Errorf("%d nodes, want %d", len(w.Nodes), tt.want)
			}
		})
	}
}

// TestTheNodeConfigIsReadAgainUnlessItWasIntactAMomentAgo: an answer does not wait for what nothing rests on, and what has to be
// mended is seen at every look.
func TestTheNodeConfigIsReadAgainUnlessItWasIntactAMomentAgo(t *testing.T) {
	intact := newNodeConfig("kube-system", v1alpha1.FenceLabel)
	broken := newNodeConfig("kube-system", "another")
	at := time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		first *unstructured.Unstructured
		later time.Duration
		age   time.Duration // that the second look may have
		want  bool          // it is read again
	}{
		"intact a moment ago":              {intact, plan.PollEvery - 1, plan.PollEvery, false},
		"intact, but a decision rests on":  {intact, 0, 0, true},
		"intact some time ago":             {intact, plan.PollEvery, plan.PollEvery, true},
		"intact by a clock that went back": {intact, -1, plan.PollEvery, true},
		"changed by somebody":              {broken, 0, plan.PollEvery, true},
		"not there":                        {nil, 0, plan.PollEvery, true},
	} {
		t.Run(name, func(t *testing.T) {
			var objects []client.Object
			if tt.first != nil {
				objects = append(objects, tt.first.DeepCopy())
			}
			g := gatherer{live: reader(t, nil, objects...), config: &knownConfig{}}
			cutover := &v1alpha1.Cutover{Spec: v1alpha1.CutoverSpec{
				Legacy: v1alpha1.Legacy{FenceLabel: v1alpha1.FenceLabel}, Cilium: v1alpha1.Cilium{DaemonSet: v1alpha1.ObjectRef{Namespace: "kube-system"}},
			}}
			if _, err := g.nodeConfig(t.Context(), &plan.World{Now: at, Cutover: cutover}, plan.PollEvery); err != nil {
				t.Fatal(err)
			}
			g.live = reader(t, nil) // it is gone
			now, err := g.nodeConfig(t.Context(), &plan.World{Now: at.Add(tt.later), Cutover: cutover}, tt.age)
			if err != nil {
				t.Fatal(err)
			}
			if now.Found == tt.want {
				t.Errorf("read again: %t, want %t", !now.Found, tt.want)
			}
		})
	}
}
