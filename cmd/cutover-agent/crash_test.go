// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/apiserver"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
	"github.com/cni-cutover/cni-cutover/internal/isolated"
	"github.com/cni-cutover/cni-cutover/internal/meddler"
	"github.com/cni-cutover/cni-cutover/internal/program"
)

// namespace of the agent's account.
const namespace = "cni-cutover"

var server *apiserver.Server

func TestMain(m *testing.M) {
	if program.Is() {
		main()
		return
	}
	ctrl.SetLogger(logr.Discard())
	os.Exit(isolated.Run(func() int {
		if isolated.Tests() {
			if err := plugNIC(); err != nil {
				fmt.Fprintln(os.Stderr, "making a NIC for the tests:", err)
				return 1
			}
		}
		return apiserver.Run(m, func(s *apiserver.Server) error {
			server = s
			return s.InstallAccounts(context.Background(), namespace)
		})
	}))
}

// host is a node of a real API server with this machine for its host, and Cilium's conflist in its net.d, but no Cilium: what
// the agent finds is an Overlay node in a bad way, the same every time.
type host struct {
	*fleet.Fleet
	t     testing.TB
	proxy *meddler.Proxy
	root  string
	uid   types.UID

	mu      sync.Mutex
	answers []string // the challenges that the API server took answers to, as they came
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{Fleet: fleet.Start(t, server.Config()), t: t, root: t.TempDir()}
	h.Join(fleet.Node{})
	h.SetAgent("node-1", fleet.Agent{Silent: true})
	h.uid = h.Nodes()[0].UID
	h.conflist(true)
	cutover := &v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName}, Spec: v1alpha1.CutoverSpec{Overlay: v1alpha1.Overlay{PodCIDRs: []string{"10.244.0.0/16"}}}}
	if err := h.Client.Create(t.Context(), cutover); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "agent"},
		Spec:       corev1.PodSpec{NodeName: "node-1", ServiceAccountName: "cutover-agent", Containers: []corev1.Container{{Name: "agent", Image: "none"}}},
	}
	if err := h.Client.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Client.Delete(context.Background(), pod, client.GracePeriodSeconds(0)) }) // goes with its node in any case
	as, err := server.As(t.Context(), namespace, "cutover-agent", pod)
	if err != nil {
		t.Fatal(err)
	}
	h.proxy = meddler.Start(t, as)
	h.proxy.Witness(h.see)
	nc := &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}, Spec: v1alpha1.NodeCutoverSpec{NodeUID: h.uid}}
	if err := h.Client.Create(t.Context(), nc); err != nil {
		t.Fatal(err)
	}
	return h
}

// see notes what the agent answered.
func (h *host) see(r meddler.Request, status int) {
	if status != http.StatusOK {
		return
	}
	var said v1alpha1.NodeCutover
	if err := json.Unmarshal(r.Body, &said); err != nil {
		h.t.Errorf("%s: a report that cannot be read: %v", r, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers = append(h.answers, said.Status.ChallengeID)
}

func (h *host) start(flags ...string) *program.Process {
	h.t.Helper()
	p := program.Start(h.t, "agent", h.proxy.Kubeconfig(), append([]string{"run", "--metrics-address=127.0.0.1:0", "--node-name=node-1", "--host-root=" + h.root, "--bpffs=" + h.root}, flags...)...)
	h.t.Cleanup(func() { p.End(h.t) })
	return p
}

// ask puts a question to a node UID that lives for so long.
func (h *host) ask(id string, uid types.UID, lives time.Duration) {
	h.t.Helper()
	nc := &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"challenge": v1alpha1.Challenge{
		ID: id, NodeUID: uid, Role: v1alpha1.RoleOverlay, Purpose: v1alpha1.PurposeValidate,
		ExpiresAt: metav1.NewMicroTime(time.Now().Add(lives)), RequiredChecks: check.Names(),
	}}})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.Client.Patch(h.t.Context(), nc, client.RawPatch(types.MergePatchType, body)); err != nil {
		h.t.Fatal(err)
	}
}

// said waits until the agent has answered a question, or, to the empty one, has told of its host, and returns its report but
// for times and numbers.
func (h *host) said(id string) string {
	h.t.Helper()
	var b strings.Builder
	fleet.Eventually(h.t, 30*time.Second, func() string {
		var nc v1alpha1.NodeCutover
		if err := h.Client.Get(h.t.Context(), client.ObjectKey{Name: "node-1"}, &nc); err != nil {
			return err.Error()
		}
		s := nc.Status
		if s.ChallengeID != id || s.NodeUID == "" {
			return fmt.Sprintf("the report answers %q of node %q, want %q", s.ChallengeID, s.NodeUID, id)
		}
		b.Reset()
		fmt.Fprintf(&b, "%s of this node %t, boot %t, version %s: %s, judged as %s: %s\n", s.ChallengeID, s.NodeUID == h.uid, s.BootID != "", s.AgentVersion, s.Role, s.JudgedRole, s.Verdict)
		for _, f := range s.Findings {
			fmt.Fprintf(&b, "%s %s %s\n", f.Check, f.Verdict, f.Reason)
		}
		return ""
	})
	return b.String()
}

