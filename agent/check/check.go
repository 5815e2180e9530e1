// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"math"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// check is one question and the function that answers it.
type check struct {
	name  v1alpha1.CheckName
	judge func(*scene) v1alpha1.Finding
}

// checks is the policy, in the order in which a report shows it.
func checks() []check {
	return []check{
		{v1alpha1.CheckConflist, conflist},           // the file that gives the next pod its network is the one this role wants
		{v1alpha1.CheckTunnelDevice, tunnelDevice},   // cilium_vxlan is a collect-metadata device, up, on the right port, as large as the NIC
		{v1alpha1.CheckPrograms, programs},           // Cilium's programs hang on the tunnel device and on the NIC
		{v1alpha1.CheckOverlayMaps, overlayMaps},     // the pinned maps know this node's endpoints and every peer as they really are
		{v1alpha1.CheckServices, services},           // where Cilium replaces kube-proxy, its maps of Services lead to backends everywhere
		{v1alpha1.CheckCiliumAlive, ciliumAlive},     // the agent that owns the datapath stamped its liveness in the last seconds
		{v1alpha1.CheckOverlayRoutes, overlayRoutes}, // every peer's pod CIDR goes to cilium_host and carries the tunnel's MTU
		{v1alpha1.CheckMTU, mtu},                     // NIC minus route is exactly what the encapsulation adds, and nothing is cut in pieces
		{v1alpha1.CheckTunnelMeter, tunnelMeter},     // our own meter at the NIC sees what the tunnel carries
		{v1alpha1.CheckPodAddresses, podAddresses},   // every pod has an address of the network that this role says
		{v1alpha1.CheckLegacyResidue, legacyResidue}, // an Overlay node carries nothing of the VPC CNI
		{v1alpha1.CheckDrops, drops},                 // Cilium drops no packets for want of something in its datapath; shown, no drain waits for it
		{v1alpha1.CheckKernel, kernel},               // the kernel is one that Cilium 1.18 runs on
	}
}

// Names returns the names of all checks, in order.
func Names() []v1alpha1.CheckName {
	var names []v1alpha1.CheckName
	for _, c := range checks() {
		names = append(names, c.name)
	}
	return names
}

// Judge answers every check for a role. Checks in off were switched off: they are shown as NotAsked and not judged.
func Judge(f *facts.Facts, role v1alpha1.Role, off map[v1alpha1.CheckName]bool) []v1alpha1.Finding {
	s := newScene(f, role)
	var out []v1alpha1.Finding
	for _, c := range checks() {
		var found v1alpha1.Finding
		if off[c.name] {
			found = finding(v1alpha1.VerdictNotAsked, v1alpha1.SwitchedOff, "the agent was started with this check switched off")
		} else {
			found = c.judge(s)
		}
		found.Check = c.name
		out = append(out, found)
	}
	return fit(out)
}

// Worst is the verdict over findings: Fail before Unknown before Warn before Pass. What was not asked does not count, and
// nothing at all is Unknown.
func Worst(findings []v1alpha1.Finding) v1alpha1.Verdict {
	worst, found := v1alpha1.VerdictUnknown, 0
	for _, f := range findings {
		// That counters have not been watched for long, or that peers have not spoken yet, is no doubt about the node.
		if r := rank(f.Verdict); r > found && f.Reason != v1alpha1.DropsUnmeasured && f.Reason != v1alpha1.NothingMeasured {
			worst, found = f.Verdict, r
		}
	}
	return worst
}

// worse is the first of the worst findings of one check.
func worse(first v1alpha1.Finding, others ...v1alpha1.Finding) v1alpha1.Finding {
	for _, f := range others {
		if rank(f.Verdict) > rank(first.Verdict) {
			first = f
		}
	}
	return first
}

func rank(v v1alpha1.Verdict) int {
	switch v {
	case v1alpha1.VerdictPass:
		return 1
	case v1alpha1.VerdictWarn:
		return 2
	case v1alpha1.VerdictUnknown:
		return 3
	case v1alpha1.VerdictFail:
		return 4
	}
	return 0
}

// The four ways to end a check.

func pass(reason v1alpha1.Reason, format string, args ...any) v1alpha1.Finding {
	return finding(v1alpha1.VerdictPass, reason, format, args...)
}

func warn(reason v1alpha1.Reason, format string, args ...any) v1alpha1.Finding {
	return finding(v1alpha1.VerdictWarn, reason, format, args...)
}

func fail(reason v1alpha1.Reason, format string, args ...any) v1alpha1.Finding {
	return finding(v1alpha1.VerdictFail, reason, format, args...)
}

func unknown(reason v1alpha1.Reason, format string, args ...any) v1alpha1.Finding {
	return finding(v1alpha1.VerdictUnknown, reason, format, args...)
}

func finding(v v1alpha1.Verdict, reason v1alpha1.Reason, format string, args ...any) v1alpha1.Finding {
	return v1alpha1.Finding{Verdict: v, Reason: reason, Message: v1alpha1.Message(fmt.Sprintf(format, args...))}
}

// with adds numbers to a finding.
func with(f v1alpha1.Finding, evidence ...v1alpha1.Evidence) v1alpha1.Finding {
	f.Evidence = evidence
	return f
}

func number(name string, value int, unit string) v1alpha1.Evidence {
	return v1alpha1.Evidence{Name: name, Value: int64(value), Unit: unit}
}

// count is a number of things that the kernel counts.
func count(name string, value uint64, unit string) v1alpha1.Evidence {
	return v1alpha1.Evidence{Name: name, Value: int64(min(value, math.MaxInt64)), Unit: unit}
}

// undecided is the finding of a check that needs a role where there is none.
func undecided(s *scene) v1alpha1.Finding {
	_, why := Role(s.f)
	return unknown(v1alpha1.RoleUndecided, "not judged, because the role of this node is not known: %s", why)
}

// unreadable is the finding for a part of the host that was not seen.
func unreadable(what string, l facts.Look) v1alpha1.Finding {
	detail := l.Detail
	if detail == "" {
		detail = "nobody looked"
	}
	return unknown(v1alpha1.HostUnreadable, "the %s of this host could not be read (%s); see the log of this agent's pod", what, detail)
}
