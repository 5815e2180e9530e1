// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Command inroot runs a program of the node from inside a privileged container: it makes
// the node's root, mounted in the container, its own root and executes the program there.
// So kube-proxy can be a DaemonSet in the lab, as it is in EKS, with the node's iptables.
// Usage: inroot ROOT PROGRAM ARGUMENT...
package main

import (
	"fmt"
	"os"
	"syscall"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: inroot ROOT PROGRAM ARGUMENT...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "inroot:", err)
		os.Exit(1)
	}
}

func run(root string, argv []string) error {
	if err := syscall.Chroot(root); err != nil {
		return fmt.Errorf("changing the root to %s: %w", root, err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("entering %s: %w", root, err)
	}
	if err := os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"); err != nil {
		return fmt.Errorf("setting PATH: %w", err)
	}
	if err := syscall.Exec(argv[0], argv, os.Environ()); err != nil {
		return fmt.Errorf("executing %s in %s: %w", argv[0], root, err)
	}
	return nil
}
