// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package figures_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/apiserver"
	"github.com/cni-cutover/cni-cutover/internal/figures"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
	"github.com/cni-cutover/cni-cutover/internal/oracle"
)

// namespace of the coordinator's account and lease.
const namespace = "cni-cutover"

// scene is a fleet on an API server of its own, and the coordinator as the process that a cluster runs: the program of
// cmd/cutover-coordinator with its own limits on requests, its ServiceAccount's rights from the chart, and a lease.
type scene struct {
	*fleet.Fleet
	b      *testing.B
	server *apiserver.Server
	pid    int
	pprof  string
}

func newScene(b *testing.B, flags ...string) *scene {
	b.Helper()
	ctrl.SetLogger(logr.Discard())
	server, err := apiserver.Start(flags...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := server.Stop(); err != nil {
			b.Error(err)
		}
	})
	if err := server.InstallAccounts(b.Context(), namespace); err != nil {
		b.Fatal(err)
	}
	return &scene{Fleet: fleet.Start(b, server.Config()), b: b, server: server}
}

func (s *scene) must(err error) {
	s.b.Helper()
	if err != nil {
		s.b.Fatal(err)
	}
}

// lead starts the coordinator and waits until it holds the lease.
func (s *scene) lead() {
	s.b.Helper()
	dir := s.b.TempDir()
	program := filepath.Join(dir, "cutover-coordinator")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "../../cmd/cutover-coordinator")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		s.b.Fatalf("building the coordinator: %v\n%s", err, said)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	s.must(err)
	s.pprof = "127.0.0.1:" + strconv.Itoa(30000+os.Getpid()%20000)
	run := exec.Command(program, "--metrics-bind-address=0", "--health-probe-bind-address=0", "--pprof-bind-address="+s.pprof,
		"--leader-election-namespace="+namespace, "--pod-name=coordinator")
	run.Env = append(os.Environ(), "KUBECONFIG="+s.kubeconfig(dir))
	run.Stderr = log
	run.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not outlive the test binary
	s.must(run.Start())
	s.pid = run.Process.Pid
	s.b.Cleanup(func() {
		_ = run.Process.Signal(syscall.SIGTERM) // one that has ended is what was wanted
		if err := run.Wait(); err != nil {
			s.b.Errorf("running the coordinator: %v", err)
		}
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); s.b.Failed() && err == nil {
			s.b.Logf("the coordinator said last:\n%s", text[max(0, len(text)-4000):])
		}
	})
	fleet.Eventually(s.b, time.Minute, func() string {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "cutover-coordinator"}}
		err := s.Client.Get(s.b.Context(), client.ObjectKeyFromObject(lease), lease)
		if err == nil && lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "" {
			return ""
		}
		return fmt.Sprintf("nobody leads: %v", err)
	})
}

// kubeconfig writes one with the token of the coordinator's ServiceAccount.
func (s *scene) kubeconfig(dir string) string {
	s.b.Helper()
	as, err := s.server.As(s.b.Context(), namespace, oracle.Coordinator, nil)
	s.must(err)
	c := clientcmdapi.NewConfig()
	c.Clusters["it"] = &clientcmdapi.Cluster{Server: as.Host, CertificateAuthority: as.CAFile, CertificateAuthorityData: as.CAData}
	c.AuthInfos["it"] = &clientcmdapi.AuthInfo{Token: as.BearerToken}
	c.Contexts["it"] = &clientcmdapi.Context{Cluster: "it", AuthInfo: "it"}
	c.CurrentContext = "it"
	path := filepath.Join(dir, "kubeconfig")
	s.must(clientcmd.WriteToFile(*c, path))
	return path
}

// memory returns the coordinator's resident memory in MiB, now and at its highest.
func (s *scene) memory() (now, peak float64) {
	s.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	s.must(err)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmRSS":
			now = kib / 1024
		case "VmHWM":
			peak = kib / 1024
		}
	}
	return now, peak
}

// profile keeps a profile of the coordinator (go tool pprof) in the folder that FIGURES_PROFILES names, if it does.
func (s *scene) profile(name, query string) {
	dir := os.Getenv("FIGURES_PROFILES")
	if dir == "" {
		return
	}
	answer, err := http.Get("http://" + s.pprof + "/debug/pprof/" + query)
	s.must(err)
	defer answer.Body.Close()
	var body bytes.Buffer
	_, err = io.Copy(&body, answer.Body)
	s.must(err)
	s.must(os.WriteFile(filepath.Join(dir, name+".pprof"), body.Bytes(), 0o600))
}

// keep copies a file to where profiles are kept.
func (s *scene) keep(name, path string) {
	s.b.Helper()
	dir := os.Getenv("FIGURES_PROFILES")
	if dir == "" {
		return
	}
	body, err := os.ReadFile(path)
	s.must(err)
	s.must(os.WriteFile(filepath.Join(dir, name), body, 0o600))
}

// times are how long the steps of a slot take that the coordinator does not decide about.
type times struct{ deregister, drain, end, join, ready, soak time.Duration }

