// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/golden"
)

// kept reads a snapshot in testdata.
func kept(t *testing.T, name string) *Snapshot {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	s := &Snapshot{}
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(s); err != nil {
		t.Fatal(err)
	}
	return s
}

func foresee(t *testing.T, s *Snapshot) Forecast {
	t.Helper()
	f, err := Foresee(s, 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestAForecastReadsAsAPage holds whole forecasts, as people get them. roll.json is a cluster in which a little of everything
// is wrong.
func TestAForecastReadsAsAPage(t *testing.T) {
	for name, change := range map[string]func(*Snapshot){
		"roll":       func(*Snapshot) {},
		"roll-surge": func(s *Snapshot) { s.Rollout.Surge = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := kept(t, "roll")
			change(s)
			f := foresee(t, s)
			var page strings.Builder
			if err := f.Write(&page, false); err != nil {
				t.Fatal(err)
			}
			golden.Match(t, filepath.Join("testdata", name+".txt"), page.String())
		})
	}
}

func TestALongForecastIsCutUnlessAllIsAskedFor(t *testing.T) {
	s := large(30)
	f := foresee(t, s)
	var short, wide strings.Builder
	if err := f.Write(&short, false); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(&wide, true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(short.String(), "and 10 waves more (-o wide)") || strings.Contains(wide.String(), "-o wide") || !strings.Contains(wide.String(), s.Nodes[29].Name) {
		t.Errorf("%s\n%s", short.String(), wide.String())
	}
}

// roomy gives the nodes of a healthy cluster room for ten pods each, and its pods needs.
func roomy(change func(*Snapshot)) *Snapshot {
	s := healthy()
	s.Nodes = append(s.Nodes, Node{"node-c", nil, linux()})
	for i := range s.Nodes {
		s.Nodes[i].CPU, s.Nodes[i].Memory, s.Nodes[i].Pods = 2000, 8<<30, 10
	}
	s.Needs, s.Rollout.MaxUnavailable = []Needs{{CPU: 500, Memory: 1 << 30}}, 3
	if change != nil {
		change(s)
	}
	return s
}

func TestPodsFitWhereASchedulerWouldPutThem(t *testing.T) {
	others := func(change func(*Node)) func(*Snapshot) {
		return func(s *Snapshot) { change(&s.Nodes[1]); change(&s.Nodes[2]) }
	}
	needs := func(n Needs) func(*Snapshot) {
		return func(s *Snapshot) { s.Needs = append(s.Needs, n); s.Pods[1].Needs = 1 }
	}
	in := func(values ...string) *corev1.NodeSelector {
		return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: values}}}}}
	}
	zone := others(func(n *Node) { n.Labels = map[string]string{"zone": "a"} })
	taint := others(func(n *Node) {
		n.Taints = []corev1.Taint{{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}}
	})
	both := func(a, b func(*Snapshot)) func(*Snapshot) { return func(s *Snapshot) { a(s); b(s) } }
	for name, c := range map[string]struct {
		change func(*Snapshot)
		why    string // empty: it fits
	}{
		"room":                       {nil, ""},
		"too little memory":          {needs(Needs{Memory: 9 << 30}), "2 nodes have too little memory"},
		"too little CPU on one":      {func(s *Snapshot) { needs(Needs{CPU: 1800})(s); s.Nodes[2].Ready = false }, "1 node has too little CPU"},
		"requests of others count":   {needs(Needs{CPU: 1500}), ""},
		"no pod more by maxPods":     {others(func(n *Node) { n.Pods = 0 }), "2 nodes have no pod more by maxPods"},
		"a cordoned node is no node": {others(func(n *Node) { n.Unschedulable = true }), "there is no other node"},
		"nor one of Fargate":         {others(func(n *Node) { n.ProviderID = "aws:///a/0f/fargate-ip-10-0-1-1" }), "there is no other node"},
		"a selector that nobody has": {needs(Needs{NodeSelector: map[string]string{"zone": "b"}}), "2 nodes have labels that it does not select"},
		"one that somebody has":      {both(zone, needs(Needs{NodeSelector: map[string]string{"zone": "a"}})), ""},
		"affinity":                   {both(zone, needs(Needs{Affinity: in("b", "c")})), "2 nodes have labels that it does not select"},
		"affinity that is met":       {both(zone, needs(Needs{Affinity: in("b", "a")})), ""},
		"affinity that is not valid": {both(zone, needs(Needs{Affinity: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: "Like"}}}}}})), "2 nodes have labels"},
		"a taint":                    {taint, "2 nodes have a taint that it does not tolerate"},
		"a taint that is borne":      {both(taint, needs(Needs{Tolerations: []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists}}})), ""},
		"a taint that only prefers": {others(func(n *Node) {
			n.Taints = []corev1.Taint{{Key: v1alpha1.TaintLeaving, Effect: corev1.TaintEffectPreferNoSchedule}}
		}), ""},
		"one of its kind": {func(s *Snapshot) { s.Pods[1].Alone, s.Pods[3].Alone = true, true; s.Nodes[2].Ready = false }, "1 node has one of its kind"},
		"the pods of DaemonSets stay": {func(s *Snapshot) {
			for i := range 8 {
				p := s.Pods[0]
				p.Name = fmt.Sprint("daemon-", i)
				s.Pods = append(s.Pods, p)
			}
			s.Nodes[2].Ready = false
		}, ""},
		"finished pods take no room": {func(s *Snapshot) { others(func(n *Node) { n.Pods = 3 })(s); s.Nodes[2].Ready = false }, ""},
		"needs that are nowhere":     {func(s *Snapshot) { s.Pods[1].Needs = 7 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := foresee(t, roomy(c.change))
			i := slices.IndexFunc(f.Waves, func(w Wave) bool { return w.Nodes[0].Name == "node-a" })
			if i < 0 {
				t.Fatalf("node-a gets no slot: %+v", f.Never)
			}
			got := ""
			for _, n := range f.Waves[i].Nodes[0].NoRoom {
				got += n.Why
			}
			if (got == "") != (c.why == "") || !strings.Contains(got, c.why) {
				t.Errorf("%q, want %q", got, c.why)
			}
		})
	}
}

