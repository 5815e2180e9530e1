// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/golden"
)

func onHost(pod string) []Backend {
	return []Backend{{Address: "10.0.1.10", Pod: pod, HostNetwork: true}}
}
func inPod(pod string) []Backend { return []Backend{{Address: "10.0.1.77", Pod: pod}} }

// healthy is a cluster of which everything is known and nothing is wrong.
func healthy() *Snapshot {
	return &Snapshot{
		Format: Format, TakenAt: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC), Server: "https://ABCD.gr7.eu-central-1.eks.amazonaws.com",
		Network: wellConfigured(), Traffic: Traffic{Workloads: []Workload{{Namespace: "shop", Object: "deployment/cart", Services: []string{"cart"}}}},
		Overlay: []string{"10.244.0.0/16"}, NodeMaskSize: 24, Joining: 1, VPC: []string{"10.0.0.0/16"}, Services: []string{"172.20.0.0/16"},
		Nodes:       []Node{{"node-a", []string{"10.0.1.10"}, linux()}, {"node-b", []string{"10.0.2.10"}, linux()}},
		CiliumNodes: []CiliumNode{{"node-a", []string{"10.244.0.0/24"}}, {"node-b", []string{"10.244.1.0/24"}}},
		Callbacks: []Callback{
			{Kind: Mutating, Object: "pod-identity-webhook", Name: "iam-for-pods.amazonaws.com", Outside: true, Ignore: true, Intercepts: []string{"pods"}},
			{Kind: Validating, Object: "cert-manager-webhook", Name: "webhook.cert-manager.io", Namespace: "cert-manager", Service: "cert-manager-webhook", Intercepts: []string{"*"}, Found: true, Backends: onHost("cert-manager/w")},
			{Kind: Aggregated, Object: "v1beta1.metrics.k8s.io", Namespace: "kube-system", Service: "metrics-server", Found: true, Backends: []Backend{{Address: "10.0.2.10"}}},
		},
		Rollout: rollout(), Pods: pods(), DaemonSets: []string{"kube-system/aws-node"},
		Budgets: []Budget{{Namespace: "shop", Name: "web", MinAvailable: "50%", Expected: 2, Healthy: 2, Desired: 1, Allowed: 1}},
	}
}

func TestAHealthyClusterIsQuiet(t *testing.T) {
	for name, s := range map[string]*Snapshot{"without AWS": healthy(), "with AWS": asked()} {
		r := Judge(s)
		for _, f := range r.Findings {
			if f.Verdict != v1alpha1.VerdictPass && (s.AWS != nil || f.Verdict != v1alpha1.VerdictNotAsked) {
				t.Errorf("%s: %s %s: %s %q", name, f.Verdict, f.Check, f.Message, f.Evidence)
			}
		}
		if len(r.Findings) != len(checks()) || r.Verdict() != v1alpha1.VerdictPass {
			t.Errorf("%s: %d findings of %d checks, %s", name, len(r.Findings), len(checks()), r.Verdict())
		}
	}
}