// paced are times so many times as long as FIGURES_PACE says: what a step costs the coordinator is the same, and its share is not.
func (t times) paced(b *testing.B) times {
	b.Helper()
	n := time.Duration(number(b, "FIGURES_PACE", 1))
	return times{n * t.deregister, n * t.drain, n * t.end, n * t.join, n * t.ready, n * t.soak}
}

func (t times) slot() time.Duration {
	return t.deregister + t.drain + t.end + t.join + t.ready + t.soak
}

func (t times) String() string {
	return fmt.Sprintf("deregistration %s, pods leave in %s, the node ends in %s, another joins in %s, is Ready in %s, soak %s: a slot takes %s",
		t.deregister, t.drain, t.end, t.join, t.ready, t.soak, t.slot())
}

// play makes the world take these times.
func (s *scene) play(t times, nodes []fleet.Node) {
	s.b.Helper()
	s.Join(nodes...)
	s.CNIs(fleet.HybridEnv()...)
	s.SetGrace(50 * time.Millisecond) // until the VPC CNI is fenced: that ends its pods one by one
	s.OnReplace(replacement(t))
}

// cutover creates a Cutover of which everything before RollNodes is approved, and waits until it is there. From then on pods
// take their time to leave.
func (s *scene) cutover(t times, concurrent int32, change ...func(*v1alpha1.Cutover)) {
	s.b.Helper()
	none := int32(0)
	c := &v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName}, Spec: v1alpha1.CutoverSpec{
		Overlay: v1alpha1.Overlay{PodCIDRs: []string{"10.244.0.0/16"}},
		Rollout: v1alpha1.Rollout{
			MaxConcurrent: concurrent, MaxUnavailable: concurrent, Canary: &none, Soak: metav1.Duration{Duration: t.soak},
			Drain: v1alpha1.Drain{DeregistrationDelay: metav1.Duration{Duration: t.deregister}, Timeout: metav1.Duration{Duration: time.Hour}},
		},
		ApprovedPhases: []v1alpha1.Phase{v1alpha1.PhaseDecoupleIngress, v1alpha1.PhaseInstallCilium, v1alpha1.PhaseFenceLegacy},
	}}
	for _, f := range change {
		f(c)
	}
	s.must(s.Client.Create(s.b.Context(), c))
	s.lead()
	s.until(15*time.Minute, func(c *v1alpha1.Cutover) string {
		if stalled := s.Condition(v1alpha1.ConditionStalled); c.Status.Phase == v1alpha1.PhaseRollNodes && stalled.Reason == string(v1alpha1.AwaitingApproval) {
			return ""
		}
		return "phase is " + string(c.Status.Phase)
	})
	s.SetGrace(t.drain)
}

func (s *scene) approve() {
	s.Patch(`{"spec":{"approvedPhases":["DecoupleIngress","InstallCilium","FenceLegacy","RollNodes"]}}`)
}

// until waits for a Cutover in which nothing is missing.
func (s *scene) until(within time.Duration, missing func(*v1alpha1.Cutover) string) {
	s.b.Helper()
	s.eventually(within, 500*time.Millisecond, func() string { return missing(s.Cutover()) })
}

// eventually looks every so often until nothing is missing: whoever asks all the time measures himself.
func (s *scene) eventually(within, every time.Duration, missing func() string) {
	s.b.Helper()
	look := time.NewTicker(every)
	defer look.Stop()
	fleet.Eventually(s.b, within, func() string {
		<-look.C
		return missing()
	})
}

// rolled waits until so many nodes are.
func (s *scene) rolled(want int, within time.Duration) {
	s.b.Helper()
	s.until(within, func(c *v1alpha1.Cutover) string {
		if int(c.Status.Rolled) == want && len(c.Status.Slots) == 0 {
			return ""
		}
		return fmt.Sprintf("%d nodes are rolled, %d slots are held; %v", c.Status.Rolled, len(c.Status.Slots), c.Status.Conditions)
	})
}

// log reads the audit log, and has the oracle judge it too if it holds the bodies.
func (s *scene) log(judge bool) *figures.Roll {
	s.b.Helper()
	s.keep("audit.log", s.server.AuditLog())
	var roll figures.Roll
	var laws oracle.Oracle
	s.must(oracle.ReadFile(s.server.AuditLog(), func(e *oracle.Event) {
		roll.Log(e)
		if judge {
			laws.See(e)
		}
	}))
	for _, v := range laws.Violations() {
		s.b.Errorf("a law is broken: %s", v)
	}
	if judge {
		fmt.Printf("the oracle judged %+v and found %d violations\n", laws.Seen(), len(laws.Violations()))
	}
	return &roll
}

// replacement takes these times, each by up to a third shorter or longer: clouds do not march in step.
func replacement(t times) func(old *corev1.Node) fleet.Replacement {
	random := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	about := func(d time.Duration) time.Duration {
		return d + time.Duration((random.Float64()-0.5)*2/3*float64(d))
	}
	return func(*corev1.Node) fleet.Replacement {
		mu.Lock()
		defer mu.Unlock()
		return fleet.Replacement{EndsAfter: about(t.end), JoinsAfter: about(t.join), Node: fleet.Node{ReadyAfter: about(t.ready)}}
	}
}
