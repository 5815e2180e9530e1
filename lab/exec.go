// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// Command prepares a command that runs on a machine (a node, ControlPlane or Client) with
// its files, network and processes. It is killed with ctx and with the lab. The machine
// sees the real machine's root file system and, as /opt/lab/bin, the project's bin.
func (c *Cluster) Command(ctx context.Context, machine string, argv ...string) (*exec.Cmd, error) {
	host, err := c.Host(ctx, machine)
	if err != nil {
		return nil, err
	}
	// setpriv: killing nsenter alone would leave the command running until the machine ends.
	args := append(Enter(host), "setpriv", "--pdeathsig", "KILL", "--")
	args = append(args, argv...)
	return exec.CommandContext(ctx, args[0], args[1:]...), nil
}

// Exec runs a command on a machine and returns what it wrote to its standard output. The
// error has what it wrote to its standard error.
func (c *Cluster) Exec(ctx context.Context, machine string, argv ...string) (string, error) {
	cmd, err := c.Command(ctx, machine, argv...)
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("running %q on %s: %w: %s", argv, machine, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Enter is the beginning of a command line that runs something on the machine.
func Enter(host Host) []string {
	return []string{"nsenter", "--target", strconv.Itoa(host.PID), "--mount", "--net", "--uts", "--ipc", "--pid", "--"}
}
