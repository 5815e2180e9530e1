// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"strings"
	"testing"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// behindALB is a Service with node ports behind an Ingress whose load balancer sends to nodes, by the flag's default.
func behindALB() Traffic {
	return Traffic{
		Services:    []Service{{Namespace: "shop", Name: "web", Type: "NodePort", NodePorts: true}},
		Controllers: []Controller{{Object: "kube-system/deployment/aws-load-balancer-controller", IngressClass: "alb"}},
		Ingresses:   []Ingress{{Namespace: "shop", Name: "web", Class: "alb", Backends: []string{"web"}}},
		Classes:     []IngressClass{{Name: "alb", Controller: "ingress.k8s.aws/alb", Params: "alb"}, {Name: "nginx", Controller: "k8s.io/ingress-nginx"}},
		Params:      []ClassParams{{Name: "alb"}, {Name: "another", TargetType: "ip"}},
	}
}

func withTraffic(change func(*Traffic)) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Traffic = behindALB()
		change(&s.Traffic)
	}
}

func TestWhatDecidesTheTargetTypeOfAnIngress(t *testing.T) {
	const check = "Ingress"
	ip := func(what func(*Traffic)) func(*Snapshot) { return withTraffic(what) }
	for name, e := range map[string]expectation{
		"the flag's default":  {check, ip(func(*Traffic) {}), v1alpha1.VerdictPass, []string{"the 1 Ingresses"}, nil},
		"the flag":            {check, ip(func(t *Traffic) { t.Controllers[0].DefaultTargetType = "ip" }), v1alpha1.VerdictFail, []string{"shop/web to Service web: ip, by the controller's --default-target-type"}, []string{"annotate ingress web alb.ingress.kubernetes.io/target-type=instance --overwrite", "# kubectl -n shop annotate ingress web alb.ingress.kubernetes.io/target-type-"}},
		"the Ingress":         {check, ip(func(t *Traffic) { t.Ingresses[0].TargetType = "ip" }), v1alpha1.VerdictFail, []string{"Ingress/shop/web", "ip, by the annotation of the ingress"}, []string{"# kubectl -n shop annotate ingress web alb.ingress.kubernetes.io/target-type=ip --overwrite"}},
		"the Ingress over it": {check, ip(func(t *Traffic) { t.Controllers[0].DefaultTargetType, t.Ingresses[0].TargetType = "ip", "instance" }), v1alpha1.VerdictPass, nil, nil},
		"the Service":         {check, ip(func(t *Traffic) { t.Services[0].ALBTarget, t.Ingresses[0].TargetType = "ip", "instance" }), v1alpha1.VerdictFail, []string{"by the annotation of the service"}, []string{"annotate service web alb.ingress.kubernetes.io/target-type=instance"}},
		"the Service, well":   {check, ip(func(t *Traffic) { t.Services[0].ALBTarget, t.Ingresses[0].TargetType = "instance", "ip" }), v1alpha1.VerdictPass, nil, nil},
		"IngressClassParams":  {check, ip(func(t *Traffic) { t.Params[0].TargetType, t.Services[0].ALBTarget = "ip", "instance" }), v1alpha1.VerdictFail, []string{"by IngressClassParams alb, over every annotation"}, []string{`kubectl patch ingressclassparams alb --type merge -p '{"spec":{"targetType":"instance"}}'`}},
		"and well":            {check, ip(func(t *Traffic) { t.Params[0].TargetType, t.Services[0].ALBTarget = "instance", "ip" }), v1alpha1.VerdictPass, nil, nil},
		"not of an older way": {check, ip(func(t *Traffic) {
			t.Params[0].TargetType, t.Ingresses[0].Class, t.Ingresses[0].OldClass = "ip", "", "alb"
		}), v1alpha1.VerdictPass, []string{"the 1 Ingresses"}, nil},
		"nobody's type":        {check, ip(func(t *Traffic) { t.Ingresses[0].TargetType = "IP" }), v1alpha1.VerdictUnknown, nil, nil},
		"the flag is not seen": {check, ip(func(t *Traffic) { t.Controllers = nil }), v1alpha1.VerdictUnknown, []string{"not known, by the controller's --default-target-type"}, nil},
		"two flags": {check, ip(func(t *Traffic) {
			t.Controllers = append(t.Controllers, Controller{Object: "other/deployment/lbc", DefaultTargetType: "ip"})
		}), v1alpha1.VerdictUnknown, nil, nil},
		"an action that cannot be read": {check, ip(func(t *Traffic) { t.Ingresses[0].Unread = []string{"alb.ingress.kubernetes.io/actions.web"} }), v1alpha1.VerdictUnknown, []string{"actions.web"}, nil},
		"only redirects":                {check, ip(func(t *Traffic) { t.Ingresses[0].Backends = nil }), v1alpha1.VerdictPass, nil, nil},
		"another controller's":          {check, ip(func(t *Traffic) { t.Ingresses[0].Class, t.Ingresses[0].TargetType = "nginx", "ip" }), v1alpha1.VerdictPass, []string{"the 0 Ingresses"}, nil},
		"the controller's own name of class": {check, ip(func(t *Traffic) {
			t.Controllers[0].IngressClass, t.Ingresses[0].OldClass, t.Ingresses[0].TargetType = "public", "public", "ip"
		}), v1alpha1.VerdictFail, nil, nil},
		"EKS Auto Mode's":           {check, ip(func(t *Traffic) { t.Classes[0].Controller = "eks.amazonaws.com/alb" }), v1alpha1.VerdictUnknown, []string{"Ingress/shop/web", "Auto Mode"}, []string{"targetgroupbindings.eks.amazonaws.com"}},
		"nothing at all":            {check, func(s *Snapshot) { s.Traffic = Traffic{} }, v1alpha1.VerdictPass, []string{"the 0 Ingresses"}, nil},
		"Ingresses unseen":          {check, unseen("ingresses.networking.k8s.io"), v1alpha1.VerdictUnknown, nil, nil},
		"IngressClassParams unseen": {check, unseen("ingressclassparams.elbv2.k8s.aws"), v1alpha1.VerdictUnknown, nil, nil},
		"namespaces unseen":         {check, func(s *Snapshot) { s.Traffic = behindALB(); unseen("namespaces")(s) }, v1alpha1.VerdictUnknown, []string{"readiness gates"}, nil},
	} {
		t.Run(name, e.hold)
	}
}