func TestWhatWouldBreakIsSaid(t *testing.T) {
	webhook := func(c Callback) func(*Snapshot) {
		return func(s *Snapshot) {
			if c.Kind == "" {
				c.Kind = Validating
			}
			if c.Object == "" {
				c.Object = "hook"
			}
			c.Namespace, c.Service, c.Found = "apps", "hook", true
			s.Callbacks = append(s.Callbacks, c)
		}
	}
	changed := func(c Callback, change func(*Callback)) func(*Snapshot) {
		return func(s *Snapshot) {
			webhook(c)(s)
			change(&s.Callbacks[len(s.Callbacks)-1])
		}
	}
	for name, c := range map[string]struct {
		change func(*Snapshot)
		check  string
		want   v1alpha1.Verdict
		says   string
		mend   string
	}{
		"a webhook on pods stops the cutover itself": {webhook(Callback{Intercepts: []string{"pods"}, Backends: inPod("apps/p")}), "Callbacks", v1alpha1.VerdictFail, "every new pod is refused", "hostNetwork: true"},
		"one on everything too":                      {webhook(Callback{Intercepts: []string{"*"}, Backends: inPod("apps/p")}), "Callbacks", v1alpha1.VerdictFail, "every new pod is refused", ""},
		"one on some pods":                           {webhook(Callback{Intercepts: []string{"pods"}, Selective: true, Backends: inPod("apps/p")}), "Callbacks", v1alpha1.VerdictFail, "every new pod that it selects is refused", ""},
		"one on everything of its own group":         {webhook(Callback{Intercepts: []string{"*.cert-manager.io"}, Backends: inPod("apps/p")}), "Callbacks", v1alpha1.VerdictFail, ": *.cert-manager.io are refused", ""},
		"one on nodes stops our labels":              {webhook(Callback{Intercepts: []string{"nodes"}, Backends: inPod("apps/p")}), "Callbacks", v1alpha1.VerdictFail, "cannot label or cordon", ""},
		"one on Services stops those": {changed(Callback{Intercepts: []string{"services"}, Backends: inPod("kube-system/lbc")}, func(c *Callback) { c.Service = "aws-load-balancer-webhook-service" }),
			"Callbacks", v1alpha1.VerdictFail, "services are refused", "AWS Load Balancer Controller: "},
		"one that is left out":               {webhook(Callback{Intercepts: []string{"pods"}, Ignore: true, Backends: inPod("apps/p")}), "Callbacks", v1alpha1.VerdictWarn, "failurePolicy Ignore", ""},
		"one of two pods is enough":          {webhook(Callback{Intercepts: []string{"pods"}, Backends: append(onHost("apps/h"), inPod("apps/p")...)}), "Callbacks", v1alpha1.VerdictFail, "refused", ""},
		"a conversion":                       {webhook(Callback{Kind: Conversion, Object: "things.example.org", Backends: inPod("apps/p")}), "Callbacks", v1alpha1.VerdictFail, "objects of things.example.org", ""},
		"an aggregated API":                  {webhook(Callback{Kind: Aggregated, Object: "v1.metrics", Backends: inPod("apps/p")}), "Callbacks", v1alpha1.VerdictFail, "namespaces can no longer be deleted", ""},
		"one that is on the overlay already": {webhook(Callback{Intercepts: []string{"pods"}, Backends: []Backend{{Address: "10.244.1.5", Pod: "apps/p"}}}), "Callbacks", v1alpha1.VerdictFail, "on the overlay already", ""},
		"one that is broken by it already": {webhook(Callback{Kind: Aggregated, Object: "v1.metrics", Broken: "failing or missing response: Address is not allowed", Backends: onHost("apps/p")}),
			"Callbacks", v1alpha1.VerdictFail, "broken already", "hostNetwork"},
		"one without a Service":           {changed(Callback{}, func(c *Callback) { c.Found = false }), "Callbacks", v1alpha1.VerdictWarn, "does not exist", ""},
		"one without endpoints":           {webhook(Callback{}), "Callbacks", v1alpha1.VerdictWarn, "has no endpoints", ""},
		"one whose endpoint names no pod": {webhook(Callback{Backends: []Backend{{Address: "192.0.2.1"}}}), "Callbacks", v1alpha1.VerdictUnknown, "192.0.2.1", ""},
		"one that was not seen":           {webhook(Callback{Unread: true}), "Callbacks", v1alpha1.VerdictUnknown, "was not seen", ""},
		"webhooks that were not listed": {func(s *Snapshot) {
			s.Missing = []Missing{{"list", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "", "forbidden"}}
		}, "Callbacks", v1alpha1.VerdictUnknown, "not all webhooks", ""},
		"a right that is missing": {func(s *Snapshot) { s.Missing = []Missing{{"get", "pods", "apps", "forbidden"}} }, "Rights", v1alpha1.VerdictUnknown, "get of pods in namespace apps", "kubectl auth can-i get pods -n apps"},

		"the VPC in the overlay":    {func(s *Snapshot) { s.VPC = []string{"10.244.3.0/24"} }, "Overlap", v1alpha1.VerdictFail, "10.244.3.0/24 of the VPC", "podCIDRs"},
		"Services in the overlay":   {func(s *Snapshot) { s.Services = []string{"10.244.0.0/20"} }, "Overlap", v1alpha1.VerdictFail, "ClusterIPs", ""},
		"a node in the overlay":     {func(s *Snapshot) { s.Nodes[1].Addresses = []string{"10.244.9.9"} }, "Overlap", v1alpha1.VerdictFail, "node-b (10.244.9.9)", ""},
		"a VPC that nobody named":   {func(s *Snapshot) { s.VPC = nil }, "Overlap", v1alpha1.VerdictUnknown, "--vpc-cidr", ""},
		"nodes that were not seen":  {func(s *Snapshot) { s.Nodes, s.Missing = nil, []Missing{{Resource: "nodes"}} }, "Overlap", v1alpha1.VerdictUnknown, "not all nodes", ""},
		"nodes that do not count":   {func(s *Snapshot) { s.Nodes, s.Missing = nil, []Missing{{Resource: "nodes"}} }, "Capacity", v1alpha1.VerdictUnknown, "not seen", ""},
		"no overlay":                {func(s *Snapshot) { s.Overlay = nil }, "Overlap", v1alpha1.VerdictUnknown, "no network", ""},
		"too few slices":            {func(s *Snapshot) { s.Overlay = []string{"10.244.0.0/23"} }, "Capacity", v1alpha1.VerdictFail, "2 slices of /24, and 2 nodes with 1 that join", "append a network"},
		"just enough slices":        {func(s *Snapshot) { s.NodeMaskSize, s.Joining = 17, 0 }, "Capacity", v1alpha1.VerdictPass, "2 slices of /17", ""},
		"a mask that cuts nothing":  {func(s *Snapshot) { s.NodeMaskSize = 15 }, "Capacity", v1alpha1.VerdictFail, "0 slices", ""},
		"a CiliumNode that is left": {func(s *Snapshot) { s.Nodes = s.Nodes[:1] }, "CiliumNodes", v1alpha1.VerdictWarn, "node-b has no Node", "kubectl delete ciliumnode node-b"},
		"one slice for two":         {func(s *Snapshot) { s.CiliumNodes[1].PodCIDRs = []string{"10.244.0.0/24"} }, "CiliumNodes", v1alpha1.VerdictFail, "the slice of node-a and node-b", "kubectl delete ciliumnode node-b"},
		"a slice of another pool":   {func(s *Snapshot) { s.CiliumNodes[1].PodCIDRs = []string{"10.9.1.0/24"} }, "CiliumNodes", v1alpha1.VerdictFail, "outside of the overlay", "values check --live"},
		"CiliumNodes unseen":        {func(s *Snapshot) { s.Missing = []Missing{{Resource: "ciliumnodes.cilium.io"}} }, "CiliumNodes", v1alpha1.VerdictUnknown, "not seen", ""},
		"no Cilium yet":             {func(s *Snapshot) { s.CiliumNodes = nil }, "CiliumNodes", v1alpha1.VerdictPass, "0 CiliumNodes", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			c.change(s)
			for _, f := range Judge(s).Findings {
				if f.Check == c.check && f.Verdict == c.want && strings.Contains(f.Message, c.says) && strings.Contains(f.Mend, c.mend) {
					return
				}
			}
			t.Errorf("%s %s with %q and %q is not among %+v", c.want, c.check, c.says, c.mend, Judge(s).Findings)
		})
	}
}

