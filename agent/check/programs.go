// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strings"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// programs asks whether the datapath is really loaded. On a real node net.d, the pins and Cilium's own OK come 7 to 13 seconds
// before the last program is attached, so none of them proves anything; a program on its interface does. What hangs on the NIC's
// egress, on cgroups and on pods depends on settings and is not asked for.
func programs(s *scene) v1alpha1.Finding {
	if s.f.Links.Sight != facts.Seen {
		return unreadable("interfaces", s.f.Links.Look)
	}
	nic, why := s.underlay()
	if why != "" {
		return unknown(v1alpha1.UnderlayUnknown, "the interface that carries the tunnel was not found: %s", why)
	}
	tunnel := s.byName[tunnelLink] // its zero index matches no program
	wanted := []struct {
		name   string
		link   int
		on     string
		egress bool
	}{
		{"cil_from_overlay", tunnel.Index, tunnelLink, false},
		{"cil_to_overlay", tunnel.Index, tunnelLink, true},
		{"cil_from_netdev", nic.Index, nic.Name, false},
	}
	var missing []string
	via := map[string]int{}
	for _, w := range wanted {
		p, ok := s.program(w.name, w.link, w.egress)
		if !ok {
			missing = append(missing, w.name+" on "+w.on)
			continue
		}
		via[p.Via]++
	}
	evidence := []v1alpha1.Evidence{number("wanted", len(wanted), "programs"), number("missing", len(missing), "programs"),
		number("tcx", via["tcx"], "programs"), number("tc", via["tc"], "programs")}
	switch {
	case len(missing) == 0:
		return with(pass(v1alpha1.AsWanted, "Cilium's programs are attached to %s and %s", tunnelLink, nic.Name), evidence...)
	case s.f.Programs.Sight != facts.Seen:
		return with(unreadable("attached programs", s.f.Programs.Look), evidence...)
	}
	return with(fail(v1alpha1.ProgramMissing, "not attached: %s; a starting Cilium attaches them some seconds after everything else looks ready, so look again; if it stays so, see the log of Cilium's agent on this node", strings.Join(missing, ", ")), evidence...)
}

func (s *scene) program(name string, link int, egress bool) (facts.Program, bool) {
	for _, p := range s.f.Programs.List {
		if p.Name == name && p.Link == link && link != 0 && p.Egress == egress {
			return p, true
		}
	}
	return facts.Program{}, false
}
