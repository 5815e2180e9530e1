// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"os"
	"path/filepath"
)

// Only settings that belong to the network namespace are written. Those of the whole machine that
// the original also sets (JIT, unprivileged BPF, timer migration) would touch every node at once here.

func nodeSysctls() error {
	return sysctls(map[string]string{
		"net/ipv4/conf/all/rp_filter":      "0",
		"net/ipv4/conf/all/forwarding":     "1",
		"net/ipv4/ip_forward":              "1",
		"net/ipv4/fib_multipath_use_neigh": "1",
	})
}

// deviceSysctls is for cilium_* devices.
func deviceSysctls(name string) error {
	dir := "net/ipv4/conf/" + name + "/"
	return sysctls(map[string]string{
		dir + "forwarding":     "1",
		dir + "rp_filter":      "0",
		dir + "accept_local":   "1",
		dir + "send_redirects": "0",
	})
}

func podSysctls(name string) error {
	return sysctls(map[string]string{"net/ipv4/conf/" + name + "/rp_filter": "0"})
}

func sysctls(values map[string]string) error {
	for key, value := range values {
		if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644); err != nil {
			return fmt.Errorf("setting sysctl %s to %s (is /proc/sys writable? the pod must be privileged): %w", key, value, err)
		}
	}
	return nil
}
