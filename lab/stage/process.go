// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cni-cutover/cni-cutover/lab"
)

// process is a running lab-traffic.
type process struct {
	name   string
	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan struct{}
	err    error // once done
}

// outsideProcess starts lab-traffic in the network of the client machine and hands every line it
// says to said. Only the network is entered, so that the process can be signalled; it is killed
// with this program, however that ends.
func (e *Env) outsideProcess(ctx context.Context, said func([]byte) error, args ...string) (*process, error) {
	host, err := e.Cluster.Host(ctx, lab.Client)
	if err != nil {
		return nil, err
	}
	program := append([]string{filepath.Join(e.root, "bin", "lab-traffic")}, args...)
	p := &process{name: "lab-traffic " + args[0], done: make(chan struct{})}
	p.cmd = exec.Command("nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", host.PID), "--"}, program...)...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // Ctrl-C is for us
	p.cmd.Stderr = &p.stderr
	output, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	go func() {
		defer close(p.done)
		heard := eachLine(output, said)
		if err := p.cmd.Wait(); err != nil {
			heard = errors.Join(heard, fmt.Errorf("running %s: %w: %s", p.name, err, strings.TrimSpace(p.stderr.String())))
		}
		p.err = heard
	}()
	return p, nil
}

// eachLine reads to the end, also after an error of do: the writer must not block.
func eachLine(from io.Reader, do func([]byte) error) error {
	lines := bufio.NewReader(from)
	var first error
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 && first == nil {
			first = do(line)
		}
		if errors.Is(err, io.EOF) {
			return first
		}
		if err != nil {
			return errors.Join(first, err)
		}
	}
}

// ended is an error if the process has ended by itself.
func (p *process) ended() error {
	select {
	case <-p.done:
		return errors.Join(fmt.Errorf("running %s: it ended by itself", p.name), p.err)
	default:
		return nil
	}
}

// stop asks the process to end, waits for that and returns how it ended.
func (p *process) stop(signal syscall.Signal) error {
	if p == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(signal) // it may have ended already
	<-p.done
	return p.err
}
