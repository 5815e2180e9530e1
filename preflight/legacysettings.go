// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cni-cutover/cni-cutover/vpccni"
)

// legacySettings says who cannot reach whom while pods of both CNIs run.
func legacySettings(s *Snapshot) []Finding {
	if out := s.unknownLegacy(); out != nil {
		return out
	}
	l, overlay := &s.Network.Legacy, networks(s.Overlay)
	if len(overlay) == 0 {
		return []Finding{unknown("no network is given for the overlay")}
	}
	var lost []vpccni.Path
	for _, p := range overlay {
		for _, path := range l.Lost(p, s.Network.Cilium.Mode) {
			if !slices.Contains(lost, path) {
				lost = append(lost, path)
			}
		}
	}
	f := s.judgeSettings(lost)
	f.Objects = []string{l.daemonSet()}
	return []Finding{f}
}

func (s *Snapshot) judgeSettings(lost []vpccni.Path) Finding {
	const resources = "configmaps, ciliumnodeconfigs.cilium.io"
	p := &s.Network.KubeProxy
	switch {
	case len(lost) > 0:
		f := fail("with these settings, %s, %d kinds of paths are lost while pods of both CNIs run", s.translators(), len(lost))
		for _, path := range lost {
			f.Evidence = append(f.Evidence, fmt.Sprintf("%s cannot reach %s: %s", path.From, path.To, path.Why))
		}
		for _, name := range []string{vpccni.EnvExternalServiceCIDRs, vpccni.EnvExcludeSNATCIDRs} {
			if s.Network.Legacy.hides(name) {
				f.Evidence = append(f.Evidence, name+" may come from elsewhere than the DaemonSet and counts as not set: write its value there")
			}
		}
		f.Mend = s.cureSettings(lost)
		return f
	case s.unseen(strings.Split(resources, ", ")...):
		return unknown("the VPC CNI's settings are right, but how kube-proxy and Cilium translate on its nodes was not seen (%s)", resources)
	case !p.Found && !s.Network.Cilium.KubeProxyReplacement:
		return unknown("the VPC CNI's settings are right, but DaemonSet kube-system/kube-proxy does not exist, and Cilium does not replace it: see who translates Services on the VPC CNI's nodes, and that it does so as kube-proxy does in mode iptables")
	case p.Found && !slices.Contains([]string{"", "iptables", "nftables"}, p.Mode):
		return unknown("the VPC CNI's settings are right for kube-proxy in mode iptables or nftables; with %s, as it is here, nobody has measured who reaches whom: switch its mode", p.Mode)
	}
	return pass("everybody reaches everybody while pods of both CNIs run, %s: %s hold the overlay", s.translators(), s.Network.Legacy.held())
}

// translators says for whom the table holds.
func (s *Snapshot) translators() string {
	c, p := &s.Network.Cilium, &s.Network.KubeProxy
	proxy, cilium := "without kube-proxy", "Cilium as kubectl cutover values installs it"
	if p.Found {
		proxy = "kube-proxy"
		if p.Mode != "" {
			proxy += " in mode " + p.Mode
		}
	}
	if c.Found {
		cilium = "Cilium with iptables masquerade"
		if c.BPFMasquerade {
			cilium = "Cilium with BPF masquerade"
		}
		if c.KubeProxyReplacement {
			cilium += " and kube-proxy replacement"
		}
	}
	return proxy + " and " + cilium
}

// hides says whether the DaemonSet may take a variable from elsewhere.
func (l *Legacy) hides(names ...string) bool {
	return slices.ContainsFunc(l.Elsewhere, func(e string) bool { return e == "*" || slices.Contains(names, e) })
}

func (l *Legacy) held() string {
	second := vpccni.EnvExcludeSNATCIDRs
	if l.ExternalSNAT {
		second = vpccni.EnvExternalSNAT
		return vpccni.EnvExternalServiceCIDRs + ", beside " + second + ","
	}
	return vpccni.EnvExternalServiceCIDRs + " and " + second
}

// cureSettings appends the overlay to the lists that lack it. What is of Cilium's mode comes last.
func (s *Snapshot) cureSettings(lost []vpccni.Path) string {
	var names []string
	overlay := networks(s.Overlay)
	cilium := false
	for _, path := range lost {
		cilium = cilium || path.Setting == ""
		if path.Setting != "" && !slices.Contains(names, path.Setting) {
			names = append(names, path.Setting)
		}
	}
	var cures []string
	var settings []setting
	for _, l := range s.lists() {
		if slices.Contains(names, l.name) {
			settings = append(settings, setting{l.name, appended(l.now, overlay)})
		}
	}
	if len(settings) > 0 {
		cures = append(cures, s.set(settings...))
	}
	if cilium {
		cures = append(cures, "kubectl cutover values check --live")
	}
	return strings.Join(cures, "; ")
}

// appended is a list with what of others it lacks, as aws-node reads it.
func appended(list, others []netip.Prefix) string {
	var out []netip.Prefix
	for _, p := range slices.Concat(list, others) {
		if !within(p, out) {
			out = append(out, p)
		}
	}
	texts := make([]string, 0, len(out))
	for _, p := range out {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ",")
}
