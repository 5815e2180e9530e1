// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package gather

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/cni-cutover/cni-cutover/preflight"
)

func TestAReadinessProbeIsThatOfTheContainerThatServes(t *testing.T) {
	probe, always := &corev1.Probe{}, corev1.ContainerRestartPolicyAlways
	web := corev1.Container{Name: "web", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}
	probed := web
	probed.ReadinessProbe = probe
	proxy := corev1.Container{Name: "proxy", Ports: []corev1.ContainerPort{{ContainerPort: 15021}}, ReadinessProbe: probe}
	sidecar := proxy
	sidecar.RestartPolicy = &always
	once := corev1.Container{Name: "once", ReadinessProbe: probe}
	for name, c := range map[string]struct {
		pod    corev1.PodSpec
		target intstr.IntOrString
		want   preflight.Port
		bare   bool
	}{
		"a number":                          {corev1.PodSpec{Containers: []corev1.Container{web}}, intstr.FromInt32(8080), preflight.Port{Container: "web", Number: 8080}, true},
		"a name":                            {corev1.PodSpec{Containers: []corev1.Container{web}}, intstr.FromString("http"), preflight.Port{Container: "web", Number: 8080}, true},
		"with a probe":                      {corev1.PodSpec{Containers: []corev1.Container{probed}}, intstr.FromString("http"), preflight.Port{Container: "web", Number: 8080}, false},
		"the probe of another":              {corev1.PodSpec{Containers: []corev1.Container{proxy, web}}, intstr.FromInt32(8080), preflight.Port{Container: "web", Number: 8080}, true},
		"the other's own port":              {corev1.PodSpec{Containers: []corev1.Container{web, proxy}}, intstr.FromInt32(15021), preflight.Port{Container: "proxy", Number: 15021}, false},
		"a port that nobody declares":       {corev1.PodSpec{Containers: []corev1.Container{web}}, intstr.FromInt32(9000), preflight.Port{Container: "web", Number: 9000}, true},
		"such a port, and one probe":        {corev1.PodSpec{Containers: []corev1.Container{web, proxy}}, intstr.FromInt32(9000), preflight.Port{Container: "web", Number: 9000}, false},
		"such a port, probe of a sidecar":   {corev1.PodSpec{Containers: []corev1.Container{web}, InitContainers: []corev1.Container{sidecar}}, intstr.FromInt32(9000), preflight.Port{Container: "web", Number: 9000}, false},
		"such a port, and init containers":  {corev1.PodSpec{Containers: []corev1.Container{web}, InitContainers: []corev1.Container{once}}, intstr.FromInt32(9000), preflight.Port{Container: "web", Number: 9000}, true},
		"a name that the pod does not know": {corev1.PodSpec{Containers: []corev1.Container{web}}, intstr.FromString("grpc"), preflight.Port{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, bare := unprobed(&corev1.Pod{Spec: c.pod}, c.target)
			if got != c.want || bare != c.bare {
				t.Errorf("%+v %t, want %+v %t", got, bare, c.want, c.bare)
			}
		})
	}
}

func TestAPodIsChangedByItsWorkload(t *testing.T) {
	yes := true
	for want, p := range map[string]metav1.ObjectMeta{
		"pod/alone":        {Name: "alone"},
		"deployment/web":   {Name: "web-5b8-x", Labels: map[string]string{"pod-template-hash": "5b8"}, OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-5b8", Controller: &yes}}},
		"rollout/web":      {Name: "web-5b8-x", Labels: map[string]string{"rollouts-pod-template-hash": "5b8"}, OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-5b8", Controller: &yes}}},
		"replicaset/own":   {Name: "own-x", OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "own", Controller: &yes}}},
		"statefulset/db":   {Name: "db-0", OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Name: "db", Controller: &yes}}},
		"pod/only-watched": {Name: "only-watched", OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Name: "db"}}},
	} {
		if got := controlled(&corev1.Pod{ObjectMeta: p}); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
