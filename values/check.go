// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package values

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Cluster is what is known of the cluster that the values are for. Its zero value is a cluster of which nothing is known.
type Cluster struct {
	// Overlay, its mask and its tunnel port, as the Cutover says; empty and zero: not known.
	Overlay      []netip.Prefix
	NodeMaskSize int
	TunnelPort   int
	// Install mode; empty: Secondary.
	Install v1alpha1.InstallMode
	// VPC are the networks of the VPC and of whatever is routed to it; Services those of ClusterIPs.
	VPC, Services []netip.Prefix
	// NodeAddresses are the nodes' own.
	NodeAddresses []netip.Addr
	// Policies is how many NetworkPolicies there are; nil: they were not counted.
	Policies *int
	// NodeConfigs are the CiliumNodeConfigs that select old nodes; Overrides says how looking for them went.
	NodeConfigs []NodeConfig
	Overrides   Sight
	// Running are the values that Cilium runs with now; nil: it does not run, or they were not read.
	Running *Values
}

// Sight says how looking at a part of the cluster went.
type Sight int

// The sights.
const (
	NotLooked Sight = iota // nobody asked a cluster
	Seen
	Unseen // it was asked and did not say
)

// NodeConfig is a CiliumNodeConfig that selects nodes of the VPC CNI.
type NodeConfig struct {
	Name     string
	OldNodes int
	// Defaults are options of the agent, which win over cilium-config on these nodes.
	Defaults map[string]string
}

// Finding is the judgement of one rule.
type Finding struct {
	Rule    string           `json:"rule"`
	Verdict v1alpha1.Verdict `json:"verdict"`
	// Message says what was found and what follows from it; Mend what to write in the values.
	Message string `json:"message"`
	Mend    string `json:"mend,omitempty"`
	Source  string `json:"source"`
}

// Report is the judgement of values.
type Report struct {
	Origin   string    `json:"origin"`
	Version  string    `json:"version"`
	Phase    Phase     `json:"phase"`
	Findings []Finding `json:"findings"`
}

// Check judges values for a phase.
func Check(v *Values, phase Phase, c Cluster) Report {
	r := Report{Origin: v.Origin, Version: v.Version.String(), Phase: phase}
	if v.Version == (Version{}) {
		r.Version = "unknown"
	}
	for _, rule := range rules() {
		f := Finding{Rule: rule.name, Source: rule.source}
		if !slices.Contains(rule.phases, phase) {
			f.Verdict, f.Message = v1alpha1.VerdictNotAsked, fmt.Sprintf("not asked in phase %s", phase)
			r.Findings = append(r.Findings, f)
			continue
		}
		s := &scene{v: v, phase: phase, c: c}
		a := rule.judge(s)
		if s.hidden != "" && a.verdict != v1alpha1.VerdictFail {
			a = unknown("%s does not show %s: judge the values file with -f, or get the right to read the Helm release's Secret and Cilium's DaemonSet", v.Origin, s.hidden)
		}
		f.Verdict, f.Message, f.Mend = a.verdict, a.message, a.mend
		r.Findings = append(r.Findings, f)
	}
	return r
}

// Verdict is the worst of the findings: Fail, Unknown, Warn, Pass.
func (r *Report) Verdict() v1alpha1.Verdict {
	return v1alpha1.Worst(r.Findings, func(f Finding) v1alpha1.Verdict { return f.Verdict })
}

// scene is what a rule looks at. It notes the first path that was asked for and that the origin does not show.
type scene struct {
	v      *Values
	phase  Phase
	c      Cluster
	hidden string
}

func (s *scene) see(path string) *Values {
	if s.v.hidden[path] && s.hidden == "" {
		s.hidden = path
	}
	return s.v
}

func (s *scene) on(path string) bool                             { return s.see(path).on(path) }
func (s *scene) text(path string) string                         { return s.see(path).text(path) }
func (s *scene) list(path string) []string                       { return s.see(path).list(path) }
func (s *scene) networks(path string) ([]netip.Prefix, []string) { return s.see(path).networks(path) }

// replaces says whether kube-proxy replacement is on.
func (s *scene) replaces() bool { return s.text("kubeProxyReplacement") == "true" }

// secondary says whether Cilium waits for the coordinator before it owns a pod.
func (s *scene) secondary() bool { return s.c.Install != v1alpha1.InstallShared }

type answer struct {
	verdict       v1alpha1.Verdict
	message, mend string
}

// set names the value that mends what was found, as a line of Helm values.
func (a answer) set(mend string) answer {
	a.mend = mend
	return a
}

func pass(format string, args ...any) answer {
	return answer{verdict: v1alpha1.VerdictPass, message: fmt.Sprintf(format, args...)}
}

func warn(format string, args ...any) answer {
	return answer{verdict: v1alpha1.VerdictWarn, message: fmt.Sprintf(format, args...)}
}

func fail(format string, args ...any) answer {
	return answer{verdict: v1alpha1.VerdictFail, message: fmt.Sprintf(format, args...)}
}

func notAsked(format string, args ...any) answer {
	return answer{verdict: v1alpha1.VerdictNotAsked, message: fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) answer {
	return answer{verdict: v1alpha1.VerdictUnknown, message: fmt.Sprintf(format, args...)}
}
