// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/lab"
)

// ownerFaults are about the datapath's owner. Everything that it made stands and carries packets.
func ownerFaults() []fault {
	const c = v1alpha1.CheckCiliumAlive
	const socket = "/var/run/cilium/cilium.sock"
	return []fault{
		{
			"Cilium's agent lives and its socket is dead", trouble{
				run("mv "+socket+" "+socket+".aside", "touch "+socket),
				run("mv " + socket + ".aside " + socket),
			}, doubts(c, v1alpha1.CiliumSilent), nil,
		},
		{"Cilium's agent stopped hours ago", trouble{inOrder(signal("STOP"), stampHoursAgo), signal("CONT")}, fails(c, v1alpha1.CiliumStopped), nil},
		{
			"Cilium's agent ends whenever it starts", trouble{inOrder(loseConfiguration, signal("KILL"), outlastLiveness), restartCilium}, fails(c, v1alpha1.CiliumStopped),
			// Its health endpoint goes with it, and an old node has no other in the overlay.
			[]said{warns(v1alpha1.CheckOverlayMaps, v1alpha1.NothingToProve)},
		},
	}
}

// whileStopped plants something on a node whose Cilium has stopped hours ago.
func whileStopped(x trouble) trouble {
	return trouble{inOrder(signal("STOP"), stampHoursAgo, x.plant), inOrder(x.cure, signal("CONT"))}
}

// signal sends a signal to the node's Cilium agent. A stop is waited for: on a busy machine its threads run on until one of them
// has had its turn to stop the others.
func signal(name string) hand {
	return func(ctx context.Context, s *scene, host lab.Host) error {
		found, err := s.env.Cluster.Exec(ctx, host.Name, "pgrep", "-f", "cilium-agent --config-dir")
		if err != nil {
			return err
		}
		pid := strings.Fields(found)[0]
		if _, err = s.env.Cluster.Exec(ctx, host.Name, "kill", "-"+name, pid); err != nil || name != "STOP" {
			return err
		}
		return until(ctx, 10*time.Second, func() string {
			threads, err := filepath.Glob(inNode(host, "/proc/"+pid+"/task/*/status"))
			for _, thread := range threads {
				if status, err := os.ReadFile(thread); err == nil && !bytes.Contains(status, []byte("\nState:\tT")) {
					return "Cilium's agent on " + host.Name + " still runs"
				}
			}
			if len(threads) == 0 {
				return fmt.Sprintf("Cilium's agent on %s is gone: %v", host.Name, err)
			}
			return ""
		})
	}
}

// agentLiveness is the index of the liveness in cilium_runtime_config: CLOCK_MONOTONIC in nanoseconds (Cilium pkg/maps/configmap).
const agentLiveness = uint32(1)

// stampHoursAgo makes the last sign of life three hours old, or as old as the machine.
func stampHoursAgo(_ context.Context, _ *scene, host lab.Host) error {
	now, err := ciliummap.Monotonic()
	if err != nil {
		return err
	}
	return onMap(host, ciliummap.RuntimeConfigPin, func(m *ebpf.Map) error {
		return m.Put(agentLiveness, uint64(max(now-3*time.Hour, 1)))
	})
}

// loseConfiguration takes away what the agent reads first when it starts, so that its container ends again and again.
func loseConfiguration(ctx context.Context, s *scene, host lab.Host) error {
	p, err := s.podOn(ctx, host.Name, "kube-system", "cilium")
	if err != nil {
		return err
	}
	dir := inNode(host, "/var/lib/kubelet/pods/"+string(p.UID)+"/volumes/kubernetes.io~empty-dir/tmp/cilium/config-map")
	return os.Rename(dir, dir+".aside")
}

// outlastLiveness waits until the last sign of life is too old, and lives until there is a new one.
func outlastLiveness(ctx context.Context, _ *scene, host lab.Host) error {
	return awaitLife(ctx, host, false)
}
func lives(ctx context.Context, _ *scene, host lab.Host) error { return awaitLife(ctx, host, true) }

