// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/probe"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

// keys makes a folder as the kubelet mounts a Secret.
func keys(t *testing.T, current string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "current"), []byte(current), 0o400); err != nil {
		t.Fatal(err)
	}
	return dir
}

func freePort(t *testing.T) (held *net.UDPConn, port int) {
	t.Helper()
	held, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	return held, held.LocalAddr().(*net.UDPAddr).Port
}

func TestAnAgentAnswersOthersThatHaveItsKey(t *testing.T) {
	const key = "0123456789abcdef0123456789abcdef"
	held, port := freePort(t)
	held.Close()
	h := newHost(t)
	h.start("--tunnel-meter=Never", "--probe-keys="+keys(t, key), fmt.Sprint("--probe-port=", port))
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	fleet.Eventually(t, 30*time.Second, func() string {
		p, err := probe.Measure(context.Background(), to, probe.Keys{[]byte(key)}, 9001)
		if err != nil || p.There.How != probe.Whole || p.Back.How != probe.Whole {
			return fmt.Sprintf("%+v, %v", p, err)
		}
		return ""
	})
	if p, err := probe.Measure(context.Background(), to, probe.Keys{[]byte(strings.ToUpper(key))}, 9001); err != nil || p.There.How != probe.Silent {
		t.Errorf("another key: %+v, %v", p, err)
	}
}

// TestProbesThatCannotWorkBreakNothing: a port that somebody has, and keys that are not there.
func TestProbesThatCannotWorkBreakNothing(t *testing.T) {
	_, taken := freePort(t)
	for name, dir := range map[string]string{"the port is taken": keys(t, "0123456789abcdef"), "no keys": filepath.Join(t.TempDir(), "missing")} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.start("--tunnel-meter=Never", "--probe-keys="+dir, fmt.Sprint("--probe-port=", taken))
			if said := h.asked("one"); !strings.Contains(said, "Kernel Pass AsWanted") {
				t.Errorf("%s", said)
			}
		})
	}
}
