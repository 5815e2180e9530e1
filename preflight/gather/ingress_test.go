// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package gather

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/preflight"
)

func to(name, port string) networkingv1.IngressBackend {
	return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: name, Port: networkingv1.ServiceBackendPort{Name: port}}}
}

// weighted is what the controller's documentation forwards to two Services with.
const weighted = `{"type":"forward","forwardConfig":{"targetGroups":[{"serviceName":"web","servicePort":"80","weight":100},{"serviceName":"web-nodes","servicePort":80,"weight":0},{"targetGroupARN":"arn:aws:elasticloadbalancing:a","weight":0}],"targetGroupStickinessConfig":{"enabled":true,"durationSeconds":200}}}`

func TestAnIngressIsReadAsItsControllerReadsIt(t *testing.T) {
	class, first := "alb", to("web", "http")
	paths := func(backends ...networkingv1.IngressBackend) networkingv1.IngressRule {
		r := networkingv1.IngressRule{IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{}}}
		for _, b := range backends {
			r.HTTP.Paths = append(r.HTTP.Paths, networkingv1.HTTPIngressPath{Backend: b})
		}
		return r
	}
	for name, c := range map[string]struct {
		annotations map[string]string
		spec        networkingv1.IngressSpec
		want        preflight.Ingress
	}{
		"by class": {map[string]string{"alb.ingress.kubernetes.io/target-type": "ip", "alb.ingress.kubernetes.io/group.name": "public"},
			networkingv1.IngressSpec{IngressClassName: &class, DefaultBackend: &first, Rules: []networkingv1.IngressRule{{}, paths(to("web", "http"), to("api", "http"), networkingv1.IngressBackend{})}},
			preflight.Ingress{Class: "alb", TargetType: "ip", Group: "public", Backends: []string{"web", "api"}}},
		"the older way, sticky, by actions": {map[string]string{"kubernetes.io/ingress.class": "alb", "alb.ingress.kubernetes.io/target-group-attributes": "deregistration_delay.timeout_seconds=30, stickiness.enabled = true",
			"alb.ingress.kubernetes.io/actions.both": weighted, "alb.ingress.kubernetes.io/actions.ssl-redirect": `{"Type":"redirect","RedirectConfig":{"StatusCode":"HTTP_301"}}`, "alb.ingress.kubernetes.io/target-control-port.web.80": "3000"},
			networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{paths(to("both", "use-annotation"), to("ssl-redirect", "use-annotation"))}},
			preflight.Ingress{OldClass: "alb", Sticky: true, Control: true, Backends: []string{"web", "web-nodes"}}},
		"an action that is none": {map[string]string{"alb.ingress.kubernetes.io/actions.bad": "forward"},
			networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{paths(to("bad", "use-annotation"), to("bad", "use-annotation"))}},
			preflight.Ingress{Unread: []string{"alb.ingress.kubernetes.io/actions.bad"}}},
		"an action that is not there": {nil, networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{paths(to("gone", "use-annotation"))}},
			preflight.Ingress{Unread: []string{"alb.ingress.kubernetes.io/actions.gone"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, ingress(&networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Annotations: c.annotations}, Spec: c.spec})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzForwards: what is no JSON is an error, and no name is empty.
func FuzzForwards(f *testing.F) {
	for _, action := range []string{weighted, "", "null", "[]", `{"forwardConfig":null}`, `{"ForwardConfig":{"TargetGroups":[{"ServiceName":"a"}]}}`, `{"type":"redirect"}`} {
		f.Add(action)
	}
	f.Fuzz(func(t *testing.T, action string) {
		names, err := forwards(action)
		if err == nil && !json.Valid([]byte(action)) {
			t.Errorf("%q was read", action)
		}
		if err != nil && len(names) > 0 || slices.Contains(names, "") {
			t.Errorf("%q gives %q, %v", action, names, err)
		}
	})
}

func TestAControllerIsKnownByItsImage(t *testing.T) {
	pod := func(name, image string, args ...string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: "proxy"}, {Image: image, Args: args}}}}
	}
	g := &gatherer{into: &preflight.Snapshot{}}
	g.controller(pod("a", "public.ecr.aws/eks/aws-load-balancer-controller:v3.5.0", "--cluster-name=shop", "--ingress-class=alb", "--default-target-type=ip"))
	g.controller(pod("a", "public.ecr.aws/eks/aws-load-balancer-controller:v3.5.0", "--ingress-class=alb", "--default-target-type=ip"))
	g.controller(pod("b", "registry/aws-load-balancer-controller@sha256:0", "--ingress-class=alb"))
	g.controller(pod("c", "registry/not-aws-load-balancer-controller:v1", "--default-target-type=ip"))
	want := []preflight.Controller{{Object: "kube-system/pod/a", DefaultTargetType: "ip", IngressClass: "alb"}, {Object: "kube-system/pod/b", IngressClass: "alb"}}
	if diff := cmp.Diff(want, g.into.Traffic.Controllers); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOnlyShutGatesAreWaitedFor(t *testing.T) {
	gate := func(name string) corev1.PodReadinessGate {
		return corev1.PodReadinessGate{ConditionType: corev1.PodConditionType(name)}
	}
	p := &corev1.Pod{
		Spec: corev1.PodSpec{ReadinessGates: []corev1.PodReadinessGate{gate("target-health.elbv2.k8s.aws/open"), gate("target-health.elbv2.k8s.aws/shut"), gate("target-health.elbv2.k8s.aws/new"), gate("other/gate")}},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: "target-health.elbv2.k8s.aws/open", Status: corev1.ConditionTrue}, {Type: "target-health.elbv2.k8s.aws/shut", Status: corev1.ConditionFalse},
		}},
	}
	if diff := cmp.Diff([]string{"shut", "new"}, shutGates(p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