// TestWellKnownControllersHaveTheirOwnCure, and a longer name is not taken for a shorter one.
func TestWellKnownControllersHaveTheirOwnCure(t *testing.T) {
	for service, want := range map[string]string{
		"aws-load-balancer-webhook-service": "AWS Load Balancer", "cert-manager-webhook": "10260", "kyverno-svc": "admissionController", "kyverno-cleanup-controller": "cleanupController",
		"gatekeeper-webhook-service": "audit.hostNetwork", "metrics-server": "containerPort", "prometheus-adapter": "listenPort", "keda-admission-webhooks": "webhooks.useHostNetwork",
		"keda-operator-metrics-apiserver": "metricsServer.useHostNetwork", "istiod": "istio-system", "mine": "hostNetwork: true",
	} {
		if got := cure(&Callback{Service: service}); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", service, got, want)
		}
	}
}

func TestASnapshotIsKept(t *testing.T) {
	s := asked()
	s.Missing = []Missing{{"list", "pods", "", "forbidden"}}
	var file bytes.Buffer
	if err := s.Save(&file); err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(bytes.NewReader(file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, loaded, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("(-saved +loaded):\n%s", diff)
	}
	s.Format++
	file.Reset()
	if err := s.Save(&file); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"another format": file.Bytes(), "nothing": nil, "text": []byte("snapshot"), "cut": file.Bytes()[:file.Len()/2]} {
		if s, err := Load(bytes.NewReader(data)); err == nil {
			t.Errorf("%s was loaded as %+v", name, s)
		}
	}
}

