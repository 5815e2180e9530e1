// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// legacyPaths asks where packets of the VPC CNI's pods to the overlay really go. The route to a peer's pod CIDR lies in the main
// table, and a pod on a secondary ENI does not look there: its rule of priority 1536 sends it to that ENI's table, unless a rule
// before that says otherwise. What the kernel is asked about is a packet without the VPC CNI's mark, because that is what decides
// about Services: kube-proxy translates the address of the Service to that of an overlay pod before the VPC CNI would set the mark,
// so the packet never gets it, and neither does the answer of such a pod to one in the overlay. By the pod's own address the
// same pod is reached, as a ping shows, and no Service with a backend in the overlay is.
//
// Not seen here is whether the VPC CNI gives a packet another source inside the tunnel, which AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS
// prevents: netfilter's rules take CAP_NET_ADMIN. The coordinator looks at both settings.
func (s *scene) legacyPaths() (v1alpha1.Finding, int) {
	if s.f.Pods.Sight != facts.Seen {
		return unknown(v1alpha1.PodsUnknown, "the pods of this node, whose paths into the overlay are asked for, could not be listed: %s", s.f.Pods.Detail), 0
	}
	pods := s.legacyAddrs()
	switch {
	case s.f.Paths.Sight == facts.Absent: // and what that means for peers, the routes themselves say
		return pass(v1alpha1.AsWanted, "there is no route into the tunnel"), 0
	case s.f.Paths.Sight != facts.Seen:
		return unreadable("paths of packets into the overlay", s.f.Paths.Look), 0
	}
	host := s.byName[hostLink].Index
	paths := map[netip.Addr][]facts.Path{}
	for _, p := range s.f.Paths.List {
		paths[p.Pod] = append(paths[p.Pod], p)
	}
	var astray, refused, unseen []string
	var first, firstRefused facts.Path
	for _, pod := range pods {
		name := fmt.Sprintf("%s/%s (%s)", pod.pod.Namespace, pod.pod.Name, pod.ip)
		if len(paths[pod.ip]) == 0 {
			unseen = append(unseen, name)
		}
		for _, p := range paths[pod.ip] {
			if p.Oif == host && host != 0 {
				continue
			}
			if p.Refused != "" {
				if refused = append(refused, name); len(refused) == 1 {
					firstRefused = p
				}
			} else if astray = append(astray, name); len(astray) == 1 {
				first = p
			}
			break
		}
	}
	switch {
	case len(astray) > 0:
		return fail(v1alpha1.LegacyPodAstray, "packets to the overlay of %d pods of the VPC CNI (%s) leave by %s and are lost there: %s; set AWS_EXTERNAL_SERVICE_CIDRS and AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS of aws-node to the overlay",
			len(astray), joined(astray), s.linkName(first.Oif), s.whyAstray(first)), len(pods)
	case len(refused) > 0:
		return fail(v1alpha1.LegacyPodRefused, "this host would not forward packets to the overlay (%s) of %d pods of the VPC CNI (%s): %s; look at its rules and routes, and at forwarding and rp_filter of %s",
			firstRefused.Dst, len(refused), joined(refused), firstRefused.Refused, s.linkName(firstRefused.Iif)), len(pods)
	case len(unseen) > 0:
		return unknown(v1alpha1.LegacyPodUnseen, "no route of this host leads to %d pods of the VPC CNI (%s), so where their packets go cannot be asked: they are just being made, or have a security group of their own (a branch ENI), which reaches no overlay", len(unseen), joined(unseen)), len(pods)
	}
	return pass(v1alpha1.AsWanted, "packets of %d pods of the VPC CNI to the overlay go to %s", len(pods), hostLink), len(pods)
}

// whyAstray tells which route took the packet, and whether a ping would show it.
func (s *scene) whyAstray(p facts.Path) string {
	why := fmt.Sprintf("the one to %s takes table %d", p.Dst, p.Table)
	if p.Matched.IsValid() {
		why += fmt.Sprintf(", route %s", p.Matched)
	}
	if p.MarkedOif == s.byName[hostLink].Index && p.MarkedOif != 0 {
		why += ", while a ping passes because it is marked"
	}
	return why
}

// legacyAddr is a pod and one of its addresses outside of the overlay.
type legacyAddr struct {
	pod facts.Pod
	ip  netip.Addr
}

// legacyAddrs are this node's pods with an address outside of the overlay, without those that end.
func (s *scene) legacyAddrs() []legacyAddr {
	var out []legacyAddr
	for _, p := range networkedPods(s.f) {
		for _, ip := range p.IPs {
			if ip.Is4() && !p.Terminating && overlayKnown(s.f) && !s.inOverlay(ip) {
				out = append(out, legacyAddr{p, ip})
			}
		}
	}
	return out
}

// Values of rp_filter (Linux Documentation/networking/ip-sysctl.rst).
const strict = 1

// forwarding asks whether the host forwards packets at all, and whether it takes them where Cilium brings them. Cilium sets both
// when it starts (Cilium pkg/datapath/loader/base.go); whoever sets them after it, as systemd does when an interface comes, wins.
func (s *scene) forwarding() v1alpha1.Finding {
	w := s.f.Forwarding
	_, cilium := s.byName[hostLink]
	switch {
	case !cilium: // as on a machine of another purpose; that its routes prove nothing is said of them
		return pass(v1alpha1.AsWanted, "there is no %s", hostLink)
	case w.Sight != facts.Seen:
		return unreadable("forwarding settings", w.Look)
	case !w.On:
		return fail(v1alpha1.ForwardingOff, "net.ipv4.ip_forward is 0: this host forwards nothing, neither of pods nor of the overlay; find out who set it (sysctl.d), and set it to 1")
	}
	for _, name := range []string{tunnelLink, hostLink, netLink} {
		if w.RPFilter[name] == strict {
			return warn(v1alpha1.SourceCheckStrict, "rp_filter in force on %s is 1 (the larger of all's and its own): packets of the overlay that come up there are dropped by their source; find out who set it after Cilium (sysctl.d), and set it to 0", name)
		}
	}
	return pass(v1alpha1.AsWanted, "this host forwards")
}
