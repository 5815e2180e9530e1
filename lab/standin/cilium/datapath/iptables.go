// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
)

// Iptables renders the chains of the original in iptables masquerade mode, as iptables-restore
// --noflush reads them: declaring a chain empties it, other chains of the table stay.
// The rules that hand packets to a running L7 proxy are left out: there is none here.
func Iptables(slice netip.Prefix, router netip.Addr) string {
	return fmt.Sprintf(`*mangle
:CILIUM_POST_mangle - [0:0]
:CILIUM_PRE_mangle - [0:0]
-A CILIUM_PRE_mangle ! -o lo -m socket --transparent -m mark ! --mark 0xe00/0xf00 -m mark ! --mark 0x800/0xf00 -m comment --comment "cilium: any->pod redirect proxied traffic to host proxy" -j MARK --set-xmark 0x200/0xffffffff
COMMIT
*raw
:CILIUM_OUTPUT_raw - [0:0]
:CILIUM_PRE_raw - [0:0]
-A CILIUM_OUTPUT_raw -o cilium_host -m mark --mark 0xa00/0xfffffeff -m comment --comment "cilium: NOTRACK for proxy return traffic" -j CT --notrack
-A CILIUM_OUTPUT_raw -o cilium_host -m mark --mark 0x800/0xe00 -m comment --comment "cilium: NOTRACK for L7 proxy upstream traffic" -j CT --notrack
-A CILIUM_PRE_raw -m mark --mark 0x200/0xf00 -m comment --comment "cilium: NOTRACK for proxy traffic" -j CT --notrack
COMMIT
*filter
:CILIUM_FORWARD - [0:0]
:CILIUM_INPUT - [0:0]
:CILIUM_OUTPUT - [0:0]
-A CILIUM_FORWARD -o cilium_host -m comment --comment "cilium: any->cluster on cilium_host forward accept" -j ACCEPT
-A CILIUM_FORWARD -i cilium_host -m comment --comment "cilium: cluster->any on cilium_host forward accept (nodeport)" -j ACCEPT
-A CILIUM_FORWARD -i lxc+ -m comment --comment "cilium: cluster->any on lxc+ forward accept" -j ACCEPT
-A CILIUM_FORWARD -i cilium_net -m comment --comment "cilium: cluster->any on cilium_net forward accept (nodeport)" -j ACCEPT
-A CILIUM_INPUT -m mark --mark 0x200/0xf00 -m comment --comment "cilium: ACCEPT for proxy traffic" -j ACCEPT
-A CILIUM_OUTPUT -m mark --mark 0xa00/0xe00 -m comment --comment "cilium: ACCEPT for proxy traffic" -j ACCEPT
-A CILIUM_OUTPUT -m mark --mark 0x800/0xe00 -m comment --comment "cilium: ACCEPT for l7 proxy upstream traffic" -j ACCEPT
-A CILIUM_OUTPUT -m mark ! --mark 0xe00/0xf00 -m mark ! --mark 0xd00/0xf00 -m mark ! --mark 0x400/0xf00 -m mark ! --mark 0xa00/0xe00 -m mark ! --mark 0x800/0xe00 -m mark ! --mark 0xf00/0xf00 -m comment --comment "cilium: host->any mark as from host" -j MARK --set-xmark 0xc00/0xf00
COMMIT
*nat
:CILIUM_OUTPUT_nat - [0:0]
:CILIUM_POST_nat - [0:0]
:CILIUM_PRE_nat - [0:0]
-A CILIUM_POST_nat -s %[1]s ! -d %[1]s ! -o cilium_+ -m comment --comment "cilium masquerade non-cluster" -j MASQUERADE
-A CILIUM_POST_nat -m mark --mark 0xa00/0xe00 -m comment --comment "exclude proxy return traffic from masquerade" -j ACCEPT
-A CILIUM_POST_nat ! -s %[1]s ! -d %[1]s -o cilium_host -m comment --comment "cilium host->cluster masquerade" -j SNAT --to-source %[2]s
-A CILIUM_POST_nat -s 127.0.0.1/32 -o cilium_host -m comment --comment "cilium host->cluster from 127.0.0.1 masquerade" -j SNAT --to-source %[2]s
-A CILIUM_POST_nat -o cilium_host -m mark --mark 0xf00/0xf00 -m conntrack --ctstate DNAT -m comment --comment "hairpin traffic that originated from a local pod" -j SNAT --to-source %[2]s
COMMIT
`, slice.Masked(), router)
}

// feeders lists the jumps from the built-in chains; each stands first in its chain.
func feeders() [][3]string {
	return [][3]string{
		{"mangle", "PREROUTING", "CILIUM_PRE_mangle"},
		{"mangle", "POSTROUTING", "CILIUM_POST_mangle"},
		{"raw", "PREROUTING", "CILIUM_PRE_raw"},
		{"raw", "OUTPUT", "CILIUM_OUTPUT_raw"},
		{"filter", "INPUT", "CILIUM_INPUT"},
		{"filter", "FORWARD", "CILIUM_FORWARD"},
		{"filter", "OUTPUT", "CILIUM_OUTPUT"},
		{"nat", "PREROUTING", "CILIUM_PRE_nat"},
		{"nat", "OUTPUT", "CILIUM_OUTPUT_nat"},
		{"nat", "POSTROUTING", "CILIUM_POST_nat"},
	}
}

func (d *Datapath) applyIptables(ctx context.Context) error {
	if _, err := d.hostCommand(ctx, Iptables(d.self.PodCIDR[0], d.self.Router), "/usr/sbin/iptables-restore", "-w", "10", "--noflush"); err != nil {
		return err
	}
	for _, f := range feeders() {
		rule := []string{"-m", "comment", "--comment", "cilium-feeder: " + f[2], "-j", f[2]}
		check := append([]string{"-w", "10", "-t", f[0], "-C", f[1]}, rule...)
		if _, err := d.hostCommand(ctx, "", "/usr/sbin/iptables", check...); err == nil {
			continue
		}
		insert := append([]string{"-w", "10", "-t", f[0], "-I", f[1], "1"}, rule...)
		if _, err := d.hostCommand(ctx, "", "/usr/sbin/iptables", insert...); err != nil {
			return err
		}
	}
	return nil
}

// hostCommand runs a program of the node: our own image has none.
func (d *Datapath) hostCommand(ctx context.Context, input, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: d.hostRoot}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("running %s %s in %s: %w: %s", path, strings.Join(args, " "), d.hostRoot, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