func TestWhatAnIngressNeedsBesideIsSaid(t *testing.T) {
	const check = "Ingress"
	ip := func(what func(*Traffic)) func(*Snapshot) {
		return withTraffic(func(t *Traffic) {
			t.Ingresses[0].TargetType = "ip"
			what(t)
		})
	}
	clusterIP := Service{Namespace: "shop", Name: "web", Type: "ClusterIP"}
	for name, e := range map[string]expectation{
		"a ClusterIP":                      {check, ip(func(t *Traffic) { t.Services[0] = clusterIP }), v1alpha1.VerdictFail, nil, []string{`kubectl -n shop patch service web --type merge -p '{"spec":{"type":"NodePort"}}'`, `# kubectl -n shop patch service web --type merge -p '{"spec":{"type":"ClusterIP"}}'`}},
		"a headless Service":               {check, ip(func(t *Traffic) { t.Services[0] = clusterIP; t.Services[0].Headless = true }), v1alpha1.VerdictFail, nil, []string{"# Service shop/web can have no NodePort"}},
		"without node ports":               {check, ip(func(t *Traffic) { t.Services[0].Type, t.Services[0].NodePorts = "LoadBalancer", false }), v1alpha1.VerdictFail, nil, []string{`"allocateLoadBalancerNodePorts":true`}},
		"no such Service":                  {check, ip(func(t *Traffic) { t.Services = nil }), v1alpha1.VerdictFail, []string{"that Service does not exist"}, nil},
		"readiness gates":                  {check, ip(func(t *Traffic) { t.Gated = []string{"shop"} }), v1alpha1.VerdictFail, nil, []string{"kubectl label namespace shop elbv2.k8s.aws/pod-readiness-gate-inject-"}},
		"sticky sessions":                  {check, ip(func(t *Traffic) { t.Ingresses[0].Sticky = true }), v1alpha1.VerdictFail, []string{"sticky sessions"}, nil},
		"sticky by the Service":            {check, ip(func(t *Traffic) { t.Services[0].Sticky = true }), v1alpha1.VerdictFail, []string{"sticky sessions"}, nil},
		"targets that tell their capacity": {check, ip(func(t *Traffic) { t.Ingresses[0].Control = true }), v1alpha1.VerdictFail, nil, []string{"target-control-port"}},
		"a gap":                            {check, ip(func(*Traffic) {}), v1alpha1.VerdictFail, []string{"503"}, nil},
		"traffic policy Local":             {check, withTraffic(func(t *Traffic) { t.Services[0].Local = true }), v1alpha1.VerdictWarn, []string{"externalTrafficPolicy Local"}, nil},
		"nodes, but no NodePort":           {check, withTraffic(func(t *Traffic) { t.Services[0] = clusterIP }), v1alpha1.VerdictWarn, []string{"has no NodePort"}, []string{`"type":"NodePort"`}},
		"sticky already with nodes":        {check, withTraffic(func(t *Traffic) { t.Ingresses[0].Sticky = true }), v1alpha1.VerdictPass, nil, nil},
	} {
		t.Run(name, e.hold)
	}
}

