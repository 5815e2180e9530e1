// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Make makes the report of a cluster.
func Make(e *Evidence) (Report, error) {
	overlay, err := networks(e.Cutover.Spec.Overlay.PodCIDRs)
	if err != nil {
		return Report{}, err
	}
	s := &e.Cutover.Status
	r := Report{Server: e.Server, TakenAt: e.TakenAt, Phase: s.Phase, Rolled: s.Rolled, Slots: s.Finished, Steps: stepTimes(e.Entered)}
	for _, p := range s.Phases {
		r.Phases = append(r.Phases, Phase{p.Phase, p.StartedAt.Time, p.FinishedAt.Time})
	}
	r.Proofs = []Proof{
		e.prove("Nodes", "every node is Ready, schedulable and on the overlay, by its agent", e.nodes, Nodes, Agents),
		e.prove("PodAddresses", "every pod has an address of the overlay", func() []string { return e.podAddresses(overlay) }, Pods),
		e.prove("HostPods", "every pod of the host network has an address of its node", e.hostPods, Pods, Nodes),
		warnOf(e.prove("PodsRun", "every pod runs, or has done its work", e.podsRun, Pods)), // pods fail for reasons of their own
		e.prove("LegacyGone", "nothing of the VPC CNI runs", e.legacyGone, Pods, DaemonSets),
		e.prove("DaemonSets", "every DaemonSet runs where it should", e.daemonSets, DaemonSets),
		e.prove("Traces", "no cordon, taint, label or request of the cutover is left", e.traces, Nodes),
		warnOf(e.prove("Ledger", "no slot is open, and nothing was waived", e.ledger)), // a waiver was somebody's decision
	}
	return r, nil
}

// Verdict is the worst of the proofs: Fail, Unknown, Warn, Pass.
func (r *Report) Verdict() v1alpha1.Verdict {
	return v1alpha1.Worst(r.Proofs, func(p Proof) v1alpha1.Verdict { return p.Verdict })
}

// prove holds a statement against what speaks against it. It is never borne out by what was not seen.
func (e *Evidence) prove(name, statement string, against func() []string, needs ...Resource) Proof {
	for _, n := range needs {
		if why, unseen := e.Unseen[n]; unseen {
			return Proof{Name: name, Verdict: v1alpha1.VerdictUnknown, Message: fmt.Sprintf("whether %s could not be seen: %s", statement, why)}
		}
	}
	objects := against()
	if len(objects) == 0 {
		return Proof{Name: name, Verdict: v1alpha1.VerdictPass, Message: statement}
	}
	slices.Sort(objects)
	return Proof{Name: name, Verdict: v1alpha1.VerdictFail, Message: fmt.Sprintf("it is not so that %s", statement), Objects: objects}
}

// warnOf is a proof of what the cutover does not answer for: its contrary is a Warn.
func warnOf(p Proof) Proof {
	if p.Verdict == v1alpha1.VerdictFail {
		p.Verdict = v1alpha1.VerdictWarn
	}
	return p
}

