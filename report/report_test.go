// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/golden"
)

func noon() time.Time { return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC) }

func ip(text string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(text)} }

// finished is a cluster of three nodes whose cutover is over and in which nothing is amiss.
func finished() *Evidence {
	c := &v1alpha1.Cutover{}
	c.Spec.Overlay.PodCIDRs = []string{"10.244.0.0/16"}
	c.Spec.Legacy.DaemonSet = v1alpha1.ObjectRef{Namespace: "kube-system", Name: "aws-node"}
	at := func(d time.Duration) metav1.Time { return metav1.NewTime(noon().Add(-d)) }
	exactly := func(d time.Duration) metav1.MicroTime { return metav1.NewMicroTime(noon().Add(-d)) }
	c.Status = v1alpha1.CutoverStatus{
		Phase: v1alpha1.PhaseFullEBPF, Rolled: 3,
		Phases: []v1alpha1.PhaseRecord{
			{Phase: v1alpha1.PhaseRollNodes, StartedAt: at(3 * time.Hour), FinishedAt: at(time.Hour)},
			{Phase: v1alpha1.PhaseFullEBPF, StartedAt: at(time.Hour)},
		},
		Finished: []v1alpha1.FinishedSlot{
			{Node: "old-1", Replacement: "new-1", Zone: "a", Outcome: v1alpha1.OutcomeReplaced, GrantedAt: exactly(2 * time.Hour), FinishedAt: exactly(2*time.Hour - 11*time.Minute)},
			{Node: "old-2", Outcome: v1alpha1.OutcomeReleased, GrantedAt: exactly(100 * time.Minute), FinishedAt: exactly(90 * time.Minute)},
		},
	}
	e := &Evidence{Server: "https://api", TakenAt: noon(), Cutover: c, Agents: map[string]*v1alpha1.NodeCutover{}, Unseen: map[Resource]string{}}
	for i := range 3 {
		name, uid := fmt.Sprintf("new-%d", i+1), types.UID(fmt.Sprintf("uid-%d", i+1))
		e.Nodes = append(e.Nodes, Node{Name: name, UID: uid, BootID: "b", Ready: true, Selected: true, Addresses: ip(fmt.Sprintf("10.0.0.%d", i+1))})
		e.Pods = append(e.Pods,
			Pod{Namespace: "shop", Name: fmt.Sprintf("cart-%d", i+1), Node: name, Running: true, Addresses: ip(fmt.Sprintf("10.244.%d.7", i+1))},
			Pod{Namespace: "kube-system", Name: fmt.Sprintf("cilium-%d", i+1), Node: name, HostNetwork: true, Running: true, Addresses: ip(fmt.Sprintf("10.0.0.%d", i+1))})
		e.Agents[name] = &v1alpha1.NodeCutover{Status: v1alpha1.NodeCutoverStatus{NodeUID: uid, BootID: "b", Role: v1alpha1.RoleOverlay, Verdict: v1alpha1.VerdictPass}}
	}
	e.Pods = append(e.Pods, Pod{Namespace: "shop", Name: "job", Node: "old-1", Ended: true, Addresses: ip("10.0.7.7")})
	e.Pods[1].DaemonSet = "aws-node-termination-handler"
	e.DaemonSets = []DaemonSet{{Namespace: "kube-system", Name: "cilium", Desired: 3, Updated: 3, Ready: 3, Current: true}}
	for i, step := range []v1alpha1.Step{v1alpha1.StepCordon, v1alpha1.StepDeregister, v1alpha1.StepConfirm, ""} {
		e.Entered = append(e.Entered,
			Entry{"old-2", step, noon().Add(time.Duration(i*i) * 20 * time.Second)}, // in whatever order Events come
			Entry{"old-1", step, noon().Add(time.Duration(i) * 1500 * time.Millisecond)})
	}
	return e
}

func page(t *testing.T, e *Evidence) (string, Report) {
	t.Helper()
	r, err := Make(e)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String(), r
}

func TestAFinishedCutoverIsProved(t *testing.T) {
	text, r := page(t, finished())
	if r.Verdict() != v1alpha1.VerdictPass {
		t.Errorf("the verdict is %s", r.Verdict())
	}
	golden.Match(t, "testdata/finished.md", text)
}

func TestWhatIsAmissIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		plant   func(*Evidence)
		proof   string
		verdict v1alpha1.Verdict
		says    string
	}{
		"a pod of the VPC":             {func(e *Evidence) { e.Pods[0].Addresses = ip("10.0.3.9") }, "PodAddresses", v1alpha1.VerdictFail, "shop/cart-1: [10.0.3.9] on new-1"},
		"a pod that runs unaddressed":  {func(e *Evidence) { e.Pods[0].Addresses = nil }, "PodAddresses", v1alpha1.VerdictFail, "shop/cart-1"},
		"a host pod addressed amiss":   {func(e *Evidence) { e.Pods[1].Addresses = ip("10.0.0.2") }, "HostPods", v1alpha1.VerdictFail, "kube-system/cilium-1: [10.0.0.2] on new-1, which has [10.0.0.1]"},
		"a pod that does not run":      {func(e *Evidence) { e.Pods[0].Running, e.Pods[0].Addresses = false, nil }, "PodsRun", v1alpha1.VerdictWarn, "shop/cart-1"},
		"the VPC CNI is back":          {func(e *Evidence) { e.Pods[1].DaemonSet = "aws-node" }, "LegacyGone", v1alpha1.VerdictFail, "pod kube-system/cilium-1 on new-1"},
		"its DaemonSet is back":        {func(e *Evidence) { e.DaemonSets[0].Name = "aws-node" }, "LegacyGone", v1alpha1.VerdictFail, "DaemonSet kube-system/aws-node"},
		"a DaemonSet is not ready":     {func(e *Evidence) { e.DaemonSets[0].Ready = 2 }, "DaemonSets", v1alpha1.VerdictFail, "kube-system/cilium: 2 of 3 are ready"},
		"a DaemonSet is not looked at": {func(e *Evidence) { e.DaemonSets[0].Current = false }, "DaemonSets", v1alpha1.VerdictFail, "kube-system/cilium"},
		"a node is NotReady":           {func(e *Evidence) { e.Nodes[0].Ready = false }, "Nodes", v1alpha1.VerdictFail, "new-1: it is not Ready"},
		"a node is cordoned":           {func(e *Evidence) { e.Nodes[0].Unschedulable = true }, "Nodes", v1alpha1.VerdictFail, "new-1: it is cordoned"},
		"an agent is silent":           {func(e *Evidence) { delete(e.Agents, "new-2") }, "Nodes", v1alpha1.VerdictFail, "new-2: its agent has not reported"},
		"an agent spoke before a boot": {func(e *Evidence) { e.Nodes[1].BootID = "c" }, "Nodes", v1alpha1.VerdictFail, "new-2: its agent's report is of an earlier node or boot"},
		"a node is mixed":              {func(e *Evidence) { e.Agents["new-2"].Status.Role = v1alpha1.RoleMixed }, "Nodes", v1alpha1.VerdictFail, "new-2: its pods are of role Mixed"},
		"an agent fails": {func(e *Evidence) {
			e.Agents["new-2"].Status.Verdict = v1alpha1.VerdictFail
			e.Agents["new-2"].Status.Findings = []v1alpha1.Finding{{Verdict: v1alpha1.VerdictFail, Reason: v1alpha1.TunnelDown}, {Verdict: v1alpha1.VerdictWarn, Reason: v1alpha1.PeerMissing}}
		}, "Nodes", v1alpha1.VerdictFail, "new-2: its agent says Fail (TunnelDown)"},
		"a taint is left": {func(e *Evidence) { e.Nodes[0].Left = []string{"taint cni-cutover.dev/leaving"} }, "Traces", v1alpha1.VerdictFail, "new-1: taint cni-cutover.dev/leaving"},
		"a slot is open":  {func(e *Evidence) { e.Cutover.Status.Slots = []v1alpha1.Slot{{Node: "old-3", Step: v1alpha1.StepDrain}} }, "Ledger", v1alpha1.VerdictWarn, "the slot of old-3 is in Drain"},
		"a check was waived": {func(e *Evidence) {
			e.Cutover.Spec.Waivers = []v1alpha1.Waiver{{Check: "Kernel", Reason: "tried at home", Until: metav1.NewTime(noon())}}
		}, "Ledger", v1alpha1.VerdictWarn, "Kernel was waived until 2026-11-26: tried at home"},
		"there is no node":       {func(e *Evidence) { e.Nodes, e.Pods = nil, nil }, "Nodes", v1alpha1.VerdictFail, "there is no node"},
		"pods may not be seen":   {func(e *Evidence) { e.Pods, e.Unseen[Pods] = nil, "you may not" }, "PodAddresses", v1alpha1.VerdictUnknown, "you may not"},
		"agents may not be seen": {func(e *Evidence) { e.Unseen[Agents] = "you may not" }, "Nodes", v1alpha1.VerdictUnknown, "you may not"},
	} {
		t.Run(name, func(t *testing.T) {
			e := finished()
			c.plant(e)
			text, r := page(t, e)
			for _, p := range r.Proofs {
				if p.Name == c.proof && p.Verdict != c.verdict {
					t.Errorf("%s is %s: %s %v", p.Name, p.Verdict, p.Message, p.Objects)
				}
			}
			if r.Verdict() == v1alpha1.VerdictPass || !strings.Contains(text, c.says) {
				t.Errorf("%q is not said, and the verdict is %s:\n%s", c.says, r.Verdict(), text)
			}
		})
	}
}

func TestOtherNodesNeedNoAgent(t *testing.T) {
	e := finished()
	e.Nodes = append(e.Nodes, Node{Name: "windows", Ready: true, Addresses: ip("10.0.0.9")})
	if text, r := page(t, e); r.Verdict() != v1alpha1.VerdictPass {
		t.Error(text)
	}
}

func TestACutoverWithoutNetworksCannotBeJudged(t *testing.T) {
	e := finished()
	e.Cutover.Spec.Overlay.PodCIDRs = []string{"10.244.0.0"}
	if _, err := Make(e); err == nil || !strings.Contains(err.Error(), "spec.overlay.podCIDRs") {
		t.Errorf("got %v", err)
	}
}

func TestManyObjectsAreCounted(t *testing.T) {
	e := finished()
	for i := range 30 {
		e.Pods = append(e.Pods, Pod{Namespace: "shop", Name: fmt.Sprintf("stray-%02d", i), Running: true, Addresses: ip("10.0.3.9")})
	}
	if text, _ := page(t, e); !strings.Contains(text, "and 20 more") {
		t.Error(text)
	}
}