func FuzzLoad(f *testing.F) {
	var file bytes.Buffer
	if err := asked().Save(&file); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := Load(bytes.NewReader(data)); err == nil {
			Judge(s)
			if f, err := Foresee(s, 0); err == nil {
				f.Verdict()
			}
		}
	})
}

func TestReportsAreWritten(t *testing.T) {
	s := healthy()
	s.Callbacks = append(s.Callbacks,
		Callback{Kind: Validating, Object: "shop", Name: "a.shop", Namespace: "shop", Service: "hook", Intercepts: []string{"pods"}, Found: true, Backends: append(inPod("shop/hook-1"), inPod("shop/hook-2")...)},
		Callback{Kind: Validating, Object: "shop", Name: "b.shop", Namespace: "shop", Service: "hook", Intercepts: []string{"services"}, Found: true, Backends: inPod("shop/hook-1")},
		Callback{Kind: Mutating, Object: "istio", Namespace: "istio-system", Service: "istiod", Ignore: true, Intercepts: []string{"pods"}, Found: true, Backends: inPod("istio-system/istiod-1")},
	)
	s.VPC = nil
	r := Judge(s)
	var table, coloured, junit strings.Builder
	for _, err := range []error{r.Write(&table, false), r.Write(&coloured, true), r.WriteJUnit(&junit)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	golden.Match(t, filepath.Join("testdata", "report.txt"), table.String())
	golden.Match(t, filepath.Join("testdata", "report.xml"), junit.String())
	if strings.Contains(table.String(), "\x1b") || !strings.Contains(coloured.String(), "\x1b[31;1mFail") {
		t.Error("colour is where it should not be, or not where it should")
	}
	var parsed suite
	if err := xml.Unmarshal([]byte(junit.String()), &parsed); err != nil || parsed.Failures != 1 || parsed.Errors != 1 {
		t.Errorf("%v: %+v", err, parsed)
	}
}

// TestThePageHasASectionForEachCheck: every finding names one.
func TestThePageHasASectionForEachCheck(t *testing.T) {
	page, err := os.ReadFile("../docs/preflight.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks() {
		if !strings.Contains(string(page), "\n## "+c.name+"\n") || c.docs != "docs/preflight.md#"+strings.ToLower(c.name) {
			t.Errorf("%s: %s has no section of that name", c.name, c.docs)
		}
	}
}

// TestKeptSnapshotsAreJudged holds whole reports of clusters in testdata. eks.json was written by hand, after the webhooks and
// aggregated APIs that well-known controllers register; options.json after aws-node and what is beside it on a cluster that uses
// all of the VPC CNI; aws.json after a cluster whose account was asked and that has something to see to at each place; ingress.json after the AWS Load Balancer Controller's and others' load balancers, each in a shape of its own.
func TestKeptSnapshotsAreJudged(t *testing.T) {
	for _, name := range []string{"eks", "options", "ingress", "draining", "nodes", "aws"} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var s Snapshot
			decoder := json.NewDecoder(bytes.NewReader(data))
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(&s); err != nil {
				t.Fatal(err)
			}
			var file bytes.Buffer
			if err := s.Save(&file); err != nil {
				t.Fatal(err)
			}
			kept, err := Load(&file)
			if err != nil {
				t.Fatal(err)
			}
			r := Judge(kept)
			var table strings.Builder
			if err := r.Write(&table, false); err != nil {
				t.Fatal(err)
			}
			golden.Match(t, filepath.Join("testdata", name+".txt"), table.String())
		})
	}
}
