// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// poison puts a text into every string and a number into every number of a value, as far as they can hold them.
func poison(v reflect.Value, text string, number int64) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(text)
		}
	case reflect.Int, reflect.Int64, reflect.Int32:
		// Sights and kinds are small enumerations of their own; these are sizes, indexes and times.
		if v.CanSet() {
			v.SetInt(number)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			poison(v.Elem(), text, number)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() || v.Type() == reflect.TypeFor[netip.Addr]() || v.Type() == reflect.TypeFor[netip.Prefix]() {
			return
		}
		for i := range v.NumField() {
			poison(v.Field(i), text, number)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if v.CanSet() {
				v.SetBytes([]byte(text))
			}
			return
		}
		for i := range v.Len() {
			poison(v.Index(i), text, number)
		}
	}
}

var word = regexp.MustCompile(`^[A-Za-z0-9 ._/%-]*$`)

// taken holds findings to what the schema of NodeCutover takes; api/v1alpha1 holds the same against a real API server.
func taken(findings []v1alpha1.Finding) error {
	if n := size(findings); n > v1alpha1.MaxFindingsBytes || len(findings) > 64 {
		return fmt.Errorf("%d findings of %d bytes", len(findings), n)
	}
	for _, f := range findings {
		if len(f.Message) > v1alpha1.MaxMessageBytes || !utf8.ValidString(f.Message) {
			return fmt.Errorf("%s: %d bytes, UTF-8 %t", f.Check, len(f.Message), utf8.ValidString(f.Message))
		}
		if strings.ContainsFunc(f.Message, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("%s: %q", f.Check, f.Message)
		}
		if len(f.Evidence) > 16 || f.Reason == "" {
			return fmt.Errorf("%s: reason %q, %d numbers", f.Check, f.Reason, len(f.Evidence))
		}
		for _, e := range f.Evidence {
			if len(e.Name) > 63 || len(e.Unit) > 31 || !word.MatchString(e.Name+e.Unit) {
				return fmt.Errorf("%s: %+v", f.Check, e)
			}
		}
	}
	return nil
}

