// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// settings is what an agent was told: its flags, and the options of its configuration directory.
type settings struct {
	node         string
	configDir    string
	hostRoot     string
	bpfRoot      string
	runDir       string
	slowDatapath time.Duration

	conflist   string // file to write, as the agent sees it; empty: none
	exclusive  bool
	devices    []string
	tunnelPort int
}

// datapathDelay is the time between the agent's first sign of health and its programs. The original
// needs it for compiling; what must not trust that health has to see the gap.
const (
	datapathDelay     = 1500 * time.Millisecond
	slowDatapathDelay = 10 * time.Second
)

// optionDatapathDelay is an option that the original does not have: how long the data path takes on the nodes that a
// CiliumNodeConfig selects. What waits there stays as it is until somebody looks.
const optionDatapathDelay = "lab-datapath-delay"

func parseSettings(args []string) (settings, error) {
	s := settings{slowDatapath: datapathDelay}
	flags := flag.NewFlagSet("cilium-agent", flag.ContinueOnError)
	flags.StringVar(&s.node, "node", os.Getenv("K8S_NODE_NAME"), "name of the Node object")
	flags.StringVar(&s.configDir, "config-dir", "/tmp/cilium/config-map", "directory with one file an option")
	flags.StringVar(&s.hostRoot, "host-root", "/host", "where the node's root directory is mounted")
	flags.StringVar(&s.bpfRoot, "bpf-root", "/sys/fs/bpf", "where the node's bpffs is mounted")
	flags.StringVar(&s.runDir, "run-dir", "/var/run/cilium", "directory of socket and state")
	slow := flags.Bool("slow-datapath", false, "let ten seconds pass between health and programs")
	if err := flags.Parse(args); err != nil {
		return settings{}, fmt.Errorf("reading the flags: %w", err)
	}
	if *slow {
		s.slowDatapath = slowDatapathDelay
	}
	options, err := readOptions(s.configDir)
	if err != nil {
		return settings{}, err
	}
	return s.with(options)
}

// with adds the options of cilium-config, refusing what this stand-in cannot do: an agent that
// silently runs another mode than its configuration says would prove nothing.
func (s settings) with(options map[string]string) (settings, error) {
	for key, only := range map[string]string{
		"routing-mode": "tunnel", "tunnel-protocol": "vxlan", "ipam": "cluster-pool",
		"kube-proxy-replacement": "false", "enable-bpf-masquerade": "false",
	} {
		if got, set := options[key]; set && got != only {
			return settings{}, fmt.Errorf("reading option %s: got %q, this stand-in knows only %q", key, got, only)
		}
	}
	if options["custom-cni-conf"] != "true" {
		s.conflist = options["write-cni-conf-when-ready"]
	}
	s.exclusive = options["cni-exclusive"] == "true"
	if took, set := options[optionDatapathDelay]; set {
		var err error
		if s.slowDatapath, err = time.ParseDuration(took); err != nil {
			return settings{}, fmt.Errorf("reading option %s: %w", optionDatapathDelay, err)
		}
	}
	s.devices = strings.Fields(options["devices"])
	s.tunnelPort = 8472
	if port, set := options["tunnel-port"]; set {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return settings{}, fmt.Errorf("reading option tunnel-port: want a UDP port: %w", err)
		}
		s.tunnelPort = int(n)
	}
	return s, nil
}

// readOptions reads a directory with one file an option. Names that begin with a dot are the
// kubelet's own, when the directory is a mounted ConfigMap.
func readOptions(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration directory (the init container `config` writes it): %w", err)
	}
	options := map[string]string{}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading option %s: %w", entry.Name(), err)
		}
		options[entry.Name()] = strings.TrimSpace(string(raw))
	}
	return options, nil
}

func writeOptions(dir string, options map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the configuration directory: %w", err)
	}
	for name, value := range options {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
			return fmt.Errorf("writing option %s: %w", name, err)
		}
	}
	return nil
}

// replaceFile writes a file so that a reader sees the old or the new content: a temporary file of
// the same directory, renamed.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path))
	if err != nil {
		return fmt.Errorf("making a temporary file for %s: %w", path, err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(content)
	if err == nil {
		err = temp.Chmod(mode)
	}
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
