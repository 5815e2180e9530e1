// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/apiserver"
	"github.com/cni-cutover/cni-cutover/internal/crowd"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
	"github.com/cni-cutover/cni-cutover/internal/isolated"
	"github.com/cni-cutover/cni-cutover/internal/program"
)

// BenchmarkMemory is what the agent keeps resident on a node with 5,000 peers, as the program that ships: before it is asked anything,
// after ten answers, each of which lists the peers' CiliumNodes anew, and at its highest. Of that, code-MiB are pages of the program's
// own file, which the kernel can drop and read again.
func BenchmarkMemory(b *testing.B) {
	const peers, questions = 5000, 10
	if !isolated.Tests() {
		b.Skip("needs root: makes BPF maps, mounts a bpffs, and adds interfaces")
	}
	file := filepath.Join(b.TempDir(), "cutover-agent")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", file, ".") // as the Makefile does
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		b.Fatalf("building the agent: %v\n%s", err, said)
	}
	h := newHost(b)
	bpffs := b.TempDir()
	h.must(unix.Mount("bpf", bpffs, "bpf", 0, ""))
	b.Cleanup(func() { h.must(unix.Unmount(bpffs, unix.MNT_DETACH)) })
	all := crowd.Peers(peers)
	crowd.Maps(b, bpffs, all)
	crowd.Routes(b, h.ciliumHost(), all)
	h.publish(all)
	h.Patch(`{"spec":{"overlay":{"podCIDRs":["10.244.0.0/16","10.128.0.0/10"]}}}`)

	for b.Loop() {
		p := program.StartFile(b, file, "agent", h.proxy.Kubeconfig(), "run", "--metrics-address=127.0.0.1:0", "--node-name=node-1", "--host-root="+h.root, "--bpffs="+bpffs)
		h.said("")
		b.ReportMetric(mib(b, p, "VmRSS"), "idle-MiB")
		for range questions {
			h.asked(rand.Text())
			h.judged(peers)
		}
		b.ReportMetric(mib(b, p, "VmRSS"), "RSS-MiB")
		b.ReportMetric(mib(b, p, "VmHWM"), "peak-MiB")
		b.ReportMetric(mib(b, p, "RssFile"), "code-MiB")
		p.End(b)
	}
}

// judged fails unless the last answer was about so many peers.
func (h *host) judged(peers int64) {
	h.t.Helper()
	var nc v1alpha1.NodeCutover
	h.must(h.Client.Get(h.t.Context(), client.ObjectKey{Name: "node-1"}, &nc))
	for _, f := range nc.Status.Findings {
		for _, e := range f.Evidence {
			if f.Check == v1alpha1.CheckOverlayMaps && e.Name == "peers" && e.Value == peers {
				return
			}
		}
	}
	h.t.Fatalf("the agent does not say that %d peers are as wanted: %+v", peers, nc.Status.Findings)
}

func mib(b *testing.B, p *program.Process, field string) float64 {
	b.Helper()
	kib, err := strconv.ParseFloat(strings.TrimSuffix(p.Status(field), " kB"), 64)
	if err != nil {
		b.Fatalf("reading %s of the agent: %v", field, err)
	}
	return kib / 1024
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// ciliumHost gives the tests' network Cilium's interface and returns its index.
func (h *host) ciliumHost() int {
	h.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "cilium_host"
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: "cilium_net"}
	h.must(netlink.LinkAdd(link))
	h.t.Cleanup(func() { h.must(netlink.LinkDel(link)) })
	for _, name := range []string{"cilium_net", "cilium_host"} {
		l, err := netlink.LinkByName(name)
		h.must(err)
		h.must(netlink.LinkSetUp(l))
	}
	h.must(netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 244, 1, 1), Mask: net.CIDRMask(32, 32)}}))
	return link.Index
}

// publish makes a CiliumNode of each peer, with the fields that Cilium 1.18 writes.
func (h *host) publish(peers []crowd.Peer) {
	h.t.Helper()
	h.must(h.Client.Create(h.t.Context(), apiserver.Kind("cilium.io", "v2", "CiliumNode", "ciliumnodes", "Cluster")))
	fleet.Eventually(h.t, 30*time.Second, func() string {
		if err := h.Client.Create(h.t.Context(), ciliumNode(peers[0])); err != nil {
			return err.Error()
		}
		return ""
	})
	var group errgroup.Group
	group.SetLimit(16)
	for _, p := range peers[1:] {
		group.Go(func() error { return h.Client.Create(h.t.Context(), ciliumNode(p)) })
	}
	h.must(group.Wait())
	fleet.Eventually(h.t, time.Minute, func() string { // as the agent asks: the cache that is read lags behind
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{Group: "cilium.io", Version: "v2", Kind: "CiliumNodeList"})
		err := h.Client.List(h.t.Context(), list, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}})
		if len(list.Items) != len(peers) {
			return fmt.Sprintf("%d of %d CiliumNodes, %v", len(list.Items), len(peers), err)
		}
		return ""
	})
}

func ciliumNode(p crowd.Peer) client.Object {
	none := map[string]any{}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cilium.io/v2", "kind": "CiliumNode",
		"metadata": map[string]any{
			"name":            p.Name,
			"labels":          map[string]any{"kubernetes.io/hostname": p.Name, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": "eu-central-1a", "topology.kubernetes.io/region": "eu-central-1", "node.kubernetes.io/instance-type": "m5.2xlarge"},
			"ownerReferences": []any{map[string]any{"apiVersion": "v1", "kind": "Node", "name": p.Name, "uid": "daea978f-8cee-4487-b725-4e0c32a30b77"}},
		},
		"spec": map[string]any{
			"addresses":     []any{map[string]any{"type": "InternalIP", "ip": p.InternalIP.String()}, map[string]any{"type": "CiliumInternalIP", "ip": p.CiliumIP.String()}},
			"bootid":        "8256b124-ae7e-4206-8054-6a9867bb1546",
			"health":        map[string]any{"ipv4": p.HealthIP.String()},
			"ipam":          map[string]any{"podCIDRs": []any{p.PodCIDR.String()}, "pools": none},
			"alibaba-cloud": none, "azure": none, "encryption": none, "eni": none, "ingress": none,
		},
		"status": map[string]any{"alibaba-cloud": none, "azure": none, "eni": none, "ipam": map[string]any{"operator-status": none}},
	}}
}
