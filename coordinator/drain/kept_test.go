// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// TestAKeptClusterIsJudgedByTheDrainsRules has a pod for each thing that a drain can do with one.
func TestAKeptClusterIsJudgedByTheDrainsRules(t *testing.T) {
	yes, no := true, false
	pod := func(change func(*corev1.Pod)) corev1.Pod {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "r", Controller: &yes}}}}
		if change != nil {
			change(&p)
		}
		return p
	}
	daemon := func(name string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.OwnerReferences[0].Kind, p.OwnerReferences[0].Name = "DaemonSet", name }
	}
	scratch := func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	}
	bare := func(p *corev1.Pod) { p.OwnerReferences = nil }
	for name, c := range map[string]struct {
		pod     corev1.Pod
		options v1alpha1.Drain
		evict   int
		going   int
		says    string
	}{
		"a pod with a controller":                 {pod(nil), v1alpha1.Drain{}, 1, 0, ""},
		"one of a DaemonSet stays":                {pod(daemon("there")), v1alpha1.Drain{}, 0, 0, ""},
		"one of a DaemonSet that is gone":         {pod(daemon("gone")), v1alpha1.Drain{}, 0, 0, `"gone" not found`},
		"which force evicts":                      {pod(daemon("gone")), v1alpha1.Drain{Force: true}, 1, 0, ""},
		"a mirror pod stays":                      {pod(func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }), v1alpha1.Drain{}, 0, 0, ""},
		"scratch data goes":                       {pod(scratch), v1alpha1.Drain{}, 1, 0, ""},
		"unless it must not":                      {pod(scratch), v1alpha1.Drain{DeleteEmptyDirData: &no}, 0, 0, "rollout.drain.deleteEmptyDirData"},
		"a bare pod is refused":                   {pod(bare), v1alpha1.Drain{}, 0, 0, "rollout.drain.force"},
		"which force evicts too":                  {pod(bare), v1alpha1.Drain{Force: true}, 1, 0, ""},
		"a bare pod that is finished":             {pod(func(p *corev1.Pod) { bare(p); p.Status.Phase = corev1.PodSucceeded }), v1alpha1.Drain{}, 1, 0, ""},
		"one that is on its way out is not asked": {pod(func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }), v1alpha1.Drain{}, 0, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			left, err := Kept{Pods: []corev1.Pod{c.pod}, DaemonSets: map[types.NamespacedName]bool{{Namespace: "shop", Name: "there"}: true}}.Look(c.options)
			if err != nil {
				t.Fatal(err)
			}
			if len(left.Evict) != c.evict || left.Going != c.going || (c.says != "") != (len(left.Impossible) == 1) || !strings.Contains(strings.Join(left.Impossible, ""), c.says) {
				t.Errorf("%+v", left)
			}
		})
	}
}
