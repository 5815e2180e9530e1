// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
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

// TestLoadBalancersAreReadFromACluster has each kind of thing that decides a target type once, in the shapes of its controller.
func TestLoadBalancersAreReadFromACluster(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(nil))
	w.readyForTheMove()
	probed := func(p *corev1.PodSpec) {
		p.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("http")}}}
	}
	w.deployment("web", probed)
	w.deployment("aws-load-balancer-controller", func(p *corev1.PodSpec) {
		probed(p)
		p.Containers[0].Image, p.Containers[0].Args = "public.ecr.aws/eks/aws-load-balancer-controller:v3.5.0", []string{"--cluster-name=shop", "--ingress-class=alb"}
	})
	group, class, nlb, no := "elbv2.k8s.aws", "alb", "service.k8s.aws/nlb", false
	prefix := networkingv1.PathTypePrefix
	w.make(
		&networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Spec: networkingv1.IngressClassSpec{
			Controller: "ingress.k8s.aws/alb", Parameters: &networkingv1.IngressClassParametersReference{APIGroup: &group, Kind: "IngressClassParams", Name: class},
		}},
		&networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Annotations: map[string]string{"alb.ingress.kubernetes.io/scheme": "internet-facing"}}, Spec: networkingv1.IngressSpec{
			IngressClassName: &class, Rules: []networkingv1.IngressRule{{IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Path: "/", PathType: &prefix, Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}}},
			}}}}}},
		}},
	)
	ask := []string{"preflight", "--vpc-cidr", "10.0.0.0/16"}
	on(t, ask...).want(t, codeClean, "Warn    Ingress Ingress/default/web", "default/web to Service web: instance, by the controller's --default-target-type", "Service default/web is ClusterIP and has no NodePort", "0 Fail, 0 Unknown, 1 Warn")

	w.make(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "gated", Labels: map[string]string{"elbv2.k8s.aws/pod-readiness-gate-inject": "enabled"}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "gated", Name: "tcp", Annotations: map[string]string{"service.beta.kubernetes.io/aws-load-balancer-nlb-target-type": "ip"}}, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &nlb, AllocateLoadBalancerNodePorts: &no, Ports: []corev1.ServicePort{{Port: 443}},
		}},
	)
	w.kind(group, "v1beta1", "IngressClassParams", "ingressclassparams", apiextensionsv1.ClusterScoped)
	w.custom(group+"/v1beta1", "IngressClassParams", "", class, map[string]any{"spec": map[string]any{"scheme": "internet-facing", "targetType": "ip", "group": map[string]any{"name": "public"}}})
	w.kind(group, "v1beta1", "TargetGroupBinding", "targetgroupbindings", apiextensionsv1.NamespaceScoped)
	w.custom(group+"/v1beta1", "TargetGroupBinding", "default", "own", map[string]any{"spec": map[string]any{"targetType": "ip", "targetGroupARN": "arn:aws:elasticloadbalancing:a", "serviceRef": map[string]any{"name": "web", "port": int64(80)}}})
	w.custom(group+"/v1beta1", "TargetGroupBinding", "default", "k8s-default-web-0123456789", map[string]any{
		"metadata": map[string]any{"namespace": "default", "name": "k8s-default-web-0123456789", "labels": map[string]any{"gateway.k8s.aws.alb/stack-name": "web", "gateway.k8s.aws.alb/stack-namespace": "default"}},
		"spec":     map[string]any{"targetType": "ip", "serviceRef": map[string]any{"name": "web", "port": int64(80)}},
	})
	// Lattice's classes, in the version that older clusters serve alone.
	w.kind("gateway.networking.k8s.io", "v1beta1", "GatewayClass", "gatewayclasses", apiextensionsv1.ClusterScoped)
	w.kind("gateway.networking.k8s.io", "v1beta1", "Gateway", "gateways", apiextensionsv1.NamespaceScoped)
	w.custom("gateway.networking.k8s.io/v1beta1", "GatewayClass", "", "amazon-vpc-lattice", map[string]any{"spec": map[string]any{"controllerName": "application-networking.k8s.aws/gateway-api-controller"}})
	w.custom("gateway.networking.k8s.io/v1beta1", "Gateway", "default", "mesh", map[string]any{"spec": map[string]any{"gatewayClassName": "amazon-vpc-lattice"}})
	w.kind("gateway.k8s.aws", "v1beta1", "TargetGroupConfiguration", "targetgroupconfigurations", apiextensionsv1.NamespaceScoped)
	w.custom("gateway.k8s.aws/v1beta1", "TargetGroupConfiguration", "default", "web-targets", map[string]any{"spec": map[string]any{"targetReference": map[string]any{"name": "web"}, "defaultConfiguration": map[string]any{"targetType": "ip"}}})

	on(t, ask...).want(t, codeBlocked,
		"Fail    Ingress Ingress/default/web: the load balancer of public", "ip, by IngressClassParams alb, over every annotation", `> kubectl -n default patch service web --type merge -p '{"spec":{"type":"NodePort"}}'`,
		"Fail    LoadBalancers Service/gated/tcp", "kubectl label namespace gated elbv2.k8s.aws/pod-readiness-gate-inject-", `"allocateLoadBalancerNodePorts":true`,
		"Fail    LoadBalancers TargetGroupBinding/default/own", "Fail    LoadBalancers TargetGroupBinding/default/k8s-default-web-0123456789: a Gateway", "patch targetgroupconfiguration web-targets",
		"Fail    LoadBalancers Gateway/default/mesh: VPC Lattice", "5 Fail, 0 Unknown, 0 Warn")
}
