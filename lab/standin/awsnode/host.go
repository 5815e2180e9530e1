// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// lockWait is how long an iptables command waits for the lock of the tables, in seconds.
const lockWait = "10"

// host is the machine's file tree as the daemon sees it, and its own iptables and nft: a
// container of one file has none, and mixing versions of them on one host breaks rules.
type host struct {
	root     string // where the host's / is mounted
	commands string // the root to run the host's commands in
}

func (h host) path(elements ...string) string {
	return filepath.Join(append([]string{h.root}, elements...)...)
}

func (h host) run(stdin, name string, args ...string) error {
	path, err := h.lookup(name)
	if err != nil {
		return err
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	if filepath.Clean(h.commands) != "/" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: h.commands}
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("running %s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}

// lookup finds a command as it is named inside the commands' root. Lstat, because a link
// there may be absolute (Debian's alternatives) and lead nowhere when seen from here.
func (h host) lookup(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(filepath.Join(h.commands, path)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("looking for %s below %s: not there: install it on the node", name, h.commands)
}

func (h host) has(r chainRule) (bool, error) {
	err := h.run("", "iptables", append([]string{"-w", lockWait, "-t", r.table, "-C", r.chain}, r.spec...)...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false, nil
	}
	return err == nil, err
}

// ensure appends the rule, or removes every copy of it.
func (h host) ensure(r chainRule, wanted bool) error {
	for {
		present, err := h.has(r)
		if err != nil || present == wanted {
			return err
		}
		action := "-D"
		if wanted {
			action = "-A"
		}
		if err := h.run("", "iptables", append([]string{"-w", lockWait, "-t", r.table, action, r.chain}, r.spec...)...); err != nil {
			return err
		}
	}
}

// setupNetfilter brings chains and table to what the settings ask. Each change is one
// transaction or one rule, so that connections of running pods notice nothing.
func (h host) setupNetfilter(vpcCIDRs []netip.Prefix, s Settings, primaryInterface string, nodeIP netip.Addr) error {
	if err := h.run(snatRestore(vpcCIDRs, s, nodeIP), "iptables-restore", "-w", lockWait, "--noflush"); err != nil {
		return fmt.Errorf("filling %s: %w", snatChain, err)
	}
	if err := h.ensure(snatJump(), !s.ExternalSNAT); err != nil {
		return fmt.Errorf("jumping to %s: %w", snatChain, err)
	}
	for _, rule := range connmarkRules(primaryInterface, s.VethPrefix) {
		if err := h.ensure(rule, true); err != nil {
			return fmt.Errorf("adding a connmark rule: %w", err)
		}
	}
	if err := h.run(nftScript(vpcCIDRs, s), "nft", "-f", "-"); err != nil {
		return fmt.Errorf("replacing table ip aws-cni: %w", err)
	}
	return nil
}
