// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package gather takes the snapshot that package preflight judges. It only reads, page by page; what it may not read is noted
// in the snapshot and goes on without.
package gather

import (
	"context"
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/preflight"
)

// pageSize is how many objects one answer holds.
const pageSize = 500

// Reader is what a gatherer reads from.
type Reader interface {
	Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error
	List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error
}

type gatherer struct {
	from Reader
	into *preflight.Snapshot
	// tell is told what is being read.
	tell func(string)
	// resolved are the Services that were looked at.
	resolved map[client.ObjectKey]resolved
	// said is what agents reported, by node; needs is where in the snapshot stands what pods need, by its text.
	said  map[string]report
	needs map[string]int
	// exposed looks at a pod for the sake of who sends to it.
	exposed func(*corev1.Pod)
}

type resolved struct {
	found, unread bool
	backends      []preflight.Backend
	// ports are those of the backends, by the Service's port.
	ports map[int32][]int32
}

// Cluster fills a snapshot. Only a broken connection is an error.
func Cluster(ctx context.Context, from Reader, into *preflight.Snapshot, tell func(string)) error {
	g := &gatherer{from: from, into: into, tell: tell, resolved: map[client.ObjectKey]resolved{}, said: map[string]report{}, needs: map[string]int{}}
	for _, read := range []func(context.Context) error{g.reports, g.nodes, g.services, g.ciliumNodes, g.network, g.traffic, g.workloads, g.karpenter, g.nodeClasses, g.validating, g.mutating, g.conversions, g.aggregated} {
		if err := read(ctx); err != nil {
			return err
		}
	}
	return nil
}

// missing notes what may not be read; anything else that goes wrong is handed on. A kind that does not exist has no objects.
func (g *gatherer) missing(verb, resource, namespace string, err error) error {
	switch {
	case err == nil, meta.IsNoMatchError(err), verb == "list" && apierrors.IsNotFound(err): // known a moment ago, and gone
		return nil
	case apierrors.IsForbidden(err):
		m := preflight.Missing{Verb: verb, Resource: resource, Namespace: namespace, Error: err.Error()}
		if !slices.ContainsFunc(g.into.Missing, func(o preflight.Missing) bool {
			return o.Verb == m.Verb && o.Resource == m.Resource && o.Namespace == m.Namespace
		}) {
			g.into.Missing = append(g.into.Missing, m)
		}
		return nil
	}
	return fmt.Errorf("reading %s: %w", resource, err)
}

// each lists objects page by page.
func each[L client.ObjectList](ctx context.Context, g *gatherer, resource string, list L, see func(L) error, options ...client.ListOption) error {
	g.tell(resource)
	for {
		page := append([]client.ListOption{client.Limit(pageSize), client.Continue(list.GetContinue())}, options...)
		if err := g.from.List(ctx, list, page...); err != nil {
			return g.missing("list", resource, "", err)
		}
		if err := see(list); err != nil {
			return err
		}
		if list.GetContinue() == "" {
			return nil
		}
	}
}

func (g *gatherer) nodes(ctx context.Context) error {
	return each(ctx, g, "nodes", &corev1.NodeList{}, func(l *corev1.NodeList) error {
		for i := range l.Items {
			n := preflight.Node{Name: l.Items[i].Name, NodeInfo: nodeInfo(&l.Items[i], g.said[l.Items[i].Name])}
			for _, a := range l.Items[i].Status.Addresses {
				if a.Type == corev1.NodeInternalIP {
					n.Addresses = append(n.Addresses, a.Address)
				}
			}
			g.into.Nodes = append(g.into.Nodes, n)
		}
		return nil
	})
}

func (g *gatherer) services(ctx context.Context) error {
	return each(ctx, g, "servicecidrs.networking.k8s.io", &networkingv1.ServiceCIDRList{}, func(l *networkingv1.ServiceCIDRList) error {
		for i := range l.Items {
			g.into.Services = append(g.into.Services, l.Items[i].Spec.CIDRs...)
		}
		return nil
	})
}

// of is a list of a kind that this project has no types of.
func of(group, version, kind string) *unstructured.UnstructuredList {
	l := &unstructured.UnstructuredList{}
	l.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: version, Kind: kind + "List"})
	return l
}

func text(o map[string]any, path ...string) string {
	s, _, _ := unstructured.NestedString(o, path...)
	return s
}

