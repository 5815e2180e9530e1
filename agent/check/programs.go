// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// programs asks whether the datapath is really loaded: on the tunnel, on Cilium's pair of interfaces, on the NIC, on every pod,
// and on the sockets where they translate Services. On a real node net.d, the pins and Cilium's own OK come 7 to 13 seconds
// before the last program is attached, so none of them proves anything; a program on its interface does. Which maps it uses is
// judged in mapsused.go, where somebody asked for that.
func programs(s *scene) v1alpha1.Finding {
	if s.f.Links.Sight != facts.Seen {
		return unreadable("interfaces", s.f.Links.Look)
	}
	nic, why := s.underlay()
	if why != "" {
		return unknown(v1alpha1.UnderlayUnknown, "the interface that carries the tunnel was not found: %s", why)
	}
	m := modeOf(s.f)
	wanted := s.wantedPrograms(m, nic)
	var missing []string
	var attached []attachedProgram
	via := map[string]int{}
	for _, w := range wanted {
		p, ok := s.program(w)
		if !ok {
			missing = append(missing, w.name+" on "+w.on)
			continue
		}
		via[p.Via]++
		attached = append(attached, attachedProgram{w.name + " on " + w.on, p.ID})
	}
	if m.sockets {
		for _, name := range socketPrograms() {
			if !slices.ContainsFunc(s.f.Programs.Sockets, func(p facts.SocketProgram) bool { return p.Name == name }) {
				missing = append(missing, name+" on the cgroups")
			}
		}
	}
	for _, p := range s.f.Programs.Sockets {
		attached = append(attached, attachedProgram{p.Name + " on the cgroups", p.ID})
	}
	evidence := []v1alpha1.Evidence{
		number("wanted", len(wanted), "programs"), number("missing", len(missing), "programs"), number("tcx", via["tcx"], "programs"),
		number("tc", via["tc"], "programs"), number("sockets", len(s.f.Programs.Sockets), "programs"),
	}
	switch {
	case len(missing) > 0 && s.f.Programs.Sight != facts.Seen:
		return with(unreadable("attached programs", s.f.Programs.Look), evidence...)
	case len(missing) > 0:
		return with(fail(v1alpha1.ProgramMissing, "not attached, and needed with %s: %s; %s", m, joined(missing), s.whyMissing()), evidence...)
	case s.f.Pins.Sight != facts.Seen:
		return with(unreadable("pins, by which Cilium's mode is told,", s.f.Pins.Look), evidence...)
	case m.unclear && s.f.Programs.Sight != facts.Seen:
		return with(unreadable("attached programs", s.f.Programs.Look), evidence...)
	case m.unclear:
		return with(unknown(v1alpha1.ModeUnclear, "Cilium has pinned %s and %s and once attached programs to sockets, and now has none there, and its agent did not say whether it wants any: with kube-proxy replacement no process reaches a Service, without it all is well; see which this node has (cilium-dbg status), and replace the node or restart its Cilium",
			ciliummap.NATPin, ciliummap.NeighborsPin), evidence...)
	}
	if m.nat && s.role == v1alpha1.RoleLegacy {
		return with(fail(v1alpha1.ModeTooEarly, "this old node has Cilium with %s: answers of the VPC CNI's pods to node ports, or their packets to overlay pods of other nodes, are lost; give it kubeProxyReplacement=false, nodePort.enabled=false and bpf.masquerade=false, by a CiliumNodeConfig if new nodes have them, until it is replaced", m), evidence...)
	}
	f, more := s.mapsUsed(m, attached)
	if f.Verdict == v1alpha1.VerdictPass {
		f.Message = v1alpha1.Message(fmt.Sprintf("the %d programs that Cilium needs with %s are attached; %s", len(wanted), m, f.Message))
	}
	return with(f, append(evidence, more...)...)
}

// wantedProgram is a program and its place.
type wantedProgram struct {
	name   string
	link   int // 0, which no program has, for an interface that is missing
	on     string
	egress bool
}

// wantedPrograms are those that a mode needs (Cilium pkg/datapath/loader). What hangs on other NICs, and on the way to a pod
// (endpoint routes), depends on settings that cannot be seen here.
func (s *scene) wantedPrograms(m mode, nic facts.Link) []wantedProgram {
	tunnel, host, net := s.byName[tunnelLink].Index, s.byName[hostLink].Index, s.byName[netLink].Index
	out := []wantedProgram{
		{"cil_from_overlay", tunnel, tunnelLink, false},
		{"cil_to_overlay", tunnel, tunnelLink, true},
		{"cil_to_host", host, hostLink, false},
		{"cil_from_host", host, hostLink, true},
		{"cil_to_host", net, netLink, false},
		{"cil_from_netdev", nic.Index, nic.Name, false},
	}
	if m.nat {
		out = append(out, wantedProgram{"cil_to_netdev", nic.Index, nic.Name, true})
	}
	for _, l := range s.podLinks() {
		out = append(out, wantedProgram{"cil_from_container", l.Index, l.Name, false})
	}
	return out
}

// podLinks are the host's ends of the pods that Cilium's endpoint map has, and of Cilium's health endpoint. A pod that ends may
// have lost its program already; one on another kind of interface (netkit) has it elsewhere.
func (s *scene) podLinks() []facts.Link {
	indexes := map[int]bool{s.byName[healthLink].Index: true}
	for _, p := range networkedPods(s.f) {
		for _, ip := range p.IPs {
			if e, ok := s.f.Endpoints.ByIP[ip]; ok && !p.Terminating {
				indexes[int(e.IfIndex)] = true
			}
		}
	}
	var out []facts.Link
	for _, l := range s.f.Links.List {
		if indexes[l.Index] && l.Kind == "veth" && strings.HasPrefix(l.Name, facts.PodLinkPrefix) {
			out = append(out, l)
		}
	}
	return out
}

// socketPrograms are those without which a process reaches no Service where kube-proxy is replaced (Cilium pkg/socketlb): TCP
// connects, UDP sends and receives. The others depend on the kernel and on settings.
func socketPrograms() []string {
	return []string{"cil_sock4_connect", "cil_sock4_sendmsg", "cil_sock4_recvmsg"}
}

// whyMissing tells apart what may have kept Cilium from attaching its programs.
func (s *scene) whyMissing() string {
	if port := s.f.Settings.TunnelPort; port != 0 {
		if other := s.foreignVXLAN(port, true); other != "" {
			return fmt.Sprintf("the VXLAN device %s holds the tunnel's UDP port, which keeps Cilium's datapath from starting: remove it", other)
		}
	}
	switch l := s.f.Liveness; {
	case l.Sight != facts.Seen:
		return "see the log of Cilium's agent on this node"
	case l.Stamp == 0 || l.Now-l.Stamp > facts.MaxSilence:
		return "Cilium's agent is not alive, so nobody will attach them: see its pod on this node"
	}
	return "Cilium's agent is alive and attaches them some seconds after everything else looks ready, so look again; if it stays so, see its log on this node"
}

func (s *scene) program(w wantedProgram) (facts.Program, bool) {
	for _, p := range s.f.Programs.List {
		if p.Name == w.name && p.Link == w.link && w.link != 0 && p.Egress == w.egress {
			return p, true
		}
	}
	return facts.Program{}, false
}
