// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Program lab-kube is the Kubernetes of the laboratory in one static program: the control plane in one
// process, kubelet, kube-proxy and kubectl. The first argument, or the name it is called by, chooses.
package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/cni-cutover/cni-cutover/lab/controlplane/servers"
)

// applet is one of the programs; os.Args[0] is its name and the rest are its arguments.
// It returns the exit code.
type applet struct {
	about string
	run   func() int
}

func applets() map[string]applet {
	return map[string]applet{
		"control-plane":           {"etcd, API server, controller manager and scheduler in one process", func() int { return runServers(servers.All()) }},
		servers.Etcd:              {"etcd alone, with the same flags", func() int { return runServers([]string{servers.Etcd}) }},
		servers.APIServer:         {"the API server alone, with the same flags", func() int { return runServers([]string{servers.APIServer}) }},
		servers.ControllerManager: {"the controller manager alone, with the same flags", func() int { return runServers([]string{servers.ControllerManager}) }},
		servers.Scheduler:         {"the scheduler alone, with the same flags", func() int { return runServers([]string{servers.Scheduler}) }},
		"node-credentials":        {"write the certificates and kubeconfigs of one node", runNodeCredentials},
		"kubelet":                 {"the stock kubelet", runKubelet},
		"kube-proxy":              {"the stock kube-proxy", runKubeProxy},
		"kubectl":                 {"the stock kubectl", runKubectl},
	}
}

func main() {
	all := applets()
	name := filepath.Base(os.Args[0])
	if _, known := all[name]; !known && len(os.Args) > 1 {
		// The stock programs read os.Args: what is left must look like their own.
		os.Args = os.Args[1:]
		name = os.Args[0]
	}
	chosen, known := all[name]
	if !known {
		usage(os.Stderr, all)
		os.Exit(2)
	}
	os.Exit(chosen.run())
}

func usage(w io.Writer, all map[string]applet) {
	fmt.Fprintln(w, "usage: lab-kube <program> [arguments]; <program> --help tells more. The programs:")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(w, "  %-20s %s\n", name, all[name].about)
	}
}