// TestRoomIsGivenBack: a wave does not take away the next one's.
func TestRoomIsGivenBack(t *testing.T) {
	s := roomy(func(s *Snapshot) { s.Nodes[2].Pods, s.Nodes[1].Pods, s.Nodes[0].Pods = 1, 4, 4 })
	for range 2 {
		for _, w := range foresee(t, s).Waves {
			for _, n := range w.Nodes {
				if len(n.NoRoom) > 0 {
					t.Errorf("%s: %+v", n.Name, n.NoRoom)
				}
			}
		}
	}
}

func TestWhatStopsARollIsForetold(t *testing.T) {
	full := func(s *Snapshot) { // no room but on the node itself
		s.Rollout.MaxConcurrent, s.Rollout.MaxUnavailable, s.Rollout.Canary = 2, 2, nil
		s.Nodes = s.Nodes[:2]
	}
	for name, c := range map[string]struct {
		change func(*Snapshot)
		want   v1alpha1.Verdict
		holds  func(Forecast) bool
	}{
		"nothing":                             {nil, v1alpha1.VerdictPass, func(f Forecast) bool { return len(f.Waves) == 3 && len(f.Never)+len(f.Obstacles)+len(f.Stuck) == 0 }},
		"a bare pod":                          {func(s *Snapshot) { s.Pods[1].Owner = Owner{} }, v1alpha1.VerdictFail, func(f Forecast) bool { return f.Obstacles[0].Node == "node-a" && f.Obstacles[0].Stays }},
		"a budget for now":                    {func(s *Snapshot) { s.Budgets[0].Healthy, s.Budgets[0].Allowed = 1, 0 }, v1alpha1.VerdictWarn, func(f Forecast) bool { return len(f.Obstacles) == 2 && !f.Obstacles[0].Stays }},
		"a budget that waits for room":        {full, v1alpha1.VerdictFail, func(f Forecast) bool { return slices.Equal(f.Stuck, []string{"PodDisruptionBudget/shop/web"}) }},
		"which surge gives":                   {func(s *Snapshot) { full(s); s.Rollout.Surge = true }, v1alpha1.VerdictPass, func(f Forecast) bool { return f.Budget.Extra == 2 && len(f.Waves[0].Nodes[0].NoRoom) == 0 }},
		"and which one node at a time has":    {func(s *Snapshot) { full(s); s.Rollout.MaxConcurrent = 1 }, v1alpha1.VerdictPass, func(f Forecast) bool { return len(f.Stuck) == 0 }},
		"too few slices":                      {func(s *Snapshot) { s.NodeMaskSize = 17 }, v1alpha1.VerdictFail, func(f Forecast) bool { return f.Budget.Slices == 2 && f.Budget.SlicesTaken == 4 }},
		"a node that is not Ready":            {func(s *Snapshot) { s.Nodes[2].Ready = false }, v1alpha1.VerdictWarn, func(f Forecast) bool { return f.Never[0].Reason == v1alpha1.NodeNotReady && len(f.Waves) == 2 }},
		"one that is kept out":                {func(s *Snapshot) { s.Nodes[2].OptedOut = true }, v1alpha1.VerdictWarn, func(f Forecast) bool { return f.Never[0].Reason == v1alpha1.OptedOut }},
		"one without an agent":                {func(s *Snapshot) { s.Nodes[2].OS = "windows" }, v1alpha1.VerdictWarn, func(f Forecast) bool { return strings.Contains(f.Never[0].Message, "Windows") }},
		"one that has moved":                  {func(s *Snapshot) { s.Nodes[2].Role = v1alpha1.RoleOverlay }, v1alpha1.VerdictPass, func(f Forecast) bool { return len(f.Waves) == 2 && len(f.Never) == 0 }},
		"one that is being rolled":            {func(s *Snapshot) { s.Slots, s.Rolled = []string{"node-a"}, 1 }, v1alpha1.VerdictPass, func(f Forecast) bool { return len(f.Waves) == 2 && f.Waves[0].Nodes[0].Name == "node-b" }},
		"a Mixed one, which comes first":      {func(s *Snapshot) { s.Nodes[2].Role = v1alpha1.RoleMixed }, v1alpha1.VerdictPass, func(f Forecast) bool { return f.Waves[0].Nodes[0].Name == "node-c" }},
		"the coordinator's, which comes last": {func(s *Snapshot) { s.Pods[1].Deployment = coordinatorName }, v1alpha1.VerdictPass, func(f Forecast) bool { return f.Waves[2].Nodes[0].Name == "node-a" }},
		"pods that nobody may see":            {func(s *Snapshot) { s.Missing = []Missing{{Verb: "list", Resource: "pods"}} }, v1alpha1.VerdictUnknown, func(f Forecast) bool { return len(f.Waves) == 0 && slices.Equal(f.Unseen, []string{"pods"}) }},
		"a Cutover that nobody may see":       {func(s *Snapshot) { s.Missing = []Missing{{Verb: "get", Resource: CutoverResource}} }, v1alpha1.VerdictUnknown, func(f Forecast) bool { return len(f.Waves) == 3 && slices.Equal(f.Unseen, []string{CutoverResource}) }},
		"budgets that nobody may see": {func(s *Snapshot) {
			s.Missing = []Missing{{Verb: "list", Resource: "poddisruptionbudgets.policy"}}
			s.Budgets = nil
		}, v1alpha1.VerdictUnknown, func(f Forecast) bool { return len(f.Waves) == 3 }},
	} {
		t.Run(name, func(t *testing.T) {
			f := foresee(t, roomy(c.change))
			if got := f.Verdict(); got != c.want || !c.holds(f) {
				t.Errorf("%s, want %s: %+v", got, c.want, f)
			}
			var page strings.Builder
			if err := f.Write(&page, true); err != nil {
				t.Fatal(err)
			}
		})
	}
	if _, err := Foresee(roomy(func(s *Snapshot) { s.Selector = "=" }), 0); err == nil {
		t.Error("a selector that is none was taken")
	}
}

