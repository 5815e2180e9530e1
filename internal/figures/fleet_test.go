// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package figures_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/figures"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

// slimAudit records who wrote what, with the bodies of those requests only from which figures are made: those of thousands of
// pods would be gigabytes.
const slimAudit = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Request
    verbs: [create, update, patch, delete]
    resources:
      - {group: cni-cutover.dev}
      - {group: "", resources: [nodes, nodes/status, pods/binding]}
  - level: Metadata
    users: ["system:serviceaccount:cni-cutover:cutover-coordinator"]
  - level: Metadata
    verbs: [delete]
    resources: [{group: "", resources: [pods]}]
  - level: None
`

// number is a setting of the environment.
func number(b *testing.B, name string, usual int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatalf("reading %s: %v", name, err)
	}
	return n
}

// BenchmarkFleet rolls 640 of 5,000 nodes with 64 slots of a minute, a tenth of what they take in a real cluster: time over the
// bound that slots and step times give, memory and processor time of the coordinator, and its requests. The nodes are fenced
// already, so that nothing but the roll is measured: binding 5,000 pods of the VPC CNI to their label anew is the DaemonSet
// controller's work. FIGURES_NODES and FIGURES_ROLL are other numbers, FIGURES_PACE=10 is the pace of a real cluster.
func BenchmarkFleet(b *testing.B) {
	const slots = 64
	t := times{deregister: 15 * time.Second, drain: 10 * time.Second, end: 10 * time.Second, join: 5 * time.Second, ready: 5 * time.Second, soak: 15 * time.Second}.paced(b)
	all, roll := number(b, "FIGURES_NODES", 5000), number(b, "FIGURES_ROLL", 640)
	for range b.N {
		policy := filepath.Join(b.TempDir(), "audit.yaml")
		if err := os.WriteFile(policy, []byte(slimAudit), 0o600); err != nil {
			b.Fatal(err)
		}
		s := newScene(b, "--apiserver-flag=--audit-policy-file="+policy)
		fmt.Printf("%s; %d slots; %d of %d nodes\n", t, slots, roll, all)
		s.fenced(t, all, roll)
		s.cutover(t, slots, func(c *v1alpha1.Cutover) {
			c.Spec.Nodes.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"figures": "roll"}}
		})
		s.settled(all)
		idle, _ := s.memory()
		before, busy := s.log(false).Requests, s.processor()
		s.say("ready: %.0f MiB", idle)
		s.profile("heap-ready", "heap")

		began := time.Now()
		s.approve()
		s.until(time.Minute, func(c *v1alpha1.Cutover) string {
			if len(c.Status.Slots) > 0 {
				return ""
			}
			return "no slot is granted"
		})
		first := time.Now()
		s.profile("cpu", "profile?seconds=20")
		s.profile("heap-roll", "heap")
		s.rolled(roll, 3*time.Hour)
		took := time.Since(first)
		_, peak := s.memory()
		s.report(t, figuresOf{s.log(false), before, took, first.Sub(began), peak, s.processor() - busy, slots, roll})
	}
}

// figuresOf is what the roll of a fleet was.
type figuresOf struct {
	*figures.Roll
	before      figures.Requests
	took, start time.Duration
	peak        float64
	busy        time.Duration
	slots, roll int
}

func (s *scene) report(t times, f figuresOf) {
	idle := f.Idle()
	bound := idle.Bound(f.slots)
	requests := f.Requests.Minus(f.before)
	per := func(n int) float64 { return float64(n) / f.took.Seconds() }
	s.say("the first slot %s after the approval; %s for all; the bound is %s by what the world took, and %s if all took %s; processor %s",
		f.start, f.took, bound, time.Duration((f.roll+f.slots-1)/f.slots)*t.slot(), t.slot(), f.busy)
	fmt.Printf("answers: %s\n%s\n", f.Reactions().All(), idle)
	fmt.Printf("requests a second: get %.1f list %.1f write %.1f evict %.1f events %.1f lease %.1f, agents %.1f; watches %d; refused %v\n%s",
		per(requests.Gets), per(requests.Lists), per(requests.Writes), per(requests.Evictions), per(requests.Events), per(requests.Lease), per(requests.Answers), requests.Watches, requests.Refused, requests)
	s.b.ReportMetric(f.took.Seconds()/bound.Seconds(), "of-bound")
	s.b.ReportMetric(f.peak, "peak-MiB")
	s.b.ReportMetric(per(requests.Gets), "gets/s")
	s.b.ReportMetric(per(requests.Lists), "lists/s")
	s.b.ReportMetric(per(requests.Writes), "writes/s")
	s.b.ReportMetric(float64(requests.Writes+requests.Answers)/float64(f.roll), "writes/node")
	s.b.ReportMetric(ms(f.busy)/float64(f.roll), "cpu-ms/node")
	s.b.ReportMetric(0, "ns/op")
}

// say tells of a long benchmark's progress.
func (s *scene) say(format string, args ...any) {
	fmt.Printf("%s %s\n", time.Now().UTC().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// fenced makes a cluster in which every node is fenced, and whose first nodes are to be rolled.
func (s *scene) fenced(t times, all, roll int) {
	s.b.Helper()
	s.CNIs(fleet.HybridEnv()...)
	ds := s.Legacy()
	body := fmt.Sprintf(`{"spec":{"template":{"spec":{"nodeSelector":{%q:"true"}}}}}`, v1alpha1.FenceLabel)
	s.must(s.Client.Patch(s.b.Context(), ds, client.RawPatch(types.MergePatchType, []byte(body))))
	s.SetGrace(t.drain)
	s.OnReplace(replacement(t))
	list := nodes(all)
	for i := range list {
		list[i].Labels = map[string]string{v1alpha1.FenceLabel: "true"}
		if i < roll {
			list[i].Labels["figures"] = "roll"
		}
	}
	s.Join(list...)
	s.say("%d nodes have joined", all)
	s.eventually(30*time.Minute, 5*time.Second, func() string {
		if ds := s.Legacy(); int(ds.Status.NumberReady) == all {
			return ""
		}
		return fmt.Sprintf("%d pods of the VPC CNI are ready", s.Legacy().Status.NumberReady)
	})
	s.say("the VPC CNI runs on all")
	s.Deployment("shop", int32(all/5))
	s.say("%d pods run", all/5)
}

// settled waits until every node's agent was heard of.
func (s *scene) settled(all int) {
	s.b.Helper()
	s.eventually(10*time.Minute, 5*time.Second, func() string {
		var asked v1alpha1.NodeCutoverList
		s.must(s.Client.List(s.b.Context(), &asked))
		heard := 0
		for i := range asked.Items {
			if asked.Items[i].Status.Role != "" {
				heard++
			}
		}
		if heard == all {
			return ""
		}
		return fmt.Sprintf("%d of %d agents have reported", heard, all)
	})
}

// processor is the time that the coordinator has used of processors: /proc/PID/stat, fields 14 and 15, in hundredths.
func (s *scene) processor() time.Duration {
	s.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	s.must(err)
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
