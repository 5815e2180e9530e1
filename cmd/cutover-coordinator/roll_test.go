// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
	"github.com/cni-cutover/cni-cutover/internal/meddler"
	"github.com/cni-cutover/cni-cutover/internal/program"
)

// roll is a cluster of two Legacy nodes, a workload with a budget, and a Cutover of which everything up to RemoveLegacy is
// approved: FenceLegacy, RollNodes and RemoveLegacy follow by themselves, in 80 writes or so.
type roll struct {
	*fleet.Fleet
	t      *testing.T
	oracle books
}

func newRoll(t *testing.T, change ...func(*v1alpha1.Cutover)) *roll {
	t.Helper()
	r := &roll{Fleet: fleet.Start(t, server.Config()), t: t, oracle: openBooks(t)}
	r.Join(fleet.Node{}, fleet.Node{})
	r.CNIs(fleet.HybridEnv()...)
	r.Deployment("shop", 2)
	r.Budget("shop", 1)
	r.freeLease()
	short := metav1.Duration{Duration: 200 * time.Millisecond}
	c := &v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName}, Spec: v1alpha1.CutoverSpec{
		Overlay:        v1alpha1.Overlay{PodCIDRs: []string{"10.244.0.0/16"}},
		Rollout:        v1alpha1.Rollout{Soak: short, Drain: v1alpha1.Drain{DeregistrationDelay: short, Timeout: metav1.Duration{Duration: time.Minute}}},
		ApprovedPhases: []v1alpha1.Phase{v1alpha1.PhaseDecoupleIngress, v1alpha1.PhaseInstallCilium, v1alpha1.PhaseFenceLegacy, v1alpha1.PhaseRollNodes, v1alpha1.PhaseRemoveLegacy},
	}}
	for _, f := range change {
		f(c)
	}
	if err := r.Client.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return r
}

