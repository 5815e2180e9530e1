// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab"
	"github.com/cni-cutover/cni-cutover/lab/stage"
)

// scene is the one cluster of this package's tests, fenced and waiting for its roll.
type scene struct {
	env *stage.Env
	err error
	// harmed is when tests last did to the cluster what the laws forbid, to see it named.
	harmed time.Time
}

// harms says that a test does to the cluster what the laws forbid.
func (s *scene) harms(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { s.harmed = time.Now() })
}

// the is set once by TestMain; tests get it from standing.
var the scene

func TestMain(m *testing.M) {
	lab.Main()
	os.Exit(play(m))
}

func play(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "end-to-end tests need root: they start a cluster of namespaces; run: sudo make test")
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	the.env, the.err = stage.Start(ctx, stage.Options{Nodes: 4, Zones: []string{"lab-a"}, Dir: os.Getenv("LAB_DIR"), Say: func(what string, took time.Duration) {
		fmt.Printf("%-60s %s\n", what, took.Round(100*time.Millisecond))
	}})
	if the.err != nil {
		fmt.Fprintln(os.Stderr, the.err)
		return 1
	}
	for _, set := range []func(context.Context) error{the.env.InstallCilium, the.env.InstallChart, the.fence} {
		if the.err = set(ctx); the.err != nil {
			told, done := context.WithTimeout(context.Background(), 20*time.Second)
			fmt.Fprintln(os.Stderr, the.env.Diagnose(told))
			done()
			break
		}
	}
	code := m.Run()
	if err := the.env.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// standing returns the scene, and fails the test if it does not stand.
func standing(t *testing.T) *scene {
	t.Helper()
	if the.err != nil {
		t.Fatalf("setting the scene: %v", the.err)
	}
	return &the
}

// fence creates the Cutover and waits until the fence is up; the roll is not approved yet.
func (s *scene) fence(ctx context.Context) error {
	short := func(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }
	// A drain takes seconds here, so a slot is held soon; a cluster of four may have one node out of service.
	err := s.env.Client.Create(ctx, &v1alpha1.Cutover{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName},
		Spec: v1alpha1.CutoverSpec{
			Overlay:        v1alpha1.Overlay{PodCIDRs: []string{stage.Overlay().String()}},
			Rollout:        v1alpha1.Rollout{Soak: short(time.Second), FailureBudget: 2, Drain: v1alpha1.Drain{DeregistrationDelay: short(time.Second), Timeout: short(20 * time.Second)}},
			ApprovedPhases: []v1alpha1.Phase{v1alpha1.PhaseDecoupleIngress, v1alpha1.PhaseInstallCilium, v1alpha1.PhaseFenceLegacy},
		},
	})
	if err != nil {
		return fmt.Errorf("creating the Cutover: %w", err)
	}
	return until(ctx, time.Minute, func() string {
		var c v1alpha1.Cutover
		if err := s.env.Client.Get(ctx, client.ObjectKey{Name: v1alpha1.CutoverName}, &c); err != nil {
			return err.Error()
		}
		if c.Status.Phase == v1alpha1.PhaseRollNodes {
			return ""
		}
		return fmt.Sprintf("phase %s, conditions %+v", c.Status.Phase, c.Status.Conditions)
	})
}

// until polls until nothing is missing, or says what still is.
func until(ctx context.Context, within time.Duration, look func() string) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		missing := look()
		if missing == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s still: %s", within, missing)
		case <-tick.C:
		}
	}
}

func (s *scene) eventually(t *testing.T, within time.Duration, look func() string) {
	t.Helper()
	if err := until(t.Context(), within, look); err != nil {
		t.Fatal(err)
	}
}

func (s *scene) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *scene) hosts(t *testing.T) []lab.Host {
	t.Helper()
	hosts, err := s.env.Cluster.Nodes(t.Context())
	s.must(t, err)
	return hosts
}

func (s *scene) cutover(t *testing.T) *v1alpha1.Cutover {
	t.Helper()
	var c v1alpha1.Cutover
	s.must(t, s.env.Client.Get(t.Context(), client.ObjectKey{Name: v1alpha1.CutoverName}, &c))
	return &c
}

// answerWithin is how long an agent may take, and as long is its answer worth something: a question of ours must not count as one
// that a grant in a later roll was given for.
const answerWithin = 20 * time.Second

// answer puts the question that comes before a drain, or after a join, to a node's agent, as the coordinator would, and returns
// its answer.
func (s *scene) answer(ctx context.Context, node string, role v1alpha1.Role) (v1alpha1.NodeCutoverStatus, error) {
	return s.answerTo(ctx, node, role, answerWithin)
}

