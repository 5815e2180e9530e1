// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/vpccni"
)

// toyNode is a node of the toy cluster: what the API server would show, and the truth that only its agent can see.
type toyNode struct {
	Node
	role    v1alpha1.Role // the truth
	healthy bool          // the truth: would its agent pass
	pods    int
	blocked bool // a disruption budget allows no eviction
	doomed  time.Time
}

// toyCluster plays everything around the coordinator: agents, kubelets, the DaemonSet controller, an autoscaling group.
// Everything happens at once and in order, so that its tales can be read; a simulation is the cluster in which it does not.
// Its time moves only when told.
type toyCluster struct {
	now     time.Time
	cutover *v1alpha1.Cutover
	nodes   []*toyNode
	legacy  Legacy
	config  NodeConfig
	term    int
	made    int
	log     []string
}

func newToyCluster(nodes int, spec v1alpha1.CutoverSpec) *toyCluster {
	overlay := netip.MustParsePrefix("10.244.0.0/16")
	c := &toyCluster{
		now: time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC), term: 1,
		cutover: &v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName, Generation: 1}, Spec: spec},
		legacy:  Legacy{Found: true, UID: "aws-node", Rollout: Rollout{Current: true}, Settings: vpccni.Settings{ExternalServiceCIDRs: []netip.Prefix{overlay}, ExcludeSNATCIDRs: []netip.Prefix{overlay}}},
	}
	for range nodes {
		n := c.join(v1alpha1.RoleLegacy, string(rune('a'+c.made%2)))
		n.LegacyPod, n.Ready, n.WasReady = true, true, true
	}
	return c
}

func (c *toyCluster) join(role v1alpha1.Role, zone string) *toyNode {
	c.made++
	name := fmt.Sprintf("n%02d", c.made)
	n := &toyNode{role: role, healthy: true, pods: 3, Node: Node{
		Name: name, UID: types.UID("uid-" + name), BootID: "boot-" + name, Zone: zone, Group: "workers",
		Created: c.now.Truncate(time.Second), Selected: true, ProviderID: "aws:///" + zone + "/i-" + name,
	}}
	c.nodes = append(c.nodes, n)
	return n
}

func (c *toyCluster) node(name string) *toyNode {
	for _, n := range c.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

func (c *toyCluster) byUID(uid types.UID) *toyNode {
	for _, n := range c.nodes {
		if n.UID == uid {
			return n
		}
	}
	return nil
}

func (c *toyCluster) remove(name string) {
	c.nodes = slices.DeleteFunc(c.nodes, func(n *toyNode) bool { return n.Name == name })
}

// world photographs the cluster.
func (c *toyCluster) world() *World {
	w := &World{
		Now: c.now, Term: fmt.Sprintf("term%d", c.term), Holder: "coordinator-0", OwnNode: "n02", Cutover: c.cutover.DeepCopy(),
		Legacy: c.legacy, NodeConfig: c.config, Cilium: Cilium{Found: true, Rollout: Rollout{Current: true}},
		Drains: map[types.UID]Drain{}, Volumes: map[types.UID][]string{},
	}
	w.Legacy.Rollout = Rollout{Current: true}
	for _, n := range c.nodes {
		copied := n.Node
		if n.Cutover != nil {
			copied.Cutover = n.Cutover.DeepCopy()
		}
		w.Nodes = append(w.Nodes, copied)
		if n.LegacyPod {
			w.Legacy.Rollout.Desired++
			w.Legacy.Rollout.Updated++
			w.Legacy.Rollout.Ready++
		}
	}
	for _, s := range c.cutover.Status.Slots {
		w.Volumes[s.NodeUID] = nil
		if n := c.byUID(s.NodeUID); n != nil {
			w.Drains[s.NodeUID] = Drain{Evict: make([]Pod, n.pods)}
		}
	}
	return w
}

func (c *toyCluster) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if len(c.log) == 0 || c.log[len(c.log)-1] != line {
		c.log = append(c.log, line)
	}
}

