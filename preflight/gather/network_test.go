// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package gather

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/preflight"
)

// TestASwitchIsOnIfOneOldNodeHasIt, by cilium-config or by what takes its place there.
func TestASwitchIsOnIfOneOldNodeHasIt(t *testing.T) {
	const key = "kube-proxy-replacement"
	to := func(pool, value string) override {
		var o override
		if pool != "" {
			o.Spec.NodeSelector.MatchLabels = map[string]string{"pool": pool}
		}
		o.Spec.Defaults = map[string]string{key: value}
		return o
	}
	unreadable := to("", "true")
	unreadable.Spec.NodeSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "pool", Operator: "Resembles"}}
	other := override{}
	other.Spec.Defaults = map[string]string{"mtu": "1500"}
	both := []labels.Set{{"pool": "a"}, {"pool": "b"}}
	for name, c := range map[string]struct {
		usual     string
		overrides []override
		nodes     []labels.Set
		want      bool
	}{
		"nowhere":                      {"false", nil, both, false},
		"everywhere":                   {"true", nil, both, true},
		"without a node":               {"true", []override{to("", "false")}, nil, true},
		"on some":                      {"false", []override{to("b", "true")}, both, true},
		"on none of these":             {"false", []override{to("c", "true")}, both, false},
		"off on all":                   {"true", []override{to("", "false")}, both, false},
		"off on some":                  {"true", []override{to("a", "false")}, both, true},
		"off on each":                  {"true", []override{to("a", "false"), to("b", "false")}, both, false},
		"both on and off":              {"false", []override{to("", "false"), to("a", "true")}, both, true},
		"of another option":            {"true", []override{other}, both, true},
		"by a selector that is no one": {"false", []override{unreadable}, both, true},
	} {
		if got := anyOn(&corev1.ConfigMap{Data: map[string]string{key: c.usual}}, c.overrides, c.nodes, key); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// answering says the same to every request.
type answering struct{ err error }

func (a answering) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return a.err
}
func (a answering) List(context.Context, client.ObjectList, ...client.ListOption) error { return a.err }

// TestAKindThatDoesNotExistIsNotAMissingRight: its objects are none, those that may not be listed are unknown.
func TestAKindThatDoesNotExistIsNotAMissingRight(t *testing.T) {
	resource := schema.GroupResource{Group: "vpcresources.k8s.aws", Resource: "securitygrouppolicies"}
	for name, c := range map[string]struct {
		err     error
		missing int
		fails   bool
	}{
		"not known":     {&meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: resource.Group, Kind: "SecurityGroupPolicy"}}, 0, false},
		"just gone":     {apierrors.NewNotFound(resource, ""), 0, false},
		"not allowed":   {apierrors.NewForbidden(resource, "", errors.New("no")), 1, false},
		"not reachable": {errors.New("connection refused"), 0, true},
	} {
		g := &gatherer{from: answering{c.err}, into: &preflight.Snapshot{}, tell: func(string) {}}
		var names []string
		err := g.names(t.Context(), &names, "", resource.String(), of(resource.Group, "v1beta1", "SecurityGroupPolicy"))
		if (err != nil) != c.fails || len(g.into.Missing) != c.missing || len(names) > 0 {
			t.Errorf("%s: %v, missing %+v, names %q", name, err, g.into.Missing, names)
		}
	}
}