func (g *gatherer) ciliumNodes(ctx context.Context) error {
	return each(ctx, g, "ciliumnodes.cilium.io", of("cilium.io", "v2", "CiliumNode"), func(l *unstructured.UnstructuredList) error {
		for i := range l.Items {
			cidrs, _, _ := unstructured.NestedStringSlice(l.Items[i].Object, "spec", "ipam", "podCIDRs")
			g.into.CiliumNodes = append(g.into.CiliumNodes, preflight.CiliumNode{Name: l.Items[i].GetName(), PodCIDRs: cidrs})
		}
		return nil
	})
}

// webhook is what both kinds of webhooks have.
type webhook struct {
	name       string
	config     admissionv1.WebhookClientConfig
	policy     *admissionv1.FailurePolicyType
	rules      []admissionv1.RuleWithOperations
	namespaces *metav1.LabelSelector
	objects    *metav1.LabelSelector
	conditions []admissionv1.MatchCondition
}

func (g *gatherer) webhook(ctx context.Context, kind, object string, w webhook) error {
	selects := func(s *metav1.LabelSelector) bool { return s != nil && len(s.MatchLabels)+len(s.MatchExpressions) > 0 }
	c := preflight.Callback{
		Kind: kind, Object: object, Name: w.name, Ignore: w.policy != nil && *w.policy == admissionv1.Ignore,
		Intercepts: intercepts(w.rules), Selective: selects(w.namespaces) || selects(w.objects) || len(w.conditions) > 0,
	}
	if w.config.Service == nil {
		c.Outside = true
		g.into.Callbacks = append(g.into.Callbacks, c)
		return nil
	}
	return g.backed(ctx, c, w.config.Service.Namespace, w.config.Service.Name, w.config.Service.Port)
}

// intercepts names the resources of rules, those of other groups than the core's with their group. A rule for all groups
// reaches the core's too.
func intercepts(rules []admissionv1.RuleWithOperations) []string {
	var out []string
	for _, r := range rules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				if resource == "*/*" {
					resource = "*"
				}
				if group != "" && group != "*" {
					resource += "." + group
				}
				if !slices.Contains(out, resource) {
					out = append(out, resource)
				}
			}
		}
	}
	return out
}

