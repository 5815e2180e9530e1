// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab"
)

// Sizes of packets inside the tunnel, in bytes, where the NICs carry 9001.
const (
	fits    = 8951
	tooLong = 9001 // what a pod sends that believes in the NIC's MTU
)

// packets are sent at a time.
const packets = 20

// TestTheTunnelIsMeasured is about faults that show in nothing but the packets: devices and routes are as they should be, and a
// ping passes. Nothing else of the node changes, and what was mended is forgotten.
func TestTheTunnelIsMeasured(t *testing.T) {
	s := standing(t)
	s.harms(t)
	hosts := s.hosts(t)
	node, peers := hosts[0], hosts[1:3]
	ends, err := s.peersOf(t.Context(), "")
	s.must(t, err)
	health := map[string]netip.Addr{}
	for _, e := range ends {
		health[e.name] = e.health
	}
	hear := func(size int) {
		for _, p := range peers {
			s.must(t, send(p, health[node.Name], size))
		}
	}
	s.peersOfAge(t)

	_, err = s.answer(t.Context(), node.Name, v1alpha1.RoleLegacy) // attaches the meter
	s.must(t, err)
	hear(fits)
	s.must(t, send(node, health[peers[0].Name], fits))
	s.measures(t, node, said{v1alpha1.CheckTunnelMeter, v1alpha1.VerdictPass, v1alpha1.AsWanted}, "the meter at eth0 has seen ")
	s.measures(t, node, said{v1alpha1.CheckMTU, v1alpha1.VerdictPass, v1alpha1.AsWanted}, "none cut, 50.000 bytes added to each, the largest 9001")
	s.measures(t, node, said{v1alpha1.CheckMTU, v1alpha1.VerdictPass, v1alpha1.AsWanted}, "of 3 peers asked 3 proved that 9001 bytes pass both ways")

	past := pastTunnel(node)
	s.must(t, past.plant(t.Context(), s, node))
	straight := s.measures(t, node, fails(v1alpha1.CheckMTU, v1alpha1.OverlayPastTunnel), "and prove nothing of it")
	if evidence(straight, "tunnels_proved") == 0 { // what would have passed
		t.Errorf("%+v: the answers that came straight back proved no path", straight.Evidence)
	}
	s.must(t, past.cure(t.Context(), s, node))
	s.measures(t, node, said{v1alpha1.CheckMTU, v1alpha1.VerdictPass, v1alpha1.AsWanted}, "of 3 peers asked 3 proved that 9001 bytes pass both ways, and 3 that 8951 do in the tunnel")

	path := narrowPath(node, 1500)
	s.must(t, path.plant(t.Context(), s, node))
	hear(fits)
	// The meter here sees pieces; why, the probes say: what is sent with DF does not come back.
	pieces := s.measures(t, node, fails(v1alpha1.CheckMTU, v1alpha1.PathTooNarrow), "on the way back from ")
	if evidence(pieces, "cut_received") < 2*packets {
		t.Errorf("%+v: the meter has not seen the pieces", pieces.Evidence)
	}
	s.must(t, path.cure(t.Context(), s, node))

	s.must(t, send(node, health[peers[0].Name], tooLong))
	s.measures(t, node, fails(v1alpha1.CheckMTU, v1alpha1.FragmentsSent), "the overlay's MTU is too large")
	if cut := regexp.MustCompile(`(?m)^cni_cutover_agent_tunnel_fragmented_packets_total\{direction="egress"\} [1-9]`); !cut.MatchString(s.metrics(t, "cutover-agent", "9791")) {
		t.Error("no agent's metrics count the packets that were sent in pieces")
	}

	_, err = s.answerTo(t.Context(), node.Name, v1alpha1.RoleLegacy, 5*time.Minute)
	s.must(t, err)
	s.eventually(t, 4*time.Minute, func() string { // the agent answers again by itself when the window has passed
		var nc v1alpha1.NodeCutover
		s.must(t, s.env.Client.Get(t.Context(), client.ObjectKey{Name: node.Name}, &nc))
		return differs(well(v1alpha1.RoleLegacy), nc.Status)
	})
	_, err = s.answer(t.Context(), node.Name, v1alpha1.RoleLegacy) // one that expires soon
	s.must(t, err)
}

// evidence is a number of a finding, 0 if it has none of that name.
func evidence(f v1alpha1.Finding, name string) int64 {
	for _, e := range f.Evidence {
		if e.Name == name {
			return e.Value
		}
	}
	return 0
}

