// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/lab"
)

// resident is a pod that lives on the fresh node while faults about pods are planted there.
const resident = "resident"

// legacyPodFaults are about the pods of an old node.
func legacyPodFaults() []fault {
	// What the migration as it was published does to every old node from the first minute.
	early := conflist(ciliumFile, ciliumConf)
	// The VPC CNI gives pods to its ENIs in turn, so one of two is on a secondary one.
	const external = "to 10.244.0.0/16 priority 1535 lookup main"
	pair, endPair := inOrder(newPod("vpc-one"), newPod("vpc-two"), wantAddress("vpc-one", false, ""), wantAddress("vpc-two", false, "")), inOrder(endPod("vpc-one"), endPod("vpc-two"))
	return []fault{
		{
			"a pod of an old node is in the overlay already",
			trouble{inOrder(early.plant, newPod("early"), wantAddress("early", true, "10.244."), early.cure), endPod("early")},
			fails(v1alpha1.CheckPodAddresses, v1alpha1.PodInOverlay), nil,
		},
		{
			"packets of a pod on a secondary ENI to the overlay leave by that ENI",
			trouble{inOrder(pair, run("ip rule del "+external)), inOrder(run("ip rule add "+external), endPair)},
			fails(v1alpha1.CheckOverlayRoutes, v1alpha1.LegacyPodAstray), nil,
		},
		{"the host forwards nothing", setting("ip_forward", "0"), fails(v1alpha1.CheckOverlayRoutes, v1alpha1.ForwardingOff), nil},
		{"the tunnel's device checks sources strictly", setting("conf/cilium_vxlan/rp_filter", "1"), warns(v1alpha1.CheckOverlayRoutes, v1alpha1.SourceCheckStrict), nil},
	}
}

// setting changes a setting of the node's IPv4 and puts it back.
func setting(name, value string) trouble {
	var was []byte
	file := "/proc/sys/net/ipv4/" + name
	return trouble{
		plant: func(_ context.Context, _ *scene, host lab.Host) error {
			return inNetwork(host, func() (err error) {
				if was, err = os.ReadFile(file); err != nil {
					return err
				}
				return os.WriteFile(file, []byte(value), 0o644)
			})
		},
		cure: func(_ context.Context, _ *scene, host lab.Host) error {
			return inNetwork(host, func() error { return os.WriteFile(file, was, 0o644) })
		},
	}
}

// podFaults are about the pods of a node that joined behind the fence.
func podFaults() []fault {
	const c = v1alpha1.CheckOverlayMaps
	// Somebody's CNI that hands out addresses of the overlay by itself. host-local begins with .2.
	own := conflist("00-own.conflist", `{"cniVersion":"0.4.0","name":"own","plugins":[{"type":"ptp","ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.200.0/24"}]]}}]}`)
	return []fault{
		{"a pod's entry names an interface that is not there", residentEntry(func(_ lab.Host, v []byte) error {
			binary.NativeEndian.PutUint32(v[ifindexOffset:], 99999)
			return nil
		}), fails(c, v1alpha1.EndpointWrong), nil},
		{"a pod's entry names the health endpoint's interface", residentEntry(nameHealth), fails(c, v1alpha1.EndpointWrong), nil},
		{"a pod's entry has another MAC", residentEntry(func(_ lab.Host, v []byte) error {
			v[nodeMACOffset+5]++
			return nil
		}), fails(c, v1alpha1.EndpointWrong), nil},
		{"the endpoint map is half filled: a pod is missing", residentEntry(nil), fails(c, v1alpha1.EndpointMissing), nil},
		{
			"a pod is outside of its node's slice",
			// Cilium, which is exclusive here, would set that file aside at once.
			trouble{inOrder(signal("STOP"), own.plant, newPod("astray"), wantAddress("astray", true, "10.244.200."), own.cure, signal("CONT"), lives), endPod("astray")},
			fails(v1alpha1.CheckPodAddresses, v1alpha1.PodOutsideOverlay), []said{fails(c, v1alpha1.EndpointMissing)},
		},
	}
}

// residentEntry changes the entry of the resident pod in place, or takes it away.
func residentEntry(to func(host lab.Host, value []byte) error) trouble {
	return entries(ciliummap.EndpointsPin, func(ctx context.Context, s *scene, host lab.Host) (change, error) {
		ip, err := s.podAddress(ctx, resident)
		if err != nil {
			return nil, err
		}
		if to == nil {
			return only(endpointKey(netip.MustParseAddr(ip)), nothing), nil
		}
		value := make([]byte, 48)
		key := endpointKey(netip.MustParseAddr(ip))
		err = onMap(host, ciliummap.EndpointsPin, func(m *ebpf.Map) error { return m.Lookup(key, &value) })
		return only(key, func([]byte) []byte { return value }), errors.Join(err, to(host, value))
	})
}

