// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/apiserver"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

var server *apiserver.Server

func TestMain(m *testing.M) {
	os.Exit(apiserver.Run(m, func(s *apiserver.Server) error {
		server = s
		return nil
	}))
}

// names of the nodes that are there, each with a star if it is Ready.
func names(f *fleet.Fleet) string {
	text := ""
	for _, n := range f.Nodes() {
		text += " " + n.Name
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				text += "*"
			}
		}
	}
	return text
}

func eventuallyNodes(t *testing.T, f *fleet.Fleet, want string) {
	t.Helper()
	fleet.Eventually(t, 20*time.Second, func() string {
		if got := names(f); got != want {
			return fmt.Sprintf("nodes are%s, want%s", got, want)
		}
		return ""
	})
}

// ask asks a node for a replacement, or for one more, as the coordinator does.
func ask(t *testing.T, f *fleet.Fleet, node, request string) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}
	if err := f.Client.Get(t.Context(), client.ObjectKeyFromObject(n), n); err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, request, n.UID)
	if err := f.Client.Patch(t.Context(), n, client.RawPatch(types.MergePatchType, []byte(body))); err != nil {
		t.Fatal(err)
	}
}

func TestPodsRunAndMoveAndNodesAreReplaced(t *testing.T) {
	f := fleet.Start(t, server.Config())
	f.Join(fleet.Node{}, fleet.Node{Zone: "b", ReadyAfter: time.Second}, fleet.Node{NeverReady: true})
	eventuallyNodes(t, f, " node-1* node-2* node-3")
	f.CNIs()
	f.Deployment("shop", 4)
	ds := f.Legacy()
	fleet.Eventually(t, 10*time.Second, func() string {
		if ds = f.Legacy(); ds.Status.NumberReady == 3 {
			return ""
		}
		return fmt.Sprintf("%d of 3 pods of aws-node are ready", ds.Status.NumberReady)
	})

	t.Log("a surge adds a node, a request that follows it takes the old one away, and its pods with it")
	ask(t, f, "node-1", v1alpha1.AnnotationSurge)
	eventuallyNodes(t, f, " node-1* node-2* node-3 node-4*")
	ask(t, f, "node-1", v1alpha1.AnnotationReplace)
	eventuallyNodes(t, f, " node-2* node-3 node-4*")
	fleet.Eventually(t, 20*time.Second, func() string {
		var pods corev1.PodList
		if err := f.Client.List(t.Context(), &pods); err != nil {
			return err.Error()
		}
		for _, p := range pods.Items {
			if p.Spec.NodeName == "node-1" || p.Status.Phase != corev1.PodRunning {
				return fmt.Sprintf("pod %s is %s on %q", p.Name, p.Status.Phase, p.Spec.NodeName)
			}
		}
		return ""
	})

	t.Log("a replacement is what the test says it is")
	f.OnReplace(func(old *corev1.Node) fleet.Replacement {
		return fleet.Replacement{Node: fleet.Node{Name: old.Name, Zone: "c", NeverReady: true}}
	})
	ask(t, f, "node-2", v1alpha1.AnnotationReplace)
	eventuallyNodes(t, f, " node-2 node-3 node-4*")
	f.OnReplace(func(*corev1.Node) fleet.Replacement { return fleet.Replacement{NeverJoins: true} })
	ask(t, f, "node-3", v1alpha1.AnnotationReplace)
	eventuallyNodes(t, f, " node-2 node-4*")
}

func TestAgentsAnswerWhatTheyAreAskedAndNothingElse(t *testing.T) {
	f := fleet.Start(t, server.Config())
	f.Join(fleet.Node{Role: v1alpha1.RoleOverlay})
	n := f.Nodes()[0]
	nc := &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: n.Name}, Spec: v1alpha1.NodeCutoverSpec{NodeUID: n.UID}}
	if err := f.Client.Create(t.Context(), nc); err != nil {
		t.Fatal(err)
	}
	answered := func(id string, role v1alpha1.Role, verdict v1alpha1.Verdict) {
		t.Helper()
		fleet.Eventually(t, 10*time.Second, func() string {
			if err := f.Client.Get(t.Context(), client.ObjectKeyFromObject(nc), nc); err != nil {
				return err.Error()
			}
			if s := nc.Status; s.ChallengeID == id && s.Role == role && s.Verdict == verdict && s.NodeUID == n.UID {
				return ""
			}
			return fmt.Sprintf("the status is %+v, want an answer to %q as %s with %s", nc.Status, id, role, verdict)
		})
	}
	question := func(id string, uid types.UID, left time.Duration) {
		t.Helper()
		nc.Spec.Challenge = &v1alpha1.Challenge{
			ID: id, NodeUID: uid, Role: v1alpha1.RoleOverlay, Purpose: v1alpha1.PurposeValidate,
			ExpiresAt: metav1.NewMicroTime(time.Now().Add(left)), RequiredChecks: []v1alpha1.CheckName{v1alpha1.CheckMTU},
		}
		if err := f.Client.Update(t.Context(), nc); err != nil {
			t.Fatal(err)
		}
	}
	answered("", v1alpha1.RoleOverlay, v1alpha1.VerdictPass)
	question("one", n.UID, time.Minute)
	answered("one", v1alpha1.RoleOverlay, v1alpha1.VerdictPass)
	f.SetAgent(n.Name, fleet.Agent{Verdict: v1alpha1.VerdictFail, Reason: v1alpha1.TunnelDown})
	answered("one", v1alpha1.RoleOverlay, v1alpha1.VerdictFail)
	question("of another node", "another", time.Minute)
	question("expired", n.UID, -time.Second)
	f.Reboot(n.Name) // what is told of the boot comes after both were seen
	answered("", v1alpha1.RoleOverlay, v1alpha1.VerdictFail)
	question("two", n.UID, time.Minute)
	answered("two", v1alpha1.RoleOverlay, v1alpha1.VerdictFail)
}

// TestALeaseIsRenewedAgainAndAgain: a roll of thousands of nodes lasts longer than the first two.
func TestALeaseIsRenewedAgainAndAgain(t *testing.T) {
	f := fleet.Start(t, server.Config())
	var last time.Time
	for i := range 3 {
		if err := fleet.Renew(t.Context(), f.Client, "some-node"); err != nil {
			t.Fatalf("renewal %d: %v", i+1, err)
		}
		var lease coordinationv1.Lease
		if err := f.Client.Get(t.Context(), client.ObjectKey{Namespace: corev1.NamespaceNodeLease, Name: "some-node"}, &lease); err != nil {
			t.Fatal(err)
		}
		if !lease.Spec.RenewTime.After(last) {
			t.Errorf("renewal %d is of %s, as the one before", i+1, lease.Spec.RenewTime)
		}
		last = lease.Spec.RenewTime.Time
	}
}