// awaitLife looks at the map itself, as the agent does.
func awaitLife(ctx context.Context, host lab.Host, alive bool) error {
	const tooOld, young = 5 * time.Second, 2 * time.Second
	return until(ctx, 6*tooOld, func() string {
		var stamp uint64
		now, err := ciliummap.Monotonic()
		if err == nil {
			err = onMap(host, ciliummap.RuntimeConfigPin, func(m *ebpf.Map) error { return m.Lookup(agentLiveness, &stamp) })
		}
		if age := now - time.Duration(stamp); err != nil || alive && age > young || !alive && age <= tooOld {
			return fmt.Sprintf("Cilium's agent on %s lived %s ago: %v", host.Name, age, err)
		}
		return ""
	})
}

// routeFaults are about the routes to a peer. Cilium writes them when something changes about a peer.
func routeFaults() []fault {
	const c = v1alpha1.CheckOverlayRoutes
	return []fault{
		{"the route to a peer is missing", peerRoute(func(h *netlink.Handle, r netlink.Route) error { return h.RouteDel(&r) }), fails(c, v1alpha1.RouteMissing), nil},
		{
			"the route to a peer has no MTU", peerRoute(func(h *netlink.Handle, r netlink.Route) error {
				r.MTU = 0
				return h.RouteReplace(&r)
			}),
			fails(c, v1alpha1.RouteWithoutMTU), []said{fails(v1alpha1.CheckMTU, v1alpha1.MTUNoRoom)},
		},
		{
			"the route to a peer leads past the tunnel", peerRoute(func(h *netlink.Handle, r netlink.Route) error {
				nic, err := h.LinkByName("eth0")
				if err != nil {
					return err
				}
				r.LinkIndex, r.Gw, r.Src, r.MTU, r.Scope = nic.Attrs().Index, nil, nil, 0, netlink.SCOPE_LINK
				return h.RouteReplace(&r)
			}),
			fails(c, v1alpha1.RouteElsewhere), nil,
		},
	}
}

// peerRoute does something to the route to the first peer's pods.
func peerRoute(to func(*netlink.Handle, netlink.Route) error) trouble {
	var was netlink.Route
	return trouble{
		plant: func(ctx context.Context, s *scene, host lab.Host) error {
			peers, err := s.peersOf(ctx, host.Name)
			if err != nil {
				return err
			}
			dst := &net.IPNet{IP: peers[0].cidr.Addr().AsSlice(), Mask: net.CIDRMask(peers[0].cidr.Bits(), 32)}
			return onLinks(host, func(h *netlink.Handle) error {
				found, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: dst}, netlink.RT_FILTER_DST)
				if err != nil || len(found) != 1 {
					return fmt.Errorf("looking for the route to %s on %s: %d found: %w", dst, host.Name, len(found), err)
				}
				was = found[0]
				return to(h, was)
			})
		},
		cure: func(_ context.Context, _ *scene, host lab.Host) error {
			return onLinks(host, func(h *netlink.Handle) error { return h.RouteReplace(&was) })
		},
	}
}

// compiling is the label of nodes on which Cilium's datapath takes an hour.
const compiling = "lab.cni-cutover.dev/compiling"

// slowConfig is the CiliumNodeConfig that says so.
func slowConfig() *unstructured.Unstructured {
	c := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"nodeSelector": map[string]any{"matchLabels": map[string]any{compiling: "true"}},
		"defaults":     map[string]any{"lab-datapath-delay": "1h"},
	}}}
	c.SetGroupVersionKind(schema.GroupVersionKind{Group: "cilium.io", Version: "v2", Kind: "CiliumNodeConfig"})
	c.SetNamespace("kube-system")
	c.SetName("lab-compiling")
	return c
}

