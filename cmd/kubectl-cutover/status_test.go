// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/meddler"
)

// rolling is a Cutover in the middle of phase RollNodes.
func rolling(c *v1alpha1.Cutover) {
	now := metav1.NowMicro()
	c.Spec.ApprovedPhases = []v1alpha1.Phase{v1alpha1.PhaseDecoupleIngress, v1alpha1.PhaseInstallCilium, v1alpha1.PhaseFenceLegacy, v1alpha1.PhaseRollNodes}
	c.Status = v1alpha1.CutoverStatus{
		ObservedGeneration: 1, Phase: v1alpha1.PhaseRollNodes, Nodes: v1alpha1.NodeCounts{Total: 4, Legacy: 3, Overlay: 1}, Rolled: 1,
		Phases: []v1alpha1.PhaseRecord{{Phase: v1alpha1.PhaseRollNodes, StartedAt: metav1.Now()}},
		Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "Progressing", Message: "1 of 4 nodes are on the overlay", LastTransitionTime: metav1.Now()},
			{Type: v1alpha1.ConditionFenceIntact, Status: metav1.ConditionTrue, Reason: "FenceComplete", Message: "every Legacy node carries the fence label", LastTransitionTime: metav1.Now()},
		},
		Slots: []v1alpha1.Slot{{
			NodeUID: "u-b", Node: "node-b", Zone: "a", Step: v1alpha1.StepDrain, Since: now, GrantedAt: now, Holder: "coordinator-1",
			Reason: v1alpha1.EvictionBlocked, Message: "a budget of shop/cart allows no eviction",
			Terms: v1alpha1.Terms{Replacement: v1alpha1.Replacement{Type: v1alpha1.ReplacementExternal, Timeout: metav1.Duration{Duration: time.Minute}, JoinTimeout: metav1.Duration{Duration: time.Minute}}},
		}},
		Waiting: []v1alpha1.Waiting{{Node: "node-c", Reason: v1alpha1.SlotsTaken, Message: "other nodes come first"}},
	}
}

func spoken(name string) *v1alpha1.NodeCutover {
	return &v1alpha1.NodeCutover{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: v1alpha1.NodeCutoverStatus{Verdict: v1alpha1.VerdictWarn, Role: v1alpha1.RoleLegacy, Findings: []v1alpha1.Finding{
			{Check: v1alpha1.CheckConflist, Verdict: v1alpha1.VerdictWarn, Reason: v1alpha1.ConflistLeftovers},
			{Check: v1alpha1.CheckKernel, Verdict: v1alpha1.VerdictPass, Reason: v1alpha1.AsWanted},
		}},
	}
}

func TestStatusShowsWhatIsThere(t *testing.T) {
	w := newWorld(t)
	on(t, "status").want(t, codeFailed, "there is none named cluster", "docs/examples/cutover.yaml")
	w.make(newCutover(rolling), spoken("node-b"))
	on(t, "status").want(t, codeClean, "Phase RollNodes, state Running. 1 of 4 nodes are on the overlay, 3 legacy.",
		"node-b", "Drain", "Warn (ConflistLeftovers)", "EvictionBlocked: a budget of shop/cart allows no eviction", "node-c", "SlotsTaken")
	on(t, "status", "-o", "json").want(t, codeClean, `"phase": "RollNodes"`)
	on(t, "status", "-o", "yaml").want(t, codeClean, "phase: RollNodes")
	on(t, "status", "-o", "xml").want(t, codeFailed, `--output "xml"`)
	on(t, "status", "-w", "-o", "json").want(t, codeFailed, "leave -o away")
}

func TestStatusTellsByItsCodeWhetherItGoesOn(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*v1alpha1.Cutover)
		code   int
	}{
		"it goes on":                   {func(*v1alpha1.Cutover) {}, codeClean},
		"a slot is held":               {func(c *v1alpha1.Cutover) { c.Status.Slots[0].HeldSince = &c.Status.Slots[0].Since }, codeBlocked},
		"the coordinator has not seen": {func(c *v1alpha1.Cutover) { c.Status.ObservedGeneration = 0 }, codeUnsure},
		"a person must act": {func(c *v1alpha1.Cutover) {
			c.Status.Conditions = append(c.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: "AwaitingApproval", LastTransitionTime: metav1.Now()})
		}, codeBlocked},
	} {
		t.Run(name, func(t *testing.T) {
			newWorld(t).make(newCutover(func(n *v1alpha1.Cutover) { rolling(n); c.change(n) }))
			on(t, "status").want(t, c.code)
		})
	}
}

