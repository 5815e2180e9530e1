// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package node writes down what turns a machine into a Kubernetes node of the lab:
// the files, the mounts and the programs (containerd, kubelet) and their
// settings. It is pure; package machine carries it out.
package node

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cni-cutover/cni-cutover/lab/machine"
	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

// Where things are inside a node.
const (
	Kube         = binDir + "/lab-kube"     // kubelet, kube-proxy and kubectl
	InstanceFile = "/etc/lab/instance.json" // vpc.Instance
	etcDir       = "/etc/lab"               // the settings of the programs
	binDir       = "/opt/lab/bin"           // the project's own programs, read from the real machine
	imageDir     = "/opt/lab/images"        // image archives, one file each
	credentials  = "/etc/lab/credentials"   // certificates and kubeconfigs
	socket       = "/run/containerd/containerd.sock"
	kubeletDir   = "/var/lib/kubelet"
)

// Images of the lab itself, on every node.
const (
	PauseImage  = "lab/pause:dev"  // holds every pod's namespaces
	InRootImage = "lab/inroot:dev" // runs a program of the node from a container
)

// archives has the archives of those images, in the directory Config.Bin.
func archives() []string { return []string{"pause.tar", "inroot.tar"} }

// Config is one node.
type Config struct {
	Name     string
	Instance vpc.Instance
	// NodeGroup is the value of the label eks.amazonaws.com/nodegroup.
	NodeGroup string
	// Labels are added to those a node of EKS has.
	Labels map[string]string
	// MaxPods is the kubelet's limit.
	MaxPods int
	// Server is the URL of the API server as the node sees it.
	Server string
	// Bin is the directory of the real machine that lab/build fills.
	Bin string
	// Images are image archives of the real machine, Docker's or OCI's, imported before
	// the kubelet starts.
	Images []string
	// Credentials is a directory of the real machine made by lab-kube node-credentials.
	Credentials string
	// CgroupV1: the real machine has cgroup version 1 hierarchies.
	CgroupV1 bool
	// BootID and MachineID are what the node says of itself; they differ between nodes as
	// they do between real ones.
	BootID, MachineID string
}

// Complete fills in machine's files, mounts and programs.
func Complete(c Config, m machine.Spec) (machine.Spec, error) {
	instance, err := json.MarshalIndent(c.Instance, "", "  ")
	if err != nil {
		return machine.Spec{}, fmt.Errorf("writing the instance metadata of node %s: %w", c.Name, err)
	}
	m.Name = c.Name
	// What holds overlays itself, or mounts of pods, must not lie on the root's overlay.
	m.Memory = []string{"/var/lib/containerd", kubeletDir, "/var/lib/cni", "/var/log/pods", "/var/log/containers"}
	m.Mounts = []machine.Mount{
		{Source: c.Bin, Target: binDir},
		{Source: c.Credentials, Target: credentials},
		{Source: filepath.Join(c.Bin, "cni"), Target: "/opt/cni/bin", Copy: true},
	}
	for i, image := range images(c) {
		m.Mounts = append(m.Mounts, machine.Mount{Source: image, Target: imported(i)})
	}
	m.Files = []machine.File{
		{Path: InstanceFile, Content: append(instance, '\n')},
		{Path: "/etc/machine-id", Content: []byte(c.MachineID + "\n")},
		{Path: "/etc/hostname", Content: []byte(c.Name + "\n")},
		{Path: "/etc/hosts", Content: fmt.Appendf(nil, "127.0.0.1 localhost\n%s %s\n", c.Instance.Interfaces[0].Primary, c.Name)},
		{Path: "/etc/resolv.conf", Content: []byte("# The lab has no names to resolve outside the cluster.\n")},
		{Path: "/etc/cni/net.d/.keep"},
		{Path: etcDir + "/containerd.toml", Content: []byte(containerdConfig)},
		{Path: etcDir + "/kubelet.yaml", Content: kubeletConfig(c)},
	}
	m.Shadows = shadows(c)
	m.Programs = programs(c)
	return m, nil
}

func images(c Config) []string {
	var all []string
	for _, name := range archives() {
		all = append(all, filepath.Join(c.Bin, name))
	}
	return append(all, c.Images...)
}

func imported(i int) string { return fmt.Sprintf("%s/%d.tar", imageDir, i) }

func programs(c Config) []machine.Program {
	ctr := []string{"ctr", "--address", socket, "--namespace", "k8s.io", "images", "import"}
	list := []machine.Program{
		// The VPC CNI and Cilium both need a node that forwards, as an EKS image does.
		{Name: "sysctl", Once: true, Args: []string{"sysctl", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"}},
		{Name: "containerd", Args: []string{"containerd", "--config", etcDir + "/containerd.toml"}, Ready: socket},
	}
	for i, image := range images(c) {
		list = append(list, machine.Program{Name: "import-" + filepath.Base(image), Once: true, Args: append(slices.Clone(ctr), imported(i))})
	}
	return append(list, machine.Program{Name: "kubelet", Args: []string{
		Kube, "kubelet", "--config=" + etcDir + "/kubelet.yaml", "--kubeconfig=" + credentials + "/kubelet.kubeconfig",
		"--hostname-override=" + c.Name, "--node-ip=" + c.Instance.Interfaces[0].Primary.String(),
		"--root-dir=" + kubeletDir, "--cert-dir=" + kubeletDir + "/pki", "--node-labels=" + labels(c),
	}})
}

// labels are those a node of an EKS managed node group joins with.
func labels(c Config) string {
	all := map[string]string{
		"topology.kubernetes.io/region":    c.Instance.Region,
		"topology.kubernetes.io/zone":      c.Instance.Zone,
		"node.kubernetes.io/instance-type": c.Instance.Type,
		"eks.amazonaws.com/nodegroup":      c.NodeGroup,
	}
	maps.Copy(all, c.Labels)
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		pairs = append(pairs, key+"="+all[key])
	}
	return strings.Join(pairs, ",")
}

// shadows are kernel-wide values that a node shows as its own. The kubelet would set the
// sysctls for the whole real machine; it finds them set already (or sets a file).
// k8s.io/component-helpers/node/util/sysctl names the values it wants.
func shadows(c Config) map[string]string {
	return map[string]string{
		"/proc/sys/kernel/random/boot_id":     c.BootID + "\n",
		"/proc/sys/vm/overcommit_memory":      "1\n",
		"/proc/sys/vm/panic_on_oom":           "0\n",
		"/proc/sys/kernel/panic":              "10\n",
		"/proc/sys/kernel/panic_on_oops":      "1\n",
		"/proc/sys/kernel/keys/root_maxkeys":  "1000000\n",
		"/proc/sys/kernel/keys/root_maxbytes": "25000000\n",
	}
}

// ProviderID is how the node names its instance, as the AWS cloud provider writes it.
func ProviderID(i vpc.Instance) string { return "aws:///" + i.Zone + "/" + i.ID }

// InstanceID makes an EC2 instance's identifier from a seed that is used once.
func InstanceID(seed string) string {
	return fmt.Sprintf("i-%x", sha256.Sum256([]byte(seed)))[:2+17]
}