// join lets a node join behind the fence whose Cilium is still compiling, and takes it away with the test.
func (s *scene) join(t *testing.T) lab.Host {
	t.Helper()
	s.must(t, s.env.Client.Create(t.Context(), slowConfig()))
	host, err := s.env.Cluster.AddNode(t.Context(), lab.NodeOptions{Labels: map[string]string{compiling: "true"}})
	s.must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.env.Cluster.Terminate(ctx, host.Name); err != nil {
			t.Error(err)
		}
		if err := s.env.Client.Delete(ctx, slowConfig()); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
		err := until(ctx, time.Minute, func() string {
			err := s.env.Client.Get(ctx, client.ObjectKey{Name: host.Name}, &v1alpha1.NodeCutover{})
			list, listed := s.ciliumNodes(ctx)
			for _, n := range list {
				if n.GetName() == host.Name || listed != nil || !apierrors.IsNotFound(err) {
					return fmt.Sprintf("something of %s is left: %v %v", host.Name, err, listed)
				}
			}
			return ""
		})
		if err != nil {
			t.Error(err)
		}
	})
	return host
}

// joiningFaults is the one of a node that has just joined: net.d, pins, liveness and Cilium's own health say that all is well,
// and no packet of the overlay gets anywhere.
func joiningFaults() []fault {
	healthy := func(ctx context.Context, s *scene, host lab.Host) error {
		if err := s.env.Cluster.WaitReady(ctx, host.Name); err != nil {
			return err
		}
		if err := run("curl -sf -m 1 http://127.0.0.1:9879/healthz")(ctx, s, host); err != nil {
			return err
		}
		return until(ctx, 30*time.Second, func() string {
			if err := s.env.Client.Get(ctx, client.ObjectKey{Name: host.Name}, &v1alpha1.NodeCutover{}); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	compiled := func(ctx context.Context, s *scene, host lab.Host) error {
		if err := s.env.Client.Delete(ctx, slowConfig()); err != nil {
			return err
		}
		return restartCilium(ctx, s, host)
	}
	return []fault{{
		"Cilium says OK and is still compiling", trouble{healthy, compiled}, fails(v1alpha1.CheckPrograms, v1alpha1.ProgramMissing), []said{
			fails(v1alpha1.CheckTunnelDevice, v1alpha1.TunnelMissing), fails(v1alpha1.CheckOverlayMaps, v1alpha1.PeerMissing),
			fails(v1alpha1.CheckOverlayRoutes, v1alpha1.RouteMissing), doubts(v1alpha1.CheckMTU, v1alpha1.MTUUnknown),
			doubts(v1alpha1.CheckPodAddresses, v1alpha1.NothingToProve),
		},
	}}
}

// peer is another node as its CiliumNode has it.
type peer struct {
	name       string
	cidr       netip.Prefix
	ip, health netip.Addr
}

// peersOf returns the other nodes that have a slice of the overlay, by name.
func (s *scene) peersOf(ctx context.Context, node string) ([]peer, error) {
	list, err := s.ciliumNodes(ctx)
	if err != nil {
		return nil, err
	}
	var out []peer
	for _, n := range list {
		cidrs, _, _ := unstructured.NestedStringSlice(n.Object, "spec", "ipam", "podCIDRs")
		addresses, _, _ := unstructured.NestedSlice(n.Object, "spec", "addresses")
		health, _, _ := unstructured.NestedString(n.Object, "spec", "health", "ipv4")
		if n.GetName() == node || len(cidrs) == 0 || health == "" {
			continue
		}
		p := peer{name: n.GetName(), cidr: netip.MustParsePrefix(cidrs[0]), health: netip.MustParseAddr(health)}
		for _, a := range addresses {
			if address, _ := a.(map[string]any); address["type"] == "InternalIP" {
				p.ip = netip.MustParseAddr(fmt.Sprint(address["ip"]))
			}
		}
		out = append(out, p)
	}
	if len(out) < 2 {
		return nil, fmt.Errorf("looking for peers of %s: %d CiliumNodes have an address and a pod CIDR, and two are wanted", node, len(out))
	}
	return out, nil
}
