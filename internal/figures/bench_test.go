// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package figures_test

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

// nodes are n Legacy nodes over three zones.
func nodes(n int) []fleet.Node {
	out := make([]fleet.Node, n)
	for i := range out {
		out[i].Zone = string(rune('a' + i%3))
	}
	return out
}

// BenchmarkReaction rolls 156 nodes, four at a time, and measures from every answer to what is done about it. A slot takes a
// quarter of a minute, forty times less than in a real cluster. FIGURES_SLOTS=32 FIGURES_PACE=4 is a node in two seconds, and
// begins with the answers of 32 agents at once.
func BenchmarkReaction(b *testing.B) {
	t := times{deregister: 2500 * time.Millisecond, drain: 2 * time.Second, end: 2500 * time.Millisecond, join: 2500 * time.Millisecond, ready: 2500 * time.Millisecond, soak: 3 * time.Second}.paced(b)
	const n = 156
	slots := number(b, "FIGURES_SLOTS", 4)
	for range b.N {
		s := newScene(b)
		s.play(t, nodes(n))
		s.Deployment("shop", n)
		s.cutover(t, int32(slots))
		s.approve()
		s.rolled(n, 3*time.Hour)
		roll := s.log(true)
		got := roll.Reactions()
		fmt.Printf("%s; %d slots\n  grant     %s\n  eviction  %s\n  validated %s\n  soaked    %s\n  all       %s\n%s\n",
			t, slots, got.Grant, got.Eviction, got.Validated, got.Soaked, got.All(), roll.Idle())
		b.ReportMetric(ms(got.All().At(0.5)), "p50-ms")
		b.ReportMetric(ms(got.All().At(0.99)), "p99-ms")
		b.ReportMetric(ms(got.All().At(1)), "max-ms")
		b.ReportMetric(float64(len(got.All())), "answers")
		b.ReportMetric(0, "ns/op")
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// BenchmarkWrites rolls three nodes one by one and lists the writes for the second of them.
func BenchmarkWrites(b *testing.B) {
	t := times{deregister: 2 * time.Second, drain: 2 * time.Second, end: 2 * time.Second, join: 2 * time.Second, ready: 2 * time.Second, soak: 2 * time.Second}
	for range b.N {
		s := newScene(b)
		s.play(t, nodes(3))
		s.Deployment("shop", 6)
		s.cutover(t, 1)
		s.approve()
		s.rolled(3, 5*time.Minute)
		roll := s.log(true)
		writes := roll.WritesFor("node-2")
		fmt.Printf("%s; one slot\n", t)
		for i, w := range writes {
			fmt.Printf("%3d  %s  %s\n", i+1, w, w.Why())
		}
		fmt.Println(roll.Idle())
		fmt.Printf("refused: %v\n", roll.Requests.Refused)
		b.ReportMetric(float64(len(writes)), "writes/node")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkRest counts the writes of a minute at rest: before the roll is approved, and when no window is open.
func BenchmarkRest(b *testing.B) {
	for range b.N {
		s := newScene(b)
		s.play(times{}, nodes(20))
		s.Deployment("shop", 20)
		closed := time.Now().UTC().Add(12 * time.Hour).Format("15:04")
		s.cutover(times{}, 4, func(c *v1alpha1.Cutover) {
			c.Spec.Rollout.Windows = []v1alpha1.Window{{Start: closed, Duration: metav1.Duration{Duration: time.Minute}}}
		})
		unapproved := s.quiet()
		s.approve()
		s.until(time.Minute, func(c *v1alpha1.Cutover) string {
			if len(c.Status.Waiting) == 20 && c.Status.Waiting[0].Reason == v1alpha1.OutsideWindow {
				return ""
			}
			return fmt.Sprintf("waiting are %+v", c.Status.Waiting)
		})
		b.ReportMetric(float64(unapproved), "unapproved-writes/min")
		b.ReportMetric(float64(s.quiet()), "shut-writes/min")
		b.ReportMetric(0, "ns/op")
	}
}

// quiet lets the cluster settle, counts the writes of a minute after that, and lists them.
func (s *scene) quiet() int {
	s.b.Helper()
	s.wait(10 * time.Second)
	from := time.Now()
	s.wait(time.Minute)
	writes := s.log(false).Writes(from, time.Now())
	for _, w := range writes {
		fmt.Printf("at rest: %s %s\n", w, w.Why())
	}
	return len(writes)
}

// wait lets time pass: nothing is what is waited for.
func (s *scene) wait(d time.Duration) {
	select {
	case <-time.NewTimer(d).C:
	case <-s.b.Context().Done():
	}
}

// BenchmarkIdle rolls 64 nodes, 32 at a time, at a pace nearer to that of a cluster, and measures for how much of the slots'
// time nobody but the coordinator was waited for.
func BenchmarkIdle(b *testing.B) {
	t := times{deregister: 30 * time.Second, drain: 15 * time.Second, end: 15 * time.Second, join: 10 * time.Second, ready: 20 * time.Second, soak: 30 * time.Second}.paced(b)
	for range b.N {
		s := newScene(b)
		s.play(t, nodes(64))
		s.Deployment("shop", 192)
		s.cutover(t, 32)
		s.approve()
		s.rolled(64, 3*time.Hour)
		roll := s.log(true)
		idle, got := roll.Idle(), roll.Reactions()
		fmt.Printf("%s; 32 slots\n%s\nanswers: %s\n", t, idle, got.All())
		b.ReportMetric(100*idle.Share(), "idle-%")
		b.ReportMetric(ms(idle.Sum())/float64(idle.Slots), "idle-ms/slot")
		b.ReportMetric(0, "ns/op")
	}
}
