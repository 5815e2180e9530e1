// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package gather

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/preflight"
)

// What the AWS Load Balancer Controller goes by (its docs, guide/ingress/annotations.md, guide/service/annotations.md and
// guide/targetgroupbinding, 3.5; pkg/deploy/tracking/provider.go for the labels of what it makes).
const (
	albPrefix   = "alb.ingress.kubernetes.io/"
	nlbPrefix   = "service.beta.kubernetes.io/aws-load-balancer-"
	gatePrefix  = "target-health.elbv2.k8s.aws/"
	gateLabel   = "elbv2.k8s.aws/pod-readiness-gate-inject"
	oldClass    = "kubernetes.io/ingress.class"
	byAction    = "use-annotation"
	lattice     = "application-networking.k8s.aws/gateway-api-controller"
	controllers = "aws-load-balancer-controller"
)

func service(s *corev1.Service) preflight.Service {
	out := preflight.Service{
		Namespace: s.Namespace, Name: s.Name, Type: string(s.Spec.Type), Headless: s.Spec.ClusterIP == corev1.ClusterIPNone,
		NodePorts: len(s.Spec.Ports) > 0 && !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort == 0 }),
		Local:     s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal, LoadBalancer: s.Annotations[nlbPrefix+"type"], NLBTarget: s.Annotations[nlbPrefix+"nlb-target-type"],
		ALBTarget: s.Annotations[albPrefix+"target-type"], Sticky: sticky(s.Annotations),
	}
	if s.Spec.LoadBalancerClass != nil {
		out.Class = *s.Spec.LoadBalancerClass
	}
	return out
}

func sticky(annotations map[string]string) bool {
	return strings.Contains(strings.ReplaceAll(annotations[albPrefix+"target-group-attributes"], " ", ""), "stickiness.enabled=true")
}

// shutGates are the TargetGroupBindings that a pod still waits for.
func shutGates(p *corev1.Pod) []string {
	var out []string
	for _, g := range p.Spec.ReadinessGates {
		name, ours := strings.CutPrefix(string(g.ConditionType), gatePrefix)
		open := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == g.ConditionType && c.Status == corev1.ConditionTrue
		})
		if ours && !open {
			out = append(out, name)
		}
	}
	return out
}

// controller adds what a pod shows of the AWS Load Balancer Controller, if it is one.
func (g *gatherer) controller(p *corev1.Pod) {
	for _, c := range p.Spec.Containers {
		if !strings.HasPrefix(c.Image[strings.LastIndex(c.Image, "/")+1:], controllers) {
			continue
		}
		out := preflight.Controller{Object: p.Namespace + "/" + controlled(p)}
		for _, arg := range append(slices.Clone(c.Command), c.Args...) {
			switch name, value, _ := strings.Cut(arg, "="); name {
			case "--default-target-type":
				out.DefaultTargetType = value
			case "--ingress-class":
				out.IngressClass = value
			}
		}
		if !slices.Contains(g.into.Traffic.Controllers, out) {
			g.into.Traffic.Controllers = append(g.into.Traffic.Controllers, out)
		}
	}
}

func (g *gatherer) ingresses(ctx context.Context) error {
	return each(ctx, g, "ingresses.networking.k8s.io", &networkingv1.IngressList{}, func(l *networkingv1.IngressList) error {
		for i := range l.Items {
			g.into.Traffic.Ingresses = append(g.into.Traffic.Ingresses, ingress(&l.Items[i]))
		}
		return nil
	})
}

func ingress(in *networkingv1.Ingress) preflight.Ingress {
	out := preflight.Ingress{
		Namespace: in.Namespace, Name: in.Name, OldClass: in.Annotations[oldClass],
		TargetType: in.Annotations[albPrefix+"target-type"], Group: in.Annotations[albPrefix+"group.name"], Sticky: sticky(in.Annotations),
	}
	if in.Spec.IngressClassName != nil {
		out.Class = *in.Spec.IngressClassName
	}
	for name := range in.Annotations {
		out.Control = out.Control || strings.HasPrefix(name, albPrefix+"target-control-port")
	}
	add := func(b *networkingv1.IngressBackend) {
		if b == nil || b.Service == nil {
			return
		}
		names := []string{b.Service.Name}
		if b.Service.Port.Name == byAction {
			annotation := albPrefix + "actions." + b.Service.Name
			var err error
			if names, err = forwards(in.Annotations[annotation]); err != nil && !slices.Contains(out.Unread, annotation) {
				out.Unread = append(out.Unread, annotation)
			}
		}
		for _, name := range names {
			if !slices.Contains(out.Backends, name) {
				out.Backends = append(out.Backends, name)
			}
		}
	}
	add(in.Spec.DefaultBackend)
	for _, rule := range in.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		for i := range rule.HTTP.Paths {
			add(&rule.HTTP.Paths[i].Backend)
		}
	}
	return out
}

