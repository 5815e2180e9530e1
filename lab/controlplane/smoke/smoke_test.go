// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package smoke starts the built lab-kube on loopback and asks whether it is a Kubernetes. It runs the
// program and does not import it: the servers can be started once per process only.
package smoke

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheControlPlaneIsAKubernetes(t *testing.T) {
	dir := t.TempDir()
	plane := start(t, "control-plane", "--dir", dir, "--bind", "127.0.0.1:0")

	if out := mustKubectl(t, dir, "get", "--raw", "/readyz"); out != "ok" {
		t.Errorf("/readyz says %q", out)
	}
	mustKubectl(t, dir, "get", "serviceaccount", "default", "--namespace", "default")
	if out := mustKubectl(t, dir, "version"); !strings.Contains(out, "Server Version: v1.35.") {
		t.Errorf("the server does not know its version:\n%s", out)
	}

	mustKubectl(t, dir, "apply", "-f", "testdata/crd.yaml")
	mustKubectl(t, dir, "wait", "--for=condition=Established", "crd/ranges.smoke.cni-cutover.dev")
	mustKubectl(t, dir, "create", "-f", "testdata/range.yaml")
	if out, err := kubectl(t, dir, "create", "-f", "testdata/range-backward.yaml"); err == nil || !strings.Contains(out, "a range must not end before it begins") {
		t.Errorf("an object that breaks a CEL rule: error %v\n%s", err, out)
	}

	mustKubectl(t, dir, "create", "-f", "testdata/workload.yaml")
	mustKubectl(t, dir, "wait", "--for=create", "pod", "--selector=app=app", "--timeout=30s")
	mustKubectl(t, dir, "wait", "--for=jsonpath={.spec.nodeName}=paper", "pod", "--selector=app=app", "--timeout=30s")

	// A watch that nobody ends must not keep the servers.
	watch := exec.Command(program(t), "kubectl", "--kubeconfig", filepath.Join(dir, "admin.kubeconfig"),
		"get", "pods", "--watch", "--output=name")
	stdout, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = watch.Process.Kill()
		_ = watch.Wait()
	}()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("watching pods: got %q, %v", line, err)
	}
	plane.stop()

	if _, err := os.Stat(filepath.Join(dir, "etcd.sock")); !os.IsNotExist(err) {
		t.Errorf("etcd's socket after the stop: %v, want it gone", err)
	}
	created := auditEvent{Verb: "create"}
	created.User.Username = "lab-admin"
	created.ObjectRef.Resource, created.ObjectRef.Namespace, created.ObjectRef.Name = "deployments", "default", "app"
	created.ResponseStatus.Code = 201
	expectAudited(t, filepath.Join(dir, "audit.log"), created)

	again := start(t, "control-plane", "--dir", dir, "--bind", "127.0.0.1:0")
	mustKubectl(t, dir, "get", "ranges.smoke.cni-cutover.dev", "forward")
	again.stop()
}

// auditEvent is the part of an audit event that laboratories rely on; times are compared with nothing and
// must only be there.
type auditEvent struct {
	Verb string
	User struct {
		Username string
	}
	ObjectRef struct {
		Resource, Namespace, Name string
	}
	ResponseStatus struct {
		Code int
	}
	RequestReceivedTimestamp, StageTimestamp time.Time
}

func expectAudited(t *testing.T, path string, want auditEvent) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	events, found := 0, 0
	for decoder := json.NewDecoder(file); decoder.More(); events++ {
		var event auditEvent
		if err := decoder.Decode(&event); err != nil {
			t.Fatalf("reading event %d of %s: %v", events, path, err)
		}
		if event.RequestReceivedTimestamp.IsZero() || event.StageTimestamp.IsZero() {
			t.Fatalf("event %d of %s has no times", events, path)
		}
		event.RequestReceivedTimestamp, event.StageTimestamp = time.Time{}, time.Time{}
		if event == want {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d of %d audit events are %+v, want one", found, events, want)
	}
}

func TestAServerOnItsOwnMayDieAndComeBack(t *testing.T) {
	dir := t.TempDir()
	etcd := start(t, "etcd", "--dir", dir)
	start(t, "apiserver", "--dir", dir, "--bind", "127.0.0.1:0").kill()
	apiserver := start(t, "apiserver", "--dir", dir, "--bind", "127.0.0.1:0")
	manager := start(t, "controller-manager", "--dir", dir)
	scheduler := start(t, "scheduler", "--dir", dir)
	mustKubectl(t, dir, "get", "serviceaccount", "default", "--namespace", "default")
	for _, s := range []*server{scheduler, manager, apiserver, etcd} {
		s.stop()
	}
}

func TestARefusedCommandLineSaysWhy(t *testing.T) {
	dir := t.TempDir()
	tests := map[string]struct {
		args []string
		want string
	}{
		"no directory":             {[]string{"control-plane"}, "set --dir"},
		"no such flag":             {[]string{"control-plane", "--dir", dir, "--nope"}, "unknown flag: --nope"},
		"an argument":              {[]string{"control-plane", "--dir", dir, "now"}, `"now" is not a flag`},
		"no address":               {[]string{"control-plane", "--dir", dir, "--bind", "here"}, `"here" for "--bind"`},
		"advertising everything":   {[]string{"control-plane", "--dir", dir, "--advertise", "0.0.0.0"}, "cannot advertise 0.0.0.0"},
		"too long for a socket":    {[]string{"control-plane", "--dir", dir + strings.Repeat("/deeper", 20)}, "choose a shorter --dir"},
		"not our address":          {[]string{"control-plane", "--dir", dir, "--bind", "192.0.2.1:0"}, "choose with --bind"},
		"no such API server flag":  {[]string{"control-plane", "--dir", dir, "--bind", "127.0.0.1:0", "--apiserver-flag=--nope"}, "flags of the apiserver: unknown flag: --nope"},
		"controllers without it":   {[]string{"controller-manager", "--dir", t.TempDir()}, "start that one first"},
		"a node without addresses": {[]string{"node-credentials", "--dir", dir, "--out", dir, "--node", "n", "--server", "https://10.0.0.2"}, "all needed"},
		"no such program":          {[]string{"kubeadm"}, "usage: lab-kube <program>"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), program(t), test.args...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), test.want) {
				t.Errorf("got error %v and output\n%s\nwant one with %q", err, out, test.want)
			}
		})
	}
}
