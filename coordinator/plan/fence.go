// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/vpccni"
)

// fence is the judgement about the one switch between the two CNIs.
type fence struct {
	// watched is false before the phase FenceLegacy and after the VPC CNI is gone.
	watched bool
	intact  bool
	reason  v1alpha1.Reason
	message string
}

// fenceEvery is how often the fence is looked at when nothing happens: CiliumNodeConfigs are read, not watched, because
// their kind may not exist yet when a coordinator starts.
const fenceEvery = 15 * time.Second

// judgeFence judges the fence and puts it right, in the one order that never leaves a node with two CNIs or with none:
// every node labelled and seen labelled, then the DaemonSet bound to the label and rolled out, then the CiliumNodeConfig,
// then Cilium pods that are older than it started again. The same steps build the fence, mend it and resume it.
func (d *decider) judgeFence() {
	if !d.begun(v1alpha1.PhaseFenceLegacy) || phaseIndex(d.status.Phase) > phaseIndex(v1alpha1.PhaseRemoveLegacy) {
		d.fence = fence{reason: v1alpha1.FenceNotYet, message: "the fence is not watched in this phase"}
		return
	}
	if !d.w.Legacy.Found && d.allOverlay() {
		d.fence = fence{reason: v1alpha1.FenceNotYet, message: "the VPC CNI is gone and every node shows role Overlay: nothing is left to fence"}
		return
	}
	d.fence = fence{watched: true}
	d.wakeAt(d.w.Now.Add(fenceEvery))
	open := func(reason v1alpha1.Reason, format string, args ...any) {
		d.fence.reason, d.fence.message = reason, Clip(fmt.Sprintf(format, args...))
	}
	if !d.w.Legacy.Found {
		if n := d.needsLegacy(); n != "" {
			open(v1alpha1.FenceSelectorLost, "the VPC CNI's DaemonSet %s is gone while %s still needs it: restore it", d.spec.Legacy.DaemonSet.Name, n)
			return
		}
	} else if !d.bindLegacy(open) {
		return
	}
	if d.spec.Cilium.Install == v1alpha1.InstallSecondary {
		if !d.w.NodeConfig.Found || !d.w.NodeConfig.Intact {
			d.mend(WriteNodeConfig{})
			open(v1alpha1.FenceConfigLost, "CiliumNodeConfig %s is missing or changed; writing it", v1alpha1.NodeConfigName)
			return
		}
		d.restartCilium()
	}
	d.fence.intact, d.fence.reason = true, v1alpha1.FenceComplete
	d.fence.message = "every Legacy node carries the fence label and the VPC CNI is bound to it"
}

// bindLegacy labels the nodes of the VPC CNI, binds it to that label, and says whether both are so.
func (d *decider) bindLegacy(open func(reason v1alpha1.Reason, format string, args ...any)) bool {
	if node, lost, message := d.labelLegacy(); node != "" {
		if lost {
			open(v1alpha1.FenceLabelLost, "%s", message)
		} else {
			open(v1alpha1.FenceBuilding, "%s", message)
		}
		return false
	}
	if !d.w.Legacy.Fenced {
		d.mend(FenceDaemonSet{UID: d.w.Legacy.UID})
		open(v1alpha1.FenceSelectorLost, "the VPC CNI's DaemonSet is not bound to the fence label %s; binding it", d.spec.Legacy.FenceLabel)
		return false
	}
	if d.status.Phase == v1alpha1.PhaseFenceLegacy && !d.w.Legacy.Rollout.Done() {
		open(v1alpha1.FenceRollingOut, "the VPC CNI rolls out with its new node selector; it must finish on every node first")
		return false
	}
	return true
}

// needsLegacy returns a node whose pods the VPC CNI owns. One that joins after the VPC CNI is gone shows no role yet, and
// needs the CiliumNodeConfig instead.
func (d *decider) needsLegacy() string {
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		if role := n.Role(); role == v1alpha1.RoleLegacy || role == v1alpha1.RoleMixed {
			return n.Name
		}
	}
	return ""
}

// mend changes the fence, once the ledger says that it is open. Mended at first sight, and the ledger's write refused because
// somebody else wrote it meanwhile, it would have been open and nobody would ever hear of it.
func (d *decider) mend(a Action) {
	if !meta.IsStatusConditionTrue(d.w.Cutover.Status.Conditions, v1alpha1.ConditionFenceIntact) {
		d.act(a)
	}
}