// apply carries one Action out, as the mover would.
func (c *toyCluster) apply(a Action) {
	switch a := a.(type) {
	case CreateNodeCutover:
		c.node(a.Node).Cutover = &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: a.Node}, Spec: v1alpha1.NodeCutoverSpec{NodeUID: a.UID, Challenge: a.Challenge}}
	case Ask:
		if n := c.node(a.Node); n != nil && n.Cutover != nil {
			n.Cutover.Spec.Challenge = &a.Challenge
		}
	case SetFenceLabel:
		c.node(a.Node).FenceLabel = a.On
	case FenceDaemonSet:
		c.legacy.Fenced = true
	case WriteNodeConfig:
		c.config = NodeConfig{Found: true, Intact: true, Created: c.now}
	case SetLeaving:
		c.node(a.Node).Leaving = a.On
	case SetSafe:
		c.node(a.Node).SafeShown = a.Safe
	case Cordon:
		n := c.byUID(a.Slot)
		n.Cordoned, n.Excluded, n.CordonedBy = true, true, a.Slot
	case Uncordon:
		n := c.node(a.Node)
		if n.CordonedBy == a.Slot {
			n.Cordoned, n.Excluded, n.CordonedBy = false, false, ""
		}
		n.SurgeAsked, n.ReplaceAsked = "", ""
	case Evict:
		if n := c.byUID(a.Slot); !n.blocked {
			n.pods--
		}
	case RequestReplacement:
		n := c.byUID(a.Slot)
		n.ReplaceAsked, n.doomed = a.Slot, c.now.Add(40*time.Second)
	case RequestSurge:
		c.byUID(a.Slot).SurgeAsked = a.Slot
		c.join(v1alpha1.RoleOverlay, c.byUID(a.Slot).Zone)
	case RemoveRelease:
		delete(c.node(a.Node).Cutover.Annotations, v1alpha1.AnnotationRelease)
	case DeleteLegacy:
		c.legacy.Found = false
	}
}

// tick lets the cluster live for a moment: agents answer, nodes come and go, the DaemonSet controller does its work.
func (c *toyCluster) tick() {
	for _, n := range slices.Clone(c.nodes) {
		n.LegacyPod = c.legacy.Found && (!c.legacy.Fenced || n.FenceLabel)
		if !n.doomed.IsZero() && !c.now.Before(n.doomed) {
			surged := n.SurgeAsked != ""
			c.remove(n.Name)
			c.say("%s %s is terminated", c.clock(), n.Name)
			if !surged {
				c.join(v1alpha1.RoleOverlay, n.Zone)
			}
			continue
		}
		if !n.WasReady && c.now.Sub(n.Created) >= 20*time.Second {
			n.Ready, n.WasReady = true, true
		}
		c.agent(n)
	}
}

// agent answers for a node what its truth is.
func (c *toyCluster) agent(n *toyNode) {
	if n.Cutover == nil {
		return
	}
	s := v1alpha1.NodeCutoverStatus{
		NodeUID: n.UID, BootID: n.BootID, Role: n.role, JudgedRole: n.role, AgentVersion: "toy", ObservedAt: metav1.NewMicroTime(c.now),
	}
	verdict, reason := v1alpha1.VerdictPass, v1alpha1.AsWanted
	if !n.healthy {
		verdict, reason = v1alpha1.VerdictFail, v1alpha1.TunnelDown
	}
	for _, check := range allChecks() {
		s.Findings = append(s.Findings, v1alpha1.Finding{Check: check, Verdict: verdict, Reason: reason})
	}
	if ch := n.Cutover.Spec.Challenge; ch != nil {
		s.ChallengeID, s.JudgedRole = ch.ID, ch.Role
	}
	n.Cutover.Status = s
}

func allChecks() []v1alpha1.CheckName {
	return []v1alpha1.CheckName{
		v1alpha1.CheckConflist, v1alpha1.CheckTunnelDevice, v1alpha1.CheckPrograms, v1alpha1.CheckOverlayMaps, v1alpha1.CheckServices, v1alpha1.CheckCiliumAlive,
		v1alpha1.CheckOverlayRoutes, v1alpha1.CheckMTU, v1alpha1.CheckPodAddresses, v1alpha1.CheckLegacyResidue, v1alpha1.CheckKernel,
	}
}

func (c *toyCluster) clock() string { return c.now.Format("15:04:05") }

// step is one reconcile: decide on a photograph, act, write the ledger if nobody else has, tell people, let time pass.
func (c *toyCluster) step(w *World) {
	d := Decide(w)
	for _, a := range d.Actions {
		c.apply(a)
		switch a.(type) {
		case CreateNodeCutover, Ask, SetSafe, Evict:
		default:
			c.say("%s   %s", c.clock(), a)
		}
	}
	c.cutover.Status = d.Status
	for _, n := range d.Notes {
		mark := " "
		if n.Warning {
			mark = "!"
		}
		c.say("%s %s %s", c.clock(), mark, n.Message)
	}
	c.sleep(w, d)
}

func (c *toyCluster) sleep(_ *World, d Decision) {
	nap := 5 * time.Second
	if d.Wake.IsZero() || d.Wake.After(c.now.Add(nap)) {
		c.now = c.now.Add(nap)
		return
	}
	c.now = d.Wake
}

// run lives until the roll is over or the steps run out, and says whether it is.
func (c *toyCluster) run(steps int) bool {
	for range steps {
		c.tick()
		c.step(c.world())
		if c.cutover.Status.Phase == v1alpha1.PhaseDone {
			return true
		}
	}
	return false
}
