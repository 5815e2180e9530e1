// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/lab/guardian"
	"github.com/cni-cutover/cni-cutover/lab/machine"
	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

// startWithin is how long a machine's start script may take; on a loaded machine the
// images are what takes time.
const startWithin = 3 * time.Minute

// apiServer is where the control plane listens in the VPC.
const apiServer = "10.0.0.2:6443"

// supervisor is the state of the running lab.
type supervisor struct {
	order    Order
	state    string // the state directory
	scratch  string // an empty directory in it, for the machines' tmpfs
	hostProc string
	router   *vpc.Router
	cgroupV1 bool

	mu       sync.Mutex
	machines map[string]*running
	numbers  int // of nodes, handed out so far; a node's subnet has its number
}

type running struct {
	host    Host
	machine *machine.Machine
}

// Main is the supervisor's life; it does not return. args are os.Args; file descriptor 3
// is a listener of the real machine's loopback.
func Main(args []string) {
	log.SetPrefix("supervisor: ")
	if len(args) != 2 {
		log.Fatalf("arguments %q: %s is started by the lab only", args, guardian.SupervisorArg0)
	}
	if err := run(args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(state string) error {
	s := &supervisor{
		state: state, scratch: filepath.Join(state, "scratch"), hostProc: filepath.Join(state, "hostproc"),
		machines: map[string]*running{},
	}
	if err := json.NewDecoder(os.Stdin).Decode(&s.order); err != nil {
		return fmt.Errorf("reading the order: %w", err)
	}
	s.order.Dir = cmp.Or(s.order.Dir, state)
	forwarded, err := net.FileListener(os.NewFile(3, "API server's listener"))
	if err != nil {
		return fmt.Errorf("taking over the API server's listener: %w", err)
	}
	unix.CloseOnExec(3)
	if err := s.mounts(); err != nil {
		return err
	}
	if s.router, err = vpc.NewRouter(s.order.MTU); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	if err := s.startHosts(ctx); err != nil {
		return err
	}
	go forward(forwarded, apiServer)
	return s.serve()
}

// mounts gives the lab its own proc and keeps the real machine's, which tells process
// numbers as the real machine counts them.
func (s *supervisor) mounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	for _, dir := range []string{s.scratch, s.hostProc} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("making a mount point: %w", err)
		}
	}
	if err := unix.Mount("/proc", s.hostProc, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keeping the real machine's proc: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting proc: %w", err)
	}
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers") // there on hosts with nothing but version 2
	s.cgroupV1 = err != nil
	return nil
}

// startHosts starts the machines that are no nodes.
func (s *supervisor) startHosts(ctx context.Context) error {
	dir := filepath.Join(s.order.Dir, ControlPlaneDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the control plane's directory: %w", err)
	}
	control := machine.Spec{
		Name:   ControlPlane,
		Mounts: []machine.Mount{{Source: dir, Target: dir}, {Source: s.order.Bin, Target: "/opt/lab/bin"}},
		Programs: []machine.Program{{
			Name: ControlPlane,
			Args: []string{
				"/opt/lab/bin/lab-kube", "control-plane", "--dir=" + dir, "--bind=0.0.0.0:6443", "--advertise=10.0.0.2",
				"--service-cidr=10.96.0.0/12", "--kubeconfig-server=" + s.order.APIServer,
			},
			Ready: filepath.Join(s.order.Dir, Kubeconfig), // certificates are there: nodes may begin
		}},
	}
	if _, err := s.start(ctx, control, vpc.Instance{Zone: "lab-a", Interfaces: []vpc.Interface{vpc.HostInterface(2)}}, ""); err != nil {
		return err
	}
	client := machine.Spec{Name: Client, Mounts: []machine.Mount{{Source: s.order.Bin, Target: "/opt/lab/bin"}}}
	_, err := s.start(ctx, client, vpc.Instance{Zone: "lab-a", Interfaces: []vpc.Interface{vpc.HostInterface(10)}}, "")
	return err
}

// start makes a machine and remembers it.
func (s *supervisor) start(ctx context.Context, spec machine.Spec, instance vpc.Instance, group string) (Host, error) {
	spec.Cgroup = filepath.Base(s.state) + "/" + spec.Name
	spec.Scratch, spec.HostProc = s.scratch, s.hostProc
	spec.Log = filepath.Join(s.order.Dir, LogDir, spec.Name)
	m, err := machine.Start(ctx, spec, func(pid int) error { return s.router.Attach(pid, instance.Interfaces) })
	if err != nil {
		return Host{}, errors.Join(err, s.router.Detach(instance.Interfaces))
	}
	host := Host{Name: spec.Name, PID: m.HostPID, Instance: instance, Logs: spec.Log, Node: instance.ID != "", NodeGroup: group}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machines[spec.Name] = &running{host, m}
	return host, nil
}

// serve answers calls until the process is killed.
func (s *supervisor) serve() error {
	server := rpc.NewServer()
	if err := server.RegisterName(service, &calls{s}); err != nil {
		return fmt.Errorf("registering the calls: %w", err)
	}
	socket := filepath.Join(s.state, Socket)
	listener, err := net.Listen("unix", socket+".new")
	if err == nil {
		err = os.Rename(socket+".new", socket) // whoever sees it may dial it
	}
	if err != nil {
		return fmt.Errorf("listening for calls: %w", err)
	}
	server.Accept(listener)
	return errors.New("listening for calls: the listener was closed")
}

// forward copies every connection of the listener, which belongs to the real machine's
// network namespace, to an address of this one.
func forward(listener net.Listener, address string) {
	for {
		near, err := listener.Accept()
		if err != nil {
			log.Printf("accepting for %s: %v", address, err)
			return
		}
		go func() {
			defer near.Close()
			far, err := net.Dial("tcp", address)
			if err != nil {
				return // the caller sees its connection closed, and tries again
			}
			defer far.Close()
			go func() {
				defer far.Close()
				_, _ = io.Copy(far, near)
			}()
			_, _ = io.Copy(near, far)
		}()
	}
}