// measures asks a node until one check answers as it should, in these words, and every other as on a node that is well.
func (s *scene) measures(t *testing.T, host lab.Host, x said, words string) (found v1alpha1.Finding) {
	t.Helper()
	s.eventually(t, 20*time.Second, func() string {
		answer, err := s.answer(t.Context(), host.Name, v1alpha1.RoleLegacy)
		s.must(t, err)
		want := well(v1alpha1.RoleLegacy)
		want[x.check] = x
		if wrong := differs(want, answer); wrong != "" {
			return wrong
		}
		for _, f := range answer.Findings {
			if f.Check != x.check {
				continue
			}
			if found = f; !strings.Contains(f.Message, words) {
				return fmt.Sprintf("%s does not say %q: %s", f.Check, words, f.Message)
			}
		}
		return ""
	})
	return found
}

// send sends packets of a size, IP header included, into the tunnel, whatever MTU the route has: as a pod with another MTU
// of its own would.
func send(host lab.Host, to netip.Addr, size int) error {
	return inNetwork(host, func() error {
		conn, err := net.ListenUDP("udp4", nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		var set error
		if err := raw.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		}); err != nil || set != nil {
			return errors.Join(err, set)
		}
		const headers, discard = 20 + 8, 9
		for range packets {
			if _, err := conn.WriteToUDPAddrPort(make([]byte, size-headers), netip.AddrPortFrom(to, discard)); err != nil {
				return fmt.Errorf("sending %d bytes from %s to %s: %w", size, host.Name, to, err)
			}
		}
		return nil
	})
}

// narrowPath lets the VPC's router carry no more than that to a node. It cuts what is larger and has no DF, as the tunnel's packets.
func narrowPath(host lab.Host, mtu int) trouble {
	set := func(mtu int) hand {
		return func(ctx context.Context, s *scene, _ lab.Host) error {
			err := onRouter(host, func(h *netlink.Handle) error {
				to := &net.IPNet{IP: host.Instance.Interfaces[0].Primary.AsSlice(), Mask: net.CIDRMask(32, 32)}
				found, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: to}, netlink.RT_FILTER_DST)
				if err != nil || len(found) != 1 {
					return fmt.Errorf("looking for the router's route to %s: %d found: %w", to, len(found), err)
				}
				found[0].MTU, found[0].MTULock = mtu, mtu > 0
				return h.RouteReplace(&found[0])
			})
			if err != nil || mtu > 0 {
				return err
			}
			// What was sent with DF meanwhile has taught the others that this node is far away.
			hosts, err := s.env.Cluster.Nodes(ctx)
			for _, other := range hosts {
				err = errors.Join(err, run("ip route flush cache")(ctx, s, other))
			}
			return err
		}
	}
	return trouble{set(mtu), set(0)}
}

// pastTunnel gives this node's questions to other agents the node's own address inside the tunnel, and has the VPC not look at sources: the
// answers come straight back, as where masquerade is wrong and EC2's source check is off.
func pastTunnel(host lab.Host) trouble {
	rule := fmt.Sprintf(" POSTROUTING -o cilium_host -p udp --dport 9794 -j SNAT --to-source %s", host.Instance.Interfaces[0].Primary)
	checks := map[string][]byte{} // the router's rp_filter files, and what was in them
	return trouble{
		plant: inOrder(run("iptables -w 5 -t nat -I"+rule), func(context.Context, *scene, lab.Host) error {
			return inRouter(host, func() error {
				files, err := filepath.Glob("/proc/sys/net/ipv4/conf/*/rp_filter")
				for _, file := range files {
					if checks[file], err = os.ReadFile(file); err != nil {
						return err
					}
					if err = os.WriteFile(file, []byte("0"), 0o644); err != nil {
						return err
					}
				}
				return err
			})
		}),
		cure: inOrder(run("iptables -w 5 -t nat -D"+rule), func(context.Context, *scene, lab.Host) error {
			return inRouter(host, func() error {
				var err error
				for file, was := range checks {
					err = errors.Join(err, os.WriteFile(file, was, 0o644))
				}
				return err
			})
		}),
	}
}

// router is the VPC's router, whose network is that of the process that has started the node.
func router(host lab.Host) (lab.Host, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", host.PID))
	if err != nil {
		return lab.Host{}, err
	}
	var parent int
	_, after, _ := strings.Cut(string(status), "\nPPid:")
	if _, err := fmt.Sscan(after, &parent); err != nil {
		return lab.Host{}, fmt.Errorf("reading the parent of %s: %w", host.Name, err)
	}
	return lab.Host{Name: "the router", PID: parent}, nil
}

func inRouter(host lab.Host, do func() error) error {
	r, err := router(host)
	if err != nil {
		return err
	}
	return inNetwork(r, do)
}

func onRouter(host lab.Host, do func(*netlink.Handle) error) error {
	r, err := router(host)
	if err != nil {
		return err
	}
	return onLinks(r, do)
}