// FuzzAnyHostGetsAReport judges hosts on which every name, every file and every word of the system is somebody's invention.
func FuzzAnyHostGetsAReport(f *testing.F) {
	for _, text := range []string{
		"\x1b[2J\x1b[31m", "a\nb: Pass", "\xff\xfe", strings.Repeat("<&>", 200), strings.Repeat(`"\`, 300), strings.Repeat("é", 4000), "\u202e", "",
		"lxc", "cilium_vxlan", "6.1.0", "99999999999999999999.1", strings.Repeat("[", 100_000), ciliumConf,
	} {
		f.Add(text, int64(math.MaxInt64), true, true)
		f.Add(text, int64(math.MinInt64), false, false)
	}
	f.Fuzz(func(t *testing.T, text string, number int64, everywhere, legacy bool) {
		host := overlayNode()
		if legacy {
			host = legacyNode()
		}
		if everywhere {
			poison(reflect.ValueOf(host).Elem(), text, number)
		} else { // only what is not asked for by name
			for _, part := range []any{&host.ConfDir, &host.Pods, &host.Peers, &host.Kernel, &host.Boot, &host.Programs} {
				poison(reflect.ValueOf(part).Elem(), text, number)
			}
		}
		for _, role := range []v1alpha1.Role{v1alpha1.RoleLegacy, v1alpha1.RoleOverlay, v1alpha1.RoleMixed, v1alpha1.RoleUnknown} {
			if err := taken(Judge(host, role, nil)); err != nil {
				t.Errorf("%s: %v", role, err)
			}
		}
		if _, why := Role(host); why == "" {
			t.Error("a role without a reason")
		}
		Suspects(host)
	})
}

// TestAReportOfLongMessagesIsCut: verdicts and reasons stay, and the reader is told that something was cut.
func TestAReportOfLongMessagesIsCut(t *testing.T) {
	var findings []v1alpha1.Finding
	for _, name := range Names() {
		x := fail(v1alpha1.HostUnreadable, "%s", strings.Repeat("<", v1alpha1.MaxMessageBytes))
		x.Check = name
		findings = append(findings, with(x, number("a", 1, "b"), number("c", 1, "d"), number("e", 1, "f")))
	}
	short := findings[len(findings)-1]
	short.Message = "short"
	findings[len(findings)-1] = short
	if size(findings) <= v1alpha1.MaxFindingsBytes {
		t.Fatal("they fit: this proves nothing")
	}
	for _, x := range fit(findings) {
		if x.Verdict != v1alpha1.VerdictFail || x.Reason != v1alpha1.HostUnreadable || len(x.Evidence) != 3 {
			t.Errorf("%+v", x)
		}
		if x.Message != "short" && !strings.HasSuffix(x.Message, cutShort) {
			t.Errorf("%s was cut without a word: %q", x.Check, x.Message)
		}
	}
	if err := taken(findings); err != nil {
		t.Error(err)
	}
}

// TestAbsurdCiliumNodes: what a CiliumNode claims is held against the map and the overlay, and the one that is wrong is named.
func TestAbsurdCiliumNodes(t *testing.T) {
	many := func(n int) (cidrs []netip.Prefix) {
		for i := range n {
			cidrs = append(cidrs, netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
		}
		return cidrs
	}
	for name, c := range map[string]struct {
		change func(*facts.Facts)
		check  v1alpha1.CheckName
		want   v1alpha1.Verdict
		reason v1alpha1.Reason
		says   string
	}{
		"a peer without a CIDR": {
			func(f *facts.Facts) { f.Peers.List[0].PodCIDRs = nil },
			v1alpha1.CheckOverlayMaps, v1alpha1.VerdictFail, v1alpha1.PeerMissing, "has no pod CIDR",
		},
		"a peer with IPv6 alone": {
			func(f *facts.Facts) { f.Peers.List[0].PodCIDRs = []netip.Prefix{cidr("fd00::/64")} },
			v1alpha1.CheckOverlayMaps, v1alpha1.VerdictFail, v1alpha1.PeerMissing, "has no pod CIDR",
		},
		"a peer with 10,000 CIDRs": {
			func(f *facts.Facts) { f.Peers.List[0].PodCIDRs = many(10_000) },
			v1alpha1.CheckOverlayMaps, v1alpha1.VerdictFail, v1alpha1.PeerMissing, "11.0.0.0/32 of node",
		},
		"a peer that claims the whole world": {
			func(f *facts.Facts) { f.Peers.List[0].PodCIDRs = []netip.Prefix{cidr("0.0.0.0/0")} },
			v1alpha1.CheckOverlayMaps, v1alpha1.VerdictFail, v1alpha1.PeerMissing, "0.0.0.0/0 of node",
		},
		"a peer that claims another one's CIDR": {
			func(f *facts.Facts) { f.Peers.List[1].PodCIDRs = f.Peers.List[0].PodCIDRs },
			v1alpha1.CheckOverlayMaps, v1alpha1.VerdictFail, v1alpha1.PeerWrongEndpoint, "leads to",
		},
		"a peer of 10,000 addresses, none of them its own": {
			func(f *facts.Facts) {
				f.Peers.List[0].InternalIPs = nil
				for _, c := range many(10_000) {
					f.Peers.List[0].InternalIPs = append(f.Peers.List[0].InternalIPs, c.Addr())
				}
			},
			v1alpha1.CheckOverlayMaps, v1alpha1.VerdictFail, v1alpha1.PeerWrongEndpoint, "and 9997 more",
		},
		"an own slice as wide as the world": {
			func(f *facts.Facts) { f.Own.PodCIDRs = []netip.Prefix{cidr("0.0.0.0/0")} },
			v1alpha1.CheckPodAddresses, v1alpha1.VerdictUnknown, v1alpha1.SliceUnknown, "0.0.0.0/0, which is more than the whole overlay",
		},
		"an own slice twice the overlay": {
			func(f *facts.Facts) { f.Own.PodCIDRs = append(f.Own.PodCIDRs, cidr("10.244.0.0/15")) },
			v1alpha1.CheckPodAddresses, v1alpha1.VerdictUnknown, v1alpha1.SliceUnknown, "10.244.0.0/15, which is more than the whole overlay",
		},
		"an own slice that is somebody else's": {
			func(f *facts.Facts) { f.Own.PodCIDRs = f.Peers.List[0].PodCIDRs },
			v1alpha1.CheckPodAddresses, v1alpha1.VerdictFail, v1alpha1.PodOutsideOverlay, "another node's slice",
		},
		"an own slice of the pool as a whole": { // one node, one slice: legitimate
			func(f *facts.Facts) { f.Own.PodCIDRs = f.Settings.Overlay },
			v1alpha1.CheckPodAddresses, v1alpha1.VerdictPass, v1alpha1.AsWanted, "10.244.0.0/16",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := overlayNode()
			c.change(f)
			findings := Judge(f, v1alpha1.RoleOverlay, nil)
			x := find(t, findings, c.check)
			if x.Verdict != c.want || x.Reason != c.reason || !strings.Contains(x.Message, c.says) {
				t.Errorf("%s %s: %s; want %s %s and %q", x.Verdict, x.Reason, x.Message, c.want, c.reason, c.says)
			}
			if err := taken(findings); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAbsurdEndpoints: an entry that names no interface of this host proves nothing, whatever its numbers.
func TestAbsurdEndpoints(t *testing.T) {
	for name, e := range map[string]ciliummap.Endpoint{
		"all ones":              {Flags: ^ciliummap.EndpointFlags(0), IfIndex: math.MaxUint32, ID: math.MaxUint16, SecID: math.MaxUint32},
		"the greatest ifindex":  {IfIndex: math.MaxUint32, NodeMAC: mac(1), PodMAC: mac(2)},
		"an ifindex below zero": {IfIndex: 1 << 31, NodeMAC: mac(1), PodMAC: mac(2)},
		"nothing":               {},
	} {
		f := overlayNode()
		f.Endpoints.ByIP[ip("10.244.1.20")] = e
		if x := find(t, Judge(f, v1alpha1.RoleOverlay, nil), v1alpha1.CheckOverlayMaps); x.Verdict != v1alpha1.VerdictFail || x.Reason != v1alpha1.EndpointWrong {
			t.Errorf("%s: %s %s: %s", name, x.Verdict, x.Reason, x.Message)
		}
	}
}
