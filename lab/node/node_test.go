// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/internal/golden"
	"github.com/cni-cutover/cni-cutover/lab/machine"
	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

func example(t *testing.T) machine.Spec {
	t.Helper()
	enis, err := vpc.NodeInterfaces(7)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := Complete(Config{
		Name: "node-7", NodeGroup: "workers", Labels: map[string]string{"example.com/a": "b"}, MaxPods: 22,
		Server: "https://10.0.0.2:6443", Bin: "/project/bin", Images: []string{"/project/agent.tar"},
		Credentials: "/state/node-7", CgroupV1: true, BootID: "boot", MachineID: "machine",
		Instance: vpc.Instance{ID: InstanceID("seed"), Type: "m5.large", Region: "lab", Zone: "lab-a", VPCCIDRs: []netip.Prefix{vpc.CIDR()}, Interfaces: enis},
	}, machine.Spec{Cgroup: "lab/node-7"})
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// TestNode shows the whole node for review.
func TestNode(t *testing.T) {
	spec := example(t)
	var text bytes.Buffer
	fmt.Fprintf(&text, "name %s\ncgroup %s\nmemory %s\n", spec.Name, spec.Cgroup, spec.Memory)
	for _, m := range spec.Mounts {
		fmt.Fprintf(&text, "mount %+v\n", m)
	}
	for _, path := range slices.Sorted(maps.Keys(spec.Shadows)) {
		fmt.Fprintf(&text, "shadow %s = %s", path, spec.Shadows[path])
	}
	for _, p := range spec.Programs {
		fmt.Fprintf(&text, "run %s once=%v ready=%q\n  %s\n", p.Name, p.Once, p.Ready, strings.Join(p.Args, "\n    "))
	}
	for _, file := range spec.Files {
		fmt.Fprintf(&text, "file %s\n%s\n", file.Path, file.Content)
	}
	golden.Match(t, "testdata/node.golden", text.String())
}

func TestSettingsAreYAML(t *testing.T) {
	settings := map[string][]byte{"kube-proxy": []byte(ProxyConfig)}
	for _, file := range example(t).Files {
		if strings.HasSuffix(file.Path, ".yaml") {
			settings[file.Path] = file.Content
		}
	}
	if len(settings) != 2 {
		t.Errorf("found settings of %d programs, want the kubelet's and kube-proxy's", len(settings))
	}
	for name, text := range settings {
		var parsed map[string]any
		if err := yaml.UnmarshalStrict(text, &parsed); err != nil || parsed["kind"] == nil {
			t.Errorf("%s: kind %v, %v", name, parsed["kind"], err)
		}
	}
}

func TestInstanceIDsLookLikeAmazons(t *testing.T) {
	shape := regexp.MustCompile(`^i-[0-9a-f]{17}$`)
	if a, b := InstanceID("a"), InstanceID("b"); !shape.MatchString(a) || a == b {
		t.Errorf("identifiers are %q and %q", a, b)
	}
}
