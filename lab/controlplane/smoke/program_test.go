// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package smoke

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Generous for two loaded cores: a start takes 4 s and a stop 2 s when they are idle.
const (
	startTimeout = 60 * time.Second
	stopTimeout  = 20 * time.Second
)

// program returns the path of lab-kube, built from the sources beside this test.
func program(t *testing.T) string {
	t.Helper()
	if out, err := exec.Command("../build", "--check").CombinedOutput(); err != nil {
		t.Fatalf("%s(%v)", out, err)
	}
	path, err := filepath.Abs("../../../bin/lab-kube")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// server is a running lab-kube.
type server struct {
	t       *testing.T
	name    string
	process *exec.Cmd
	lines   chan string
	stderr  bytes.Buffer
}

// start starts lab-kube with args and waits until it prints that it is ready.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{t: t, name: args[0], process: exec.Command(program(t), args...), lines: make(chan string, 100)}
	s.process.Stderr = &s.stderr
	// Not even a test that is killed leaves a server behind.
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := s.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			s.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		if s.process.ProcessState == nil {
			_ = s.process.Process.Kill()
			_ = s.process.Wait()
		}
	})
	select {
	case line, open := <-s.lines:
		if line != "ready" {
			s.fatal("first line on stdout is %q (open: %v), want ready", line, open)
		}
	case <-time.After(startTimeout):
		s.fatal("not ready after %s", startTimeout)
	}
	return s
}

// stop sends SIGTERM and demands that the server ends in time, without an error, having printed nothing more.
func (s *server) stop() {
	s.t.Helper()
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	expired := time.After(stopTimeout)
	for open := true; open; {
		var line string
		select {
		case line, open = <-s.lines:
			if open {
				s.t.Errorf("the %s printed a second line on stdout: %q", s.name, line)
			}
		case <-expired:
			s.fatal("still running %s after SIGTERM", stopTimeout)
		}
	}
	if err := s.process.Wait(); err != nil {
		s.fatal("stopped with %v", err)
	}
}

// kill ends the server as a crash would.
func (s *server) kill() {
	s.t.Helper()
	if err := s.process.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.process.Wait(); err == nil {
		s.fatal("ended without an error although it was killed")
	}
}

func (s *server) fatal(format string, args ...any) {
	s.t.Helper()
	// The buffer may be read only when nobody writes it any more.
	if s.process.ProcessState == nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
	}
	log := strings.Split(strings.TrimSpace(s.stderr.String()), "\n")
	s.t.Fatalf("lab-kube "+s.name+": "+format+"; the end of its log:\n%s", append(args, strings.Join(log[max(0, len(log)-15):], "\n"))...)
}

// kubectl runs kubectl as the administrator of dir and returns its output.
func kubectl(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t), append([]string{"kubectl"}, args...)...)
	// A home of its own: kubectl caches discovery there.
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(dir, "admin.kubeconfig"), "HOME="+filepath.Join(dir, "home"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mustKubectl is kubectl for commands that must work.
func mustKubectl(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := kubectl(t, dir, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}