func (g *gatherer) validating(ctx context.Context) error {
	return each(ctx, g, "validatingwebhookconfigurations.admissionregistration.k8s.io", &admissionv1.ValidatingWebhookConfigurationList{}, func(l *admissionv1.ValidatingWebhookConfigurationList) error {
		for i := range l.Items {
			for _, w := range l.Items[i].Webhooks {
				if err := g.webhook(ctx, preflight.Validating, l.Items[i].Name, webhook{w.Name, w.ClientConfig, w.FailurePolicy, w.Rules, w.NamespaceSelector, w.ObjectSelector, w.MatchConditions}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (g *gatherer) mutating(ctx context.Context) error {
	return each(ctx, g, "mutatingwebhookconfigurations.admissionregistration.k8s.io", &admissionv1.MutatingWebhookConfigurationList{}, func(l *admissionv1.MutatingWebhookConfigurationList) error {
		for i := range l.Items {
			for _, w := range l.Items[i].Webhooks {
				if err := g.webhook(ctx, preflight.Mutating, l.Items[i].Name, webhook{w.Name, w.ClientConfig, w.FailurePolicy, w.Rules, w.NamespaceSelector, w.ObjectSelector, w.MatchConditions}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (g *gatherer) conversions(ctx context.Context) error {
	return each(ctx, g, "customresourcedefinitions.apiextensions.k8s.io", of("apiextensions.k8s.io", "v1", "CustomResourceDefinition"), func(l *unstructured.UnstructuredList) error {
		for i := range l.Items {
			o := l.Items[i].Object
			if text(o, "spec", "conversion", "strategy") != "Webhook" {
				continue
			}
			at := []string{"spec", "conversion", "webhook", "clientConfig", "service"}
			c := preflight.Callback{Kind: preflight.Conversion, Object: l.Items[i].GetName()}
			if name := text(o, append(at, "name")...); name != "" {
				if err := g.backed(ctx, c, text(o, append(at, "namespace")...), name, number(o, append(at, "port")...)); err != nil {
					return err
				}
				continue
			}
			c.Outside = true
			g.into.Callbacks = append(g.into.Callbacks, c)
		}
		return nil
	})
}

func (g *gatherer) aggregated(ctx context.Context) error {
	return each(ctx, g, "apiservices.apiregistration.k8s.io", of("apiregistration.k8s.io", "v1", "APIService"), func(l *unstructured.UnstructuredList) error {
		for i := range l.Items {
			o := l.Items[i].Object
			name := text(o, "spec", "service", "name")
			if name == "" {
				continue // the API server's own
			}
			c := preflight.Callback{Kind: preflight.Aggregated, Object: l.Items[i].GetName()}
			conditions, _, _ := unstructured.NestedSlice(o, "status", "conditions")
			for _, raw := range conditions {
				if condition, ok := raw.(map[string]any); ok && condition["type"] == "Available" && condition["status"] == "False" {
					c.Broken = fmt.Sprint(condition["message"])
				}
			}
			if err := g.backed(ctx, c, text(o, "spec", "service", "namespace"), name, number(o, "spec", "service", "port")); err != nil {
				return err
			}
		}
		return nil
	})
}

// number is a port; nil: there is none.
func number(o map[string]any, path ...string) *int32 {
	n, found, err := unstructured.NestedInt64(o, path...)
	if err != nil || !found {
		return nil
	}
	port := int32(n)
	return &port
}

// backed adds a callback with the pods behind its Service, of which it is 443 if no port is named.
func (g *gatherer) backed(ctx context.Context, c preflight.Callback, namespace, service string, port *int32) error {
	key := client.ObjectKey{Namespace: namespace, Name: service}
	r, known := g.resolved[key]
	if !known {
		var err error
		if r, err = g.resolve(ctx, key); err != nil {
			return err
		}
		g.resolved[key] = r
	}
	c.Namespace, c.Service, c.Found, c.Unread, c.Backends = namespace, service, r.found, r.unread, r.backends
	if port == nil {
		usual := int32(443)
		port = &usual
	}
	c.Ports = r.ports[*port]
	g.into.Callbacks = append(g.into.Callbacks, c)
	return nil
}

func (g *gatherer) resolve(ctx context.Context, key client.ObjectKey) (resolved, error) {
	var service corev1.Service
	if err := g.from.Get(ctx, key, &service); apierrors.IsNotFound(err) {
		return resolved{}, nil
	} else if err != nil {
		return resolved{unread: true}, g.missing("get", "services", key.Namespace, err)
	}
	out := resolved{found: true, ports: map[int32][]int32{}}
	var endpoints discoveryv1.EndpointSliceList
	if err := g.from.List(ctx, &endpoints, client.InNamespace(key.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: key.Name}); err != nil {
		return resolved{found: true, unread: true}, g.missing("list", "endpointslices.discovery.k8s.io", key.Namespace, err)
	}
	for i := range endpoints.Items {
		addPorts(out.ports, service.Spec.Ports, endpoints.Items[i].Ports)
		for _, e := range endpoints.Items[i].Endpoints {
			b := preflight.Backend{}
			if len(e.Addresses) > 0 {
				b.Address = e.Addresses[0]
			}
			if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
				var pod corev1.Pod
				at := client.ObjectKey{Namespace: e.TargetRef.Namespace, Name: e.TargetRef.Name}
				if err := g.from.Get(ctx, at, &pod); apierrors.IsNotFound(err) {
					continue // it has gone meanwhile
				} else if err != nil {
					return resolved{found: true, unread: true}, g.missing("get", "pods", at.Namespace, err)
				}
				b.Pod, b.HostNetwork = at.String(), pod.Spec.HostNetwork
			}
			out.backends = append(out.backends, b)
		}
	}
	return out, nil
}

// addPorts adds which ports of its pods a Service's ports lead to: those of the same name.
func addPorts(into map[int32][]int32, of []corev1.ServicePort, behind []discoveryv1.EndpointPort) {
	for _, p := range of {
		for _, b := range behind {
			if b.Port == nil || b.Name != nil && *b.Name != p.Name || b.Name == nil && p.Name != "" {
				continue
			}
			if !slices.Contains(into[p.Port], *b.Port) {
				into[p.Port] = append(into[p.Port], *b.Port)
			}
		}
	}
}
