// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package gather

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/preflight"
)

// behind is a Service as it finds its pods.
type behind struct {
	name  string
	pods  labels.Selector
	ports []intstr.IntOrString // of the pods
}

// traffic reads Services, and the load balancers before them; the pods that they select are looked at where pods are read, afterwards.
func (g *gatherer) traffic(ctx context.Context) error {
	services := map[string][]behind{} // by namespace
	err := each(ctx, g, "services", &corev1.ServiceList{}, func(l *corev1.ServiceList) error {
		for i := range l.Items {
			s := &l.Items[i]
			g.into.Traffic.Services = append(g.into.Traffic.Services, service(s))
			if len(s.Spec.Selector) > 0 && !s.Spec.PublishNotReadyAddresses {
				services[s.Namespace] = append(services[s.Namespace], behindOf(s))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	known := map[client.ObjectKey]int{} // where a workload is
	g.exposed = func(p *corev1.Pod) {
		g.workload(p, services[p.Namespace], known)
		g.controller(p)
	}
	for _, read := range []func(context.Context) error{g.ingresses, g.ingressClasses, g.bindings, g.gateways, g.gated} {
		if err := read(ctx); err != nil {
			return err
		}
	}
	return nil
}

func behindOf(s *corev1.Service) behind {
	out := behind{name: s.Name, pods: labels.SelectorFromSet(s.Spec.Selector)}
	for _, p := range s.Spec.Ports {
		target := p.TargetPort
		if target == intstr.FromInt32(0) || target == intstr.FromString("") {
			target = intstr.FromInt32(p.Port)
		}
		out.ports = append(out.ports, target)
	}
	return out
}

// workload adds what a pod shows of its workload, if a Service selects it.
func (g *gatherer) workload(p *corev1.Pod, services []behind, known map[client.ObjectKey]int) {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return
	}
	services = slices.DeleteFunc(slices.Clone(services), func(s behind) bool { return !s.pods.Matches(labels.Set(p.Labels)) })
	if len(services) == 0 {
		return
	}
	key := client.ObjectKey{Namespace: p.Namespace, Name: controlled(p)}
	at, seen := known[key]
	if !seen {
		at = len(g.into.Traffic.Workloads)
		known[key] = at
		g.into.Traffic.Workloads = append(g.into.Traffic.Workloads, preflight.Workload{Namespace: key.Namespace, Object: key.Name})
	}
	w := &g.into.Traffic.Workloads[at]
	for _, gate := range shutGates(p) {
		if !slices.Contains(w.Gates, gate) {
			w.Gates = append(w.Gates, gate)
		}
	}
	for _, s := range services {
		if !slices.Contains(w.Services, s.name) {
			w.Services = append(w.Services, s.name)
		}
		for _, target := range s.ports {
			if port, bare := unprobed(p, target); bare && !slices.Contains(w.Unprobed, port) {
				w.Unprobed = append(w.Unprobed, port)
			}
		}
	}
}

// controlled is the object that a person would change to change a pod: a ReplicaSet's is its Deployment, or Argo's Rollout.
func controlled(p *corev1.Pod) string {
	c := metav1.GetControllerOf(p)
	if c == nil {
		return "pod/" + p.Name
	}
	if c.Kind == "ReplicaSet" {
		for _, maker := range []struct{ label, kind string }{{"pod-template-hash", "deployment"}, {"rollouts-pod-template-hash", "rollout"}} {
			if name, ok := strings.CutSuffix(c.Name, "-"+p.Labels[maker.label]); ok {
				return maker.kind + "/" + name
			}
		}
	}
	return strings.ToLower(c.Kind) + "/" + c.Name
}

// unprobed finds the container of a pod that serves a port, and says whether no readiness probe stands for it. A port that no
// container declares may be served by any, and then one probe in the pod is enough.
func unprobed(p *corev1.Pod, target intstr.IntOrString) (preflight.Port, bool) {
	containers := slices.Clone(p.Spec.Containers)
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, *c) // it runs as long as the pod does
		}
	}
	for i := range containers {
		for _, port := range containers[i].Ports {
			if port.ContainerPort == target.IntVal && target.Type == intstr.Int || target.Type == intstr.String && port.Name == target.StrVal {
				return preflight.Port{Container: containers[i].Name, Number: port.ContainerPort}, containers[i].ReadinessProbe == nil
			}
		}
	}
	if target.Type == intstr.String || len(containers) == 0 {
		return preflight.Port{}, false // it has no such port, so the Service sends it nothing
	}
	bare := !slices.ContainsFunc(containers, func(c corev1.Container) bool { return c.ReadinessProbe != nil })
	return preflight.Port{Container: containers[0].Name, Number: target.IntVal}, bare
}
