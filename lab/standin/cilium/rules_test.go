// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/datapath"
)

func TestNodeConfigsMergeInNameOrder(t *testing.T) {
	parse := func(name, selector, value string) nodeConfig {
		c, err := parseNodeConfig(fmt.Appendf(nil, `{"metadata":{"name":%q},"spec":{"nodeSelector":%s,"defaults":{"custom-cni-conf":%q}}}`, name, selector, value))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const unlabelled = `{"matchExpressions":[{"key":"io.cilium/aws-node-enabled","operator":"DoesNotExist"}]}`
	base := map[string]string{"custom-cni-conf": "true", "tunnel-port": "8472"}
	for _, test := range []struct {
		name    string
		node    labels.Set
		configs []nodeConfig
		want    string
	}{
		{"no config leaves the cluster's options", nil, nil, "true"},
		{"a node without the fence label is selected", nil, []nodeConfig{parse("a", unlabelled, "false")}, "false"},
		{"a fenced node is not", labels.Set{"io.cilium/aws-node-enabled": "true"}, []nodeConfig{parse("a", unlabelled, "false")}, "true"},
		{"any value of the label fences", labels.Set{"io.cilium/aws-node-enabled": ""}, []nodeConfig{parse("a", unlabelled, "false")}, "true"},
		{"the later name wins, whatever the order of the list", nil, []nodeConfig{parse("b", unlabelled, "late"), parse("a", unlabelled, "early")}, "late"},
		{"an absent selector selects nothing", nil, []nodeConfig{parse("a", "null", "false")}, "true"},
		{"an empty selector selects every node", nil, []nodeConfig{parse("a", "{}", "false")}, "false"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := resolve(base, test.node, test.configs)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"custom-cni-conf": test.want, "tunnel-port": "8472"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if base["custom-cni-conf"] != "true" {
				t.Error("resolving changed the cluster's options")
			}
		})
	}
}

func TestSettingsWriteAConflistOnlyWithoutCustomConf(t *testing.T) {
	const path = "/host/etc/cni/net.d/05-cilium.conflist"
	for _, test := range []struct{ name, custom, want string }{
		{"custom configuration", "true", ""},
		{"own configuration", "false", path},
		{"not said", "", path},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := settings{}.with(map[string]string{"custom-cni-conf": test.custom, "write-cni-conf-when-ready": path})
			if err != nil {
				t.Fatal(err)
			}
			if s.conflist != test.want {
				t.Errorf("got %q, want %q", s.conflist, test.want)
			}
		})
	}
}

func TestSettingsTakeTheTimeThatTheDatapathIsTold(t *testing.T) {
	s, err := settings{slowDatapath: datapathDelay}.with(map[string]string{optionDatapathDelay: "1h"})
	if err != nil || s.slowDatapath != time.Hour {
		t.Errorf("got %s, %v; want one hour", s.slowDatapath, err)
	}
	if _, err := (settings{}).with(map[string]string{optionDatapathDelay: "soon"}); err == nil {
		t.Error("a time that is none was taken")
	}
}

func TestSettingsRefuseAnotherMode(t *testing.T) {
	for _, key := range []string{"routing-mode", "tunnel-protocol", "kube-proxy-replacement", "enable-bpf-masquerade", "ipam"} {
		if _, err := (settings{}).with(map[string]string{key: "other"}); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("option %s=other: got error %v, want one that names the option", key, err)
		}
	}
}

