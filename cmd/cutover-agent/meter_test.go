// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/internal/fleet"
	"github.com/cni-cutover/cni-cutover/internal/isolated"
	"github.com/cni-cutover/cni-cutover/internal/program"
)

// plugNIC gives the tests' own network a NIC that carries the default route: an agent that attaches its meter must not find this
// machine's.
func plugNIC() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "wire"}); err != nil {
		return err
	}
	for _, name := range []string{"wire", "eth0"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			return err
		}
		if name == "eth0" {
			err = netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Scope: netlink.SCOPE_LINK})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func needsRoot(t *testing.T) {
	t.Helper()
	if !isolated.Tests() {
		t.Skip("needs root: the agent attaches programs to a NIC of this test")
	}
}

// attached is how many programs hang on the NIC, by tcx and by classic tc.
func attached(t testing.TB) int {
	t.Helper()
	nic, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, way := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		found, err := link.QueryPrograms(link.QueryOptions{Target: nic.Attrs().Index, Attach: way})
		if err != nil {
			t.Fatal(err)
		}
		n += len(found.Programs)
	}
	return n
}

func (h *host) hasAttached(want int) {
	h.t.Helper()
	fleet.Eventually(h.t, 30*time.Second, func() string {
		if n := attached(h.t); n != want {
			return fmt.Sprintf("%d programs are attached, want %d", n, want)
		}
		return ""
	})
}

// asked asks an agent and waits for its answer.
func (h *host) asked(id string) string {
	h.t.Helper()
	h.ask(id, h.uid, time.Minute)
	return h.said(id)
}

// TestTheMeterLivesAsLongAsTheAgentThatWasAsked: it comes with a question, and goes with the process, however that ends.
func TestTheMeterLivesAsLongAsTheAgentThatWasAsked(t *testing.T) {
	needsRoot(t)
	for name, end := range map[string]func(*program.Process){
		"killed": (*program.Process).Kill,
		"told to stop": func(p *program.Process) {
			p.Terminate()
			<-p.Ended
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			a := h.start()
			h.said("")
			h.hasAttached(0)
			if said := h.asked("one"); !strings.Contains(said, "TunnelMeter Unknown NothingMeasured") {
				t.Errorf("%s", said)
			}
			h.hasAttached(2)
			end(a)
			h.hasAttached(0)
			a = h.start()
			h.asked("two")
			h.hasAttached(2)
			end(a)
			h.hasAttached(0)
		})
	}
}

func TestTheMeterIsAttachedUnaskedIfTheChartSaysAlways(t *testing.T) {
	needsRoot(t)
	h := newHost(t)
	h.start("--tunnel-meter=Always")
	h.hasAttached(2)
}

func TestAMeterThatIsSwitchedOffIsNotAttachedAndSaysSo(t *testing.T) {
	needsRoot(t)
	for _, off := range []string{"--tunnel-meter=Never", "--disable-checks=TunnelMeter"} {
		t.Run(off, func(t *testing.T) {
			h := newHost(t)
			h.start(off)
			if said := h.asked("one"); !strings.Contains(said, "TunnelMeter NotAsked SwitchedOff") {
				t.Errorf("%s", said)
			}
			h.hasAttached(0)
		})
	}
}

// TestAnAgentWithoutTheCapabilitiesAnswersAllTheSame runs the agent as a chart or a policy engine without them would.
func TestAnAgentWithoutTheCapabilitiesAnswersAllTheSame(t *testing.T) {
	needsRoot(t)
	h := newHost(t)
	go func() {
		runtime.LockOSThread() // never unlocked: its children inherit the bounding set, and it ends with the goroutine
		for _, c := range []uintptr{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN} {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
				t.Error(err)
			}
		}
		h.start()
		<-t.Context().Done() // the death of its parent's thread would end it
	}()
	if said := h.asked("one"); !strings.Contains(said, "TunnelMeter Unknown MeterNotAllowed") || !strings.Contains(said, "Kernel Pass AsWanted") {
		t.Errorf("%s", said)
	}
	h.hasAttached(0)
}
