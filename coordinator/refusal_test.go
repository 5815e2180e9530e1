// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// noRight is what the API server's authorizer says.
func noRight(verb, resource string) error {
	why := fmt.Errorf(`User "system:serviceaccount:cni-cutover:cutover-coordinator" cannot %s resource %q in API group "" at the cluster scope`, verb, resource)
	return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "n1", why)
}

func TestARefusalSaysWhatWasFoundAndWhatToDo(t *testing.T) {
	budget := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
	budget.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause, Message: "The disruption budget shop needs 3 healthy pods and has 3 currently"}}
	long := strings.Repeat("long ", 200)
	for name, tt := range map[string]struct {
		err    error
		reason v1alpha1.Reason
		words  []string
	}{
		"a right to write":           {noRight("patch", "nodes"), v1alpha1.PermissionMissing, []string{"cannot patch", "role cutover-coordinator-act"}},
		"a right to read":            {fmt.Errorf("listing nodes: %w", noRight("list", "nodes")), v1alpha1.PermissionMissing, []string{"listing nodes", "role cutover-coordinator-look"}},
		"a right of the CNIs' place": {noRight("patch", "daemonsets"), v1alpha1.PermissionMissing, []string{"cni.namespace", "cni.legacyDaemonSet"}},
		"a budget":                   {fmt.Errorf("evicting pod shop/web: %w", budget), v1alpha1.EvictionBlocked, []string{"shop/web", "disruption budget shop needs 3 healthy pods", "widen it"}},
		"too many requests of any kind are no budget": {
			apierrors.NewTooManyRequests("slow down", 1), v1alpha1.WriteRefused, []string{"slow down"},
		},
		"two budgets": {
			apierrors.NewInternalError(errors.New("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")),
			v1alpha1.BudgetsOverlap, []string{"leave only one"},
		},
		"a quota": {
			apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p", errors.New("exceeded quota: small, requested: pods=1")),
			v1alpha1.AdmissionRefused, []string{"exceeded quota: small", "exempt"},
		},
		"a webhook with much to say": {
			apierrors.NewInternalError(errors.New(`failed calling webhook "w": ` + long)), v1alpha1.AdmissionRefused, []string{`webhook "w"`, "...; mend it, or exempt"},
		},
		"a connection": {
			errors.New("read tcp 10.0.0.1:43210->10.0.0.2:443: connection reset"), v1alpha1.WriteRefused, []string{"10.0.0.1->10.0.0.2:443"},
		},
	} {
		r := refuse("trying to do it", tt.err, v1alpha1.WriteRefused)
		if r.Reason != tt.reason || len(r.Message) > v1alpha1.MaxMessageBytes {
			t.Errorf("%s: reason %s (%d bytes), want %s", name, r.Reason, len(r.Message), tt.reason)
		}
		for _, w := range append(tt.words, "trying to do it: ") {
			if !strings.Contains(r.Message, w) {
				t.Errorf("%s: %q does not say %q", name, r.Message, w)
			}
		}
	}
}

// TestACacheThatLosesItsRightIsBlindUntilItSeesAgain: the watch of a cache ends after minutes, and the next one is refused.
func TestACacheThatLosesItsRightIsBlindUntilItSeesAgain(t *testing.T) {
	source := &toolscache.ListWatch{
		ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
			return &corev1.NodeList{ListMeta: metav1.ListMeta{ResourceVersion: "7"}}, nil
		},
		WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) {
			return nil, noRight("watch", "nodes")
		},
	}
	r := toolscache.NewReflector(source, &corev1.Node{}, toolscache.NewStore(toolscache.MetaNamespaceKeyFunc), 0)
	told := 0
	s := &Sight{tell: func(*refusal) { told++ }}
	s.failed(t.Context(), r, errors.New("connection reset"))
	if err := s.Blind(); err != nil {
		t.Errorf("a watch that is begun again makes blind: %v", err)
	}
	s.failed(t.Context(), r, noRight("list", "nodes"))
	s.failed(t.Context(), r, noRight("list", "nodes"))
	if err := s.Ready(nil); err == nil || !strings.Contains(err.Error(), "cannot list") || told != 1 {
		t.Errorf("the readiness check says %v, and %d times somebody was told, want once", err, told)
	}
	if err := r.ListAndWatchWithContext(t.Context()); err == nil {
		t.Fatal("the watch was not refused")
	}
	if err := s.Blind(); err != nil {
		t.Errorf("still blind after the cache has seen version 7: %v", err)
	}
	s.failed(t.Context(), r, noRight("watch", "nodes"))
	if err := s.Blind(); err == nil || told != 1 {
		t.Errorf("blind = %v and %d times told; a cache that was filled once must not go on in silence, and the ledger tells", err, told)
	}
}
