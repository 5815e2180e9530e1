// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// restartAfter is how long a program that ended stays down.
const restartAfter = time.Second

// readyWithin is how long a program may take to make its Ready path.
const readyWithin = 60 * time.Second

// children are the processes of a machine's first process: those it started and the
// orphans that the kernel hands to it. One loop collects them all, so exec.Cmd.Wait must
// not be used here.
type children struct {
	mu    sync.Mutex
	ended map[int]chan syscall.WaitStatus
}

// adopt begins collecting the process's dead children.
func adopt() *children {
	c := &children{ended: map[int]chan syscall.WaitStatus{}}
	dead := make(chan os.Signal, 1)
	signal.Notify(dead, syscall.SIGCHLD)
	go func() {
		for range dead {
			c.collect()
		}
	}()
	return c
}

func (c *children) collect() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid == 0 {
			return
		}
		c.mu.Lock()
		if ended, ours := c.ended[pid]; ours {
			ended <- status
			delete(c.ended, pid)
		}
		c.mu.Unlock()
	}
}

// start begins a program; its status arrives on the channel.
func (c *children) start(p Program) (<-chan syscall.WaitStatus, error) {
	output, err := os.OpenFile(logFile(p), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", p.Name, err)
	}
	defer output.Close()
	cmd := exec.Command(p.Args[0], p.Args[1:]...)
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}, p.Env...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	c.mu.Lock() // so that collect cannot see the child before it is known
	defer c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.Name, err)
	}
	ended := make(chan syscall.WaitStatus, 1)
	c.ended[cmd.Process.Pid] = ended
	return ended, nil
}

// run carries out the start script.
func (c *children) run(programs []Program) error {
	for _, p := range programs {
		ended, err := c.start(p)
		if err != nil {
			return err
		}
		if p.Once {
			if status := <-ended; status != 0 {
				return fmt.Errorf("%s ended with status %#x: %s", p.Name, uint32(status), said(p))
			}
			continue
		}
		go c.keep(p, ended)
		if err := await(p); err != nil {
			return err
		}
	}
	return nil
}

// keep restarts a program whenever it ends.
func (c *children) keep(p Program, ended <-chan syscall.WaitStatus) {
	for {
		status := <-ended
		log.Printf("%s ended with status %#x: starting it again in %s", p.Name, uint32(status), restartAfter)
		time.Sleep(restartAfter)
		next, err := c.start(p)
		if err != nil {
			log.Printf("giving up on %s: %v", p.Name, err)
			return
		}
		ended = next
	}
}

func await(p Program) error {
	if p.Ready == "" {
		return nil
	}
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(p.Ready); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s made no %s within %s: %s", p.Name, p.Ready, readyWithin, said(p))
}

// said is the end of a program's log: its directory may be gone when the error is read.
func said(p Program) string {
	text, err := os.ReadFile(logFile(p))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-1024):]))
}

func logFile(p Program) string { return filepath.Join(logDir, p.Name+".log") }