// forwards are the Services that an action forwards to: none if it redirects, answers itself, or names target groups alone.
func forwards(action string) ([]string, error) {
	var a struct {
		ForwardConfig struct {
			TargetGroups []struct {
				ServiceName string `json:"serviceName"`
			} `json:"targetGroups"`
		} `json:"forwardConfig"`
	}
	if err := json.Unmarshal([]byte(action), &a); err != nil {
		return nil, err
	}
	var out []string
	for _, t := range a.ForwardConfig.TargetGroups {
		if t.ServiceName != "" {
			out = append(out, t.ServiceName)
		}
	}
	return out, nil
}

func (g *gatherer) ingressClasses(ctx context.Context) error {
	err := each(ctx, g, "ingressclasses.networking.k8s.io", &networkingv1.IngressClassList{}, func(l *networkingv1.IngressClassList) error {
		for i := range l.Items {
			c := preflight.IngressClass{Name: l.Items[i].Name, Controller: l.Items[i].Spec.Controller}
			if p := l.Items[i].Spec.Parameters; p != nil && p.Kind == "IngressClassParams" && p.APIGroup != nil && *p.APIGroup == "elbv2.k8s.aws" {
				c.Params = p.Name
			}
			g.into.Traffic.Classes = append(g.into.Traffic.Classes, c)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return g.served(ctx, "ingressclassparams", "elbv2.k8s.aws", "IngressClassParams", []string{"v1beta1", "v1"}, func(o *unstructured.Unstructured) {
		g.into.Traffic.Params = append(g.into.Traffic.Params, preflight.ClassParams{Name: o.GetName(), TargetType: text(o.Object, "spec", "targetType"), Group: text(o.Object, "spec", "group", "name")})
	})
}

// served lists the objects of a kind in the first of the versions that the cluster serves.
func (g *gatherer) served(ctx context.Context, plural, group, kind string, versions []string, see func(*unstructured.Unstructured)) error {
	for _, v := range versions {
		known := false
		err := each(ctx, g, plural+"."+group, of(group, v, kind), func(l *unstructured.UnstructuredList) error {
			known = true
			for i := range l.Items {
				see(&l.Items[i])
			}
			return nil
		})
		if err != nil || known {
			return err
		}
	}
	return nil
}

func (g *gatherer) bindings(ctx context.Context) error {
	return g.served(ctx, "targetgroupbindings", "elbv2.k8s.aws", "TargetGroupBinding", []string{"v1beta1", "v1"}, func(o *unstructured.Unstructured) {
		b := preflight.Binding{Namespace: o.GetNamespace(), Name: o.GetName(), Service: text(o.Object, "spec", "serviceRef", "name"), TargetType: text(o.Object, "spec", "targetType")}
		_, b.TargetGroup, _ = strings.Cut(text(o.Object, "spec", "targetGroupARN"), ":targetgroup/")
		for label := range o.GetLabels() {
			for _, maker := range []string{"ingress", "service", "gateway"} {
				if strings.HasPrefix(label, maker+".k8s.aws") {
					b.Maker = maker
				}
			}
		}
		g.into.Traffic.Bindings = append(g.into.Traffic.Bindings, b)
	})
}

// gateways reads what decides target types of the Gateway API, and which Gateways are VPC Lattice's.
func (g *gatherer) gateways(ctx context.Context) error {
	const group = "gateway.networking.k8s.io"
	versions, ofLattice := []string{"v1", "v1beta1"}, map[string]bool{}
	err := g.served(ctx, "gatewayclasses", group, "GatewayClass", versions, func(o *unstructured.Unstructured) {
		ofLattice[o.GetName()] = text(o.Object, "spec", "controllerName") == lattice
	})
	if err != nil {
		return err
	}
	err = g.served(ctx, "gateways", group, "Gateway", versions, func(o *unstructured.Unstructured) {
		if ofLattice[text(o.Object, "spec", "gatewayClassName")] {
			g.into.Traffic.Lattice = append(g.into.Traffic.Lattice, o.GetNamespace()+"/"+o.GetName())
		}
	})
	if err != nil {
		return err
	}
	return g.served(ctx, "targetgroupconfigurations", "gateway.k8s.aws", "TargetGroupConfiguration", []string{"v1beta1", "v1"}, func(o *unstructured.Unstructured) {
		g.into.Traffic.TargetRules = append(g.into.Traffic.TargetRules, preflight.TargetRule{
			Namespace: o.GetNamespace(), Name: o.GetName(), Service: text(o.Object, "spec", "targetReference", "name"), TargetType: text(o.Object, "spec", "defaultConfiguration", "targetType"),
		})
	})
}

// gated are the namespaces in which the controller gives pods readiness gates.
func (g *gatherer) gated(ctx context.Context) error {
	return each(ctx, g, "namespaces", &corev1.NamespaceList{}, func(l *corev1.NamespaceList) error {
		for i := range l.Items {
			g.into.Traffic.Gated = append(g.into.Traffic.Gated, l.Items[i].Name)
		}
		return nil
	}, client.MatchingLabels{gateLabel: "enabled"})
}