func TestSlicesGoOutInOrderOfArrival(t *testing.T) {
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	prefixes := func(texts ...string) (list []netip.Prefix) {
		for _, text := range texts {
			list = append(list, netip.MustParsePrefix(text))
		}
		return list
	}
	small, err := parsePool("10.244.0.0/22", 24)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		members []member
		after   int
		want    string
		full    bool
	}{
		{"first come, first served", []member{{"b", at(1), nil}, {"a", at(2), nil}}, 0, "b=10.244.0.0/24 a=10.244.1.0/24", false},
		{"same second, by name", []member{{"b", at(1), nil}, {"a", at(1), nil}}, 0, "a=10.244.0.0/24 b=10.244.1.0/24", false},
		{"a taken slice is passed over", []member{{"a", at(1), prefixes("10.244.0.0/24")}, {"b", at(2), nil}}, 0, "b=10.244.1.0/24", false},
		{"a freed slice is used last", []member{{"a", at(1), nil}}, 3, "a=10.244.3.0/24", false},
		{"round the end", []member{{"a", at(1), nil}}, 4, "a=10.244.0.0/24", false},
		{"nothing left", []member{{"a", at(1), prefixes("10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24")}, {"b", at(2), nil}}, 0, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			given, _, full := assign(small, test.members, test.after)
			var got []string
			for _, a := range given {
				got = append(got, a.name+"="+a.slice.String())
			}
			if strings.Join(got, " ") != test.want || full != test.full {
				t.Errorf("got %v full=%v, want %s full=%v", got, full, test.want, test.full)
			}
		})
	}
}

func TestPoolNeedsRoomForASlice(t *testing.T) {
	for _, mask := range []int{8, 31} {
		if _, err := parsePool("10.244.0.0/16", mask); err == nil {
			t.Errorf("mask /%d of a /16 pool: got no error", mask)
		}
	}
}

func TestRegistryHandsOutEachAddressOnce(t *testing.T) {
	dir := t.TempDir()
	r, err := openRegistry(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.open(netip.MustParsePrefix("10.244.3.0/29"))
	given := map[netip.Addr]bool{}
	for i := range 6 { // 8 addresses less the first and the last
		addr, err := r.allocate(fmt.Sprint(i), netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		if given[addr] || addr == netip.MustParseAddr("10.244.3.0") || addr == netip.MustParseAddr("10.244.3.7") {
			t.Errorf("got %s twice or at the edge of the slice", addr)
		}
		given[addr] = true
	}
	if addr, err := r.allocate("one too many", netip.Addr{}); err == nil {
		t.Errorf("got %s from a full slice", addr)
	}
	first, err := r.allocate("0", netip.Addr{})
	if err != nil || !given[first] {
		t.Errorf("asking again: got %s, %v; want the same address", first, err)
	}
	if err := r.release("0"); err != nil {
		t.Fatal(err)
	}
	if err := r.release("0"); err != nil {
		t.Errorf("releasing again: %v", err)
	}
	if again, err := r.allocate("new", netip.Addr{}); err != nil || again != first {
		t.Errorf("got %s, %v; want the released %s", again, err, first)
	}
}

func TestRegistryOutlivesTheAgent(t *testing.T) {
	dir := t.TempDir()
	before, err := openRegistry(dir)
	if err != nil {
		t.Fatal(err)
	}
	slice := netip.MustParsePrefix("10.244.3.0/30")
	before.open(slice)
	ep, err := before.complete("container", datapath.Endpoint{IP: netip.MustParseAddr("10.244.3.1"), Interface: "lxc1"})
	if err != nil {
		t.Fatal(err)
	}
	after, err := openRegistry(dir)
	if err != nil {
		t.Fatal(err)
	}
	after.open(slice)
	got, known := after.find("container")
	if !known || got.ID != ep.ID || got.IP != ep.IP || after.hostID() != before.hostID() {
		t.Errorf("got %+v known=%v host=%d, want %+v host=%d", got, known, after.hostID(), ep, before.hostID())
	}
	if addr, err := after.allocate("other", netip.Addr{}); err != nil || addr != netip.MustParseAddr("10.244.3.2") {
		t.Errorf("got %s, %v; want the only free address", addr, err)
	}
}

func TestConflistIsTheOriginalsToTheByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "05-cilium.conflist")
	if err := writeConflist(path); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	const bytesOfTheOriginal = 191
	if len(raw) != bytesOfTheOriginal || raw[0] != '\n' || raw[len(raw)-1] != '}' || info.Mode().Perm() != 0o600 {
		t.Errorf("got %d bytes, mode %o: %q", len(raw), info.Mode().Perm(), raw)
	}
}
