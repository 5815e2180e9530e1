// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

// LogDir is where the daemon and the plugin write, relative to the host's root.
const LogDir = "var/log/aws-routed-eni"

// DefaultHealthAddress answers /healthz and /metrics; the port is the original's metrics port.
const DefaultHealthAddress = "127.0.0.1:61678"

// Config is what the daemon needs besides the environment.
type Config struct {
	HostRoot      string // where the host's / is mounted
	CommandRoot   string // root to run the host's iptables and nft in; normally HostRoot
	RunDir        string // checkpoint and socket
	HealthAddress string // host:port
	Executable    string // the program that becomes the plugins
	Settings      Settings
	Log           *slog.Logger
}

// Agent runs the daemon until ctx ends. args are flags, or "init" and flags for the work
// of the init container (sysctls) alone.
func Agent(ctx context.Context, args []string) error {
	onlyInit := len(args) > 0 && args[0] == "init"
	if onlyInit {
		args = args[1:]
	}
	var c Config
	flags := flag.NewFlagSet("aws-node", flag.ContinueOnError)
	flags.StringVar(&c.HostRoot, "host-root", "/host", "where the host's / is mounted")
	flags.StringVar(&c.RunDir, "run-dir", RunDir, "directory of the checkpoint and the socket")
	flags.StringVar(&c.HealthAddress, "health-address", DefaultHealthAddress, "host:port of /healthz")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("reading the arguments of aws-node: %w", err)
	}
	c.CommandRoot = c.HostRoot
	var err error
	if c.Settings, err = SettingsFrom(os.Getenv); err != nil {
		return err
	}
	if onlyInit {
		instance, err := readInstance(filepath.Join(c.HostRoot, InstanceFile))
		if err != nil {
			return err
		}
		return setupSysctls(instance)
	}
	if c.Executable, err = os.Executable(); err != nil {
		return fmt.Errorf("finding our own program: %w", err)
	}
	logFile, err := openLog(filepath.Join(c.HostRoot, LogDir, "ipamd.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	c.Log = slog.New(slog.NewTextHandler(io.MultiWriter(os.Stderr, logFile), nil))
	return Run(ctx, c)
}

// Run prepares the host's network, serves the plugin, and only when both work installs
// plugins and conflist. It returns nil when ctx ends, leaving everything in place.
func Run(ctx context.Context, c Config) error {
	h := host{root: c.HostRoot, commands: c.CommandRoot}
	instance, err := readInstance(h.path(InstanceFile))
	if err != nil {
		return err
	}
	if err := setupHost(h, instance, c.Settings); err != nil {
		return fmt.Errorf("setting up the host's network: %w", err)
	}
	if err := os.MkdirAll(c.RunDir, 0o755); err != nil {
		return fmt.Errorf("making the run directory: %w", err)
	}
	daemon, err := restore(c, instance)
	if err != nil {
		return err
	}
	socket, err := listenUnix(filepath.Join(c.RunDir, SocketFile))
	if err != nil {
		return err
	}
	health, err := net.Listen("tcp", c.HealthAddress)
	if err != nil {
		return errors.Join(fmt.Errorf("listening for probes: %w", err), socket.Close())
	}
	servers := []*http.Server{{Handler: daemon.handler()}, {Handler: daemon.healthHandler()}}
	failed := make(chan error, len(servers))
	for i, listener := range []net.Listener{socket, health} {
		go func() { failed <- servers[i].Serve(listener) }()
	}
	defer func() {
		for _, server := range servers {
			_ = server.Close() // ends the process's work; there is nobody left to tell
		}
	}()
	if err := newClient(filepath.Join(c.RunDir, SocketFile)).ready(); err != nil {
		return err
	}
	if err := install(h, c.Executable, c.Settings); err != nil {
		return err
	}
	daemon.healthy.Store(true)
	c.Log.Info("aws-node is ready", "instance", instance.ID, "interfaces", len(instance.Interfaces), "allocations", len(daemon.pool.list()))
	select {
	case <-ctx.Done():
		c.Log.Info("aws-node stops; everything it set up stays")
		return nil
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	}
}

// setupHost is idempotent and changes nothing that running pods use.
func setupHost(h host, instance vpc.Instance, s Settings) error {
	first := primary(instance)
	name, err := setupPrimary(first, s.ENIMTU)
	if err != nil {
		return err
	}
	if err := h.setupNetfilter(instance.VPCCIDRs, s, name, first.Primary); err != nil {
		return err
	}
	enis := slices.SortedFunc(slices.Values(instance.Interfaces), func(a, b vpc.Interface) int { return cmp.Compare(a.DeviceNumber, b.DeviceNumber) })
	for _, eni := range enis {
		if eni.DeviceNumber == 0 {
			continue
		}
		if err := setupSecondary(eni, s.ENIMTU); err != nil {
			return err
		}
	}
	return setupExternalServices(s.ExternalServiceCIDRs)
}

// restore takes over the allocations of the daemon that ran before.
func restore(c Config, instance vpc.Instance) (*ipamd, error) {
	path := filepath.Join(c.RunDir, CheckpointFile)
	known, err := readCheckpoint(path)
	if err != nil {
		return nil, err
	}
	living, err := keepLiving(known, instance.Interfaces, c.Settings.VethPrefix, c.Log)
	if err != nil {
		return nil, err
	}
	daemon := &ipamd{pool: newPool(instance.Interfaces, living), checkpoint: path, log: c.Log}
	return daemon, writeCheckpoint(path, daemon.pool.list())
}

func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the log directory: %w", err)
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return file, nil
}