// proxy makes a proxy with the rights of the coordinator's account.
func (r *roll) proxy() *meddler.Proxy {
	r.t.Helper()
	as, err := server.As(r.t.Context(), namespace, "cutover-coordinator", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	p := meddler.Start(r.t, as)
	return p
}

// freeLease takes the lease away from whoever holds it. A process that was killed provably cannot act any more, so its
// successor need not wait 15 s to find that out; a process that lives and loses its lease like this is what a partition is.
func (r *roll) freeLease() {
	r.t.Helper()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "cutover-coordinator"}}
	err := r.Client.Patch(r.t.Context(), lease, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"holderIdentity":""}}`)))
	if client.IgnoreNotFound(err) != nil && r.t.Context().Err() == nil {
		r.t.Error(err)
	}
}

// start starts a coordinator that reaches the API server through a proxy.
func (r *roll) start(p *meddler.Proxy, name string) *program.Process {
	r.t.Helper()
	return program.Start(r.t, name, p.Kubeconfig(), "--metrics-bind-address=0", "--health-probe-bind-address=0", "--leader-election-namespace="+namespace, "--pod-name="+name, "--v=1")
}

// run starts one coordinator, which lives until the test ends it, or ends.
func (r *roll) run(p *meddler.Proxy, name string) *program.Process {
	r.t.Helper()
	c := r.start(p, name)
	r.t.Cleanup(func() { c.End(r.t) })
	return c
}

// deployment keeps one coordinator running, as a Deployment does: one that ends is followed by another one, at once.
type deployment struct {
	r     *roll
	proxy *meddler.Proxy

	mu     sync.Mutex
	now    *program.Process
	born   int // coordinators started so far
	ending bool
}

func (r *roll) deployment(p *meddler.Proxy) *deployment { return &deployment{r: r, proxy: p} }

// run keeps a coordinator running until the test ends.
func (d *deployment) run() {
	var stopped sync.WaitGroup
	stopped.Go(func() {
		for c := d.next(); c != nil; c = d.next() {
			<-c.Ended
			d.r.freeLease()
			if !c.Killed() {
				// It ended by itself, as without an API server, and is not started again and again in no time.
				d.pause(500 * time.Millisecond)
			}
		}
	})
	d.r.t.Cleanup(func() {
		d.mu.Lock()
		d.ending = true
		c := d.now
		d.mu.Unlock()
		if c != nil {
			c.End(d.r.t)
		}
		stopped.Wait()
	})
}

func (d *deployment) pause(between time.Duration) {
	select {
	case <-time.After(between):
	case <-d.r.t.Context().Done():
	}
}

func (d *deployment) next() *program.Process {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ending {
		return nil
	}
	d.born++
	d.now = d.r.start(d.proxy, fmt.Sprintf("coordinator-%d", d.born))
	return d.now
}

// kill kills the coordinator that runs now.
func (d *deployment) kill() {
	d.mu.Lock()
	c := d.now
	d.mu.Unlock()
	c.Kill()
}

// incarnation is the number of the coordinator that runs now, from 1.
func (d *deployment) incarnation() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.born
}

// final is what a whole roll leaves behind, but for times and UIDs.
func (r *roll) final() string {
	r.t.Helper()
	var b strings.Builder
	if r.Legacy() != nil {
		b.WriteString("the VPC CNI's DaemonSet is there\n")
	}
	for _, n := range r.Nodes() {
		ours := ""
		for k, v := range n.Labels {
			if k == v1alpha1.FenceLabel || k == v1alpha1.LabelExcludeBalancers {
				ours += " " + k + "=" + v
			}
		}
		for k := range n.Annotations {
			if strings.HasPrefix(k, v1alpha1.Group) {
				ours += " " + k
			}
		}
		for _, t := range n.Spec.Taints {
			ours += " " + t.Key
		}
		fmt.Fprintf(&b, "node %s: role %s, cordoned %t, asked as itself %t, ours:%s\n", n.Name, n.Annotations[fleet.RoleAnnotation], n.Spec.Unschedulable, r.askedAsItself(n), ours)
	}
	var pods corev1.PodList
	if err := r.Client.List(r.t.Context(), &pods); err != nil {
		r.t.Fatal(err)
	}
	count := map[string]int{}
	for _, p := range pods.Items {
		count[p.Labels["app"]+p.Labels["k8s-app"]+" "+string(p.Status.Phase)]++
	}
	fmt.Fprintf(&b, "pods: %v\n", count)
	s := r.Cutover().Status
	fmt.Fprintf(&b, "phase %s, %d slots, %d rolled, %+v, waiting %+v\n", s.Phase, len(s.Slots), s.Rolled, s.Nodes, s.Waiting)
	for _, p := range s.Phases {
		fmt.Fprintf(&b, "phase %s begun %t ended %t\n", p.Phase, !p.StartedAt.IsZero(), !p.FinishedAt.IsZero())
	}
	// Sorted: the first node that answers well gets the slot, which need not be the first one by name.
	var left, came []string
	for _, f := range s.Finished {
		left, came = append(left, fmt.Sprintf("%s was %s", f.Node, f.Outcome)), append(came, f.Replacement)
	}
	slices.Sort(left)
	slices.Sort(came)
	fmt.Fprintf(&b, "%s, and there came: %s\n", strings.Join(left, ", "), strings.Join(came, ", "))
	for _, c := range s.Conditions {
		fmt.Fprintf(&b, "%s %s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	return b.String()
}

// askedAsItself says whether the NodeCutover of a node is about that node.
func (r *roll) askedAsItself(n corev1.Node) bool {
	var nc v1alpha1.NodeCutover
	err := r.Client.Get(r.t.Context(), client.ObjectKey{Name: n.Name}, &nc)
	return err == nil && nc.Spec.NodeUID == n.UID && nc.Status.NodeUID == n.UID
}

// undisturbed is the final of a roll that nothing disturbs. That every disturbed one ends in the same is what the tests
// below hold; that this one is right is said here, line by line.
const undisturbed = `node node-3: role Overlay, cordoned false, asked as itself true, ours:
node node-4: role Overlay, cordoned false, asked as itself true, ours:
pods: map[cilium Running:2 shop Running:2]
phase FullEBPF, 0 slots, 2 rolled, {Total:2 Legacy:0 Overlay:2 Mixed:0 Unknown:0}, waiting []
phase DecoupleIngress begun true ended true
phase InstallCilium begun true ended true
phase FenceLegacy begun true ended true
phase RollNodes begun true ended true
phase RemoveLegacy begun true ended true
node-1 was Replaced, node-2 was Replaced, and there came: node-3, node-4
`

// ends waits until the cluster is what an undisturbed roll leaves behind, and says so if it never is.
func (r *roll) ends(within time.Duration) {
	r.t.Helper()
	fleet.Eventually(r.t, within, func() string {
		if r.t.Failed() {
			return ""
		}
		got := r.final()
		lines := slices.DeleteFunc(strings.SplitAfter(got, "\n"), func(line string) bool {
			return slices.ContainsFunc([]string{"Ready ", "Reconciling ", "Stalled ", "FenceIntact ", "BudgetExhausted "}, func(c string) bool { return strings.HasPrefix(line, c) })
		})
		if diff := cmp.Diff(undisturbed, strings.Join(lines, "")); diff != "" {
			return "the cluster is not what an undisturbed roll leaves (-want +got):\n" + diff + "\nall of it:\n" + got + fmt.Sprintf("slots: %+v", r.Cutover().Status.Slots)
		}
		return ""
	})
}