func nameHealth(host lab.Host, value []byte) error {
	return onLinks(host, func(h *netlink.Handle) error {
		l, err := h.LinkByName("lxc_health")
		if err != nil {
			return err
		}
		binary.NativeEndian.PutUint32(value[ifindexOffset:], uint32(l.Attrs().Index))
		return nil
	})
}

// residueFaults are what the VPC CNI would have left.
func residueFaults() []fault {
	rule := func(verb string) hand {
		return func(ctx context.Context, s *scene, host lab.Host) error {
			ip, err := s.podAddress(ctx, resident)
			if err != nil {
				return err
			}
			return run(fmt.Sprintf("ip rule %s to %s/32 priority 512 lookup main", verb, ip))(ctx, s, host)
		}
	}
	const marked = "from all fwmark 0x80/0x80 priority 1024 lookup main"
	return []fault{
		{"a pod hangs on a rule of the VPC CNI's", trouble{rule("add"), rule("del")}, fails(v1alpha1.CheckLegacyResidue, v1alpha1.LegacyRules), nil},
		{
			"the routing table of an ENI is left",
			trouble{run("ip route add 192.0.2.1 dev eth0 scope link table 2", "ip route add default via 192.0.2.1 dev eth0 table 2"), run("ip route flush table 2")},
			warns(v1alpha1.CheckLegacyResidue, v1alpha1.LegacyTables), nil,
		},
		{"a veth pair of the VPC CNI's is left", commands("ip link add eni0123456789a type veth peer name lost", "ip link del eni0123456789a"), warns(v1alpha1.CheckLegacyResidue, v1alpha1.LegacyVeths), nil},
		{"the VPC CNI's table is left in nftables", commands("nft add table ip aws-cni", "nft delete table ip aws-cni"), warns(v1alpha1.CheckLegacyResidue, v1alpha1.LegacyNetfilter), nil},
		{
			"the VPC CNI's chain is left in iptables-legacy", commands("iptables-legacy -t nat -N AWS-SNAT-CHAIN-0", "iptables-legacy -t nat -X AWS-SNAT-CHAIN-0"),
			warns(v1alpha1.CheckLegacyResidue, v1alpha1.LegacyNetfilter), nil,
		},
		{"the VPC CNI's rule for marked packets is left", commands("ip rule add "+marked, "ip rule del "+marked), warns(v1alpha1.CheckLegacyResidue, v1alpha1.LegacyRules), nil},
	}
}

// mixed makes the fresh node a Mixed one, as the fence label on it would: the VPC CNI comes, and makes a pod. It is named, and
// when the label goes nobody puts it back, because such a node is to be replaced and not to be served.
func (s *scene) mixed(t *testing.T, host lab.Host) {
	t.Helper()
	// Cilium is exclusive here and sets aside what aws-node writes. A pod of the VPC CNI's is one of the moment before.
	cilium, aws := aside(ciliumFile), renamed(netd+"/"+awsFile+".cilium_bak", netd+"/"+awsFile)
	do := func(t *testing.T, hands ...hand) { t.Helper(); s.must(t, inOrder(hands...)(t.Context(), s, host)) }
	says := func(t *testing.T, all ...said) {
		t.Helper()
		answer, err := s.answer(t.Context(), host.Name, v1alpha1.RoleOverlay)
		s.must(t, err)
		want := well(v1alpha1.RoleOverlay)
		for _, x := range all {
			want[x.check] = x
		}
		if wrong := differs(want, answer); wrong != "" || answer.Role != v1alpha1.RoleMixed {
			t.Errorf("role %s, want Mixed; %s", answer.Role, wrong)
		}
	}
	behind := warns(v1alpha1.CheckConflist, v1alpha1.ConflistSetAside)
	t.Run("Overlay/aws-node runs here", func(t *testing.T) {
		do(t, fenceLabel(true), awsNode(true))
		says(t, fails(v1alpha1.CheckLegacyResidue, v1alpha1.LegacyRunning), behind)
	})
	t.Run("Overlay/a pod has an address of the VPC", func(t *testing.T) {
		do(t, signal("STOP"), cilium.plant, aws.plant, newPod("vpc"), wantAddress("vpc", false, ""), aws.cure, cilium.cure, signal("CONT"), lives)
		says(t, fails(v1alpha1.CheckPodAddresses, v1alpha1.PodOutsideOverlay), fails(v1alpha1.CheckLegacyResidue, v1alpha1.LegacyRunning), behind)
	})
	t.Run("Mixed/the fence label is lost and stays so", func(t *testing.T) {
		do(t, fenceLabel(false), awsNode(false))
		says(t, fails(v1alpha1.CheckPodAddresses, v1alpha1.PodOutsideOverlay), fails(v1alpha1.CheckLegacyResidue, v1alpha1.LegacyRules), behind)
		s.decidesAgain(t)
		var n corev1.Node
		s.must(t, s.env.Client.Get(t.Context(), client.ObjectKey{Name: host.Name}, &n))
		if _, labelled := n.Labels[v1alpha1.FenceLabel]; labelled {
			t.Error("a Mixed node was labelled again")
		}
		s.wantFence(t)
	})
	do(t, endPod("vpc"), forgetRules, conflist(awsFile+".cilium_bak", "").cure)
	left := well(v1alpha1.RoleOverlay)
	left[v1alpha1.CheckLegacyResidue] = warns(v1alpha1.CheckLegacyResidue, v1alpha1.LegacyNetfilter)
	s.eventually(t, 30*time.Second, func() string {
		answer, err := s.answer(t.Context(), host.Name, v1alpha1.RoleOverlay)
		s.must(t, err)
		return differs(left, answer)
	})
	do(t, forgetNetfilter)
	s.recovers(t, host, v1alpha1.RoleOverlay)
}

