// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
)

// beChild makes this test binary one that starts a server, says where, and waits to be killed.
const beChild = "APISERVER_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(beChild) == "" {
		os.Exit(m.Run())
	}
	s, err := Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.dir, s.Config().Host)
	select {}
}

func TestTheServerKnowsOurKindsAndLeavesNothingBehind(t *testing.T) {
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop() }()
	client, err := dynamic.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	for _, resource := range []string{"cutovers", "nodecutovers"} {
		list, err := client.Resource(schema.GroupVersionResource{Group: "cni-cutover.dev", Version: "v1alpha1", Resource: resource}).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 0 {
			t.Errorf("listing %s: %v, %v; want none", resource, list, err)
		}
	}
	if _, err := os.Stat(s.Kubeconfig()); err != nil {
		t.Error(err)
	}
	if err := s.Install(t.TempDir()); err == nil || !strings.Contains(err.Error(), "make generate") {
		t.Errorf("installing from an empty folder: %v; want to be told what to run", err)
	}
	for range 2 {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
	gone(t, s.dir, s.Config().Host)
}

func TestATestBinaryThatIsKilledLeavesNothingBehind(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), beChild+"=1")
	child.Stderr = os.Stderr
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		_ = child.Process.Kill()
		t.Fatalf("the child ended before its server was ready: %v, %v", err, child.Wait())
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed, and says so
	dir, host, _ := strings.Cut(strings.TrimSpace(line), " ")
	gone(t, dir, host)
}

func TestAMissingProgramIsAnErrorThatSaysWhatToRun(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "charts", "cni-cutover", "crds"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	if _, err := Start(); err == nil || !strings.Contains(err.Error(), "lab/controlplane/build") {
		t.Errorf("got %v, want an error that names lab/controlplane/build", err)
	}
	t.Chdir(t.TempDir())
	if _, err := Start(); err == nil || !strings.Contains(err.Error(), "run the test in the project") {
		t.Errorf("outside of the project: got %v", err)
	}
}

func TestAProgramThatEndsAtOnceIsQuoted(t *testing.T) {
	if s, err := Start("--no-such-flag"); err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("got %v, %v; want an error that quotes the program", s, err)
	}
}

// gone waits until the folder is removed and nobody listens any more.
func gone(t *testing.T, dir, host string) {
	t.Helper()
	at, err := url.Parse(host)
	if err != nil {
		t.Fatal(err)
	}
	err = wait.PollUntilContextTimeout(context.Background(), 50*time.Millisecond, stopTimeout, true, func(context.Context) (bool, error) {
		if _, err := os.Stat(dir); err == nil {
			return false, nil
		}
		c, err := net.Dial("tcp", at.Host)
		if err == nil {
			_ = c.Close()
		}
		return err != nil, nil
	})
	if err != nil {
		t.Errorf("%s or the listener on %s is still there after %s", dir, at.Host, stopTimeout)
	}
}
