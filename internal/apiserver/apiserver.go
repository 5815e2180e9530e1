// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package apiserver gives tests a real Kubernetes API server on loopback, with its controllers and this project's CRDs.
// There is one per test binary, started by TestMain:
//
//	func TestMain(m *testing.M) {
//		os.Exit(apiserver.Run(m, func(s *apiserver.Server) error {
//			server = s
//			return nil
//		}))
//	}
//
// Nothing of it is left behind, however the test binary ends. A program that is not built is an error and never a reason to
// skip: what only a real API server can refuse is not proved by anything else.
package apiserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Generous for two loaded cores: a start takes 4 s and a stop 2 s when they are idle.
const (
	startTimeout = 90 * time.Second
	stopTimeout  = 30 * time.Second
)

// keeper runs the control plane ($1, in the folder $2, with the other arguments) until its standard input ends: when Stop
// closes it, or when the test binary dies, also by kill -9, which no code of its own would survive. Then it removes the
// folder. The control plane ending first ends the keeper too, because it holds the other end of its standard output.
const keeper = `
program=$1 dir=$2
shift 2
"$program" control-plane --dir "$dir" --bind 127.0.0.1:0 "$@" </dev/null &
server=$!
exec >/dev/null
read -r _
kill "$server" 2>/dev/null
wait "$server"
code=$?
rm -rf -- "$dir"
exit $code
`

// Server is a running control plane.
type Server struct {
	dir     string
	config  *rest.Config
	process *exec.Cmd
	hold    io.Closer
	ended   chan struct{}
	log     *tail
}

// Start starts a control plane and installs the project's CRDs. flags are those of lab-kube control-plane
// (lab/controlplane/README.md). No kubelet reports for the nodes that a test makes, so unless flags say otherwise a silent
// node is left alone for eight minutes.
func Start(flags ...string) (*Server, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	program := filepath.Join(root, "bin", "lab-kube")
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("looking for the API server: %w; build it once: lab/controlplane/build", err)
	}
	dir, err := os.MkdirTemp("", "cutover-api-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the API server: %w", err)
	}
	s := &Server{dir: dir, ended: make(chan struct{}), log: &tail{}}
	if err := s.start(program, append([]string{"--controller-manager-flag=--node-monitor-grace-period=480s"}, flags...)); err != nil {
		_ = s.Stop() // says nothing that err does not
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.Install(filepath.Join(root, "charts", "cni-cutover", "crds")); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// Run starts a control plane, hands it to ready, runs the tests of a binary around it, stops it, and returns the code with
// which the binary should end. What goes wrong is said on standard error; then no test is run.
func Run(tests interface{ Run() int }, ready func(*Server) error) int {
	s, err := Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := 1
	if err := ready(s); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = tests.Run()
	}
	if err := s.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Config returns the administrator's configuration of a client. It is a copy, without a limit on requests.
func (s *Server) Config() *rest.Config { return rest.CopyConfig(s.config) }

// Kubeconfig returns the path of the administrator's kubeconfig.
func (s *Server) Kubeconfig() string { return filepath.Join(s.dir, "admin.kubeconfig") }

// AuditLog returns the path of the API server's audit log: one audit.k8s.io/v1 event a line.
func (s *Server) AuditLog() string { return filepath.Join(s.dir, "audit.log") }

// Stop stops the control plane and removes everything it wrote. It may be called many times.
func (s *Server) Stop() error {
	if s.hold == nil {
		return nil
	}
	_ = s.hold.Close()
	s.hold = nil
	select {
	case <-s.ended:
	case <-time.After(stopTimeout):
		// The group holds the keeper and the control plane and nothing else.
		_ = syscall.Kill(-s.process.Process.Pid, syscall.SIGKILL)
		<-s.ended
		return errors.Join(fmt.Errorf("stopping the API server: still running after %s, so it was killed", stopTimeout), os.RemoveAll(s.dir))
	}
	if !s.process.ProcessState.Success() {
		return fmt.Errorf("stopping the API server: %s; it said last:\n%s", s.process.ProcessState, s.log)
	}
	return nil
}

// start starts the keeper and waits for the control plane's one line.
func (s *Server) start(program string, flags []string) error {
	s.process = exec.Command("sh", append([]string{"-c", keeper, "keeper", program, s.dir}, flags...)...)
	s.process.Stderr = s.log
	// A group of its own: Ctrl-C ends the test binary, and the keeper by that.
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	hold, err := s.process.StdinPipe()
	if err != nil {
		return fmt.Errorf("starting the API server: %w", err)
	}
	said, err := s.process.StdoutPipe()
	if err != nil {
		return fmt.Errorf("starting the API server: %w", err)
	}
	if err := s.process.Start(); err != nil {
		return fmt.Errorf("starting the API server: %w", err)
	}
	s.hold = hold
	ready := make(chan bool, 1)
	go func() {
		line := make([]byte, len("ready\n"))
		_, err := io.ReadFull(said, line)
		ready <- err == nil && string(line) == "ready\n"
		// Ends when the control plane does, whoever ended it.
		_, _ = io.Copy(io.Discard, said)
		_ = hold.Close()
		_ = s.process.Wait()
		close(s.ended)
	}()
	select {
	case ok := <-ready:
		if !ok {
			return fmt.Errorf("starting the API server: it ended before it was ready; it said last:\n%s", s.log)
		}
	case <-time.After(startTimeout):
		return fmt.Errorf("starting the API server: not ready after %s; it said last:\n%s", startTimeout, s.log)
	}
	if s.config, err = clientcmd.BuildConfigFromFlags("", s.Kubeconfig()); err != nil {
		return fmt.Errorf("reading the API server's kubeconfig: %w", err)
	}
	s.config.QPS = -1
	return nil
}

// moduleRoot finds the folder of this project from a test's folder, which is that of its package.
func moduleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for the project's folder: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "charts", "cni-cutover", "crds")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("looking for the project's folder: no folder above %s holds charts/cni-cutover/crds; run the test in the project", start)
		}
	}
}