// TestTimesAddUp: each part of a wave's time is the Cutover's, or the slowest pod's.
func TestTimesAddUp(t *testing.T) {
	f := foresee(t, roomy(func(s *Snapshot) {
		s.Rollout.Soak, s.Rollout.Drain.DeregistrationDelay = metav1.Duration{Duration: 2 * time.Minute}, metav1.Duration{Duration: 310 * time.Second}
		s.Pods[1].Grace = 90
	}))
	want := []int64{310 + 90 + 300 + 60 + 120, 310 + 30 + 300 + 60 + 120, 310 + 300 + 60 + 120}
	total := int64(0)
	for i, w := range f.Waves {
		if w.Seconds != want[i] {
			t.Errorf("wave %d takes %d s, want %d s", i+1, w.Seconds, want[i])
		}
		total += w.Seconds
	}
	if f.Seconds != total {
		t.Errorf("%d s in all, want %d s", f.Seconds, total)
	}
}

// large is a cluster of nodes in ten pools with ten pods each, in budgets of five. Pods select their pool, and those of 500 kinds
// need more or less.
func large(nodes int) *Snapshot {
	s := healthy()
	s.Nodes, s.Pods, s.Budgets = nil, nil, nil
	for i := range 500 {
		s.Needs = append(s.Needs, Needs{CPU: 100, Memory: int64(256+i/2) << 20, NodeSelector: map[string]string{"pool": fmt.Sprint(i % 10)}})
	}
	for n := range nodes {
		node := Node{Name: fmt.Sprintf("ip-10-%d-%d-10.eu-central-1.compute.internal", n/250, n%250), NodeInfo: linux()}
		node.CPU, node.Memory, node.Pods, node.Labels = 1930, 7<<30, 29, map[string]string{"pool": fmt.Sprint(n % 10), corev1.LabelTopologyZone: fmt.Sprint("zone-", n%3)}
		s.Nodes = append(s.Nodes, node)
		for i := range 10 {
			app := fmt.Sprintf("app-%d", (n*10+i)/5)
			s.Pods = append(s.Pods, Pod{Namespace: "shop", Name: fmt.Sprintf("%s-%d", app, i), Node: node.Name, Owner: Owner{"apps/v1", "ReplicaSet", app}, Phase: corev1.PodRunning, Ready: true, EmptyDir: true, Grace: 30, Budgets: []string{app}, Needs: n % 500})
			if i%5 == 0 {
				s.Budgets = append(s.Budgets, Budget{Namespace: "shop", Name: app, MaxUnavailable: "1", Expected: 5, Healthy: 5, Desired: 4, Allowed: 1})
			}
		}
	}
	return s
}

// BenchmarkDraining judges 5,000 nodes and 50,000 pods.
func BenchmarkDraining(b *testing.B) {
	s := large(5000)
	s.Rollout.MaxConcurrent = 4
	for b.Loop() {
		if f := draining(s); len(f) != 1 || f[0].Verdict != v1alpha1.VerdictPass {
			b.Fatal(f)
		}
	}
}

// BenchmarkForesee forecasts a roll of 5,000 nodes and 50,000 pods, one by one and 64 at once.
func BenchmarkForesee(b *testing.B) {
	for slots, waves := range map[int32]int{1: 5000, 64: 79} {
		b.Run(fmt.Sprint(slots, "-at-once"), func(b *testing.B) {
			s := large(5000)
			s.Rollout.MaxConcurrent, s.Rollout.MaxUnavailable = slots, slots
			for b.Loop() {
				if f, err := Foresee(s, time.Minute); err != nil || len(f.Waves) != waves {
					b.Fatal(len(f.Waves), err)
				}
			}
		})
	}
}
