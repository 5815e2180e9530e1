// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/golden"
)

// bareNode is a node that has just booted: a kernel, a NIC, and nothing of any CNI.
func bareNode() *facts.Facts {
	return &facts.Facts{
		At:       time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC),
		Settings: facts.Settings{Look: seen(), Overlay: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, TunnelPort: 8472},
		Node:     facts.Node{Look: seen(), Name: "n1", UID: "uid-1", InternalIPs: []netip.Addr{netip.MustParseAddr("10.0.1.10")}},
		Links: facts.Links{Look: seen(), List: []facts.Link{
			{Index: 2, Name: "ens5", Kind: "device", MTU: 9001, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.10/24")}},
		}},
		Routes: facts.Routes{Look: seen()}, Rules: facts.Rules{Look: seen()}, Programs: facts.Programs{Look: seen()},
		Pods:   facts.Pods{Look: seen()},
		Boot:   facts.Boot{Look: seen(), ID: "boot-1"},
		Kernel: facts.Kernel{Look: seen(), Release: "6.1.112"},
	}
}

func TestShowsAReportToPeople(t *testing.T) {
	f := bareNode()
	s := Report(f, v1alpha1.RoleOverlay, "v1", map[v1alpha1.CheckName]bool{v1alpha1.CheckMTU: true})
	_, why := check.Role(f)
	var out bytes.Buffer
	if err := Show(&out, "table", "n1", why, s); err != nil {
		t.Fatal(err)
	}
	golden.Match(t, "testdata/bare-node.table", out.String())
}

func TestShowsTheSameToPrograms(t *testing.T) {
	s := Report(bareNode(), "", "v1", nil)
	for format, decode := range map[string]func([]byte, any) error{
		"json": json.Unmarshal,
		"yaml": func(b []byte, o any) error { return yaml.UnmarshalStrict(b, o) },
	} {
		var (
			out bytes.Buffer
			got v1alpha1.NodeCutoverStatus
		)
		if err := Show(&out, format, "n1", "", s); err != nil {
			t.Fatal(err)
		}
		if err := decode(out.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		if meaning(got) != meaning(s) || !got.ObservedAt.Equal(&s.ObservedAt) || got.Findings[0].Message != s.Findings[0].Message {
			t.Errorf("%s: %+v", format, got)
		}
	}
	if err := Show(&bytes.Buffer{}, "xml", "n1", "", s); err == nil {
		t.Error("no error for an output that is none")
	}
}

// A report must fit into the object that carries it: 64 findings, 16 KiB.
func TestAReportIsSmall(t *testing.T) {
	b, err := json.Marshal(v1alpha1.NodeCutover{Status: Report(bareNode(), "", "v1", nil)})
	if err != nil {
		t.Fatal(err)
	}
	if most := 16<<10 - 10*v1alpha1.MaxMessageBytes; len(b) > most {
		t.Errorf("%d bytes without full messages, at most %d", len(b), most)
	}
}