// answerTo puts a question that lives for a while. As long as it does, the agent answers again whenever its answer changes.
func (s *scene) answerTo(ctx context.Context, node string, role v1alpha1.Role, lives time.Duration) (v1alpha1.NodeCutoverStatus, error) {
	var nc v1alpha1.NodeCutover
	if err := s.env.Client.Get(ctx, client.ObjectKey{Name: node}, &nc); err != nil {
		return nc.Status, err
	}
	before := nc.DeepCopy()
	nc.Spec.Challenge = &v1alpha1.Challenge{
		ID: "e2e-" + rand.String(8), NodeUID: nc.Spec.NodeUID, Role: role, Purpose: v1alpha1.PurposeDrain,
		ExpiresAt: metav1.NewMicroTime(time.Now().Add(lives)), RequiredChecks: check.Names(),
	}
	if role == v1alpha1.RoleOverlay {
		nc.Spec.Challenge.Purpose = v1alpha1.PurposeValidate
	} else {
		nc.Spec.Challenge.RequiredChecks = slices.DeleteFunc(check.Names(), func(c v1alpha1.CheckName) bool { return c == v1alpha1.CheckLegacyResidue })
	}
	if err := s.env.Client.Patch(ctx, &nc, client.MergeFrom(before)); err != nil {
		return nc.Status, err
	}
	id := nc.Spec.Challenge.ID
	err := until(ctx, answerWithin, func() string {
		if err := s.env.Client.Get(ctx, client.ObjectKey{Name: node}, &nc); err != nil {
			return err.Error()
		}
		if nc.Status.ChallengeID == id {
			return ""
		}
		return "the agent on " + node + " has not answered challenge " + id
	})
	return nc.Status, err
}

// peersOfAge waits until every peer is one that other nodes must know: younger ones are excused (design of the check
// OverlayMaps), and a fault about them is none.
func (s *scene) peersOfAge(t *testing.T, but ...string) {
	t.Helper()
	const excused = 60 * time.Second
	s.eventually(t, 2*excused, func() string {
		list, err := s.ciliumNodes(t.Context())
		s.must(t, err)
		for _, n := range list {
			if age := time.Since(n.GetCreationTimestamp().Time); age <= excused && !slices.Contains(but, n.GetName()) {
				return fmt.Sprintf("CiliumNode %s is %s old", n.GetName(), age.Round(time.Second))
			}
		}
		return ""
	})
}

func (s *scene) ciliumNodes(ctx context.Context) ([]unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: "cilium.io", Version: "v2", Kind: "CiliumNodeList"})
	err := s.env.Client.List(ctx, list)
	slices.SortFunc(list.Items, func(a, b unstructured.Unstructured) int { return strings.Compare(a.GetName(), b.GetName()) })
	return list.Items, err
}

// metrics reads /metrics of every pod of one of our programs, by way of the API server.
func (s *scene) metrics(t *testing.T, app, port string) string {
	t.Helper()
	var pods corev1.PodList
	s.must(t, s.env.Client.List(t.Context(), &pods, client.InNamespace(stage.Namespace)))
	var all strings.Builder
	for _, p := range pods.Items {
		if !strings.HasPrefix(p.Name, app) || p.Status.Phase != corev1.PodRunning {
			continue
		}
		body, err := s.env.Kube.CoreV1().Pods(p.Namespace).ProxyGet("http", p.Name, port, "/metrics", nil).DoRaw(t.Context())
		if err == nil { // a pod that is just ending has none
			all.Write(body)
		}
	}
	return all.String()
}

// wantEvent waits for a warning of a reason on a Node, or on the Cutover if node is empty.
func (s *scene) wantEvent(t *testing.T, node string, reason v1alpha1.Reason) {
	t.Helper()
	s.eventually(t, 20*time.Second, func() string {
		var events corev1.EventList
		s.must(t, s.env.Client.List(t.Context(), &events))
		for _, e := range events.Items {
			if e.InvolvedObject.Name == node && e.Reason == string(reason) && e.Type == corev1.EventTypeWarning {
				return ""
			}
		}
		return fmt.Sprintf("no warning %s on %s", reason, node)
	})
}

func (s *scene) patchCutover(t *testing.T, body string) {
	t.Helper()
	c := &v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName}}
	s.must(t, s.env.Client.Patch(t.Context(), c, client.RawPatch(types.MergePatchType, []byte(body))))
}
