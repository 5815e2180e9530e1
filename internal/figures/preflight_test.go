// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package figures_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/internal/apiserver"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
	"github.com/cni-cutover/cni-cutover/internal/oracle"
	"github.com/cni-cutover/cni-cutover/preflight"
)

// reader is the ServiceAccount with whose rights the plugin looks: it may read everything and write nothing.
const reader = "reader"

// readAudit records who read what and nothing else.
const readAudit = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
    users: ["system:serviceaccount:default:reader"]
  - level: None
`

// BenchmarkPreflight looks at 5,000 nodes and 50,000 pods with the plugin as the program that ships, in a process of its own:
// time, memory at its highest, and requests of each command. FIGURES_NODES is another number of nodes, with ten pods each.
// Nothing is a controller's but the accounts of namespaces: what is written stays as it is.
func BenchmarkPreflight(b *testing.B) {
	nodes := number(b, "FIGURES_NODES", 5000)
	for range b.N {
		d := newDesk(b)
		written := &estate{b: b, client: d.client, nodes: nodes}
		written.write(say)
		d.program = d.build()
		kept := filepath.Join(b.TempDir(), "snapshot.tgz")
		networks := []string{"--vpc-cidr", "10.0.0.0/9", "--overlay", "10.128.0.0/9"}
		d.run("preflight", append(networks, "preflight")...)
		d.run("preflight-save", append(networks, "preflight", "--save", kept)...)
		d.run("plan", "plan")
		d.run("density", "density")
		d.run("preflight-from", "preflight", "--from", kept, "-o", "json")
		d.run("plan-from", "plan", "--from", kept)
		d.holds(kept, nodes)
		b.ReportMetric(0, "ns/op")
	}
}

// desk is where a person sits: an API server, and the plugin with a reader's kubeconfig.
type desk struct {
	b       *testing.B
	server  *apiserver.Server
	client  client.Client
	program string
	config  string
	seen    int // events of the audit log
}

func newDesk(b *testing.B) *desk {
	b.Helper()
	ctrl.SetLogger(logr.Discard())
	policy := filepath.Join(b.TempDir(), "audit.yaml")
	if err := os.WriteFile(policy, []byte(readAudit), 0o600); err != nil {
		b.Fatal(err)
	}
	server, err := apiserver.Start(
		"--apiserver-flag=--audit-policy-file="+policy,
		// Nobody would take the taint from nodes that it gives them.
		"--apiserver-flag=--disable-admission-plugins=TaintNodesByCondition",
		"--controller-manager-flag=--controllers=serviceaccount-controller,root-ca-certificate-publisher-controller")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := server.Stop(); err != nil {
			b.Error(err)
		}
	})
	c, err := client.New(server.Config(), client.Options{Scheme: fleet.Scheme()})
	if err != nil {
		b.Fatal(err)
	}
	d := &desk{b: b, server: server, client: c}
	d.reader()
	return d
}

func (d *desk) must(err error) {
	d.b.Helper()
	if err != nil {
		d.b.Fatal(err)
	}
}

// reader makes the account and writes its kubeconfig.
func (d *desk) reader() {
	d.b.Helper()
	meta := metav1.ObjectMeta{Name: reader}
	for _, o := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: reader}},
		&rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list"}}}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: reader}, Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: reader}}},
	} {
		d.must(d.client.Create(d.b.Context(), o))
	}
	as, err := d.server.As(d.b.Context(), "default", reader, nil)
	d.must(err)
	d.config = filepath.Join(d.b.TempDir(), "kubeconfig")
	d.must(clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"it": {Server: as.Host, CertificateAuthority: as.CAFile, CertificateAuthorityData: as.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"it": {Token: as.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{"it": {Cluster: "it", AuthInfo: "it"}},
		CurrentContext: "it",
	}, d.config))
}

// build builds the plugin as `make kubectl-cutover` does.
func (d *desk) build() string {
	d.b.Helper()
	program := filepath.Join(d.b.TempDir(), "kubectl-cutover")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, "../../cmd/kubectl-cutover")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		d.b.Fatalf("building the plugin: %v\n%s", err, said)
	}
	return program
}

// run runs the plugin and tells what it cost. A process never shows less memory than its parent had when it was made (exec(2)
// hands the highest mark on), so the mark is set back before: 5 into clear_refs, proc(5).
func (d *desk) run(name string, args ...string) {
	d.b.Helper()
	debug.FreeOSMemory()
	d.must(os.WriteFile("/proc/self/clear_refs", []byte("5"), 0))
	var stdout, stderr bytes.Buffer
	plugin := exec.Command(d.program, args...)
	plugin.Env = append(os.Environ(), "KUBECONFIG="+d.config)
	plugin.Stdout, plugin.Stderr = &stdout, &stderr
	plugin.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not outlive the test binary
	began := time.Now()
	err := plugin.Run()
	took := time.Since(began)
	if code := plugin.ProcessState.ExitCode(); code != 0 && code != 2 {
		d.b.Fatalf("running kubectl cutover %s: %v\n%s\n%s", name, err, &stdout, &stderr)
	}
	usage := plugin.ProcessState.SysUsage().(*syscall.Rusage)
	peak := float64(usage.Maxrss) / 1024 // getrusage(2): KiB
	requests, busiest := d.requests()
	say("kubectl cutover %s: %.2f s, processor %.2f s, %.0f MiB, %d requests, at most %d in a second, exit code %d",
		name, took.Seconds(), (plugin.ProcessState.UserTime() + plugin.ProcessState.SystemTime()).Seconds(), peak, requests, busiest, plugin.ProcessState.ExitCode())
	if dir := os.Getenv("FIGURES_PROFILES"); dir != "" {
		d.must(os.WriteFile(filepath.Join(dir, name+".txt"), stdout.Bytes(), 0o600))
	}
	d.b.ReportMetric(took.Seconds(), name+"-s")
	d.b.ReportMetric(peak, name+"-MiB")
	d.b.ReportMetric(float64(requests), name+"-requests")
}

// requests counts the reader's since it was asked before, and those in the busiest second: what any second holds, not only
// those of the clock.
func (d *desk) requests() (all, busiest int) {
	d.b.Helper()
	var at []time.Time
	d.must(oracle.ReadFile(d.server.AuditLog(), func(e *oracle.Event) {
		if e.By(reader) {
			at = append(at, e.Received.Time)
		}
	}))
	at, d.seen = at[d.seen:], len(at)
	for i := range at {
		n := 0
		for _, other := range at {
			if since := other.Sub(at[i]); since >= 0 && since < time.Second {
				n++
			}
		}
		busiest = max(busiest, n)
	}
	return len(at), busiest
}

// holds fails unless a snapshot is of the whole cluster.
func (d *desk) holds(kept string, nodes int) {
	d.b.Helper()
	file, err := os.Open(kept)
	d.must(err)
	defer file.Close()
	s, err := preflight.Load(file)
	d.must(err)
	if len(s.Nodes) != nodes || len(s.Pods) != nodes*ofNode || len(s.Missing) > 0 {
		d.b.Errorf("the snapshot has %d nodes, %d pods, and could not read %v", len(s.Nodes), len(s.Pods), s.Missing)
	}
	info, err := file.Stat()
	d.must(err)
	whole, err := json.Marshal(s)
	d.must(err)
	fmt.Printf("the snapshot is %.1f MiB, unpacked %.1f MiB\n", float64(info.Size())/(1<<20), float64(len(whole))/(1<<20))
}

// say tells of a long benchmark's progress.
func say(format string, args ...any) {
	fmt.Printf("%s %s\n", time.Now().UTC().Format("15:04:05"), fmt.Sprintf(format, args...))
}
