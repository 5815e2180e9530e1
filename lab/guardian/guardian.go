// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package guardian sees to it that a lab leaves nothing behind, however its owner ends.
//
// The owner (a test, the demo) starts the guardian, a process in a session of its own, and
// holds the only writing end of its standard input. The guardian starts the supervisor in
// fresh namespaces. When its input ends, by Stop or by kill -9 of the owner, it kills the
// supervisor; the kernel then kills every process of the lab, and mounts and network
// namespaces go with them. What is left are cgroups and the state directory: the guardian
// removes them. If the guardian is killed too, the supervisor dies with it and the next
// Sweep removes what is left.
package guardian

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/lab/machine"
)

// Names under which a program that uses the lab re-executes itself.
const (
	Arg0           = "lab-guardian"
	SupervisorArg0 = "lab-supervisor"
)

// Prefix begins the name of every state directory in os.TempDir, and of the lab's cgroup,
// which has the directory's name.
const Prefix = "cutover-lab-"

const (
	lockFile = "lock"
	logFile  = "supervisor.log"
)

// Process is a running guardian, as its owner sees it.
type Process struct {
	// Dir is the lab's state directory: readable by the owner, removed at the end.
	Dir string

	cmd  *exec.Cmd
	log  *os.File
	life io.WriteCloser
	done chan struct{}
	err  error
}

// Start makes a state directory and its guardian. order is passed to the supervisor as one
// line of JSON on its standard input, passed as its file descriptor 3.
func Start(order any, passed *os.File) (*Process, error) {
	dir, lock, err := newDir()
	if err != nil {
		return nil, err
	}
	defer lock.Close() // the guardian's copy keeps it locked
	p, err := start(dir, lock, passed)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := json.NewEncoder(p.life).Encode(order); err != nil {
		return nil, errors.Join(fmt.Errorf("telling the lab's guardian what to do: %w", err), p.Stop())
	}
	return p, nil
}

func start(dir string, lock, passed *os.File) (*Process, error) {
	output, err := os.Create(filepath.Join(dir, logFile))
	if err != nil {
		return nil, fmt.Errorf("making the lab's log: %w", err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{Arg0, dir}
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = "/", output, output, []*os.File{lock, passed}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C in the owner's terminal is the owner's affair
	life, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the lab's guardian: %w", err), output.Close())
	}
	p := &Process{Dir: dir, cmd: cmd, log: output, life: life, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// Done is closed when the lab is gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// Said is what guardian and supervisor have written, its last 4 KiB. It can be read when
// the state directory is gone already.
func (p *Process) Said() string {
	text, _ := io.ReadAll(io.NewSectionReader(p.log, 0, 1<<20))
	return string(text[max(0, len(text)-4096):])
}

// Stop ends the lab and returns when nothing of it is left.
func (p *Process) Stop() error {
	_ = p.life.Close()
	<-p.done
	if p.err != nil {
		return fmt.Errorf("ending the lab: %w", p.err)
	}
	return nil
}

// Main is the guardian's life; it does not return. args are os.Args.
func Main(args []string) {
	runtime.LockOSThread() // the supervisor dies with the thread that started it
	if len(args) != 2 {
		log.Fatalf("arguments %q: %s is started by the lab only", args, Arg0)
	}
	if err := guard(args[1]); err != nil {
		log.Fatal(err)
	}
	os.Exit(0)
}

// guard owns file descriptors 3, the locked lock, and 4, which is the supervisor's 3.
func guard(dir string) error {
	unix.CloseOnExec(3)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{SupervisorArg0, dir}
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", os.Stdout, os.Stderr
	passed := os.NewFile(4, "passed on")
	cmd.ExtraFiles = []*os.File{passed}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		Setsid:     true,
		Pdeathsig:  syscall.SIGKILL,
	}
	input, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("starting the lab's supervisor: %w", err), Remove(dir))
	}
	passed.Close()
	go func() {
		_, _ = io.Copy(input, os.Stdin) // the order, and then nothing until the owner ends
		_ = cmd.Process.Kill()
	}()
	ended := cmd.Wait() // the supervisor is the first process of its namespace: all others are gone now
	log.Printf("supervisor ended: %v", ended)
	return Remove(dir)
}

// Remove removes the cgroups of a lab and then, so that a directory is always left to tell
// of left cgroups, its state directory.
func Remove(dir string) error {
	if err := machine.RemoveCgroups(filepath.Base(dir)); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing the lab's state: %w", err)
	}
	return nil
}

// Sweep removes what labs left behind whose guardian was killed.
func Sweep() error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), Prefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		lock, err := tryLock(dir)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue // alive; or so young that it has no guardian yet; or gone by now
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, Remove(dir))
		lock.Close()
	}
	return errors.Join(errs...)
}

// newDir makes a locked state directory.
func newDir() (string, *os.File, error) {
	dir, err := os.MkdirTemp("", Prefix)
	if err != nil {
		return "", nil, fmt.Errorf("making the lab's state directory: %w", err)
	}
	lock, err := os.Create(filepath.Join(dir, lockFile))
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("locking the lab's state directory: %w", err), os.RemoveAll(dir))
	}
	return dir, lock, nil
}

// tryLock takes the lock that a living guardian holds.
func tryLock(dir string) (*os.File, error) {
	lock, err := os.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("opening the lock of a lab: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return lock, nil
}
