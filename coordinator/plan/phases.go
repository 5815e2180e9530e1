// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// phase is one row of the table of phases.
type phase struct {
	Name v1alpha1.Phase
	// By is who carries it out.
	By string
	// Does says what changes; ask says what a person must do before approving it.
	Does, ask string
	// Done says what has to be seen for the cutover to go on.
	Done string
	// gate refuses to begin the phase; nil for none.
	gate func(*decider) state
	// run carries the phase on and says how far it is.
	run func(*decider) state
}

// state is how far a phase is. A state that is neither done nor stalled goes on by itself.
type state struct {
	done    bool
	stalled bool
	reason  v1alpha1.Reason
	message string
}

func passed() state { return state{done: true} }

func going(reason v1alpha1.Reason, format string, args ...any) state {
	return state{reason: reason, message: Clip(fmt.Sprintf(format, args...))}
}

func stalled(reason v1alpha1.Reason, format string, args ...any) state {
	return state{stalled: true, reason: reason, message: Clip(fmt.Sprintf(format, args...))}
}

// phases returns the table of phases, in order. docs/phases.md is rendered from it.
func phases() [6]phase {
	return [...]phase{
		{
			Name: v1alpha1.PhaseDecoupleIngress, By: "a person",
			Does: "Services become NodePort and Ingress targets become instances, so that no load balancer knows a pod address",
			ask:  "turn every Ingress and Service that targets pod addresses to instance targets, see that all targets are healthy",
			Done: "the phase is approved", run: func(*decider) state { return passed() },
		},
		{
			Name: v1alpha1.PhaseInstallCilium, By: "a person",
			Does: "Cilium 1.18 or later runs beside the VPC CNI on every node and owns no pod (install mode Secondary)",
			ask:  "install Cilium beside the VPC CNI",
			Done: "the phase is approved and Cilium's DaemonSet has rolled out", run: (*decider).installCilium,
		},
		{
			Name: v1alpha1.PhaseFenceLegacy, By: "the coordinator",
			Does: "labels every node, then binds the VPC CNI to that label, then lets Cilium write its conflist on nodes without it",
			ask:  "see that the agents report on every node",
			Done: "the fence is intact and the VPC CNI has rolled out", gate: (*decider).gateFence, run: (*decider).fenceLegacy,
		},
		{
			Name: v1alpha1.PhaseRollNodes, By: "the coordinator",
			Does: "slot by slot cordons, drains and has every selected node replaced",
			ask:  "read the order of the roll and decide on the times",
			Done: "every selected node that has not opted out shows role Overlay, and no slot is held", run: (*decider).rollNodes,
		},
		{
			Name: v1alpha1.PhaseRemoveLegacy, By: "the coordinator",
			Does: "deletes the VPC CNI's DaemonSet and the fence label",
			ask:  "delete the managed add-on vpc-cni with its resources preserved, if it is one",
			Done: "no DaemonSet, no pod and no label is left, and every agent passes as Overlay", gate: (*decider).gateRemove, run: (*decider).removeLegacy,
		},
		{
			Name: v1alpha1.PhaseFullEBPF, By: "a person",
			Does: "kube-proxy replacement and BPF masquerade as one bundle, kube-proxy deleted",
			ask:  "upgrade Cilium with kubeProxyReplacement=true, bpf.masquerade=true and cni.customConf=false, delete kube-proxy, then the CiliumNodeConfig " + v1alpha1.NodeConfigName,
			Done: "the phase is approved", run: func(*decider) state { return passed() },
		},
	}
}

func phaseIndex(name v1alpha1.Phase) int {
	rows := phases()
	for i := range rows {
		if rows[i].Name == name {
			return i
		}
	}
	return len(rows)
}

// record returns the record of a phase, made if it is not there yet.
func (d *decider) record(name v1alpha1.Phase) *v1alpha1.PhaseRecord {
	for i := range d.status.Phases {
		if d.status.Phases[i].Phase == name {
			return &d.status.Phases[i]
		}
	}
	d.status.Phases = append(d.status.Phases, v1alpha1.PhaseRecord{Phase: name})
	return &d.status.Phases[len(d.status.Phases)-1]
}

// begun says whether a phase was begun, by the ledger as it was read: what a phase may do, it may do from the next
// Decision on.
func (d *decider) begun(name v1alpha1.Phase) bool {
	return slices.ContainsFunc(d.w.Cutover.Status.Phases, func(r v1alpha1.PhaseRecord) bool {
		return r.Phase == name && !r.StartedAt.IsZero()
	})
}

// phase begins, carries on or ends the present phase; at most one of these a Decision.
func (d *decider) phase() state {
	rows := phases()
	i := phaseIndex(d.status.Phase)
	if i == len(rows) {
		return state{done: true, reason: v1alpha1.CutoverComplete, message: "every phase is done"}
	}
	p := rows[i]
	if p.Name == v1alpha1.PhaseRemoveLegacy && d.w.Legacy.Found && len(d.candidates()) > 0 {
		return d.rollAgain()
	}
	if !d.begun(p.Name) {
		if s := d.mayBegin(p); !s.done {
			return s
		}
		d.record(p.Name).StartedAt = metav1.NewTime(d.w.Now)
		d.note("", false, v1alpha1.Progressing, "Begin", "phase %s begins", p.Name)
		return going(v1alpha1.Progressing, "phase %s begins", p.Name)
	}
	s := p.run(d)
	if !s.done {
		return s
	}
	d.record(p.Name).FinishedAt = metav1.NewTime(d.w.Now)
	d.status.Phase = v1alpha1.PhaseDone
	if i+1 < len(rows) {
		d.status.Phase = rows[i+1].Name
	}
	d.note("", false, v1alpha1.Progressing, "End", "phase %s is done", p.Name)
	return going(v1alpha1.Progressing, "phase %s is done", p.Name)
}

