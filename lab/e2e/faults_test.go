// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab"
)

// fault is something wrong with one node.
type fault struct {
	name        string
	plant, cure func(ctx context.Context, s *scene, host lab.Host) error
	// check and reason are what the agent of that node must answer.
	check  v1alpha1.CheckName
	reason v1alpha1.Reason
}

// faults are those that a roll must not survive unnoticed. None of them shows in a pod's readiness.
func faults() []fault {
	return []fault{
		{
			"a stranger's conflist sorts first",
			writeConflist("00-stranger.conflist", `{"cniVersion":"0.4.0","name":"stranger","plugins":[{"type":"bridge"}]}`), removeConflist("00-stranger.conflist"),
			v1alpha1.CheckConflist, v1alpha1.ConflistForeignFirst,
		},
		{
			"the first conflist is broken",
			writeConflist("01-broken.conflist", `{"cniVersion":"0.4.0","name":`), removeConflist("01-broken.conflist"),
			v1alpha1.CheckConflist, v1alpha1.ConflistBroken,
		},
		{
			"cilium_vxlan is down",
			run("ip", "link", "set", "cilium_vxlan", "down"), run("ip", "link", "set", "cilium_vxlan", "up"),
			v1alpha1.CheckTunnelDevice, v1alpha1.TunnelDown,
		},
		{
			"a peer is missing from the map",
			forgetPeer, rememberPeer,
			v1alpha1.CheckOverlayMaps, v1alpha1.PeerMissing,
		},
	}
}

// inNode is the path of a node's file as this machine sees it.
func inNode(host lab.Host, path string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", host.PID), path)
}

// writeConflist puts a file into place as a careful program does, by a rename in the same directory.
func writeConflist(name, content string) func(context.Context, *scene, lab.Host) error {
	return func(_ context.Context, _ *scene, host lab.Host) error {
		dir := inNode(host, "/etc/cni/net.d")
		if err := os.WriteFile(filepath.Join(dir, ".fault"), []byte(content), 0o644); err != nil {
			return err
		}
		return os.Rename(filepath.Join(dir, ".fault"), filepath.Join(dir, name))
	}
}

func removeConflist(name string) func(context.Context, *scene, lab.Host) error {
	return func(_ context.Context, _ *scene, host lab.Host) error {
		return os.Remove(filepath.Join(inNode(host, "/etc/cni/net.d"), name))
	}
}

func run(argv ...string) func(context.Context, *scene, lab.Host) error {
	return func(ctx context.Context, s *scene, host lab.Host) error {
		_, err := s.env.Cluster.Exec(ctx, host.Name, argv...)
		return err
	}
}

// Layout of cilium_ipcache_v2 (Cilium bpf/lib/eps.h, 1.18): the key is a prefix length of 32 static bits and the address's,
// cluster id, padding, family 1 for IPv4, and the address; the value begins with the identity and the tunnel's endpoint.
const (
	ipcachePin    = "/sys/fs/bpf/tc/globals/cilium_ipcache_v2"
	ipcacheKey    = 24
	ipcacheValue  = 24
	staticBits    = 32
	familyIPv4    = 1
	flagHasTunnel = 2
	identityWorld = 2
)

func ipcacheEntry(cidr netip.Prefix, endpoint netip.Addr) (key, value []byte) {
	key, value = make([]byte, ipcacheKey), make([]byte, ipcacheValue)
	key[0], key[7] = byte(staticBits+cidr.Bits()), familyIPv4
	copy(key[8:], cidr.Addr().AsSlice())
	value[0], value[23] = identityWorld, flagHasTunnel
	copy(value[4:], endpoint.AsSlice())
	return key, value
}

// forgetPeer takes the pod CIDR of another node out of a node's map.
func forgetPeer(ctx context.Context, s *scene, host lab.Host) error {
	cidr, endpoint, err := s.aPeerOf(ctx, host.Name)
	if err != nil {
		return err
	}
	m, err := ebpf.LoadPinnedMap(inNode(host, ipcachePin), nil)
	if err != nil {
		return err
	}
	defer m.Close()
	key, _ := ipcacheEntry(cidr, endpoint)
	return m.Delete(key)
}

func rememberPeer(ctx context.Context, s *scene, host lab.Host) error {
	cidr, endpoint, err := s.aPeerOf(ctx, host.Name)
	if err != nil {
		return err
	}
	m, err := ebpf.LoadPinnedMap(inNode(host, ipcachePin), nil)
	if err != nil {
		return err
	}
	defer m.Close()
	key, value := ipcacheEntry(cidr, endpoint)
	return m.Put(key, value)
}

// TestFaultsAreNamed plants each fault on a node, asks that node's agent, and cures it again: one challenge each, no roll.
func TestFaultsAreNamed(t *testing.T) {
	s := standing(t)
	s.peersOfAge(t)
	host := s.hosts(t)[0]
	if got := s.ask(t, host.Name); got.Verdict != v1alpha1.VerdictPass && got.Verdict != v1alpha1.VerdictWarn {
		t.Fatalf("before any fault %s answers %s: %+v", host.Name, got.Verdict, got.Findings)
	}
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			s.must(t, f.plant(t.Context(), s, host))
			answer := s.ask(t, host.Name)
			s.must(t, f.cure(t.Context(), s, host))
			if answer.Verdict != v1alpha1.VerdictFail {
				t.Errorf("verdict = %s, want Fail", answer.Verdict)
			}
			found := false
			for _, x := range answer.Findings {
				if x.Check == f.check {
					found = true
					if x.Verdict != v1alpha1.VerdictFail || x.Reason != f.reason {
						t.Errorf("%s = %s %s (%s), want Fail %s", x.Check, x.Verdict, x.Reason, x.Message, f.reason)
					}
				}
			}
			if !found {
				t.Errorf("the answer holds no finding of %s", f.check)
			}
			if after := s.ask(t, host.Name); after.Verdict == v1alpha1.VerdictFail {
				t.Errorf("after the cure: %+v", after.Findings)
			}
		})
	}
}
