// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab"
)

// TestAFenceThatSomebodyRevertsIsMended undoes each part of the fence, as an add-on's update or a tool that owns labels does. Each
// time FenceIntact says False and why, every node waits for that instead of for its slot, and the part is put back.
func TestAFenceThatSomebodyRevertsIsMended(t *testing.T) {
	s := standing(t)
	s.harms(t)
	old := s.hosts(t)[0]
	s.rollBehindAWindow(t)
	config := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"defaults":{"custom-cni-conf":"true"}}}`))
	for _, x := range []struct {
		name   string
		part   client.Object
		revert func(client.Object) error
		reason v1alpha1.Reason
		// unwatched: the coordinator looks at this part every 15 s (plan.fenceEvery), or whenever anything else happens.
		unwatched bool
	}{
		{"a Legacy node loses its label", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: old.Name}}, func(client.Object) error {
			return fenceLabel(false)(t.Context(), s, old)
		}, v1alpha1.FenceLabelLost, false},
		{"the CiliumNodeConfig is edited", nodeConfig(), func(o client.Object) error { return s.env.Client.Patch(t.Context(), o, config) }, v1alpha1.FenceConfigLost, true},
		{"the CiliumNodeConfig is deleted", nodeConfig(), func(o client.Object) error { return s.env.Client.Delete(t.Context(), o) }, v1alpha1.FenceConfigLost, true},
		{"aws-node's nodeSelector is removed", awsNodeSet(), func(o client.Object) error {
			body := fmt.Sprintf(`{"spec":{"template":{"spec":{"nodeSelector":{%q:null}}}}}`, v1alpha1.FenceLabel)
			return s.env.Client.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(body)))
		}, v1alpha1.FenceSelectorLost, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			before := s.shape(t, x.part)
			opened := s.watchFence(t, x.reason)
			s.must(t, x.revert(x.part))
			if x.unwatched {
				s.nudge(t)
			}
			opened()
			if diff := cmp.Diff(before, s.shape(t, x.part)); diff != "" {
				t.Errorf("it was put back as another thing (-before +after):\n%s", diff)
			}
			s.wantEvent(t, v1alpha1.CutoverName, x.reason)
		})
	}
	// Each of its pods was replaced twice; the next test begins with all of them.
	s.must(t, s.env.WaitDaemonSet(t.Context(), "kube-system", "aws-node"))
	s.recovers(t, old, v1alpha1.RoleLegacy)
}

func nodeConfig() *unstructured.Unstructured {
	c := &unstructured.Unstructured{}
	c.SetGroupVersionKind(schema.GroupVersionKind{Group: "cilium.io", Version: "v2", Kind: "CiliumNodeConfig"})
	c.SetNamespace("kube-system")
	c.SetName(v1alpha1.NodeConfigName)
	return c
}

func awsNodeSet() *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "aws-node"}}
}

// shape is what the fence is about in one of its parts.
func (s *scene) shape(t *testing.T, part client.Object) any {
	t.Helper()
	s.must(t, s.env.Client.Get(t.Context(), client.ObjectKeyFromObject(part), part))
	switch o := part.(type) {
	case *corev1.Node:
		return o.Labels
	case *appsv1.DaemonSet:
		return o.Spec.Template.Spec
	case *unstructured.Unstructured:
		return o.Object["spec"]
	}
	t.Fatalf("a %T is no part of the fence", part)
	return nil
}

// watchFence watches the Cutover from now on. The function that it returns waits until the fence was open for a reason, with every
// node waiting for that and no slot granted, and is intact again.
func (s *scene) watchFence(t *testing.T, reason v1alpha1.Reason) func() {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	w, err := s.env.Client.Watch(ctx, &v1alpha1.CutoverList{}, client.MatchingFields{"metadata.name": v1alpha1.CutoverName})
	s.must(t, err)
	return func() {
		t.Helper()
		defer cancel()
		defer w.Stop()
		open := false
		for e := range w.ResultChan() {
			c, ok := e.Object.(*v1alpha1.Cutover)
			if !ok {
				t.Fatalf("watching the Cutover: %+v", e)
			}
			if len(c.Status.Slots) > 0 {
				t.Errorf("a slot was granted: %+v", c.Status.Slots)
			}
			f := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionFenceIntact)
			switch {
			case f.Status == metav1.ConditionFalse && f.Reason == string(reason):
				open = true
				for _, x := range c.Status.Waiting {
					if x.Reason != v1alpha1.FenceOpen {
						t.Errorf("%s waits for %s while the fence is open", x.Node, x.Reason)
					}
				}
				if len(c.Status.Waiting) == 0 {
					t.Error("no node waits while the fence is open")
				}
			case f.Status == metav1.ConditionTrue && open:
				return
			}
		}
		t.Fatalf("the fence was open for %s: %t; and it is not intact: %+v", reason, open, s.cutover(t).Status.Conditions)
	}
}

// wantFence waits until the fence is intact.
func (s *scene) wantFence(t *testing.T) {
	t.Helper()
	s.eventually(t, 30*time.Second, func() string {
		f := meta.FindStatusCondition(s.cutover(t).Status.Conditions, v1alpha1.ConditionFenceIntact)
		if f == nil || f.Status != metav1.ConditionTrue {
			return fmt.Sprintf("the fence is not intact: %+v", f)
		}
		return ""
	})
}

// nudge gives the coordinator something to think about that changes nothing here.
func (s *scene) nudge(t *testing.T) {
	t.Helper()
	soak := s.cutover(t).Spec.Rollout.Soak.Duration%(2*time.Second) + time.Second // 1 s, 2 s, 1 s, ...
	s.patchCutover(t, fmt.Sprintf(`{"spec":{"rollout":{"soak":%q}}}`, soak))
}

// decidesAgain waits until the coordinator has decided on the cluster as it is now.
func (s *scene) decidesAgain(t *testing.T) {
	t.Helper()
	s.nudge(t)
	s.decided(t)
}

// decided waits until the coordinator has decided on what the Cutover says.
func (s *scene) decided(t *testing.T) {
	t.Helper()
	s.eventually(t, 20*time.Second, func() string {
		if c := s.cutover(t); c.Status.ObservedGeneration != c.Generation {
			return fmt.Sprintf("generation %d is decided, %d is there", c.Status.ObservedGeneration, c.Generation)
		}
		return ""
	})
}

// rollBehindAWindow lets the roll begin with no window open, and ends it with the test by a Cutover that is made again: the world is
// as it was then, and a new ledger says what it shows.
func (s *scene) rollBehindAWindow(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		c := &v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName}}
		if err := s.env.Client.Delete(ctx, c); err != nil {
			t.Error(err)
		}
		err := until(ctx, time.Minute, func() string {
			if err := s.env.Client.Get(ctx, client.ObjectKeyFromObject(c), c); !apierrors.IsNotFound(err) {
				return fmt.Sprintf("the Cutover is not gone: %v", err)
			}
			return ""
		})
		if err != nil {
			t.Error(err)
		}
		if err := s.fence(ctx); err != nil {
			t.Error(err)
		}
	})
	day := time.Now().UTC().AddDate(0, 0, 3).Weekday()
	s.patchCutover(t, fmt.Sprintf(`{"spec":{"approvedPhases":["DecoupleIngress","InstallCilium","FenceLegacy","RollNodes"],
		"rollout":{"windows":[{"days":["%s"],"start":"03:00","duration":"1h"}]}}}`, day))
	s.wantWaits(t, v1alpha1.OutsideWindow)
}

// wantWaits waits until every node that waits does so for one reason.
func (s *scene) wantWaits(t *testing.T, reason v1alpha1.Reason) {
	t.Helper()
	s.eventually(t, 20*time.Second, func() string {
		waiting := s.cutover(t).Status.Waiting
		for _, x := range waiting {
			if x.Reason != reason {
				return fmt.Sprintf("%s waits for %s: %s", x.Node, x.Reason, x.Message)
			}
		}
		if len(waiting) == 0 {
			return "no node waits"
		}
		return ""
	})
}

// TestAnAnswerOfAnotherBootIsRefused lets a node's agent see another boot id than the kubelet has told the API server. There it is
// the node that has booted again and the answer that is old; to the coordinator, which compares the two, it is the same.
func TestAnAnswerOfAnotherBootIsRefused(t *testing.T) {
	s := standing(t)
	hosts := s.hosts(t)
	one := hosts[0]
	s.rollBehindAWindow(t)
	closed := s.cutover(t).Spec.Rollout.Windows
	for _, h := range hosts[1:] {
		s.optOut(t, h, `"for the test of one node"`)
	}
	bootID := inNode(one, "/proc/sys/kernel/random/boot_id")
	was, err := os.ReadFile(bootID)
	s.must(t, err)
	s.must(t, os.WriteFile(bootID, []byte(string(uuid.NewUUID())+"\n"), 0o644))

	s.setWindows(t, nil)
	s.eventually(t, 30*time.Second, func() string {
		c := s.cutover(t)
		if len(c.Status.Slots) > 0 {
			t.Fatalf("a slot was granted: %+v", c.Status.Slots)
		}
		for _, x := range c.Status.Waiting {
			if x.Node == one.Name && x.Reason == v1alpha1.AnswerRefused && strings.Contains(x.Message, "boot") {
				return ""
			}
		}
		return fmt.Sprintf("%s is not refused: %+v", one.Name, c.Status.Waiting)
	})
	s.wantEvent(t, one.Name, v1alpha1.AnswerRefused)

	s.setWindows(t, closed) // or it would be granted a slot when it is cured
	s.decided(t)
	s.must(t, os.WriteFile(bootID, was, 0o644))
	for _, h := range hosts[1:] {
		s.optOut(t, h, "null")
	}
	s.recovers(t, one, v1alpha1.RoleLegacy)
}

func (s *scene) setWindows(t *testing.T, windows []v1alpha1.Window) {
	t.Helper()
	c := s.cutover(t)
	before := c.DeepCopy()
	c.Spec.Rollout.Windows = windows
	s.must(t, s.env.Client.Patch(t.Context(), c, client.MergeFrom(before)))
}

func (s *scene) optOut(t *testing.T, host lab.Host, value string) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: host.Name}}
	body := fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, v1alpha1.AnnotationOptOut, value)
	s.must(t, s.env.Client.Patch(t.Context(), n, client.RawPatch(types.MergePatchType, []byte(body))))
}
