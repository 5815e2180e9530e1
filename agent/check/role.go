// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/cniconf"
)

// Priorities of the rules that the VPC CNI writes for each pod (amazon-vpc-cni-k8s pkg/networkutils): to every pod by the main
// table, from a pod on a secondary ENI by that ENI's table.
const (
	priorityToPod   = 512
	priorityFromPod = 1536
)

// Role says which CNI owns the pods of this host by what the host shows, never by a label, and why, in one sentence.
//
// Traces of the VPC CNI are its own pod, pods whose addresses lie outside the overlay, and its rules for a pod that is there.
// Traces of the overlay are pods inside it and, as it decides about the next pod, Cilium's configuration winning net.d. In
// install mode Secondary both together are Mixed; in Shared they are what a Legacy node looks like, and there the VPC CNI's
// configuration and rules are traces too. What cannot be told apart is Unknown.
func Role(f *facts.Facts) (v1alpha1.Role, string) {
	switch {
	case !overlayKnown(f):
		return v1alpha1.RoleUnknown, "the CIDRs of the overlay are not known; is there a Cutover named " + v1alpha1.CutoverName + "? " + f.Settings.Detail
	case f.Pods.Sight != facts.Seen:
		return v1alpha1.RoleUnknown, "the pods of this node could not be listed: " + f.Pods.Detail
	case f.Rules.Sight != facts.Seen:
		return v1alpha1.RoleUnknown, "the rules of this host could not be read: " + f.Rules.Detail
	}
	net := f.ConfDir.Judge()
	legacy := legacyTrace(f)
	overlay := overlayPod(f)
	wins := ciliumWins(net)
	shared := f.Settings.Install == v1alpha1.InstallShared
	if shared && legacy == "" {
		legacy = legacyMark(f, net)
	}
	switch {
	case legacy != "" && shared:
		return v1alpha1.RoleLegacy, legacy
	case legacy != "" && overlay != "":
		return v1alpha1.RoleMixed, legacy + ", and " + overlay
	case legacy != "" && wins:
		return v1alpha1.RoleMixed, legacy + ", and Cilium gives the next pod its network"
	case legacy != "" && (net.State == cniconf.Unreadable || net.State == cniconf.Unstable):
		return v1alpha1.RoleUnknown, legacy + ", and which CNI gets the next pod could not be told"
	case legacy != "":
		return v1alpha1.RoleLegacy, legacy
	case overlay != "":
		return v1alpha1.RoleOverlay, overlay
	case wins:
		return v1alpha1.RoleOverlay, "Cilium gives the next pod its network and nothing of the VPC CNI is here"
	}
	return v1alpha1.RoleUnknown, "no pod on this node shows which CNI made it"
}

// legacyMark names what the VPC CNI leaves on a host whatever pods are there: its configuration file, or its rule for marked
// packets. In install mode Shared it tells an old node, whose aws-node may just be restarting and whose pods may all be in the
// overlay, from one that joined behind the fence, where the VPC CNI never ran.
func legacyMark(f *facts.Facts, net cniconf.Outcome) string {
	files := net.Ignored
	if net.Winner != nil {
		files = append([]cniconf.Candidate{*net.Winner}, files...)
	}
	for _, c := range files {
		if c.Kind == cniconf.VPCCNI || c.PodNetwork == cniconf.VPCCNI {
			return "the VPC CNI's configuration " + c.File + " is on this node"
		}
	}
	for _, l := range net.Leftovers {
		if l.Kind == cniconf.VPCCNI {
			return "the VPC CNI's configuration was on this node as " + l.Name
		}
	}
	for _, r := range f.Rules.List {
		if markedRule(r) {
			return fmt.Sprintf("the VPC CNI's rule of priority %d for marked packets is on this node", r.Priority)
		}
	}
	return ""
}

// ciliumWins says whether the next pod would be an overlay pod.
func ciliumWins(o cniconf.Outcome) bool {
	return o.State == cniconf.Ready && o.Winner.PodNetwork == cniconf.Cilium
}

// legacyTrace names the first trace of the VPC CNI, "" without any.
func legacyTrace(f *facts.Facts) string {
	if name := legacyPod(f); name != "" {
		return "the VPC CNI's pod " + name + " is on this node"
	}
	if r, name := legacyRule(f); name != "" {
		return fmt.Sprintf("pod %s hangs on the VPC CNI's rule of priority %d", name, r.Priority)
	}
	for _, p := range networkedPods(f) {
		for _, ip := range p.IPs {
			if ip.Is4() && !contains(f.Settings.Overlay, ip) {
				return fmt.Sprintf("pod %s/%s has the address %s outside of the overlay", p.Namespace, p.Name, ip)
			}
		}
	}
	return ""
}

// overlayPod names the first pod inside the overlay, "" without any.
func overlayPod(f *facts.Facts) string {
	for _, p := range networkedPods(f) {
		for _, ip := range p.IPs {
			if contains(f.Settings.Overlay, ip) {
				return fmt.Sprintf("pod %s/%s has the overlay address %s", p.Namespace, p.Name, ip)
			}
		}
	}
	return ""
}

// legacyPod names the VPC CNI's own pod on this node, by the DaemonSet that controls it or by the label that the DaemonSet puts
// on it; a pod that has lost its controller still serves this node.
func legacyPod(f *facts.Facts) string {
	for _, p := range f.Pods.List {
		ds := f.Settings.Legacy
		if !p.Finished && p.Namespace == ds.Namespace && (p.DaemonSet == ds.Name || p.App == ds.Name) {
			return p.Namespace + "/" + p.Name
		}
	}
	return ""
}

// legacyRule finds a rule of the VPC CNI's for a pod that is on this node.
func legacyRule(f *facts.Facts) (facts.Rule, string) {
	owner := map[netip.Addr]string{}
	for _, p := range networkedPods(f) {
		for _, ip := range p.IPs {
			owner[ip] = p.Namespace + "/" + p.Name
		}
	}
	for _, r := range f.Rules.List {
		if name := owner[rulePod(r)]; name != "" {
			return r, name
		}
	}
	return facts.Rule{}, ""
}

// rulePod is the pod's address in a rule of the VPC CNI's shape, the zero Addr for any other rule.
func rulePod(r facts.Rule) netip.Addr {
	switch {
	case r.Priority == priorityToPod && r.Dst.IsSingleIP():
		return r.Dst.Addr()
	case r.Priority == priorityFromPod && r.Src.IsSingleIP():
		return r.Src.Addr()
	}
	return netip.Addr{}
}

// networkedPods are the pods with a network of their own: not those of the host's network, and not those that have ended,
// whose addresses may be other pods' by now.
func networkedPods(f *facts.Facts) []facts.Pod {
	var out []facts.Pod
	for _, p := range f.Pods.List {
		if !p.HostNetwork && !p.Finished {
			out = append(out, p)
		}
	}
	return out
}