func networks(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, fmt.Errorf("reading spec.overlay.podCIDRs of the Cutover: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

func (e *Evidence) nodes() (against []string) {
	if len(e.Nodes) == 0 {
		return []string{"there is no node"}
	}
	for i := range e.Nodes {
		n := &e.Nodes[i]
		if why := e.amiss(n); why != "" {
			against = append(against, n.Name+": "+why)
		}
	}
	return against
}

// amiss is what is not as it should be at the end with a node; empty if nothing is.
func (e *Evidence) amiss(n *Node) string {
	switch {
	case !n.Ready:
		return "it is not Ready"
	case n.Unschedulable:
		return "it is cordoned"
	case !n.Selected:
		return ""
	}
	a := e.Agents[n.Name]
	switch {
	case a == nil || a.Status.Role == "":
		return "its agent has not reported"
	case a.Status.NodeUID != n.UID || a.Status.BootID != n.BootID:
		return "its agent's report is of an earlier node or boot"
	case a.Status.Role != v1alpha1.RoleOverlay:
		return fmt.Sprintf("its pods are of role %s", a.Status.Role)
	case a.Status.Verdict != v1alpha1.VerdictPass && a.Status.Verdict != v1alpha1.VerdictWarn:
		return fmt.Sprintf("its agent says %s (%s)", a.Status.Verdict, strings.Join(reasons(a), ", "))
	}
	return ""
}

// reasons are those of the findings that are as bad as the whole report.
func reasons(a *v1alpha1.NodeCutover) (out []string) {
	for _, f := range a.Status.Findings {
		if f.Verdict == a.Status.Verdict {
			out = append(out, string(f.Reason))
		}
	}
	return out
}

func (p *Pod) String() string { return p.Namespace + "/" + p.Name }

// podAddresses are the pods of networks of their own that have another address, or none though they run.
func (e *Evidence) podAddresses(overlay []netip.Prefix) (against []string) {
	for i := range e.Pods {
		p := &e.Pods[i]
		if p.HostNetwork || p.Ended || len(p.Addresses) == 0 && !p.Running {
			continue
		}
		inside := func(a netip.Addr) bool {
			return slices.ContainsFunc(overlay, func(n netip.Prefix) bool { return n.Contains(a) })
		}
		if !slices.ContainsFunc(p.Addresses, inside) {
			against = append(against, fmt.Sprintf("%s: %v on %s", p, p.Addresses, p.Node))
		}
	}
	return against
}

func (e *Evidence) hostPods() (against []string) {
	of := make(map[string][]netip.Addr, len(e.Nodes))
	for i := range e.Nodes {
		of[e.Nodes[i].Name] = e.Nodes[i].Addresses
	}
	for i := range e.Pods {
		p := &e.Pods[i]
		if !p.HostNetwork || p.Ended || len(p.Addresses) == 0 && !p.Running {
			continue
		}
		if !slices.ContainsFunc(p.Addresses, func(a netip.Addr) bool { return slices.Contains(of[p.Node], a) }) {
			against = append(against, fmt.Sprintf("%s: %v on %s, which has %v", p, p.Addresses, p.Node, of[p.Node]))
		}
	}
	return against
}

func (e *Evidence) podsRun() (against []string) {
	for i := range e.Pods {
		if p := &e.Pods[i]; !p.Running && !p.Ended {
			against = append(against, p.String())
		}
	}
	return against
}

func (e *Evidence) legacyGone() (against []string) {
	ds := e.Cutover.Spec.Legacy.DaemonSet
	for i := range e.DaemonSets {
		if d := &e.DaemonSets[i]; d.Namespace == ds.Namespace && d.Name == ds.Name {
			against = append(against, fmt.Sprintf("DaemonSet %s/%s", d.Namespace, d.Name))
		}
	}
	for i := range e.Pods {
		if p := &e.Pods[i]; p.Namespace == ds.Namespace && p.DaemonSet == ds.Name && !p.Ended {
			against = append(against, fmt.Sprintf("pod %s on %s", p, p.Node))
		}
	}
	return against
}

func (e *Evidence) daemonSets() (against []string) {
	for i := range e.DaemonSets {
		d := &e.DaemonSets[i]
		if !d.Current || d.Updated != d.Desired || d.Ready != d.Desired {
			against = append(against, fmt.Sprintf("%s/%s: %d of %d are ready, %d up to date", d.Namespace, d.Name, d.Ready, d.Desired, d.Updated))
		}
	}
	return against
}

func (e *Evidence) traces() (against []string) {
	for i := range e.Nodes {
		if n := &e.Nodes[i]; len(n.Left) > 0 {
			against = append(against, n.Name+": "+strings.Join(n.Left, ", "))
		}
	}
	return against
}

func (e *Evidence) ledger() (against []string) {
	for i := range e.Cutover.Status.Slots {
		s := &e.Cutover.Status.Slots[i]
		against = append(against, fmt.Sprintf("the slot of %s is in %s", s.Node, s.Step))
	}
	for _, w := range e.Cutover.Spec.Waivers {
		against = append(against, fmt.Sprintf("%s was waived until %s: %s", w.Check, w.Until.UTC().Format("2006-01-02"), w.Reason))
	}
	return against
}