func (h *host) answered() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string{}, h.answers...)
}

// TestTheAgentIsKilledAtEveryWrite kills the agent, by SIGKILL, before and after each of its writes: what it tells unasked, and
// two answers. Another one starts at once, and the node's report ends as it does when nothing is killed.
func TestTheAgentIsKilledAtEveryWrite(t *testing.T) {
	var want string
	t.Run("undisturbed", func(t *testing.T) {
		h := newHost(t)
		h.start()
		want = h.conversation(func() {})
		fleet.Eventually(t, 10*time.Second, func() string { // the witness hears of a write a moment later than we
			return cmp.Diff([]string{"", "one", "two", "three"}, h.answered())
		})
	})
	for n := 1; n <= 3; n++ {
		for name, fate := range map[string]func(kill func()) meddler.Fate{
			"before": func(kill func()) meddler.Fate { return meddler.Fate{Before: kill, Lost: true} },
			"after":  func(kill func()) meddler.Fate { return meddler.Fate{After: kill, Unheard: true} },
		} {
			t.Run(fmt.Sprintf("%s %d", name, n), func(t *testing.T) {
				h := newHost(t)
				if diff := cmp.Diff(want, h.conversation(h.killAt(n, fate))); diff != "" {
					t.Errorf("the report ended as another one (-undisturbed +got):\n%s", diff)
				}
			})
		}
	}
}

// killAt starts an agent that is killed at its n-th write, and another one when it is; the returned function waits for that.
func (h *host) killAt(n int, fate func(kill func()) meddler.Fate) (wait func()) {
	h.t.Helper()
	born, killed := make(chan *program.Process, 1), make(chan struct{})
	kill := func() {
		(<-born).Kill()
		close(killed)
	}
	h.proxy.Meddle(func(r meddler.Request) (f meddler.Fate) {
		if r.Write == n {
			f = fate(kill)
		}
		return f
	})
	born <- h.start()
	var next sync.WaitGroup
	next.Go(func() {
		select {
		case <-killed:
			h.start()
		case <-h.t.Context().Done():
			h.t.Errorf("nothing was killed at write %d of %d", n, h.proxy.Writes())
		}
	})
	h.t.Cleanup(next.Wait)
	return next.Wait
}

// conversation waits for what the agent tells unasked, asks it twice, and once more when what disturbs it is over. It returns
// the last report.
func (h *host) conversation(over func()) string {
	h.t.Helper()
	h.said("")
	for _, id := range []string{"one", "two"} {
		h.ask(id, h.uid, time.Minute)
		h.said(id)
	}
	over()
	h.ask("three", h.uid, time.Minute)
	return h.said("three")
}

// TestAnAgentThatWasDeadAnswersWhatIsStillWorthAnAnswer: a question that was asked meanwhile, and neither one that has expired
// nor one for an earlier node of its name.
func TestAnAgentThatWasDeadAnswersWhatIsStillWorthAnAnswer(t *testing.T) {
	h := newHost(t)
	a := h.start()
	h.said("")
	a.Kill()
	h.ask("asked while it was dead", h.uid, time.Minute)
	a = h.start()
	h.said("asked while it was dead")
	a.Kill()

	h.ask("expired while it was dead", h.uid, time.Millisecond)
	a = h.start()
	h.tells(false)
	h.ask("for another node", "another", time.Minute)
	h.tells(true)
	h.ask("the last one", h.uid, time.Minute)
	h.said("the last one")
	a.Kill()
	for _, id := range h.answered() {
		if strings.HasPrefix(id, "expired") || strings.HasPrefix(id, "for another") {
			t.Errorf("the agent answered %q", id)
		}
	}
}

// conflist puts Cilium's conflist into net.d, or takes it away: without it nothing shows what the role of the node is.
func (h *host) conflist(there bool) {
	h.t.Helper()
	dir := filepath.Join(h.root, "etc/cni/net.d")
	err := os.MkdirAll(dir, 0o755)
	file := filepath.Join(dir, "05-cilium.conflist")
	switch {
	case err != nil:
	case there:
		err = os.WriteFile(file, []byte(`{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni"}]}`), 0o600)
	default:
		err = os.Remove(file)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// tells changes the host and waits until the agent has told of that. It does one thing after the other, so that a question
// which it had seen before, and would answer, is answered by then.
func (h *host) tells(conflist bool) {
	h.t.Helper()
	role := v1alpha1.RoleUnknown
	if conflist {
		role = v1alpha1.RoleOverlay
	}
	h.conflist(conflist)
	fleet.Eventually(h.t, 30*time.Second, func() string {
		var nc v1alpha1.NodeCutover
		if err := h.Client.Get(h.t.Context(), client.ObjectKey{Name: "node-1"}, &nc); err != nil {
			return err.Error()
		}
		if nc.Status.Role == role {
			return ""
		}
		return fmt.Sprintf("the agent tells of role %s, want %s", nc.Status.Role, role)
	})
}