// TestTheOrderOfChanges: gates, then Services, then target types; back the other way round. A group is judged as one.
func TestTheOrderOfChanges(t *testing.T) {
	all := judged(t, "Ingress", withTraffic(func(t *Traffic) {
		t.Gated = []string{"shop"}
		t.Services = []Service{{Namespace: "shop", Name: "web", Type: "ClusterIP"}, {Namespace: "api", Name: "api", Type: "NodePort", NodePorts: true}}
		t.Ingresses = []Ingress{
			{Namespace: "shop", Name: "web", Class: "alb", TargetType: "ip", Group: "public", Backends: []string{"web", "web"}},
			{Namespace: "api", Name: "api", Class: "alb", TargetType: "instance", Group: "public", Backends: []string{"api"}},
			{Namespace: "api", Name: "own", Class: "alb", TargetType: "instance", Backends: []string{"api"}},
		}
	}))
	if len(all) != 1 || !strings.Contains(all[0].Message, "IngressGroup public, which 2 Ingresses share") || len(all[0].Objects) != 2 {
		t.Fatalf("%+v", all)
	}
	want := `kubectl label namespace shop elbv2.k8s.aws/pod-readiness-gate-inject-
kubectl -n shop patch service web --type merge -p '{"spec":{"type":"NodePort"}}'
kubectl -n shop annotate ingress web alb.ingress.kubernetes.io/target-type=instance --overwrite
# wait until all new targets are healthy; the way back, in this order:
# kubectl -n shop annotate ingress web alb.ingress.kubernetes.io/target-type=ip --overwrite
# kubectl -n shop patch service web --type merge -p '{"spec":{"type":"ClusterIP"}}'
# kubectl label namespace shop elbv2.k8s.aws/pod-readiness-gate-inject=enabled`
	if all[0].Mend != want {
		t.Errorf("the commands are\n%s\nwant\n%s", all[0].Mend, want)
	}
	// IngressClassParams name a group, too, and win.
	all = judged(t, "Ingress", withTraffic(func(t *Traffic) {
		t.Params[0] = ClassParams{Name: "alb", TargetType: "ip", Group: "everything"}
		t.Ingresses = append(t.Ingresses, Ingress{Namespace: "shop", Name: "admin", Class: "alb", Group: "admin", Backends: []string{"web"}})
	}))
	if len(all) != 1 || !strings.Contains(all[0].Message, "IngressGroup everything, which 2") || strings.Count(all[0].Mend, "patch ingressclassparams") != 2 {
		t.Errorf("%+v", all)
	}
}

