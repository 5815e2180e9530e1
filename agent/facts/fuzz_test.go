// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// FuzzCiliumNode reads whatever a CiliumNode may be: either all of its addresses and CIDRs are read, or it is an error
// that names the object. Half of a node's CIDRs would make the others look at home.
func FuzzCiliumNode(f *testing.F) {
	for _, o := range []string{
		`{"metadata":{"name":"n1"},"spec":{"ipam":{"podCIDRs":["10.244.1.0/24"]},"addresses":[{"type":"InternalIP","ip":"10.0.0.1"},{"type":"CiliumInternalIP","ip":"10.244.1.1"}],"health":{"ipv4":"10.244.1.2"}}}`,
		`{}`, `{"spec":{"ipam":{"podCIDRs":["10.244.1.0/24","fd00::/64","0.0.0.0/0","10.244.1.7/24"]}}}`, `{"spec":{"ipam":{"podCIDRs":["10.244.1.0"]}}}`,
		`{"metadata":{"name":"n1"},"spec":{"ipam":{"podCIDRs":["` + strings.Repeat("1", 100_000) + `"]}}}`, `{"spec":{"addresses":[{"type":"InternalIP","ip":"10.0.0.1%eth0"}]}}`,
		`{"spec":{"ipam":{"podCIDRs":[` + strings.Repeat(`"10.0.0.0/8",`, 10_000) + `"10.0.0.0/8"]}}}`, `{"spec":{"health":{"ipv4":"fe80::1%\u001b[2J"}}}`,
	} {
		f.Add(o)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var o CiliumNodeObject
		if json.Unmarshal([]byte(text), &o) != nil {
			return
		}
		n, err := CiliumNodeOf(&o)
		if err != nil {
			if !strings.Contains(err.Error(), "of CiliumNode "+o.Metadata.Name) || n.PodCIDRs != nil || n.InternalIPs != nil {
				t.Errorf("%+v with %v", n, err)
			}
			return
		}
		internal, cilium := 0, 0
		for _, a := range o.Spec.Addresses {
			if a.Type == "InternalIP" {
				internal++
			}
			if a.Type == "CiliumInternalIP" {
				cilium++
			}
		}
		if len(n.PodCIDRs) != len(o.Spec.IPAM.PodCIDRs) || len(n.InternalIPs) != internal || len(n.CiliumIPs) != cilium || n.HealthIP.IsValid() != (o.Spec.Health.IPv4 != "") {
			t.Errorf("%+v of %+v", n, o.Spec)
		}
		for _, p := range n.PodCIDRs {
			if !p.IsValid() || p != p.Masked() {
				t.Errorf("a pod CIDR %s", p)
			}
		}
	})
}

// FuzzSettings: the overlay is read whole or not at all.
func FuzzSettings(f *testing.F) {
	f.Add("10.244.0.0/16", "10.245.0.0/16")
	f.Add("10.244.0.1/16", "x")
	f.Fuzz(func(t *testing.T, a, b string) {
		c := &v1alpha1.Cutover{}
		c.Spec.Overlay.PodCIDRs = []string{a, b}
		_, errA := netip.ParsePrefix(a)
		_, errB := netip.ParsePrefix(b)
		s := SettingsOf(c)
		if whole := errA == nil && errB == nil; (s.Sight == Seen) != whole || whole && len(s.Overlay) != 2 || !whole && s.Detail == "" {
			t.Errorf("%q, %q: %+v", a, b, s)
		}
	})
}