// forgetNetfilter takes from a node what the VPC CNI makes in netfilter, rule by rule: kube-proxy and Cilium write there too.
func forgetNetfilter(ctx context.Context, s *scene, host lab.Host) error {
	_, err := s.env.Cluster.Exec(ctx, host.Name, "bash", "-ec", `
nft delete table ip aws-cni
iptables -w 5 -t nat -D POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0
iptables -w 5 -t nat -F AWS-SNAT-CHAIN-0
iptables -w 5 -t nat -X AWS-SNAT-CHAIN-0
iptables -w 5 -t mangle -S PREROUTING | grep "AWS, primary ENI" | sed "s/^-A/-D/" | xargs -L 1 iptables -w 5 -t mangle`)
	return err
}

// forgetRules takes the VPC CNI's rules from a node, and the tables of its ENIs.
func forgetRules(_ context.Context, _ *scene, host lab.Host) error {
	return onLinks(host, func(h *netlink.Handle) error {
		rules, err := h.RuleList(netlink.FAMILY_V4)
		for _, r := range rules {
			if !slices.Contains([]int{512, 1024, 1535, 1536, 32765}, r.Priority) {
				continue
			}
			err = errors.Join(err, h.RuleDel(&r))
			if r.Table == unix.RT_TABLE_MAIN {
				continue
			}
			routes, listed := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: r.Table}, netlink.RT_FILTER_TABLE)
			err = errors.Join(err, listed)
			for _, route := range slices.Backward(routes) { // the default route before the way to its gateway
				err = errors.Join(err, h.RouteDel(&route))
			}
		}
		return err
	})
}

// fenceLabel sets or takes away the fence label of a node, as somebody other than the coordinator.
func fenceLabel(on bool) hand {
	return func(ctx context.Context, s *scene, host lab.Host) error {
		value := "null"
		if on {
			value = `"` + v1alpha1.FenceValue + `"`
		}
		body := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, v1alpha1.FenceLabel, value)
		n := &corev1.Node{}
		n.Name = host.Name
		return s.env.Client.Patch(ctx, n, client.RawPatch(types.MergePatchType, []byte(body)))
	}
}

// awsNode waits until the VPC CNI serves a node, which the conflist shows that Cilium has set aside, or until it is gone from there.
func awsNode(on bool) hand {
	return func(ctx context.Context, s *scene, host lab.Host) error {
		return until(ctx, 30*time.Second, func() string {
			var pods corev1.PodList
			err := s.env.Client.List(ctx, &pods, client.InNamespace("kube-system"), client.MatchingLabels{"k8s-app": "aws-node"}, client.MatchingFields{"spec.nodeName": host.Name})
			if err != nil {
				return err.Error()
			}
			if _, err := os.Stat(inNode(host, netd+"/"+awsFile+".cilium_bak")); (on && err != nil) || on != (len(pods.Items) > 0) {
				return fmt.Sprintf("%d pods of aws-node on %s, its conflist: %v", len(pods.Items), host.Name, err)
			}
			return ""
		})
	}
}
