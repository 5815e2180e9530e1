// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Finding is one thing that a check has to say.
type Finding struct {
	Check   string           `json:"check"`
	Verdict v1alpha1.Verdict `json:"verdict"`
	Message string           `json:"message"`
	// Objects that it is about, as kind/name or kind/namespace/name.
	Objects []string `json:"objects,omitempty"`
	// Evidence is what the message was found by, a line each.
	Evidence []string `json:"evidence,omitempty"`
	// Mend is the command or the change that mends it.
	Mend string `json:"mend,omitempty"`
	// Docs is where more of it stands.
	Docs string `json:"docs"`
}

// Report is the judgement of a snapshot.
type Report struct {
	Server   string    `json:"server"`
	TakenAt  time.Time `json:"takenAt"`
	Findings []Finding `json:"findings"`
}

// check is one line of the checklist. Every check says something, if only that all is well.
type check struct {
	name string
	docs string
	run  func(s *Snapshot) []Finding
}

func checks() []check {
	const page = "docs/preflight.md#"
	return []check{
		{"Rights", page + "rights", rights},          // was everything seen that the others look at
		{"Callbacks", page + "callbacks", callbacks}, // webhooks, conversions and aggregated APIs that would move to where the API server cannot reach

		{"LegacySettings", page + "legacysettings", legacySettings}, // who cannot reach whom while pods of both CNIs run
		{"LegacyOptions", page + "legacyoptions", legacyOptions},    // do pods use what the VPC CNI gives and the overlay does not
		{"Policies", page + "policies", policies},                   // does the VPC CNI enforce what the move would break
		{"Readiness", page + "readiness", readiness},                // does the kubelet know when a pod behind a Service can serve
		{"Ingress", page + "ingress", ingress},                      // do load balancers of Ingresses send to nodes
		{"LoadBalancers", page + "loadbalancers", loadBalancers},    // do those of Services and Gateways, and target groups that people made

		{"Overlap", page + "overlap", overlap},             // does anything live in the overlay's networks
		{"Capacity", page + "capacity", capacity},          // are there slices for all nodes, old and new at once
		{"CiliumNodes", page + "ciliumnodes", ciliumNodes}, // does Cilium's pool agree with the nodes
		{"Draining", page + "draining", draining},          // can every node be emptied, and what is lost with it
		{"Nodes", page + "nodes", nodes},                   // can Cilium run on every node, and does anybody else replace nodes meanwhile

		{"AddOns", page + "addons", atAWS(addOns)},                         // who owns the VPC CNI and kube-proxy
		{"Metadata", page + "metadata", metadata},                          // do pods go on reaching the instance's metadata
		{"SecurityGroups", page + "securitygroups", atAWS(securityGroups)}, // do they let through what nodes, callbacks and load balancers need
		{"NodeGroups", page + "nodegroups", atAWS(nodeGroups)},             // do replacements come
		{"Birth", page + "birth", atAWS(birth)},                            // what do nodes register with
		{"Targets", page + "targets", atAWS(targets)},                      // do load balancers hold pods that nobody in the cluster knows of
	}
}

// Judge judges a snapshot.
func Judge(s *Snapshot) Report {
	r := Report{Server: s.Server, TakenAt: s.TakenAt}
	for _, c := range checks() {
		for _, f := range c.run(s) {
			f.Check, f.Docs = c.name, c.docs
			r.Findings = append(r.Findings, f)
		}
	}
	return r
}

// Verdict is the worst of the findings: Fail, Unknown, Warn, Pass.
func (r *Report) Verdict() v1alpha1.Verdict {
	return v1alpha1.Worst(r.Findings, func(f Finding) v1alpha1.Verdict { return f.Verdict })
}

// unseen says whether one of the resources could not be read.
func (s *Snapshot) unseen(resources ...string) bool {
	return slices.ContainsFunc(s.Missing, func(m Missing) bool { return slices.Contains(resources, m.Resource) })
}

func rights(s *Snapshot) []Finding {
	var out []Finding
	for _, m := range s.Missing {
		where, flag := "in the whole cluster", " -A"
		if m.Namespace != "" {
			where, flag = "in namespace "+m.Namespace, " -n "+m.Namespace
		}
		f := unknown("%s of %s %s was not possible: %s", m.Verb, m.Resource, where, m.Error)
		f.Mend = fmt.Sprintf("kubectl auth can-i %s %s%s", m.Verb, m.Resource, flag)
		out = append(out, f)
	}
	if s.AWS != nil {
		for _, r := range s.AWS.Refused {
			f := unknown("IAM does not allow %s", strings.TrimSpace(r.Action+" "+of(r.Of)))
			f.Mend = allowIt
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return []Finding{pass("everything that the checks look at was read")}
	}
	return out
}

func of(what string) string {
	if what == "" {
		return ""
	}
	return "of " + what
}

func pass(format string, args ...any) Finding {
	return Finding{Verdict: v1alpha1.VerdictPass, Message: fmt.Sprintf(format, args...)}
}

func warn(format string, args ...any) Finding {
	return Finding{Verdict: v1alpha1.VerdictWarn, Message: fmt.Sprintf(format, args...)}
}

func fail(format string, args ...any) Finding {
	return Finding{Verdict: v1alpha1.VerdictFail, Message: fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) Finding {
	return Finding{Verdict: v1alpha1.VerdictUnknown, Message: fmt.Sprintf(format, args...)}
}
