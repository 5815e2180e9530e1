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

	"k8s.io/apimachinery/pkg/runtime"

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
