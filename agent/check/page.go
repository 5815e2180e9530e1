// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// description is what docs/checks.md says of one check.
type description struct {
	name  v1alpha1.CheckName
	asks  string
	reads string
	// reasons are all that the check can give beside AsWanted and SwitchedOff. Tests hold every tale that is told of a check to them.
	reasons []v1alpha1.Reason
}

// descriptions are those of checks, in the same order.
func descriptions() []description {
	return []description{
		{
			v1alpha1.CheckConflist, "Which file gives the next pod its network, and is it the one that this role wants?",
			"net.d as the container runtime reads it: one sorted list, the first file wins, and a broken first file is no network at all",
			[]v1alpha1.Reason{
				v1alpha1.ConflistWrongCNI, v1alpha1.ConflistForeignFirst, v1alpha1.ConflistBroken, v1alpha1.ConflistNone, v1alpha1.ConflistChained,
				v1alpha1.ConflistLeftovers, v1alpha1.ConflistSetAside, v1alpha1.ConflistSharedWindow, v1alpha1.ConflistUnreadable, v1alpha1.RoleUndecided,
			},
		},
		{
			v1alpha1.CheckTunnelDevice, "Are the tunnel's interfaces there, up, of the right kind and port, and as large as the NIC?",
			"interfaces and addresses, by rtnetlink",
			[]v1alpha1.Reason{
				v1alpha1.TunnelMissing, v1alpha1.TunnelDown, v1alpha1.TunnelWrongKind, v1alpha1.TunnelWrongPort, v1alpha1.TunnelPortTaken,
				v1alpha1.TunnelWrongMTU, v1alpha1.UnderlayUnknown, v1alpha1.HostUnreadable,
			},
		},
		{
			v1alpha1.CheckPrograms, "Are Cilium's programs attached wherever this node's mode needs them, and is it a mode that this role allows?",
			"the links and the names of the maps that Cilium has pinned in its bpffs, and classic tc filters, by rtnetlink; with the chart's `agent.mapUses`, and while the coordinator asks, also which of " +
				"the maps that are pinned now each of these programs uses, itself or by tail calls. Without it nothing is said of that: MTU's paths and Drops have to do",
			[]v1alpha1.Reason{
				v1alpha1.ProgramMissing, v1alpha1.ModeUnclear, v1alpha1.ModeTooEarly, v1alpha1.ProgramUsesOldMap, v1alpha1.MapUsesUnknown,
				v1alpha1.UnderlayUnknown, v1alpha1.HostUnreadable,
			},
		},
		{
			v1alpha1.CheckOverlayMaps, "Do Cilium's pinned maps know this node's endpoints and every peer as they really are?",
			"`cilium_lxc` and the newest `cilium_ipcache`, the layouts of both as Cilium itself compiled them (`state/bpf_alignchecker.o` of its runtime directory), beside this host's interfaces, the pods of this node and the peers' CiliumNodes",
			[]v1alpha1.Reason{
				v1alpha1.MapMissing, v1alpha1.EndpointWrong, v1alpha1.EndpointMissing, v1alpha1.PeerMissing, v1alpha1.PeerWrongEndpoint,
				v1alpha1.MapIncomplete, v1alpha1.MapLayoutUnknown, v1alpha1.MapUnreadable, v1alpha1.PeersUnknown, v1alpha1.NothingToProve,
				v1alpha1.PodsUnknown, v1alpha1.SliceUnknown, v1alpha1.HostUnreadable,
			},
		},
		{
			v1alpha1.CheckServices, "Where Cilium translates Services at sockets, does every place at every Service's address lead to a backend, and are they those of its EndpointSlices?",
			"`cilium_lb4_services_v2` and `cilium_lb4_backends_v3`; while the coordinator asks also the Service `default/kubernetes` with its EndpointSlice, and one list each of all Services and all EndpointSlices, again two and four seconds later if they differ. Compared are cluster IPs of IPv4 with a ready endpoint, of TCP and UDP; not Services that are headless, of another proxy, redirected by Cilium or with an annotation of its own",
			[]v1alpha1.Reason{
				v1alpha1.ServiceMissing, v1alpha1.ServiceBroken, v1alpha1.ServiceWrong, v1alpha1.ServicesUnknown, v1alpha1.MapMissing,
				v1alpha1.MapLayoutUnknown, v1alpha1.MapUnreadable, v1alpha1.ProgramMissing, v1alpha1.ModeUnclear, v1alpha1.HostUnreadable,
			},
		},
		{
			v1alpha1.CheckCiliumAlive, "Is the agent that owns the datapath alive now? Pods go on working without it, and nothing new does.",
			"`cilium_runtime_config`, beside CLOCK_MONOTONIC; what the agent says at its socket (`/v1/healthz`, `/v1/config`) and, while the coordinator asks, what Cilium's own probes have found (`/v1beta/status`)",
			[]v1alpha1.Reason{v1alpha1.CiliumStopped, v1alpha1.CiliumUnwell, v1alpha1.CiliumSilent, v1alpha1.CiliumProbesFail, v1alpha1.CiliumLivenessUnreadable},
		},
		{
			v1alpha1.CheckOverlayRoutes, "Does every peer's pod CIDR go to `cilium_host` with the tunnel's MTU, and do packets of the VPC CNI's pods get that far?",
			"routes, and for every pod of the VPC CNI's the kernel's own answer (RouteGet with its veth pair as the incoming interface); `ip_forward` and `rp_filter`",
			[]v1alpha1.Reason{
				v1alpha1.RouteMissing, v1alpha1.RouteElsewhere, v1alpha1.RouteWithoutMTU, v1alpha1.LegacyPodAstray, v1alpha1.LegacyPodRefused,
				v1alpha1.ForwardingOff, v1alpha1.SourceCheckStrict, v1alpha1.LegacyPodUnseen, v1alpha1.PeersUnknown, v1alpha1.NothingToProve,
				v1alpha1.PodsUnknown, v1alpha1.SliceUnknown, v1alpha1.UnderlayUnknown, v1alpha1.HostUnreadable,
			},
		},
		{
			v1alpha1.CheckMTU, "Do the NIC, the tunnel's device and the routes into it leave exactly the room that the encapsulation takes, and do packets get through whole?",
			"interfaces and routes, by rtnetlink; while the coordinator asks also the tunnel meter, the paths to and from three peers, and what the tunnel's interface took in meanwhile. Nothing larger than a pod may send goes through the tunnel for that: it sets no DF, so this would arrive, in pieces, whatever the path, and count as the very fault that the meter looks for",
			[]v1alpha1.Reason{
				v1alpha1.MTUNoRoom, v1alpha1.FragmentsSent, v1alpha1.FragmentsReceived, v1alpha1.TooBigReported, v1alpha1.OverheadUnexpected,
				v1alpha1.PathTooNarrow, v1alpha1.OverlayTooNarrow, v1alpha1.OverlayPastTunnel, v1alpha1.MTUWasteful, v1alpha1.MTUUnknown, v1alpha1.SliceUnknown,
				v1alpha1.UnderlayUnknown, v1alpha1.HostUnreadable,
			},
		},
		{
			v1alpha1.CheckTunnelMeter, "Does our own meter at the NIC see what the tunnel carries? It is shown; no drain waits for it.",
			"the counters of our eBPF program at the underlay's NIC (`bpf/tunnelmeter`), attached while the coordinator asks",
			[]v1alpha1.Reason{v1alpha1.MeterAtRest, v1alpha1.NothingMeasured, v1alpha1.MeterNotAllowed, v1alpha1.MeterFailed},
		},
		{
			v1alpha1.CheckPodAddresses, "Is every pod in the network that this role says, and in this node's part of it?",
			"the pods of this node, its CiliumNode, and `cilium_lxc` for Cilium's own health endpoint",
			[]v1alpha1.Reason{
				v1alpha1.PodOutsideOverlay, v1alpha1.PodInOverlay, v1alpha1.PodsShared, v1alpha1.PodsPending, v1alpha1.EndpointWrong,
				v1alpha1.NothingToProve, v1alpha1.PodsUnknown, v1alpha1.SliceUnknown, v1alpha1.RoleUndecided,
			},
		},
		{
			v1alpha1.CheckLegacyResidue, "Does an Overlay node carry anything of the VPC CNI?",
			"the pods of this node; rules, routing tables and interfaces, by rtnetlink; with CAP_NET_ADMIN, and while the coordinator asks, netfilter, in nftables and in what iptables-legacy writes to",
			[]v1alpha1.Reason{
				v1alpha1.LegacyRunning, v1alpha1.LegacyRules, v1alpha1.LegacyTables, v1alpha1.LegacyVeths, v1alpha1.LegacyNetfilter,
				v1alpha1.NotOnThisRole, v1alpha1.LegacyUnknown, v1alpha1.RoleUndecided,
			},
		},
		{
			v1alpha1.CheckDrops, "Do Cilium's programs drop packets because something in the datapath is missing? It is shown, and no drain waits for it.",
			"`cilium_metrics`, now and at an earlier look",
			[]v1alpha1.Reason{v1alpha1.ForwardingDrops, v1alpha1.DropsUnmeasured, v1alpha1.DropsUnknown},
		},
		{
			v1alpha1.CheckKernel, "Is the kernel one that Cilium 1.18 runs on?",
			"the kernel's release, as uname has it",
			[]v1alpha1.Reason{v1alpha1.KernelTooOld, v1alpha1.KernelUnknown},
		},
	}
}