// heard is output that one goroutine writes and another reads.
type heard struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

func (h *heard) waitFor(t *testing.T, words ...string) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		for _, w := range words {
			if !strings.Contains(h.String(), w) {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatalf("%q was not said:\n%s", words, h)
	}
}

// TestAPipeGetsALineForEachThingThatHappens, and the end of the context ends it cleanly.
func TestAPipeGetsALineForEachThingThatHappens(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(rolling))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, complaints heard
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"status", "-w", "--kubeconfig", server.Kubeconfig()}, genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &complaints})
	}()
	out.waitFor(t, "Phase RollNodes", "node-b")
	c := w.cutover()
	c.Status.Slots[0].Step, c.Status.Slots[0].Reason, c.Status.Slots[0].Message = v1alpha1.StepReplace, v1alpha1.AwaitingReplacement, "asked by annotation"
	if err := w.client.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	out.waitFor(t, "Z slot of node-b: step Replace\n", "Z slot of node-b: waits for AwaitingReplacement: asked by annotation\n")
	on(t, "pause").want(t, codeClean)
	out.waitFor(t, "Z state: Running -> Paused\n")
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("a pipe got a terminal's codes:\n%q", out.String())
	}
	cancel()
	if code := <-ended; code != codeClean {
		t.Errorf("exit code %d: %s", code, &complaints)
	}
}

func TestADeletedCutoverEndsTheWatch(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(rolling))
	var out, complaints heard
	ended := make(chan int, 1)
	go func() {
		ended <- run(t.Context(), []string{"status", "-w", "--kubeconfig", server.Kubeconfig()}, genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &complaints})
	}()
	out.waitFor(t, "Phase RollNodes")
	on(t, "pause").want(t, codeClean) // once this is seen the watch is there
	out.waitFor(t, "Running -> Paused")
	w.clear(w.cutover())
	if code := <-ended; code != codeFailed || !strings.Contains(complaints.String(), "there is none named cluster") {
		t.Errorf("exit code %d: %s", code, &complaints)
	}
}

// TestAWatchOutlivesTheAPIServer: what happened meanwhile is told when it is back.
func TestAWatchOutlivesTheAPIServer(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(rolling))
	proxy := meddler.Start(t, server.Config())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, complaints heard
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"status", "-w", "--kubeconfig", proxy.Kubeconfig()}, genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &complaints})
	}()
	out.waitFor(t, "Phase RollNodes")
	proxy.GoAway()
	complaints.waitFor(t, "trying again")
	on(t, "pause").want(t, codeClean)
	proxy.ComeBack()
	out.waitFor(t, "Z state: Running -> Paused\n")
	cancel()
	if code := <-ended; code != codeClean {
		t.Errorf("exit code %d: %s", code, &complaints)
	}
}

// terminal opens a pseudo terminal and returns both ends.
func terminal(t *testing.T, width, height uint16) (*os.File, *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close(); master.Close() })
	return master, slave
}

func TestATerminalGetsALiveTable(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(rolling))
	master, slave := terminal(t, 100, 30)
	var screen, complaints heard
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			if err != nil {
				return // the test has ended
			}
			_, _ = screen.Write(buffer[:n])
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"status", "-w", "--kubeconfig", server.Kubeconfig()}, genericiooptions.IOStreams{In: strings.NewReader(""), Out: slave, ErrOut: &complaints})
	}()
	screen.waitFor(t, "\x1b[H", "Phase RollNodes", "node-b", "Drain", "\x1b[J")
	c := w.cutover()
	c.Status.Slots[0].Step = v1alpha1.StepDetach
	if err := w.client.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	screen.waitFor(t, "Detach")
	cancel()
	if code := <-ended; code != codeClean {
		t.Errorf("exit code %d: %s", code, &complaints)
	}
}

func TestATableFitsItsWindow(t *testing.T) {
	for name, c := range map[string]struct {
		text          string
		width, height int
		want          string
	}{
		"as it is":     {"ab\ncd\n", 10, 10, "ab\x1b[K\r\ncd\x1b[K\r\n"},
		"too wide":     {"äbcdef\n", 4, 10, "äbc…\x1b[K\r\n"},
		"too high":     {"a\nb\nc\n", 10, 3, "a\x1b[K\r\nb\x1b[K\r\n"},
		"no room":      {"a\nb\n", 10, 0, "a\x1b[K\r\n"},
		"no width too": {"ab\n", 0, 5, "…\x1b[K\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fit(c.text, c.width, c.height); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