// rollAgain goes back from RemoveLegacy to RollNodes for a node that may be rolled after all: its opt-out was lifted, the
// selector was widened, or it came up Legacy.
func (d *decider) rollAgain() state {
	d.status.Phase = v1alpha1.PhaseRollNodes
	d.record(v1alpha1.PhaseRollNodes).FinishedAt = metav1.Time{}
	d.note("", false, v1alpha1.NodesLeft, "Reopen", "phase %s goes on: %s is left to be rolled", v1alpha1.PhaseRollNodes, d.candidates()[0].Name)
	return going(v1alpha1.NodesLeft, "phase %s goes on", v1alpha1.PhaseRollNodes)
}

func (d *decider) mayBegin(p phase) state {
	if !slices.Contains(d.spec.ApprovedPhases, p.Name) {
		return stalled(v1alpha1.AwaitingApproval, "phase %s waits for approval: %s; then add %s to spec.approvedPhases", p.Name, p.ask, p.Name)
	}
	switch d.spec.State {
	case v1alpha1.StatePaused:
		return stalled(v1alpha1.Paused, "phase %s does not begin while spec.state is Paused", p.Name)
	case v1alpha1.StateAborted:
		return stalled(v1alpha1.Aborted, "phase %s does not begin while spec.state is Aborted", p.Name)
	}
	if p.gate != nil {
		return p.gate(d)
	}
	return passed()
}

func (d *decider) installCilium() state {
	c := d.w.Cilium
	switch {
	case !c.Found:
		return stalled(v1alpha1.CiliumMissing, "DaemonSet %s/%s does not exist: install Cilium, or correct spec.cilium", d.spec.Cilium.DaemonSet.Namespace, d.spec.Cilium.DaemonSet.Name)
	case !c.Rollout.Done():
		return going(v1alpha1.CiliumMissing, "Cilium's DaemonSet has not rolled out on every node yet")
	}
	return passed()
}

func (d *decider) gateFence() state {
	if !d.w.Legacy.Found && d.allOverlay() {
		return passed() // a Cutover that was created again after its work was done
	}
	if !d.w.Legacy.Found {
		return stalled(v1alpha1.LegacySettings, "DaemonSet %s/%s does not exist: there is no VPC CNI to fence, or spec.legacy is wrong", d.spec.Legacy.DaemonSet.Namespace, d.spec.Legacy.DaemonSet.Name)
	}
	if reason, message := d.hybridSettings(); reason != "" {
		return stalled(reason, "%s; or name %s in spec.waivers", message, reason)
	}
	if !d.w.Cilium.Found || !d.w.Cilium.Rollout.Done() {
		return going(v1alpha1.CiliumMissing, "Cilium's DaemonSet must be rolled out on every node before the fence")
	}
	return passed()
}

func (d *decider) fenceLegacy() state {
	if d.fence.watched && !d.fence.intact {
		return going(d.fence.reason, "%s", d.fence.message)
	}
	return passed()
}

func (d *decider) gateRemove() state {
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		switch role := n.Role(); {
		case !n.Ready:
			return stalled(v1alpha1.NodesNotReady, "%s is NotReady, so nobody can tell what runs there: mend or remove it", n.Name)
		case n.LegacyPod:
			return stalled(v1alpha1.LegacyStillRuns, "%s runs the VPC CNI: roll it first", n.Name)
		case role != v1alpha1.RoleOverlay:
			return stalled(v1alpha1.NodesLeft, "%s shows role %s: every node must be Overlay before the VPC CNI goes", n.Name, role)
		}
	}
	return passed()
}

// removeLegacy deletes the DaemonSet only while no node runs it, seen again at every look until it is gone.
func (d *decider) removeLegacy() state {
	if d.w.Legacy.Found {
		if s := d.gateRemove(); !s.done {
			return s
		}
		d.act(DeleteLegacy{UID: d.w.Legacy.UID})
		return going(v1alpha1.LegacyStillRuns, "deleting the VPC CNI's DaemonSet")
	}
	labels := 0
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		if n.LegacyPod {
			return going(v1alpha1.LegacyStillRuns, "a pod of the VPC CNI is still on %s", n.Name)
		}
		if n.FenceLabel {
			d.act(SetFenceLabel{Node: n.Name, UID: n.UID})
			labels++
		}
	}
	if labels > 0 {
		return going(v1alpha1.Progressing, "removing the fence label")
	}
	return d.proveOverlay()
}

// proveOverlay asks every agent once more, after the VPC CNI is gone. A node that joins meanwhile must prove itself too.
func (d *decider) proveOverlay() state {
	q := question{Purpose: v1alpha1.PurposeValidate, Role: v1alpha1.RoleOverlay, After: d.record(v1alpha1.PhaseRemoveLegacy).StartedAt.Time}
	asking, unproven := false, ""
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		switch a := d.ask(n, q, true); {
		case a.safe:
		case a.fresh:
			asking = true
		case unproven == "":
			unproven = n.Name + ": " + a.message
		}
	}
	switch {
	case unproven != "":
		return going(v1alpha1.Unproven, "not every agent passes as Overlay yet: %s", unproven)
	case asking:
		// The same words until the last has answered: thousands of answers are not as many ledgers.
		return going(v1alpha1.Unproven, "every agent is asked once more whether its node passes as Overlay")
	}
	return passed()
}
