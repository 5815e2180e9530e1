// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package asg

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func node(name, zone string, annotations ...string) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: name, UID: types.UID("uid-" + name),
		Labels:      map[string]string{corev1.LabelTopologyZone: zone, LabelGroup: "workers"},
		Annotations: map[string]string{},
	}}
	for _, key := range annotations {
		n.Annotations[key] = "uid-" + name
	}
	return n
}

func TestGroupsAnswerWhatNodesAsk(t *testing.T) {
	const replace, surge = v1alpha1.AnnotationReplace, v1alpha1.AnnotationSurge
	a, b := place{"lab-a", "workers"}, place{"lab-b", "workers"}
	type look struct {
		nodes     []corev1.Node
		terminate []string
		start     map[place]int
	}
	for name, looks := range map[string][]look{
		"nothing asked, nothing done": {
			{nodes: []corev1.Node{node("1", "lab-a"), node("2", "lab-b")}},
		},
		"a node is replaced in its own zone, once": {
			{nodes: []corev1.Node{node("1", "lab-a", replace), node("2", "lab-b")}, terminate: []string{"1"}, start: map[place]int{a: 1}},
			{nodes: []corev1.Node{node("2", "lab-b"), node("3", "lab-a")}},
		},
		"a node that vanished is replaced too": {
			{nodes: []corev1.Node{node("1", "lab-a")}, start: map[place]int{b: 1}},
		},
		"a surge adds one node, and the old one goes without another": {
			{nodes: []corev1.Node{node("1", "lab-a", surge), node("2", "lab-b")}, start: map[place]int{a: 1}},
			{nodes: []corev1.Node{node("1", "lab-a", surge), node("2", "lab-b"), node("3", "lab-a")}},
			{nodes: []corev1.Node{node("1", "lab-a", surge, replace), node("2", "lab-b"), node("3", "lab-a")}, terminate: []string{"1"}},
			{nodes: []corev1.Node{node("2", "lab-b"), node("3", "lab-a")}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := capacity{desired: map[place]int{a: 1, b: 1}, surged: map[types.UID]bool{}}
			for i, l := range looks {
				terminate, start := c.decide(l.nodes)
				if !slices.Equal(terminate, l.terminate) {
					t.Errorf("look %d: terminates %q, want %q", i, terminate, l.terminate)
				}
				if l.start == nil {
					l.start = map[place]int{}
				}
				if diff := cmp.Diff(l.start, start); diff != "" {
					t.Errorf("look %d: starts (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}
