// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// controller is a well-known one, and how its chart puts it on the host network. Ports that others use too are named: on the
// host network a node has each port once.
type controller struct {
	service string // a part of the Service's name
	name    string
	port    int32 // that the API server calls after it
	mend    string
}

// controllers are tried in order (the charts of the projects, 2026; EKS' own webhooks have URLs and are not among them).
func controllers() []controller {
	return []controller{
		{"aws-load-balancer-webhook", "AWS Load Balancer Controller", 9443, "helm upgrade ... --set hostNetwork=true --set dnsPolicy=ClusterFirstWithHostNet; ports 9443, 8080 and 61779 must be free on its nodes"},
		{"cert-manager-webhook", "cert-manager", 10260, "helm upgrade ... --set webhook.hostNetwork=true --set webhook.securePort=10260; its default 10250 is the kubelet's"},
		{"kyverno-cleanup", "Kyverno's cleanup controller", 9444, "helm upgrade ... --set cleanupController.hostNetwork=true --set cleanupController.server.port=9444; 9443 is used by others"},
		{"kyverno", "Kyverno", 9445, "helm upgrade ... --set admissionController.hostNetwork=true --set admissionController.webhookServer.port=9445; 9443 is used by others"},
		{"gatekeeper", "Gatekeeper", 8443, "helm upgrade ... --set controllerManager.hostNetwork=true --set audit.hostNetwork=true; both use 8888 and 9090, so not on one node"},
		{"metrics-server", "metrics-server", 10251, "helm upgrade ... --set hostNetwork.enabled=true --set containerPort=10251; its default 10250 is the kubelet's"},
		{"prometheus-adapter", "prometheus-adapter", 6444, "helm upgrade ... --set hostNetwork.enabled=true --set listenPort=6444; 6443 is KEDA's too"},
		{"keda-admission", "KEDA's webhooks", 9446, "helm upgrade ... --set webhooks.useHostNetwork=true --set webhooks.port=9446; 9443 is used by others"},
		{"keda", "KEDA", 6443, "helm upgrade ... --set metricsServer.useHostNetwork=true; 6443 is prometheus-adapter's too"},
		{"istiod", "Istio", 15017, "istiod's chart has no value for it: kubectl -n istio-system patch deployment istiod --type merge -p '{\"spec\":{\"template\":{\"spec\":{\"hostNetwork\":true,\"dnsPolicy\":\"ClusterFirstWithHostNet\"}}}}'; ports 15010, 15012, 15014, 15017 and 8080 must be free"},
	}
}

// refused is what EKS' API server says when it is to call an address outside of the VPC: at once, not after a timeout.
const refused = "Address is not allowed"

func callbacks(s *Snapshot) []Finding {
	lists := []string{"validatingwebhookconfigurations.admissionregistration.k8s.io", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "customresourcedefinitions.apiextensions.k8s.io", "apiservices.apiregistration.k8s.io"}
	var out []Finding
	// What webhooks of one object have in common is said once: its Service, whether the API server goes on without it, and whether
	// they select.
	done := map[string]bool{}
	reachable := 0
	for i := range s.Callbacks {
		c := &s.Callbacks[i]
		key := fmt.Sprint(c.Kind, c.Object, c.Namespace, c.Service, c.Ignore, c.Selective)
		if done[key] {
			continue
		}
		done[key] = true
		f := s.callback(c, s.intercepted(c))
		if f.Verdict == v1alpha1.VerdictPass {
			reachable++
			continue
		}
		f.Objects = append([]string{c.Kind + "/" + c.Object}, f.Objects...)
		out = append(out, f)
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return cmp.Compare(rank(a.Verdict), rank(b.Verdict)) })
	if s.unseen(lists...) {
		return append(out, unknown("not all webhooks, conversions and aggregated APIs could be listed"))
	}
	return append(out, pass("%d webhooks, conversions and aggregated APIs stay reachable for the API server", reachable))
}

func rank(v v1alpha1.Verdict) int {
	return slices.Index([]v1alpha1.Verdict{v1alpha1.VerdictFail, v1alpha1.VerdictUnknown, v1alpha1.VerdictWarn}, v)
}