// allOverlay says whether every node shows that only Cilium owns its pods.
func (d *decider) allOverlay() bool {
	for i := range d.w.Nodes {
		if n := &d.w.Nodes[i]; n.LegacyPod || n.Role() != v1alpha1.RoleOverlay {
			return false
		}
	}
	return true
}

// labelLegacy labels the nodes whose pods the VPC CNI owns. It returns a node for which the fence is not in place yet, or
// nothing, and whether that node's label was lost rather than never set.
//
// Before the DaemonSet is bound, every node on which the VPC CNI runs must be labelled, or binding it would take the CNI
// away from that node's pods: Mixed nodes too, and nodes nobody has looked at are waited for. Afterwards the label follows
// the evidence, and a Mixed node is never labelled again: it is replaced.
func (d *decider) labelLegacy() (node string, lost bool, message string) {
	fenced := d.w.Legacy.Fenced
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		if n.FenceLabel || n.Deleting {
			continue
		}
		role := n.Role()
		switch {
		case role == v1alpha1.RoleLegacy, !fenced && role == v1alpha1.RoleMixed && n.LegacyPod:
			d.mend(SetFenceLabel{Node: n.Name, UID: n.UID, On: true})
			if node == "" {
				node, lost = n.Name, fenced
				message = fmt.Sprintf("%s is a %s node without the fence label %s; labelling it", n.Name, role, d.spec.Legacy.FenceLabel)
			}
		case !fenced && role == v1alpha1.RoleUnknown && n.LegacyPod:
			if node == "" {
				node = n.Name
				message = fmt.Sprintf("%s runs the VPC CNI, but its agent has not reported yet; look at the agent's pod there", n.Name)
			}
		}
	}
	return node, lost, message
}

// restartCilium makes Cilium pods resolve their configuration again where they did so before the CiliumNodeConfig was
// there: an init container reads it once in a pod's life. Only a joining node, which has no CNI and no pod to lose, is
// touched: on a node that lost its label by mistake this very restart would make a second CNI win.
func (d *decider) restartCilium() {
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		role := n.Role()
		if n.FenceLabel || n.LegacyPod || n.WasReady || n.Deleting || role == v1alpha1.RoleLegacy || role == v1alpha1.RoleMixed {
			continue
		}
		for _, p := range n.CiliumPods {
			// Both times have whole seconds: of one second, either may have been first.
			if !p.Created.After(d.w.NodeConfig.Created) {
				d.act(DeleteCiliumPod{Node: n.Name, Pod: p})
			}
		}
	}
}

// hybridSettings says what is missing of the settings without which Service traffic is lost while both CNIs run: by
// default 11 of 135 paths fail, with these none. A waiver that names the gate switches it off until its date.
func (d *decider) hybridSettings() (reason v1alpha1.Reason, message string) {
	l, c := d.w.Legacy, d.w.Cilium
	if !waived(d.spec.Waivers, string(v1alpha1.LegacySettings), d.w.Now) {
		for _, cidr := range d.spec.Overlay.PodCIDRs {
			overlay, err := netip.ParsePrefix(cidr)
			if err != nil {
				return v1alpha1.LegacySettings, fmt.Sprintf("overlay.podCIDRs holds %q, which is no CIDR", cidr)
			}
			// Cilium's own mode is judged by its values and by the agents.
			for _, p := range l.Lost(overlay, vpccni.Mode{}) {
				return v1alpha1.LegacySettings, fmt.Sprintf("append %s to %s of the VPC CNI's DaemonSet (through the add-on's configuration where it is managed): without it %s cannot reach %s", cidr, p.Setting, p.From, p.To)
			}
		}
		if !l.Rollout.Done() && d.status.Phase == v1alpha1.PhaseFenceLegacy {
			return v1alpha1.LegacySettings, "the VPC CNI's DaemonSet has not rolled out its settings on every node yet"
		}
	}
	if !waived(d.spec.Waivers, string(v1alpha1.CiliumStripsRules), d.w.Now) && c.StripsRules {
		return v1alpha1.CiliumStripsRules, "set cni.iptablesRemoveAWSRules=false in Cilium's Helm values: as it is, every start of a Cilium pod removes the VPC CNI's rules, and its pods lose the Internet"
	}
	return "", ""
}