func TestLoadBalancersOfServicesAndGatewaysAreJudged(t *testing.T) {
	const check = "LoadBalancers"
	nlb := func(v Service) func(*Snapshot) {
		return withTraffic(func(t *Traffic) {
			v.Namespace, v.Name, v.Type = "edge", "tcp", "LoadBalancer"
			t.Services = append(t.Services, v)
		})
	}
	binding := func(b Binding, rules ...TargetRule) func(*Snapshot) {
		return withTraffic(func(t *Traffic) {
			b.Namespace, b.Name, b.Service = "shop", "k8s-shop-web-0123456789", "web"
			t.Services[0] = Service{Namespace: "shop", Name: "web", Type: "ClusterIP"}
			t.Bindings, t.TargetRules = []Binding{b}, rules
		})
	}
	own := TargetRule{Namespace: "shop", Name: "web-targets", Service: "web", TargetType: "ip"}
	usual := TargetRule{Namespace: "infra", Name: "usual", TargetType: "ip"}
	for name, e := range map[string]expectation{
		"none":                    {check, withTraffic(func(*Traffic) {}), v1alpha1.VerdictPass, []string{"the 0 load balancers"}, nil},
		"an NLB to pods":          {check, nlb(Service{Class: "service.k8s.aws/nlb", NLBTarget: "ip", NodePorts: true}), v1alpha1.VerdictFail, []string{"Service/edge/tcp", "ip, by its annotation"}, []string{"kubectl -n edge annotate service tcp service.beta.kubernetes.io/aws-load-balancer-nlb-target-type=instance --overwrite"}},
		"by the older annotation": {check, nlb(Service{LoadBalancer: "external", NLBTarget: "ip", NodePorts: true}), v1alpha1.VerdictFail, nil, nil},
		"by its name":             {check, nlb(Service{LoadBalancer: "nlb-ip", NLBTarget: "instance", NodePorts: true}), v1alpha1.VerdictFail, []string{"nlb-ip"}, []string{"cannot change"}},
		"without node ports":      {check, nlb(Service{Class: "service.k8s.aws/nlb", NLBTarget: "ip"}), v1alpha1.VerdictFail, nil, []string{`"allocateLoadBalancerNodePorts":true`}},
		"by the flag": {check, func(s *Snapshot) {
			nlb(Service{Class: "service.k8s.aws/nlb", NodePorts: true})(s)
			s.Traffic.Controllers[0].DefaultTargetType = "ip"
		}, v1alpha1.VerdictFail, []string{"--default-target-type"}, []string{"# kubectl -n edge annotate service tcp service.beta.kubernetes.io/aws-load-balancer-nlb-target-type-"}},
		"the flag was not seen": {check, func(s *Snapshot) {
			nlb(Service{Class: "service.k8s.aws/nlb", NodePorts: true})(s)
			s.Traffic.Controllers = nil
		}, v1alpha1.VerdictUnknown, nil, nil},
		"to nodes":                  {check, nlb(Service{Class: "service.k8s.aws/nlb", NodePorts: true}), v1alpha1.VerdictPass, []string{"the 1 load balancers"}, nil},
		"to nodes without NodePort": {check, nlb(Service{Class: "service.k8s.aws/nlb", NLBTarget: "instance"}), v1alpha1.VerdictWarn, []string{"no NodePorts"}, []string{`"allocateLoadBalancerNodePorts":true`}},
		"to nodes, Local":           {check, nlb(Service{Class: "service.k8s.aws/nlb", NodePorts: true, Local: true}), v1alpha1.VerdictWarn, []string{"externalTrafficPolicy Local"}, nil},
		"the cloud provider's":      {check, nlb(Service{LoadBalancer: "nlb", NLBTarget: "ip", NodePorts: true}), v1alpha1.VerdictPass, []string{"the 0 load balancers"}, nil},
		"EKS Auto Mode's":           {check, nlb(Service{Class: "eks.amazonaws.com/nlb", NodePorts: true}), v1alpha1.VerdictUnknown, []string{"Service/edge/tcp", "Auto Mode"}, nil},
		"somebody else's":           {check, nlb(Service{Class: "tailscale", NLBTarget: "ip"}), v1alpha1.VerdictPass, nil, nil},
		"a person's binding":        {check, binding(Binding{TargetType: "ip"}), v1alpha1.VerdictFail, []string{"TargetGroupBinding/shop/k8s-shop-web-0123456789", "cannot change"}, []string{"delete targetgroupbinding"}},
		"a person's, to nodes":      {check, binding(Binding{TargetType: "instance"}), v1alpha1.VerdictPass, []string{"the 1 load balancers"}, nil},
		"a person's, without type":  {check, binding(Binding{}), v1alpha1.VerdictUnknown, nil, nil},
		"an Ingress' binding":       {check, binding(Binding{TargetType: "ip", Maker: "ingress"}), v1alpha1.VerdictPass, nil, nil},
		"a Gateway's":               {check, binding(Binding{TargetType: "ip", Maker: "gateway"}, own, usual), v1alpha1.VerdictFail, []string{"shop/web-targets is that of the Service"}, []string{`{"spec":{"type":"NodePort"}}`, `kubectl -n shop patch targetgroupconfiguration web-targets --type merge -p '{"spec":{"defaultConfiguration":{"targetType":"instance"}}}'`}},
		"a Gateway's by default":    {check, binding(Binding{TargetType: "ip", Maker: "gateway"}, usual), v1alpha1.VerdictFail, []string{"infra/usual makes it the default"}, []string{`"targetReference":{"name":"web"}`, "# kubectl -n shop delete targetgroupconfiguration web"}},
		"a Gateway's to nodes":      {check, binding(Binding{TargetType: "instance", Maker: "gateway"}, own), v1alpha1.VerdictPass, nil, nil},
		"VPC Lattice":               {check, withTraffic(func(t *Traffic) { t.Lattice = []string{"shop/mesh"} }), v1alpha1.VerdictFail, []string{"Gateway/shop/mesh"}, nil},
		"a gate of nobody": {check, withTraffic(func(t *Traffic) {
			t.Workloads = []Workload{{Namespace: "shop", Object: "deployment/web", Services: []string{"web"}, Gates: []string{"k8s-gone"}}}
		}), v1alpha1.VerdictWarn, []string{"k8s-gone", "shop/deployment/web"}, []string{"kubectl -n shop rollout restart deployment/web"}},
		"a gate of somebody": {check, withTraffic(func(t *Traffic) {
			t.Workloads = []Workload{{Namespace: "shop", Object: "deployment/web", Gates: []string{"k8s-there"}}}
			t.Bindings = []Binding{{Namespace: "shop", Name: "k8s-there", TargetType: "ip", Maker: "ingress"}}
		}), v1alpha1.VerdictPass, nil, nil},
		"bindings unseen": {check, unseen("targetgroupbindings.elbv2.k8s.aws"), v1alpha1.VerdictUnknown, nil, nil},
		"Gateways unseen": {check, unseen("gateways.gateway.networking.k8s.io"), v1alpha1.VerdictUnknown, nil, nil},
	} {
		t.Run(name, e.hold)
	}
}