// intercepted are the resources of all webhooks that share a callback's Service.
func (s *Snapshot) intercepted(c *Callback) []string {
	var out []string
	for i := range s.Callbacks {
		o := &s.Callbacks[i]
		if o.Kind == c.Kind && o.Object == c.Object && o.Namespace == c.Namespace && o.Service == c.Service && o.Ignore == c.Ignore && o.Selective == c.Selective {
			out = append(out, o.Intercepts...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (s *Snapshot) callback(c *Callback, intercepts []string) Finding {
	at := c.Namespace + "/" + c.Service
	switch {
	case c.Outside:
		return pass("it is called by a URL")
	case c.Unread:
		return unknown("whether the pods behind Service %s are on the host network was not seen", at)
	case strings.Contains(c.Broken, refused):
		f := fail("it is broken already: the API server refuses addresses outside of the VPC (%q)", c.Broken)
		f.Mend = cure(c)
		return f
	case !c.Found:
		return warn("its Service %s does not exist: whoever relies on it is broken now", at)
	case len(c.Backends) == 0:
		return warn("its Service %s has no endpoints: it is broken now, and where its pods will run cannot be seen", at)
	}
	var moving, unclear []string
	moved := false
	for _, b := range c.Backends {
		switch {
		case b.HostNetwork, b.Pod == "" && s.isNode(b.Address):
		case b.Pod == "":
			unclear = append(unclear, b.Address)
		default:
			moving = append(moving, "Pod/"+b.Pod)
			moved = moved || s.inOverlay(b.Address)
		}
	}
	switch {
	case len(moving) == 0 && len(unclear) == 0:
		return pass("its pods are on the host network")
	case len(moving) == 0:
		return unknown("Service %s has endpoints without pods (%s): see that the API server reaches them without the pod network", at, strings.Join(unclear, ", "))
	}
	f := judgeMoving(c, intercepts, at, moved)
	f.Objects, f.Mend = moving, cure(c)
	return f
}

func (s *Snapshot) isNode(address string) bool {
	return slices.ContainsFunc(s.Nodes, func(n Node) bool { return slices.Contains(n.Addresses, address) })
}

func (s *Snapshot) inOverlay(address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && slices.ContainsFunc(networks(s.Overlay), func(p netip.Prefix) bool { return p.Contains(a) })
}

// judgeMoving ranks what is lost once the pods of a callback have addresses of the overlay.
func judgeMoving(c *Callback, intercepts []string, at string, moved bool) Finding {
	lost := "once its pods move to the overlay, the API server cannot reach Service %s"
	if moved {
		lost = "its pods are on the overlay already, so the API server cannot reach Service %s"
	}
	touches := func(names ...string) string {
		for _, n := range names {
			if slices.Contains(intercepts, n) || slices.Contains(intercepts, "*") {
				return n
			}
		}
		return ""
	}
	which := func(all, some string) string {
		if c.Selective {
			return some
		}
		return all
	}
	switch {
	case c.Kind == Conversion:
		return fail(lost+": objects of %s can be neither read nor written in the versions that need it", at, c.Object)
	case c.Kind == Aggregated:
		return fail(lost+": the API %s is gone, and namespaces can no longer be deleted", at, c.Object)
	case c.Ignore:
		return warn(lost+": it is left out without a word (failurePolicy Ignore) for %s", at, strings.Join(intercepts, ", "))
	case touches("pods", "pods/eviction") != "":
		return fail(lost+": %s refused, of replaced nodes too, and the cutover stands still", at, which("every new pod is", "every new pod that it selects is"))
	case touches("nodes") != "":
		return fail(lost+": %s can no longer be changed, and the cutover cannot label or cordon them", at, which("nodes", "nodes that it selects"))
	}
	return fail(lost+": %s%s are refused", at, strings.Join(intercepts, ", "), which("", " that it selects"))
}

// controller is the well-known one that a callback belongs to; nil: none.
func (c *Callback) controller() *controller {
	for _, k := range controllers() {
		if strings.Contains(c.Service, k.service) {
			return &k
		}
	}
	return nil
}

// cure is how the pods of a callback get onto the host network.
func cure(c *Callback) string {
	if k := c.controller(); k != nil {
		return k.name + ": " + k.mend
	}
	return "set hostNetwork: true and dnsPolicy: ClusterFirstWithHostNet in the pods' template, on a port that no other process of the node uses (not 10250, 9443, 8080, 8081 or 6443)"
}
