// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Command pause holds a pod's namespaces in the lab: it sleeps, collects orphans and ends
// when told to.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid == 0 {
				break
			}
		}
	}
}