// Render writes docs/checks.md: what each check asks and reads, and what to do about each of its reasons, which it takes from the
// text of docs/runbook.md.
func Render(runbook string) string {
	var b strings.Builder
	b.WriteString("# Checks\n\nRendered from `agent/check` and the runbook; edit those, then run `go test ./agent/check -update`.\n\n")
	b.WriteString("An agent answers every one of these, in this order. Unknown means that it could not tell, and never counts as Pass. Which of them a drain waits for is the coordinator's to say; " +
		"what the chart switches off answers [SwitchedOff](runbook.md#switchedoff), and what is well [AsWanted](runbook.md#aswanted). " +
		"The commands are those of the [runbook](runbook.md), whose head defines their functions.\n")
	for _, d := range descriptions() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n**Reads:** %s.\n\n| reason | what to do |\n|---|---|\n", d.name, d.asks, d.reads)
		for _, r := range d.reasons {
			fmt.Fprintf(&b, "| [%s](runbook.md#%s) | %s |\n", r, strings.ToLower(string(r)), advice(runbook, r))
		}
	}
	return b.String()
}

// advice is what a section of the runbook says to do, as the cell of a table.
func advice(runbook string, r v1alpha1.Reason) string {
	lines := strings.Split(runbook, "\n")
	at := slices.Index(lines, "## "+string(r))
	if at < 0 {
		return ""
	}
	var do []string
	for _, line := range lines[at+1:] {
		first, begins := strings.CutPrefix(line, "**Do:** ")
		switch {
		case strings.HasPrefix(line, "#"), len(do) > 0 && line == "":
			return cell(do)
		case begins:
			do = append(do, first)
		case len(do) > 0:
			do = append(do, line)
		}
	}
	return cell(do)
}

// cell joins lines; a link to a section of the runbook leads there from the other page, and a bar does not end the cell.
func cell(lines []string) string {
	return strings.NewReplacer("](#", "](runbook.md#", "|", `\|`).Replace(strings.Join(lines, " "))
}
