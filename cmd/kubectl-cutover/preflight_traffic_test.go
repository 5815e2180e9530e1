// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

// deployment makes a Deployment of namespace default behind a Service of its name, and waits for its pod.
func (w *world) deployment(name string, change func(*corev1.PodSpec)) {
	w.t.Helper()
	labels := map[string]string{"app": name}
	pod := corev1.PodSpec{Containers: []corev1.Container{{Name: name, Image: "none", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}}
	if change != nil {
		change(&pod)
	}
	meta := metav1.ObjectMeta{Namespace: "default", Name: name}
	w.make(
		&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}}}},
		&appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod},
		}},
	)
	fleet.Eventually(w.t, time.Minute, func() string {
		var pods corev1.PodList
		if err := w.client.List(w.t.Context(), &pods, client.InNamespace("default"), client.MatchingLabels(labels)); err != nil || len(pods.Items) == 0 {
			return fmt.Sprintf("%d pods of %s, %v", len(pods.Items), name, err)
		}
		return ""
	})
}

func TestReadinessProbesAreLookedFor(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(nil))
	w.readyForTheMove()
	w.deployment("probed", func(p *corev1.PodSpec) {
		p.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("http")}}}
	})
	ask := []string{"preflight", "--vpc-cidr", "10.0.0.0/16"}
	on(t, ask...).want(t, codeClean, "the 1 workloads behind Services have readiness probes")
	w.deployment("bare", nil)
	on(t, ask...).want(t, codeClean, "Warn    Readiness default/deployment/bare: 1 workloads", "container bare, port 8080, behind Service bare", "> kubectl -n default patch deployment bare -p")
}
