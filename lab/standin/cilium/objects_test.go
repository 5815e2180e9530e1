// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/datapath"
)

// documents decodes the manifest's objects of one kind.
func documents[T any](t *testing.T, kind string) (found []T) {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(Manifest), 4096)
	for {
		var raw json.RawMessage
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return found
		}
		must(t, err)
		var meta metav1.TypeMeta
		must(t, json.Unmarshal(raw, &meta))
		if meta.Kind == kind {
			var object T
			must(t, json.Unmarshal(raw, &object))
			found = append(found, object)
		}
	}
}

func TestManifestInstallsAnAgentThatWritesNoConflist(t *testing.T) {
	configs := documents[corev1.ConfigMap](t, "ConfigMap")
	if len(configs) != 1 || configs[0].Name != configMapName || configs[0].Namespace != systemNamespace {
		t.Fatalf("got %d ConfigMaps, want %s/%s", len(configs), systemNamespace, configMapName)
	}
	s, err := settings{}.with(configs[0].Data)
	must(t, err)
	if s.conflist != "" || s.exclusive || s.tunnelPort != 8472 || len(s.devices) == 0 {
		t.Errorf("got %+v, want no conflist, not exclusive, port 8472 and a device pattern", s)
	}
	if _, err := parsePool(configs[0].Data["cluster-pool-ipv4-cidr"], 24); err != nil {
		t.Error(err)
	}
}

func TestCiliumNodeIsAPeerOnceItHasAnAddress(t *testing.T) {
	const full = `{"metadata":{"name":"n2"},"spec":{"addresses":[{"type":"InternalIP","ip":"172.18.0.12"},{"type":"CiliumInternalIP","ip":"10.244.1.231"}],
		"health":{"ipv4":"10.244.1.170"},"ipam":{"podCIDRs":["10.244.1.0/24"]}}}`
	for _, test := range []struct {
		name, object string
		ok, bad      bool
	}{
		{"complete", full, true, false},
		{"just created", `{"metadata":{"name":"n2"},"spec":{}}`, false, false},
		{"IPv6 only", `{"metadata":{"name":"n2"},"spec":{"addresses":[{"type":"InternalIP","ip":"fd00::1"}],"ipam":{"podCIDRs":["fd01::/64"]}}}`, false, false},
		{"an address that is none", `{"metadata":{"name":"n2"},"spec":{"addresses":[{"type":"InternalIP","ip":"x"}]}}`, false, true},
		{"a slice that is none", `{"metadata":{"name":"n2"},"spec":{"ipam":{"podCIDRs":["10.244.1.0"]}}}`, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var object ciliumNode
			must(t, json.Unmarshal([]byte(test.object), &object))
			node, ok, err := object.parse()
			if ok != test.ok || (err != nil) != test.bad {
				t.Fatalf("got %+v ok=%v err=%v", node, ok, err)
			}
			if test.ok && (node.IP != netip.MustParseAddr("172.18.0.12") || node.Router != netip.MustParseAddr("10.244.1.231") ||
				node.Health != netip.MustParseAddr("10.244.1.170") || node.PodCIDR[0] != netip.MustParsePrefix("10.244.1.0/24")) {
				t.Errorf("got %+v", node)
			}
		})
	}
}

func TestCiliumNodeOfAnEarlierMachineIsTakenOver(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "new"}}
	node.Status.NodeInfo.BootID = "boot"
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.1.10"}}
	object := func(owner, boot, ip string) ciliumNode {
		var n ciliumNode
		n.OwnerReferences = []metav1.OwnerReference{{UID: node.UID}}
		if owner != "" {
			n.OwnerReferences[0].UID = "old"
		}
		n.Spec.BootID = boot
		n.Spec.Addresses = []ciliumAddress{{Type: "InternalIP", IP: ip}}
		return n
	}
	for _, test := range []struct {
		name string
		have ciliumNode
		want bool
	}{
		{"its own", object("", "boot", "10.0.1.10"), false},
		{"another Node of that name", object("old", "boot", "10.0.1.10"), true},
		{"another boot", object("", "before", "10.0.1.10"), true},
		{"another address", object("", "boot", "10.0.1.11"), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := stale(test.have, node); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func FuzzCiliumNode(f *testing.F) {
	f.Add([]byte(`{"metadata":{"name":"n"},"spec":{"addresses":[{"type":"InternalIP","ip":"10.0.0.1"}],"ipam":{"podCIDRs":["10.244.0.0/24"]}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var object ciliumNode
		if json.Unmarshal(raw, &object) != nil {
			return
		}
		node, ok, err := object.parse()
		if err != nil {
			return
		}
		if ok != node.IP.IsValid() {
			t.Errorf("ok=%v with address %v", ok, node.IP)
		}
		if ok {
			datapath.IPCache(node, []datapath.Node{node}, nil)
		}
	})
}
